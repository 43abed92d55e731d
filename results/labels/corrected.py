"""A run's route score as people would give it: the judge on all samples, corrected by the people's labels on some.

    score = corrected_score(labels, records)
    score.value, score.low, score.high      # percent; `score.judge` is what the judge alone says

The power-tuned prediction-powered mean (PPI++, arXiv 2311.01453): with f the judge's score of a sample, Y the mean of
its labels and p the probability with which it was drawn,

    value = L * mean(f) + weighted mean of (Y - L * f) over the labelled samples, with weights 1 / p.

L is chosen so that the variance is least: near 1 for a good judge, and 0, which leaves the labels alone, for one that
says less of people's scores than choosing L costs. A judge that flatters alike everywhere costs nothing. The weighted
mean is that of the strata's own means, each as heavy as its share of all samples. An empty description is 0 to
everybody, without a label.

The variance is that of sums by clip, since the questions of one clip go together: each sample brings L * (f - mean f),
its stratum's mean of Y - L * f less the mean of all, and, where it is labelled, its distance from that stratum's mean
times 1 / p. All three are linear in L, which gives the best one in closed form. The interval takes Student's t with
Satterthwaite's degrees of freedom d, since a few labels of a large stratum may make most of the variance; where L is
not 0, the variance is (d + 1) / (d - 1) of it, since L was chosen on the same labels. ppi-python weighs neither samples
nor clips; without both, the two agree. docs/judge.md has how often the interval holds the truth.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from egost.results.intervals import LEVEL
from egost.results.labels.drawing import FEWEST
from egost.results.labels.label_file import Labels, Triple, labels_path, matched, read_labels
from egost.results.records import SampleRecord
from egost.results.run_header import RunError
from egost.tasks.judging.judge import Judgement, percent_of

Floats = NDArray[np.float64]

FEWEST_CLIPS = 10
"""Labelled clips below which a correction would be noise."""


@dataclass(frozen=True, slots=True)
class Corrected:
    """A mean route score in percent, 0 to 100, as people would give it.

    value, low, high: the corrected score and its 95 % interval by clips; it may pass 0 or 100, which says that there
    are too few labels. judge: the judge's own mean. people, people_low, people_high: by the labels alone. weight: how
    much of the judge counts (L, see above). n: samples; labelled: those that people scored; clips: of these.
    share_of_labels: share of the variance that goes with 1 / labels, 0 to 1; the rest is of few clips.
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
    share_of_labels: float

    def __str__(self) -> str:
        return (
            f"{self.value:.1f} ({self.low:.1f} to {self.high:.1f}); the judge alone {self.judge:.1f}, the labels alone "
            f"{self.people:.1f} ({self.people_low:.1f} to {self.people_high:.1f}); {self.labelled} of {self.n} "
            f"labelled, of {self.clips} clips"
        )

    def half_interval(self, labels: int) -> float:
        """Half of the interval, in points, that so many labels would give that are drawn alike."""
        share = self.share_of_labels
        return (self.high - self.low) / 2 * math.sqrt(1 - share + share * self.labelled / labels)

    @property
    def labels_for_half(self) -> int | None:
        """How many labels, drawn alike, halve the interval; None where it stays wider with every sample labelled."""
        if (share := self.share_of_labels) <= 0.75:
            return None
        needed = math.ceil(self.labelled * share / (share - 0.75))
        return needed if needed <= self.n else None


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


def people_percent(given: Mapping[str, Triple]) -> float:
    """The mean of the raters' percents of one sample; NaN without raters."""
    return float(np.mean([percent_of(scores) for scores in given.values()])) if given else math.nan


def corrected_beside(results_file: Path, records: Sequence[SampleRecord]) -> dict[str, Corrected | str]:
    """The corrected score of each route task, or why there is none, where labels lie beside a run; else nothing.

    records: all of the run. Raises RunError where the file of labels is damaged, or of other responses.
    """
    path = labels_path(results_file)
    routes = [record for record in records if record.sample.task == "route"]
    if not routes or not path.exists():
        return {}
    labels = read_labels(path)
    matched(labels, routes)
    tasks = dict.fromkeys(record.task for record in routes)
    return {task: _score_or_reason(labels, [r for r in routes if r.task == task]) for task in tasks}


def _score_or_reason(labels: Labels, records: Sequence[SampleRecord]) -> Corrected | str:
    try:
        return corrected_score(labels, records)
    except RunError as error:
        return str(error)


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
    scored = replace(scored, stratum=_with_labels(scored.stratum, labelled))
    people = _Mean.of_labelled(scored, np.where(labelled, scored.people, 0.0))
    judge, of_labelled = float(scored.judge.mean()), _Mean.of_labelled(scored, scored.judge)
    # What the judge says of all samples, less what it says of the labelled ones.
    extra = _Mean(judge - of_labelled.mean, scored.judge - judge - of_labelled.adds, -of_labelled.apart)
    by_clip, extra_by_clip = (np.bincount(scored.clip, mean.adds) for mean in (people, extra))
    square = float(extra_by_clip @ extra_by_clip)
    weight = max(0.0, -float(by_clip @ extra_by_clip) / square) if square > 0 else 0.0
    alone, found = _Spread.of(scored, people), _Spread.of(scored, both := people.plus(extra, weight))
    cost = math.sqrt((found.freedom + 1) / (found.freedom - 1)) if found.freedom > 1 else math.inf
    if weight == 0 or found.reach * cost > alone.reach:
        weight, cost, both, found = 0.0, 1.0, people, alone
    return Corrected(
        value=both.mean,
        low=both.mean - found.reach * cost,
        high=both.mean + found.reach * cost,
        judge=judge,
        people=people.mean,
        people_low=people.mean - alone.reach,
        people_high=people.mean + alone.reach,
        weight=weight,
        n=len(scored.judge),
        labelled=int(labelled.sum()),
        clips=_clips(scored),
        share_of_labels=found.share_of_labels,
    )


@dataclass(frozen=True, slots=True)
class _Mean:
    """A mean over all samples, and what each of them adds to it, times the samples: shape (samples,).

    apart: the part of `adds` that is there because the sample was labelled; of each stratum the sum is 0.
    """

    mean: float
    adds: Floats
    apart: Floats

    @classmethod
    def of_labelled(cls, scored: Scored, numbers: Floats) -> _Mean:
        """The stratified mean of what is known of the labelled samples."""
        stratum, labelled = scored.stratum, np.isfinite(scored.people)
        inverse = np.where(labelled, 1 / scored.probability, 0.0)
        sizes, drawn, weights, sums = (
            np.bincount(stratum, of) for of in (None, labelled, inverse, inverse * numbers)
        )
        means = sums / np.maximum(weights, 1)
        mean = float(sizes @ means / len(stratum))
        # n / (n - 1): the distance from a mean of so few is too small by so much.
        few = np.sqrt(drawn / np.maximum(drawn - 1, 1))
        apart = (numbers - means[stratum]) * inverse * (few * sizes / np.maximum(weights, 1))[stratum]
        return cls(mean, means[stratum] - mean + apart, apart)

    def plus(self, other: _Mean, weight: float) -> _Mean:
        return _Mean(
            self.mean + weight * other.mean,
            self.adds + weight * other.adds,
            self.apart + weight * other.apart,
        )


@dataclass(frozen=True, slots=True)
class _Spread:
    """reach: half the 95 % interval. freedom: degrees of freedom of its variance. share_of_labels: see `Corrected`."""

    reach: float
    freedom: float
    share_of_labels: float

    @classmethod
    def of(cls, scored: Scored, mean: _Mean) -> _Spread:
        from scipy.special import stdtrit  # 1 s of CPU

        sums = np.bincount(scored.clip, mean.adds)
        variance, most = float(sums @ sums), _clips(scored) - 1
        if variance == 0:
            return cls(0.0, most, 0.0)
        drawn = np.bincount(scored.stratum, np.isfinite(scored.people))
        of_strata = np.bincount(scored.stratum, np.square(mean.apart))
        rest = max(0.0, variance - float(of_strata.sum()))
        squares = float((np.square(of_strata) / np.maximum(drawn - 1, 1)).sum()) + rest**2 / most
        freedom = min(most, variance**2 / squares)
        reach = -float(stdtrit(freedom, (1 - LEVEL) / 2)) * math.sqrt(variance) / len(scored.judge)
        apart = np.bincount(scored.clip, mean.apart)
        return cls(reach, freedom, min(1.0, float(apart @ apart) / variance))


def _clips(scored: Scored) -> int:
    return len(np.unique(scored.clip[np.isfinite(scored.people)]))


def _with_labels(stratum: NDArray[np.int64], labelled: NDArray[np.bool_]) -> NDArray[np.int64]:
    """The strata with those as one that have too few labels for a spread; if still too few, with the best labelled."""
    sizes, drawn = np.bincount(stratum), np.bincount(stratum, labelled)
    few = (drawn < FEWEST) & (drawn < sizes)
    if few.any() and drawn[few].sum() < FEWEST:
        few[drawn.argmax()] = True
    return np.where(few[stratum], few.argmax(), stratum)


def _numbered(names: Sequence[str]) -> NDArray[np.int64]:
    return np.unique(names, return_inverse=True)[1]
