"""A run's route score as people would give it: the judge on all samples, corrected by the people's labels on some.

    score = corrected_score(labels, records)
    score.value, score.low, score.high      # percent; `score.judge` is what the judge alone says

The power-tuned prediction-powered mean (PPI++, arXiv 2311.01453): with f the judge's score of a sample, Y the mean of
its labels and p the probability with which it was drawn,

    value = L * mean(f) + weighted mean of (Y - L * f) over the labelled samples, with weights 1 / p.

L is chosen so that the variance is least: 0 for a judge that says nothing of people's scores (labels alone count), near
1 for a good one. A judge that flatters alike everywhere costs nothing. The weighted mean is that of the strata's own
means, each as heavy as its share of all samples. An empty description is 0 to everybody, without a label.

The variance is that of sums by clip, since the questions of one clip go together: each sample brings L * (f - mean f),
its stratum's mean of Y - L * f less the mean of all, and, where it is labelled, its distance from that stratum's mean
times 1 / p. All three are linear in L, which gives the best one in closed form. The interval takes Student's t with one
degree of freedom fewer than there are labelled clips.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from egost.results.intervals import LEVEL
from egost.results.labels.label_file import Labels, Triple, matched
from egost.results.records import SampleRecord
from egost.results.run_header import RunError
from egost.tasks.judging.judge import BEST, Judgement

Floats = NDArray[np.float64]

FEWEST_CLIPS = 10
"""Labelled clips below which a correction would be noise."""


@dataclass(frozen=True, slots=True)
class Corrected:
    """A mean route score in percent, 0 to 100, as people would give it.

    value, low, high: the corrected score and its 95 % interval by clips; it may pass 0 or 100, which says that there
    are too few labels. judge: the judge's own mean. people, people_low, people_high: by the labels alone. weight: how
    much of the judge counts (L, see above). n: samples; labelled: those that people scored; clips: of these.
    """

    value: float
    low: float
    high: float
    judge: float
    people: float
    people_low: float
    people_high: float
    weight: float
    n: int
    labelled: int
    clips: int


@dataclass(frozen=True, slots=True)
class Scored:
    """The samples that the estimate is of, arrays of shape (samples,).

    judge: percent. people: percent, NaN where nobody labelled the sample. probability: with which it was drawn.
    stratum, clip: whole numbers that name the stratum and the clip.
    """

    judge: Floats
    people: Floats
    probability: Floats
    stratum: NDArray[np.int64]
    clip: NDArray[np.int64]


def percent_of(scores: Sequence[float]) -> float:
    """The percent of three scores from 0 to 5, as the paper counts it (section 5.1)."""
    return sum(scores) / 3 * 100 / BEST


def people_percent(given: Mapping[str, Triple]) -> float:
    """The mean of the raters' percents of one sample; NaN without raters."""
    return float(np.mean([percent_of(scores) for scores in given.values()])) if given else math.nan


def corrected_score(labels: Labels, records: Sequence[SampleRecord]) -> Corrected:
    """The corrected score of a run's routes, over those that its judge has scored.

    Raises RunError where the labels are of other responses, or of fewer than `FEWEST_CLIPS` clips.
    """
    by_id = matched(labels, records)
    known = [(labels.routes[name], record) for name, record in by_id.items() if record.percent is not None]
    given = labels.by_sample()
    clips = len({record.cluster for route, record in known if route.sample in given})
    if clips < FEWEST_CLIPS:
        raise RunError(
            f"labels of {clips} clips correct no score: {FEWEST_CLIPS} are the least. Go on with egost judge label RUN."
        )
    empty = [r for r in records if isinstance(r.judgement, Judgement) and r.judgement.empty]
    found = estimate(
        Scored(
            judge=np.array([record.percent for _, record in known] + [0.0] * len(empty), float),
            people=np.array(
                [people_percent(given.get(route.sample, {})) for route, _ in known] + [0.0] * len(empty)
            ),
            probability=np.array([route.probability for route, _ in known] + [1.0] * len(empty)),
            stratum=_numbered([route.stratum for route, _ in known] + ["empty"] * len(empty)),
            clip=_numbered([record.cluster for _, record in known] + [record.cluster for record in empty]),
        )
    )
    return replace(found, labelled=sum(route.sample in given for route, _ in known), clips=clips)


def estimate(scored: Scored) -> Corrected:
    """The power-tuned estimate of the people's mean; see the module's docstring."""
    labelled = np.isfinite(scored.people)
    of_judge = _Influence.of(scored, scored.judge, labelled)
    of_people = _Influence.of(scored, np.where(labelled, scored.people, 0.0), labelled)
    mean = float(scored.judge.mean())
    # What the judge brings beyond its own labelled part; subtracted with weight L.
    extra = (scored.judge - mean) - of_judge.values
    by_clip, extra_by_clip = _sums(of_people.values, scored.clip), _sums(extra, scored.clip)
    square = float(extra_by_clip @ extra_by_clip)
    weight = -float(by_clip @ extra_by_clip) / square if square > 0 else 0.0
    clips = len(np.unique(scored.clip[labelled]))
    reach = _reach(clips) / len(scored.judge)
    value = of_people.mean + weight * (mean - of_judge.mean)
    error = reach * float(np.linalg.norm(by_clip + weight * extra_by_clip))
    alone = reach * float(np.linalg.norm(by_clip))
    return Corrected(
        value=value,
        low=value - error,
        high=value + error,
        judge=mean,
        people=of_people.mean,
        people_low=of_people.mean - alone,
        people_high=of_people.mean + alone,
        weight=weight,
        n=len(scored.judge),
        labelled=int(labelled.sum()),
        clips=clips,
    )


@dataclass(frozen=True, slots=True)
class _Influence:
    """mean: the stratified mean of the labelled samples. values: what each sample adds to it (times the samples)."""

    mean: float
    values: Floats

    @classmethod
    def of(cls, scored: Scored, numbers: Floats, labelled: NDArray[np.bool_]) -> _Influence:
        """Strata in which nobody labelled anything are taken for alike with the others of the labelled ones."""
        strata = np.where(np.isin(scored.stratum, scored.stratum[labelled]), scored.stratum, -1)
        _, stratum = np.unique(strata, return_inverse=True)
        sizes = np.bincount(stratum).astype(float)
        drawn = np.bincount(stratum, labelled).astype(float)
        inverse = np.where(labelled, 1 / scored.probability, 0.0)
        weights = np.bincount(stratum, inverse)
        with np.errstate(invalid="ignore"):
            means = np.bincount(stratum, inverse * np.where(labelled, numbers, 0.0)) / weights
        known = np.isfinite(means)
        mean = float(sizes[known] @ means[known] / sizes[known].sum())
        means = np.where(known, means, mean)
        # n / (n - 1): the distance from a mean of so few is too small by so much.
        few = np.sqrt(drawn / np.maximum(drawn - 1, 1))
        weight = inverse * (sizes * few / np.maximum(weights, 1))[stratum]
        apart = np.where(labelled, (numbers - means[stratum]) * weight, 0.0)
        return cls(mean, (means[stratum] - mean) + apart)


def _sums(values: Floats, clip: NDArray[np.int64]) -> Floats:
    return np.bincount(clip, values).astype(float)


def _reach(clips: int) -> float:
    from scipy.special import stdtrit  # 1 s of CPU

    return float(-stdtrit(clips - 1, (1 - LEVEL) / 2))


def _numbered(names: Sequence[str]) -> NDArray[np.int64]:
    return np.unique(names, return_inverse=True)[1]
