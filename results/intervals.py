"""What a score may be worth, and the difference of two: plain means with intervals over clips.

    estimate(records).value             # the mean of the tasks' means, as the paper averages
    paired(records_a, records_b).low    # of b - a, sample by sample

What was sampled is clips, not questions: one clip has questions in several tasks, and a model that is lost in it is
lost in all of them. So a draw of the bootstrap draws clips, over all tasks at once, and a clip that comes twice brings
all of its samples twice. Drawing each task's clips by themselves would treat the tasks of an average as independent
and make its interval too narrow. The average is stratified by task all the same: in each draw every task's mean is
divided by that task's own number of drawn samples and weighs as much as any other (unweighted, as Avg.(ST) and
Avg.(Total) in Table 1 of the paper), so that chance in the tasks' sizes moves nothing. Each draw takes one clip fewer
than there are, which makes the spread of the draws that of the mean without bias, and the interval's ends are moved
out as Student's t asks, for few clips; a draw that leaves a task without samples is made again.

Where draws cannot tell:
- no scored sample in one of the tasks: everything but the bounds and the counts is NaN;
- a task on one clip alone: the value holds; its interval and error are NaN, for nothing is known of other clips;
- all draws alike (each clip right, or each wrong): the interval is the exact one, from the share of clips that can
  differ without one of them among those seen, 1 - 0.025 ** (1 / clips): 0 of 40 clips right is 0 to 8.8, not 0 to 0.

Figures do not depend on the order of the records. Percent means 0 to 100 throughout; so must what `score` returns.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from egost.results.records import SampleRecord
from egost.results.run_header import RunError

DRAWS = 10_000
LEVEL = 0.95
"""Of every interval here: the share of repeated samplings of clips in which it holds the truth."""
SHOW_BOUNDS = 0.01
"""Share of unscored samples above which an estimate's least and most are shown."""

Score = Callable[[SampleRecord], float | None]
Row = tuple[str, str, float]
"""Task, clip and value of one sample."""
Floats = NDArray[np.float64]
Counts = NDArray[np.unsignedinteger[Any]]

_CELLS = 4_000_000
"""Numbers in the table of one batch of draws (draws x clips): 8 MB."""
_KEPT = 24
"""Numbers of clips whose draws are kept: the benchmark's takes 16 MB, and its tables have some 20 numbers."""
_AT_ONCE = 1 << 18
"""Multiplications at once: a core's own cache holds their numbers, and BLAS starts no threads for so few."""
_ALIKE = 1e-9
"""Percent. Means that differ by less differ by rounding alone."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean score in percent, 0 to 100.

    value: mean of the tasks' means. low, high: 95 % interval by draws of clips. error: its clustered standard error
    by formula (a check on the interval). n, clips: scored samples, and how many clips they are of. unscored: samples
    without a score. least, most: the value if all unscored samples were wrong, or right.
    """

    value: float
    low: float
    high: float
    error: float
    n: int
    clips: int
    unscored: int
    least: float
    most: float

    @property
    def bounds_matter(self) -> bool:
        """Whether so many samples are unscored that least and most are to be shown with the value."""
        return self.unscored > SHOW_BOUNDS * (self.n + self.unscored)


@dataclass(frozen=True, slots=True)
class Difference:
    """A mean difference b - a in percentage points, -100 to 100, over samples that both have scored.

    value: mean of the tasks' mean differences. low, high, error: as in Estimate. p_value: two-sided, of a clip's
    differences being as likely the other way round (see `paired`). wins, losses, ties: samples where b is better,
    worse, the same. n, clips: pairs, and how many clips they are of.
    """

    value: float
    low: float
    high: float
    error: float
    p_value: float
    wins: int
    losses: int
    ties: int
    n: int
    clips: int


@dataclass(frozen=True, slots=True)
class _Tally:
    """Sums of scores and numbers of scored samples, each clips x tasks, in the order of their names."""

    sums: Floats
    sizes: Floats

    @property
    def value(self) -> float:
        totals, sizes = self.sums.sum(axis=0), self.sizes.sum(axis=0)
        return float(np.mean(totals / sizes)) if sizes.size and sizes.all() else math.nan

    @property
    def clips(self) -> int:
        return len(self.sums)

    @property
    def fewest_clips(self) -> int:
        """Number of clips of the task that has the fewest."""
        return int(np.count_nonzero(self.sizes, axis=0).min(initial=self.clips))


def percent(record: SampleRecord) -> float | None:
    """The headline score of a sample; `compat` is its other one."""
    return record.percent


def estimate(
    records: Sequence[SampleRecord], *, draws: int = DRAWS, seed: int = 0, score: Score = percent
) -> Estimate:
    """The mean score of some samples: of one task its mean, of several the plain mean of their means.

    score: 0 to 100 for a sample, None where it has none. Raises RunError where a sample comes twice.
    """
    known = [(record.task, record.cluster, score(record)) for record in _by_id(records).values()]
    tasks = sorted({task for task, _, _ in known})
    scored = [(task, clip, value) for task, clip, value in known if value is not None]
    tally = _tally(tasks, scored)
    low, high = _interval(tally, draws, seed, least=0.0)

    def with_all(unscored: float) -> float:
        if len(scored) == len(known):
            return tally.value
        return _tally(
            tasks, [(t, clip, unscored if value is None else value) for t, clip, value in known]
        ).value

    return Estimate(
        value=tally.value,
        low=low,
        high=high,
        error=_error(tally),
        n=len(scored),
        clips=tally.clips,
        unscored=len(known) - len(scored),
        least=with_all(0.0),
        most=with_all(100.0),
    )


def interval(rows: Sequence[Row], *, draws: int = DRAWS, seed: int = 0) -> tuple[float, float, float]:
    """The plain mean of the tasks' means, and the ends of its 95 % interval over clips; percent, NaN where not known.

    rows: a task, a clip and a score (0 to 100) for each sample.
    """
    tally = _tally(sorted({task for task, _, _ in rows}), rows)
    return (tally.value, *_interval(tally, draws, seed, least=0.0))


def paired(
    a: Sequence[SampleRecord],
    b: Sequence[SampleRecord],
    *,
    draws: int = DRAWS,
    seed: int = 0,
    score: Score = percent,
) -> Difference:
    """How much better b is than a on the samples that both have and have scored, by task and sample id.

    A task that they do not share counts for nothing. The p-value is of a test by sign: all differences of a clip are
    turned round together, or not, at random; the p-value is the share of such worlds with a mean at least as far from
    0 (with the real one among them). It assumes no distribution and holds for few clips, too: where few samples differ
    it is more careful than the interval (5 won and none lost give 2 / 2**5).
    Raises RunError where a sample comes twice in one of the two.
    """
    pairs = paired_rows(a, b, score)
    tally = _tally(sorted({task for task, _, _ in pairs}), pairs)
    low, high = _interval(tally, draws, seed, least=-100.0)
    gaps = [gap for _, _, gap in pairs]
    wins, losses = sum(gap > _ALIKE for gap in gaps), sum(gap < -_ALIKE for gap in gaps)
    return Difference(
        value=tally.value,
        low=low,
        high=high,
        error=_error(tally),
        p_value=_sign_test(tally, draws, seed),
        wins=wins,
        losses=losses,
        ties=len(gaps) - wins - losses,
        n=len(gaps),
        clips=tally.clips,
    )


def scored_rows(records: Sequence[SampleRecord], score: Score = percent) -> list[Row]:
    """The samples that have a score, by task and sample id. Raises RunError where a sample comes twice."""
    scores = [(record, score(record)) for record in _by_id(records).values()]
    return [(record.task, record.cluster, value) for record, value in scores if value is not None]


def paired_rows(a: Sequence[SampleRecord], b: Sequence[SampleRecord], score: Score = percent) -> list[Row]:
    """b - a for each sample that both have scored, by task and sample id. Raises RunError as `paired` does."""
    theirs, pairs = _by_id(a), []
    for key, record in _by_id(b).items():
        if key in theirs:
            before, after = score(theirs[key]), score(record)
            if before is not None and after is not None:
                pairs.append((record.task, record.cluster, after - before))
    return pairs


def clustered_error(rows: Sequence[Row]) -> float:
    """The cluster-robust standard error of the plain mean of the tasks' means; NaN where a task has one clip alone.

    Of one task it is the sandwich with its factor clips / (clips - 1); of several it has each task's own factor, and
    what a clip does in one task is added to what it does in the others.
    """
    return _error(_tally(sorted({task for task, _, _ in rows}), rows))


def p_text(p_value: float) -> str:
    """A p-value for people: never 0.000; empty where it is not known."""
    if math.isnan(p_value):
        return ""
    return "<.001" if p_value < 0.001 else f"{p_value:.3f}"


def same_figure(a: float, b: float) -> bool:
    """Whether two figures differ by no more than rounding, which depends on the order of a sum."""
    return math.isclose(a, b, rel_tol=1e-9, abs_tol=1e-9) or (math.isnan(a) and math.isnan(b))


def _by_id(records: Sequence[SampleRecord]) -> dict[tuple[str, str], SampleRecord]:
    found = {(record.task, record.sample.id): record for record in records}
    if len(found) < len(records):
        seen: set[tuple[str, str]] = set()
        for record in records:
            if (key := (record.task, record.sample.id)) in seen:
                raise RunError(
                    f"sample {record.sample.id} of {record.task} comes twice: count each sample of a run once."
                )
            seen.add(key)
    # In one order, so that sums of floats come out the same to the last bit.
    return dict(sorted(found.items()))


def _tally(tasks: Sequence[str], rows: Sequence[Row]) -> _Tally:
    column = {task: number for number, task in enumerate(tasks)}
    line = {clip: number for number, clip in enumerate(sorted({clip for _, clip, _ in rows}))}
    places = np.array([line[clip] * len(column) + column[task] for task, clip, _ in rows], np.intp)
    shape = len(line), len(column)
    sums, sizes = (
        np.bincount(places, weights, math.prod(shape)).reshape(shape).astype(np.float64)
        for weights in ([value for _, _, value in rows], None)
    )
    return _Tally(sums, sizes)


def _interval(tally: _Tally, draws: int, seed: int, least: float) -> tuple[float, float]:
    """Both ends of the interval; least: the lowest score that a sample can have, 100 being the highest."""
    if math.isnan(tally.value) or tally.fewest_clips < 2:
        return math.nan, math.nan
    means = _drawn_means(tally, draws, seed)
    tail = (1 - LEVEL) / 2
    if np.ptp(means) < _ALIKE:
        unseen = 1 - tail ** (1 / tally.fewest_clips)
        return tally.value - unseen * (tally.value - least), tally.value + unseen * (100.0 - tally.value)
    tail = tail_of_draws(tally.clips)
    low, high = np.quantile(means, [tail, 1 - tail])
    return float(low), float(high)


@lru_cache
def tail_of_draws(clips: int) -> float:
    """Where the interval's lower end lies among the draws of so many clips: the share of them below it."""
    from scipy.special import ndtr, stdtrit  # 1 s of CPU

    return float(ndtr(stdtrit(clips - 1, (1 - LEVEL) / 2)))


def _drawn_means(tally: _Tally, draws: int, seed: int) -> Floats:
    """The value in each draw of clips with replacement, shape (draws,)."""
    clips, tasks = tally.sums.shape
    both = np.hstack([tally.sums, tally.sizes])
    drawn = _drawn(clips, max(1, min(draws, _CELLS // clips)), seed)
    means: list[Floats] = []
    missing = draws
    while missing:
        totals = _totals(drawn.counts(len(means)), both)
        whole = totals[(totals[:, tasks:] > 0).all(axis=1)][:missing]
        means.append((whole[:, :tasks] / whole[:, tasks:]).mean(axis=1))
        missing -= len(whole)
    return np.concatenate(means)


def _totals(counts: Counts, values: Floats) -> Floats:
    """counts @ values, shape (draws, columns)."""
    return np.concatenate([rows.astype(np.float64) @ values for rows in _blocks(counts, values.shape[1])])


def _blocks(counts: Counts, columns: int = 1) -> list[Counts]:
    rows = max(1, _AT_ONCE // (counts.shape[1] * columns))
    return [counts[start : start + rows] for start in range(0, len(counts), rows)]


@dataclass(frozen=True, slots=True)
class _Drawn:
    """Draws of clips with replacement, in batches that are drawn when they are first asked for."""

    clips: int
    batch: int
    rng: np.random.Generator
    batches: list[Counts]

    def counts(self, number: int) -> Counts:
        """How often each draw of a batch has each clip, shape (batch, clips)."""
        while number >= len(self.batches):
            # No clip comes more often than there are clips.
            counts = np.empty((self.batch, self.clips), np.min_scalar_type(self.clips))
            for rows in _blocks(counts):
                chosen = self.rng.integers(self.clips, size=(len(rows), self.clips - 1))
                chosen += np.arange(len(rows))[:, None] * self.clips
                rows[:] = np.bincount(chosen.ravel(), minlength=rows.size).reshape(rows.shape)
            self.batches.append(counts)
        return self.batches[number]


@lru_cache(maxsize=_KEPT)
def _drawn(clips: int, batch: int, seed: int) -> _Drawn:
    """The draws do not depend on what is scored: all estimates over so many clips share them."""
    return _Drawn(clips, batch, np.random.default_rng(seed), [])


def _error(tally: _Tally) -> float:
    if math.isnan(tally.value) or tally.fewest_clips < 2:
        return math.nan
    sizes, clips = tally.sizes.sum(axis=0), np.count_nonzero(tally.sizes, axis=0)
    residuals = (tally.sums - tally.sizes * (tally.sums.sum(axis=0) / sizes)) / sizes
    by_clip = (residuals * np.sqrt(clips / (clips - 1))).mean(axis=1)
    return float(np.sqrt(np.square(by_clip).sum()))


def _sign_test(tally: _Tally, draws: int, seed: int) -> float:
    if math.isnan(tally.value):
        return math.nan
    shares = (tally.sums / tally.sizes.sum(axis=0)).mean(axis=1)
    rng = np.random.default_rng(seed)
    batch = max(1, min(draws, _CELLS // len(shares)))
    as_far = 0
    for start in range(0, draws, batch):
        signs = rng.integers(2, size=(min(batch, draws - start), len(shares)), dtype=np.int8)
        turned = (signs * 2.0 - 1.0) @ shares
        as_far += int(np.count_nonzero(np.abs(turned) >= abs(tally.value) - _ALIKE))
    return (1 + as_far) / (1 + draws)
