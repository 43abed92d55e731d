"""How many samples, of how many clips, are needed to see a difference of d points; and what a run could see.

    needed(spread_of(scored_rows(records)), points=2.0)

A clip's samples tell less than as many samples of different clips, so that the number needed is that of independent
samples times the design effect, 1 + (samples a clip - 1) x correlation within a clip.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from scipy.special import ndtri

from egost.results.intervals import LEVEL, Row, clustered_error
from egost.results.run_header import RunError

POWER = 0.8
"""Usual share of comparisons in which a difference that is there is seen."""
AGREEMENT = 0.5
"""Correlation of two models' scores on the same samples where it is not known: both fail on the hard ones."""


@dataclass(frozen=True, slots=True)
class Spread:
    """How much scores vary, in percentage points, and how much those of one clip go together.

    sd: standard deviation of one sample's score, or of its difference between two runs, within its task. per_clip:
    samples that a sample finds on its clip, itself included (the mean over samples). effect: the design effect, how
    many times as many samples are needed as if no two were of one clip. n, clips: what it was measured on; 0 for an
    assumption. of_differences: whether sd is of differences between two runs.
    """

    sd: float
    per_clip: float
    effect: float
    n: int = 0
    clips: int = 0
    of_differences: bool = False

    @property
    def correlation(self) -> float:
        """Of two samples of one clip; 0 where no clip has two."""
        return (self.effect - 1) / (self.per_clip - 1) if self.per_clip > 1 else 0.0


@dataclass(frozen=True, slots=True)
class Needed:
    """samples, clips: numbers at which a difference is seen with the power asked for."""

    samples: int
    clips: int


def assumed_spread(sd: float = 50.0, per_clip: float = 5000 / 789, correlation: float = 0.1) -> Spread:
    """A spread without a run.

    The defaults are the widest of right-or-wrong scores (half of them right), and the paper's numbers of samples and
    clips (section 3.1), over all tasks. The correlation is a guess: a run of one's own tells better.
    """
    return Spread(sd, per_clip, 1 + (per_clip - 1) * correlation)


def spread_of(rows: Sequence[Row], of_differences: bool = False) -> Spread:
    """The spread of a run's scored samples, or of the differences between two runs (see `statistics`).

    Of several tasks it is that of the plain mean of their means, however large each of them is.
    Raises RunError where a task has less than two clips, or all scores are alike.
    """
    by_task: dict[str, list[float]] = defaultdict(list)
    on_clip = Counter(clip for _, clip, _ in rows)
    for task, _, value in rows:
        by_task[task].append(value)
    error = clustered_error(rows)
    if math.isnan(error):
        raise RunError(
            f"the spread between clips cannot be estimated from {len(rows)} scored samples of {len(on_clip)} clips: "
            "each task needs two clips or more. Take a larger run, or say --sd."
        )
    independent = sum(_squared_error(values) for values in by_task.values()) / len(by_task) ** 2
    if independent == 0:
        raise RunError(
            f"all {len(rows)} samples score alike within their task, so how scores vary cannot be estimated. "
            "Take another run, or say --sd."
        )
    return Spread(
        sd=math.sqrt(independent * len(rows)),
        per_clip=sum(n * n for n in on_clip.values()) / len(rows),
        effect=error**2 / independent,
        n=len(rows),
        clips=len(on_clip),
        of_differences=of_differences,
    )


def needed(spread: Spread, points: float, *, power: float = POWER, agreement: float = AGREEMENT) -> Needed:
    """Samples, and clips of as many samples each as now, to see a difference of so many percentage points.

    Two runs on the same samples are compared, two-sided at 5 % (`statistics.paired`). agreement: correlation of their
    scores, not used where the spread is of differences. Raises RunError for a number out of range.
    """
    if not 0 < points <= 100:
        raise RunError(f"a difference of {points:g} points cannot be; expected more than 0 and at most 100.")
    samples = (_reach(power) / points) ** 2 * _variance(spread, agreement)
    return Needed(math.ceil(samples), math.ceil(samples / _clip_size(spread)))


def visible(spread: Spread, samples: int, *, power: float = POWER, agreement: float = AGREEMENT) -> float:
    """The smallest difference, in percentage points, that so many samples of such clips show with this power."""
    return _reach(power) * math.sqrt(_variance(spread, agreement) / samples)


def _variance(spread: Spread, agreement: float) -> float:
    """Of the difference on one sample, as far as the samples of its clip leave it to itself."""
    if not -1 <= agreement < 1:
        raise RunError(f"an agreement of {agreement:g} cannot be; expected from -1 to below 1.")
    pair = 1.0 if spread.of_differences else 2 * (1 - agreement)
    return spread.sd**2 * pair * spread.effect


def _reach(power: float) -> float:
    """How many standard errors a difference must measure."""
    if not 0.5 <= power < 1:
        raise RunError(f"a power of {power:g} cannot be asked for; expected from 0.5 to below 1.")
    return float(ndtri((1 + LEVEL) / 2) + ndtri(power))


def _clip_size(spread: Spread) -> float:
    return spread.n / spread.clips if spread.clips else spread.per_clip


def _squared_error(values: Sequence[float]) -> float:
    mean = sum(values) / len(values)
    variance = sum((value - mean) ** 2 for value in values) / (len(values) - 1)
    return variance / len(values)
