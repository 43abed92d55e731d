"""How far people agree with each other, and each judge with people, on the routes that were labelled.

    found = agreement(labels, {"gpt-4o": records})
    found.judges["gpt-4o"]["percent"].kappa      # Figure(value, low, high)

Weighted kappa (quadratic) and Krippendorff's alpha (interval) are 1 where all scores are alike and 0 where they agree
no more than scores dealt at random; a judge is held against the mean of a sample's raters. Intervals draw clips anew.
Both are sums over samples, so that a draw is one product of matrices; the tests hold them against scikit-learn and the
krippendorff package.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from egost.results.intervals import LEVEL
from egost.results.labels.corrected import people_percent, percent_of
from egost.results.labels.label_file import Labels, Triple, matched
from egost.results.records import SampleRecord
from egost.results.run_header import RunError
from egost.tasks.judging.judge import ASPECTS, Judgement

Floats = NDArray[np.float64]

DRAWS = 2000
LONG_WORDS = 40
"""Words from which a description counts as long, for the figures by length."""


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure with its 95 % interval by clips; NaN where nothing can be told."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Pair:
    """Two sets of scores of the same samples, the second held against the first.

    n: samples. kappa: quadratic weighted kappa. rho: Spearman's rank correlation. difference: mean of second - first,
    in scores (0 to 5) of an aspect, in points (0 to 100) of the percent: above 0 where the judge flatters.
    """

    n: int
    kappa: Figure
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
    (`forward`, `reverse`, `short`, `long`), each against the raters' mean. points: by judge.
    """

    raters: Mapping[str, Mapping[str, Pair]]
    alpha: Mapping[str, Figure]
    judges: Mapping[str, Mapping[str, Pair]]
    points: Mapping[str, Points]


def agreement(labels: Labels, judged: Mapping[str, Sequence[SampleRecord]], seed: int = 0) -> Agreement:
    """The agreement among raters and with each judge. judged: by judge, the records of the same responses.

    Raises RunError where nothing is labelled, or a judge's records are of other responses.
    """
    given = labels.by_sample()
    if not given:
        raise RunError("nothing is labelled yet. Label routes with egost judge label RUN.")
    found = {judge: matched(labels, records) for judge, records in judged.items()}
    clips = {name: record.cluster for records in found.values() for name, record in records.items()}
    raters = {
        f"{a}, {b}": {
            what: _pair(
                [
                    (clips[name], of(each[a]), of(each[b]))
                    for name, each in given.items()
                    if a in each and b in each and name in clips
                ],
                seed,
            )
            for what, of in _SCORES.items()
        }
        for a, b in combinations(labels.raters, 2)
    }
    several = {name: found for name, found in given.items() if len(found) > 1 and name in clips}
    alpha = {
        what: _alpha(
            [(clips[name], [of(scores) for scores in each.values()]) for name, each in several.items()], seed
        )
        for what, of in _SCORES.items()
        if several
    }
    both = {
        judge: [
            (record, given[name], record.judgement)
            for name, record in records.items()
            if name in given and isinstance(record.judgement, Judgement)
        ]
        for judge, records in found.items()
    }
    return Agreement(
        raters=raters,
        alpha=alpha,
        judges={judge: _against_people(rows, seed) for judge, rows in both.items()},
        points={
            judge: Points(
                tuple(people_percent(each) for _, each, _ in rows), tuple(j.percent for _, _, j in rows)
            )
            for judge, rows in both.items()
        },
    )


def _aspect(place: int) -> Callable[[Triple], float]:
    return lambda scores: float(scores[place])


_SCORES: Mapping[str, Callable[[Triple], float]] = {
    **{aspect: _aspect(place) for place, aspect in enumerate(ASPECTS)},
    "percent": percent_of,
}
_PARTS: Mapping[str, Callable[[SampleRecord], bool]] = {
    "forward": lambda record: record.sample.way == "forward",
    "reverse": lambda record: record.sample.way == "reverse",
    "short": lambda record: len(record.response.split()) < LONG_WORDS,
    "long": lambda record: len(record.response.split()) >= LONG_WORDS,
}

_Rows = Sequence[tuple[SampleRecord, Mapping[str, Triple], Judgement]]


def _against_people(rows: _Rows, seed: int) -> dict[str, Pair]:
    def pair(some: _Rows, what: str) -> Pair:
        of = _SCORES[what]
        return _pair(
            [
                (
                    record.cluster,
                    float(np.mean([of(scores) for scores in each.values()])),
                    _judged(judgement, what),
                )
                for record, each, judgement in some
            ],
            seed,
        )

    return {what: pair(rows, what) for what in _SCORES} | {
        part: pair([row for row in rows if holds(row[0])], "percent") for part, holds in _PARTS.items()
    }


def _judged(judgement: Judgement, what: str) -> float:
    return judgement.percent if what == "percent" else float(getattr(judgement, what))


def _pair(rows: Sequence[tuple[str, float, float]], seed: int) -> Pair:
    """rows: clip, first and second score of each sample."""
    x, y = np.array([(a, b) for _, a, b in rows], float).reshape(-1, 2).T
    weights = _draws([clip for clip, _, _ in rows], seed)
    rank_x, rank_y = (rankdata(scores) if rows else scores for scores in (x, y))
    return Pair(
        len(rows),
        _figure(weights, lambda w: quadratic_kappa(x, y, w)),
        _figure(weights, lambda w: _correlation(rank_x, rank_y, w)),
        _figure(weights, lambda w: _mean(y - x, w)),
    )


def _alpha(rows: Sequence[tuple[str, Sequence[float]]], seed: int) -> Figure:
    weights = _draws([clip for clip, _ in rows], seed)
    return _figure(weights, lambda w: interval_alpha([scores for _, scores in rows], w))


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


def _draws(clips: Sequence[str], seed: int) -> Floats:
    """How often each sample comes: first once each, then in each draw of clips. Shape (1 + DRAWS, samples)."""
    if not clips:
        return np.ones((1, 0))
    names, place = np.unique(clips, return_inverse=True)
    drawn = np.random.default_rng(seed).multinomial(len(names), np.full(len(names), 1 / len(names)), DRAWS)
    return np.vstack([np.ones(len(clips)), drawn[:, place]]).astype(float)


def _figure(weights: Floats, of: Callable[[Floats], Floats]) -> Figure:
    if not weights.shape[1]:
        return Figure(math.nan, math.nan, math.nan)
    with np.errstate(invalid="ignore", divide="ignore"):
        values = of(weights)
    drawn = values[1:][np.isfinite(values[1:])]
    if math.isnan(values[0]) or not len(drawn):
        return Figure(math.nan, math.nan, math.nan)
    low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Figure(float(values[0]), float(low), float(high))


def _mean(values: Floats, weights: Floats) -> Floats:
    mean: Floats = (weights @ values) / weights.sum(axis=1)
    return mean


def _variance(values: Floats, weights: Floats) -> Floats:
    return _mean(np.square(values), weights) - np.square(_mean(values, weights))


def _correlation(x: Floats, y: Floats, weights: Floats) -> Floats:
    """Of ranks that were given once, over all samples: a draw that leaves clips out does not rank anew."""
    both = _mean(x * y, weights) - _mean(x, weights) * _mean(y, weights)
    return _ratio(both, np.sqrt(_variance(x, weights) * _variance(y, weights)))


def _ratio(above: Floats, below: Floats) -> Floats:
    return np.where(below > 1e-12, above / np.where(below > 1e-12, below, 1), np.nan)
