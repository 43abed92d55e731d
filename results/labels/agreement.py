"""How far people agree with each other, and each judge with people, on the routes that were labelled.

    found = agreement(labels, {"gpt-4o": records})
    found.judges["gpt-4o"]["percent"].kappa      # Figure(value, low, high)

Weighted kappa (quadratic) and Krippendorff's alpha (interval) are 1 where all scores are alike and 0 where they agree
no more than scores dealt at random; a judge is held against the mean of a sample's raters. Each sample weighs 1 over
the probability with which it was drawn, so that the figures are of the run and not of its contested routes. Intervals
draw clips anew.

Both are sums over samples here, so that all draws are one product of matrices. scikit-learn's kappa takes whole numbers
alone, which a mean of raters is not, and neither it nor the krippendorff package draws clips: called for each of 2,000
draws they would take minutes. The tests hold our figures against both packages.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from egost.results.intervals import tail_of_draws
from egost.results.labels.corrected import people_percent
from egost.results.labels.label_file import Labels, Triple, matched
from egost.results.records import SampleRecord
from egost.results.run import Run
from egost.results.run_header import RunError
from egost.tasks.judging.judge import ASPECTS, JudgeFailure, Judgement, Vote, percent_of
from egost.tasks.response_text import route_prediction
from egost.tasks.sample import WAYS

Floats = NDArray[np.float64]

DRAWS = 2000


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure with its 95 % interval by clips; NaN where nothing can be told."""

    value: float
    low: float
    high: float

    def __format__(self, digits: str) -> str:
        if math.isnan(self.value):
            return "not known"
        between = "" if math.isnan(self.low) else f" ({self.low:{digits}} to {self.high:{digits}})"
        return f"{self.value:{digits}}{between}"


@dataclass(frozen=True, slots=True)
class Pair:
    """Two sets of scores of the same samples, the second held against the first.

    n, clips: of how many samples and clips. kappa: quadratic weighted kappa. alpha: Krippendorff's, interval. rho:
    Spearman's rank correlation. difference: mean of second - first, in scores (0 to 5) of an aspect, in points (0 to
    100) of the percent: above 0 where the judge flatters.
    """

    n: int
    clips: int
    kappa: Figure
    alpha: Figure
    rho: Figure
    difference: Figure


@dataclass(frozen=True, slots=True)
class Points:
    """What the plots show of a judge: percents of the same samples by people and by the judge."""

    people: tuple[float, ...]
    judge: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Agreement:
    """What labels say of raters and judges.

    raters: by pair of raters `a, b`, then by aspect and `percent`. alpha: Krippendorff's, over all raters, by aspect
    and `percent`; empty with one rater. judges: by judge, then by aspect, `percent`, and the percent by part
    (`forward`, `reverse`, `short`, `long`), each against the raters' mean. points: by judge. names: of the raters.
    words: the median length of the labelled descriptions, above which one is `long`.
    """

    raters: Mapping[str, Mapping[str, Pair]]
    alpha: Mapping[str, Figure]
    judges: Mapping[str, Mapping[str, Pair]]
    points: Mapping[str, Points]
    names: Sequence[str]
    words: float


def judges_of(runs: Sequence[Run]) -> dict[str, Sequence[SampleRecord]]:
    """The records of runs by judge: each run's own, and those of each judge that voted in it. Raises RunError."""
    found: dict[str, Sequence[SampleRecord]] = {}
    for run in runs:
        records = [record for record in run.records if record.sample.task == "route"]
        votes = [vote for r in records if isinstance(r.judgement, Judgement) for vote in r.judgement.votes]
        by_judge = {run.header.joined("judge") or "no judge": records} | {
            judge: [_voted(record, judge) for record in records]
            for judge in dict.fromkeys(vote.judge for vote in votes)
        }
        for judge, judged in by_judge.items():
            found[f"{judge} of {run.results_file.name}" if judge in found else judge] = judged
    return found


def _voted(record: SampleRecord, judge: str) -> SampleRecord:
    """The record as one judge of several scored it."""
    if not isinstance(all_of_them := record.judgement, Judgement):
        return record
    vote = next((vote for vote in all_of_them.votes if vote.judge == judge), Vote(judge, None, "not asked"))
    if vote.scores is None:
        return replace(record, judgement=JudgeFailure(record.sample.id, vote.failed, "", judge), percent=None)
    own = Judgement(record.sample.id, *vote.scores, "", judge, empty=all_of_them.empty)
    return replace(record, judgement=own, percent=own.percent)


def agreement(labels: Labels, judged: Mapping[str, Sequence[SampleRecord]], seed: int = 0) -> Agreement:
    """The agreement among raters and with each judge. judged: by judge, the records of the same responses.

    Raises RunError where nothing is labelled, a judge's records are of other responses, or it scored none of them.
    """
    given = labels.by_sample()
    if not given:
        raise RunError("nothing is labelled yet. Label routes with egost judge label RUN.")
    found = {judge: matched(labels, records) for judge, records in judged.items()}
    places = {
        name: (record.cluster, 1 / labels.routes[name].probability)
        for records in found.values()
        for name, record in records.items()
    }
    raters = {
        f"{a}, {b}": {
            what: _pair(
                [
                    (places[name], of(each[a]), of(each[b]))
                    for name, each in given.items()
                    if a in each and b in each and name in places
                ],
                seed,
            )
            for what, of in _SCORES.items()
        }
        for a, b in combinations(labels.raters, 2)
    }
    several = {name: found for name, found in given.items() if len(found) > 1 and name in places}
    alpha = {
        what: _alpha(
            [(places[name], [of(scores) for scores in each.values()]) for name, each in several.items()], seed
        )
        for what, of in _SCORES.items()
        if several
    }
    both = {
        judge: [
            (places[name], record, given[name], record.judgement)
            for name, record in records.items()
            if name in given and isinstance(record.judgement, Judgement)
        ]
        for judge, records in found.items()
    }
    if silent := [judge for judge, rows in both.items() if not rows]:
        raise RunError(
            f"{silent[0]} has scored none of the {len(given)} labelled routes. Leave it out, or judge the run: "
            "egost judge RUN --judge NAME."
        )
    labelled = {record.sample.id: record for rows in both.values() for _, record, _, _ in rows}
    words = statistics.median(_words(record) for record in labelled.values())
    return Agreement(
        raters=raters,
        alpha=alpha,
        judges={judge: _against_people(rows, words, seed) for judge, rows in both.items()},
        points={
            judge: Points(
                tuple(people_percent(each) for _, _, each, _ in rows), tuple(j.percent for *_, j in rows)
            )
            for judge, rows in both.items()
        },
        names=labels.raters,
        words=words,
    )


def _aspect(place: int) -> Callable[[Triple], float]:
    return lambda scores: float(scores[place])


_SCORES: Mapping[str, Callable[[Triple], float]] = {
    **{aspect: _aspect(place) for place, aspect in enumerate(ASPECTS)},
    "percent": percent_of,
}


def _words(record: SampleRecord) -> int:
    return len(route_prediction(record.response).split())


_Place = tuple[str, float]
"""Of a sample: its clip and its weight."""
_Rows = Sequence[tuple[_Place, SampleRecord, Mapping[str, Triple], Judgement]]


def _against_people(rows: _Rows, words: float, seed: int) -> dict[str, Pair]:
    def pair(some: _Rows, what: str) -> Pair:
        of = _SCORES[what]
        return _pair(
            [
                (
                    place,
                    float(np.mean([of(scores) for scores in each.values()])),
                    _judged(judgement, what),
                )
                for place, _, each, judgement in some
            ],
            seed,
        )

    parts: dict[str, _Rows] = {str(way): [row for row in rows if row[1].sample.way == way] for way in WAYS}
    parts["short"] = [row for row in rows if _words(row[1]) <= words]
    parts["long"] = [row for row in rows if _words(row[1]) > words]
    return {what: pair(rows, what) for what in _SCORES} | {
        part: pair(some, "percent") for part, some in parts.items()
    }


def _judged(judgement: Judgement, what: str) -> float:
    return judgement.percent if what == "percent" else float(getattr(judgement, what))


def _pair(rows: Sequence[tuple[_Place, float, float]], seed: int) -> Pair:
    """rows: place, first and second score of each sample."""
    x, y = np.array([(a, b) for _, a, b in rows], float).reshape(-1, 2).T
    drawn = _Draws.of([place for place, _, _ in rows], seed)
    rank_x, rank_y = (rankdata(scores) if rows else scores for scores in (x, y))
    return Pair(
        len(rows),
        drawn.clips,
        drawn.figure(lambda w: quadratic_kappa(x, y, w)),
        drawn.figure(lambda w: interval_alpha(list(zip(x, y, strict=True)), w)),
        drawn.figure(lambda w: _correlation(rank_x, rank_y, w)),
        drawn.figure(lambda w: _mean(y - x, w)),
    )


def _alpha(rows: Sequence[tuple[_Place, Sequence[float]]], seed: int) -> Figure:
    drawn = _Draws.of([place for place, _ in rows], seed)
    return drawn.figure(lambda w: interval_alpha([scores for _, scores in rows], w))


def quadratic_kappa(x: Floats, y: Floats, weights: Floats) -> Floats:
    """Cohen's kappa with quadratic weights, shape (draws,). x, y: shape (samples,). weights: (draws, samples).

    1 - D / E, with D the mean squared difference and E what it would be were the second's scores dealt at random.
    """
    apart = _mean(np.square(x - y), weights)
    expected = _variance(x, weights) + _variance(y, weights) + np.square(_mean(x - y, weights))
    return 1 - _ratio(apart, expected)


def interval_alpha(scores: Sequence[Sequence[float]], weights: Floats) -> Floats:
    """Krippendorff's alpha for interval data, shape (draws,). scores: of each sample by two raters or more."""
    n = np.array([len(each) for each in scores], float)
    total = np.array([sum(each) for each in scores], float)
    squares = np.array([sum(one * one for one in each) for each in scores], float)
    pairs = weights @ ((2 * n * squares - 2 * total**2) / (n - 1))
    all_n, all_total, all_squares = weights @ n, weights @ total, weights @ squares
    expected = (2 * all_n * all_squares - 2 * all_total**2) / np.maximum(all_n - 1, 1)
    return 1 - _ratio(pairs, expected)


@dataclass(frozen=True, slots=True)
class _Draws:
    """weights: of each sample, shape (1 + DRAWS, samples): first its own, then times its clip's number in each draw."""

    clips: int
    weights: Floats

    @classmethod
    def of(cls, places: Sequence[_Place], seed: int) -> _Draws:
        names, place = np.unique([clip for clip, _ in places], return_inverse=True)
        own = np.array([weight for _, weight in places])
        return cls(len(names), _counts(len(names), seed)[:, place] * (own / own.mean() if places else own))

    def figure(self, of: Callable[[Floats], Floats]) -> Figure:
        """A figure and its interval; no interval of a single clip."""
        if not self.clips:
            return Figure(math.nan, math.nan, math.nan)
        value, *drawn = of(self.weights)
        finite = [each for each in drawn if math.isfinite(each)]
        if self.clips == 1 or not finite or math.isnan(value):
            return Figure(float(value), math.nan, math.nan)
        tail = tail_of_draws(self.clips)
        low, high = np.quantile(finite, [tail, 1 - tail])
        return Figure(float(value), float(low), float(high))


@lru_cache(maxsize=8)
def _counts(clips: int, seed: int) -> Floats:
    """How often each clip comes: first once each, then in each draw. Shape (1 + DRAWS, clips)."""
    if not clips:
        return np.ones((1, 0))
    drawn = np.random.default_rng(seed).multinomial(clips, np.full(clips, 1 / clips), DRAWS)
    return np.vstack([np.ones(clips), drawn]).astype(float)


def _mean(values: Floats, weights: Floats) -> Floats:
    mean: Floats = (weights @ values) / weights.sum(axis=1)
    return mean


def _variance(values: Floats, weights: Floats) -> Floats:
    return _mean(np.square(values), weights) - np.square(_mean(values, weights))


def _correlation(x: Floats, y: Floats, weights: Floats) -> Floats:
    """Of ranks that were given once, over all samples: a draw that leaves clips out does not rank anew."""
    both = _mean(x * y, weights) - _mean(x, weights) * _mean(y, weights)
    return _ratio(both, np.sqrt(np.maximum(_variance(x, weights) * _variance(y, weights), 0)))


def _ratio(above: Floats, below: Floats) -> Floats:
    return np.where(below > 1e-12, above / np.where(below > 1e-12, below, 1), np.nan)
