"""Judges and labels drawn from a world whose truth is known: what people would say of all routes, and what of some."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr
from simulated_runs import record

from egost.results.labels.corrected import Scored
from egost.results.records import SampleRecord
from egost.tasks.judging.judge import Judgement

Floats = NDArray[np.float64]
JUDGES = ("good", "bad", "biased")
_STEPS = 15
"""A percent is one of 0/15 to 15/15: the sum of three scores from 0 to 5."""


@dataclass(frozen=True)
class LabelledWorld:
    """clips: in one run, each with two routes, forward and reverse. judge: one of `JUDGES`: near what people say; dealt
    at random; 17 points above people in the mean, more where a route is bad, and alike on a clip's two routes. labels:
    drawn of each way and band of the judge's score, however many are in it, so that some routes are drawn 20 times as
    often as others. finished: share of the drawn routes that people came to.
    """

    judge: str
    clips: int = 400
    labels: int = 8
    finished: float = 1.0

    def truth(self) -> float:
        """The mean that people would give to all routes that there could be: N(60, 15 of a clip and 18 of a route)."""
        ends = (np.arange(_STEPS) + 0.5) * 100 / _STEPS
        return float(100 / _STEPS * (1 - ndtr((ends - 60) / np.hypot(15, 18))).sum())

    def draw(self, rng: np.random.Generator) -> Scored:
        """A run of new clips, judged, and labelled in part."""
        clip = np.repeat(np.arange(self.clips), 2)
        people = _percents(60 + rng.normal(0, 15, self.clips)[clip] + rng.normal(0, 18, len(clip)))
        noise = rng.normal(0, 8, len(clip))
        judge = _percents(
            {
                "good": people + noise,
                "bad": rng.normal(50, 20, len(clip)),
                "biased": 0.6 * people + 42 + noise + rng.normal(0, 8, self.clips)[clip],
            }[self.judge]
        )
        band = np.digitize(judge, (20.001, 40.001, 60.001, 80.001))
        _, stratum = np.unique(5 * (np.arange(len(clip)) % 2) + band, return_inverse=True)
        sizes = np.bincount(stratum)
        # The first ones of each stratum, in an order drawn anew.
        order = rng.permutation(len(clip))
        order = order[np.argsort(stratum[order], kind="stable")]
        place = np.empty_like(order)
        place[order] = np.arange(len(clip)) - (np.cumsum(sizes) - sizes)[stratum[order]]
        labelled = (place < self.labels) & (rng.random(len(clip)) < self.finished)
        probability = np.minimum(1, self.labels / sizes)[stratum]
        return Scored(judge, np.where(labelled, people, np.nan), probability, stratum, clip)


def _percents(numbers: Floats) -> Floats:
    return np.round(np.clip(numbers, 0, 100) * _STEPS / 100) * 100 / _STEPS


def judged(number: int, clip: str, scores: tuple[int, int, int], way: str, response: str) -> SampleRecord:
    """A route that a judge has scored."""
    route = record(f"egost_route_{way}", number, clip, None)
    judgement = Judgement(route.sample.id, *scores, "", "simulated", empty=not response)
    return replace(
        route,
        sample=replace(route.sample, options=(), answer="left at the door"),
        response=response,
        percent=judgement.percent,
        unscored=None,
        judgement=judgement,
    )
