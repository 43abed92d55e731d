"""What every judge of route descriptions takes and gives: a batch of items in, a verdict for each out.

    judge = choose.get_judge("offline")
    [verdict] = judge([RouteItem("Part3/route_forward/17", question, reference, prediction, "forward")])

A judge gives three whole numbers from 0 to 5 (paper, section 5.1 and figure 6), or says why it could not.
A failure is never a score.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from egost.tasks.chat.usage import Usage
from egost.tasks.errors import EgostError
from egost.tasks.sample import Way

ASPECTS = ("direction", "landmark", "semantic")
"""What a judge scores, in the order of the paper's figure 6."""

BEST = 5
"""Highest score of each of the three aspects (paper, section 5.1)."""


class JudgeError(EgostError):
    """A judge is unknown, lacks a setting, or broke the contract of a judge."""


class JudgeStopped(JudgeError):
    """A judge's server refuses, or does not answer at all; what was judged until then is kept."""


@dataclass(frozen=True, slots=True)
class RouteItem:
    """One route description to be judged; `prediction` is the model's final text, without its thinking."""

    sample_id: str
    question: str
    reference: str
    prediction: str
    way: Way


@dataclass(frozen=True, slots=True)
class Vote:
    """What one judge of several gave: its (direction, landmark, semantic), or None and why it failed."""

    judge: str
    scores: tuple[int, int, int] | None
    failed: str = ""


@dataclass(frozen=True, slots=True)
class Judgement:
    """Scores of one route description.

    direction, landmark, semantic: whole numbers 0 to 5 (paper, section 5.1; Table 2's D, L and S). The median of an
        even number of judges may lie half way between two.
    reasons: what the judge based them on, for people.
    judge: the judge's name with its version or snapshot.
    empty: the prediction held no text, so that all three are 0 by rule.
    snapshot: the model that the judge's server says it is; empty for a judge without a server.
    repeats: where a sample is judged several times, (direction, landmark, semantic) of each judgement that could
        be read. The first is the one above and counts; `judge_noise` says how far they differ.
    compat: percent by the public code's reading of the reply, which knows no upper limit; None: the same as `percent`.
    votes: each judge's own scores, where several judged and the three above are their median.

    Raises JudgeError when a score is not a whole number from 0 to 5.
    """

    sample_id: str
    direction: int | float
    landmark: int | float
    semantic: int | float
    reasons: str
    judge: str
    empty: bool = False
    snapshot: str = ""
    repeats: tuple[tuple[int, int, int], ...] = ()
    compat: float | None = None
    votes: tuple[Vote, ...] = ()

    def __post_init__(self) -> None:
        for aspect in ASPECTS:
            score = getattr(self, aspect)
            whole = type(score) is int or (self.votes and type(score) is float and (2 * score).is_integer())
            if not whole or not 0 <= score <= BEST:
                raise JudgeError(
                    f"Judge {self.judge} gave {aspect}={score!r} to sample {self.sample_id}; expected a "
                    f"whole number from 0 to {BEST}. Return a JudgeFailure where no score can be read."
                )

    def as_record(self) -> dict[str, Any]:
        """What a samples file holds; the votes only where several judged."""
        return {name: value for name, value in asdict(self).items() if name != "votes" or value}

    @property
    def percent(self) -> float:
        """The sample's score, 0 to 100: the mean of the three, times 20 (paper, section 5.1 and Table 2)."""
        return percent_of((self.direction, self.landmark, self.semantic))


@dataclass(frozen=True, slots=True)
class JudgeFailure:
    """A route description that could not be judged: unscored, never 0.

    reason: a short stable word that is counted next to the scores.
    text: what the judge said, kept for people; empty if it said nothing.
    compat: percent by the public code's reading of the text, 0 where it reads nothing.
    """

    sample_id: str
    reason: str
    text: str
    judge: str
    compat: float = 0.0

    def as_record(self) -> dict[str, Any]:
        """What a samples file holds."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class JudgeUsage(Usage):
    """A judge's account of one process; its questions are judgements.

    judge: its name. prompt, prompt_sha256: version and hash of the instructions. judged: judgements made by calls.
    """

    judge: str
    prompt: str
    prompt_sha256: str
    judged: int


class Judge(Protocol):
    """Scores a batch; the result has one entry for each item, in the order of the items."""

    @property
    def name(self) -> str:
        """The judge's name with its version or snapshot, as the results record it."""

    @property
    def usage(self) -> JudgeUsage | None:
        """What it has asked of its server so far; None for a judge without one."""

    def start(self, items: Sequence[RouteItem]) -> None:
        """Begin to judge items that will be asked for later, without waiting; nothing where that gains nothing."""

    def __call__(self, items: Sequence[RouteItem]) -> list[Judgement | JudgeFailure]: ...


def percent_of(scores: Sequence[float]) -> float:
    """The percent of three scores from 0 to 5: their mean, times 20 (paper, section 5.1 and Table 2)."""
    return sum(scores) / 3 * 100 / BEST


def pooled_sd(groups: Sequence[Sequence[float]]) -> float:
    """The standard deviation within groups of two numbers or more, of one group or several."""
    squares = sum((len(group) - 1) * statistics.variance(group) for group in groups)
    return float((squares / sum(len(group) - 1 for group in groups)) ** 0.5)


def judge_empty(item: RouteItem, judge: str) -> Judgement | None:
    """The rule for a prediction without text, the same for every judge: 0/0/0, and flagged as empty.

    The reference code drops such a sample from the denominator, which rewards silence. None if there is text.
    """
    if item.prediction.strip():
        return None
    return Judgement(item.sample_id, 0, 0, 0, "The prediction is empty.", judge, empty=True)


@dataclass(frozen=True, slots=True)
class JudgeNoise:
    """A judge's own noise on a set of samples, all figures in percent points of the route score.

    samples: how many have two judgements or more; the others say nothing of noise and are left out.
    repeats: most judgements of a sample.
    mean: mean over samples of each one's mean over its judgements.
    sample_sd: standard deviation of the judgements of one sample (pooled over the samples).
    run_sd: standard deviation of the task's figure from one run of the judge to the next, for these samples:
        `sample_sd` divided by the root of their number.
    same: share of samples whose judgements are all alike, 0 to 1.
    """

    samples: int
    repeats: int
    mean: float
    sample_sd: float
    run_sd: float
    same: float


def judge_noise(judgements: Sequence[Judgement]) -> JudgeNoise | None:
    """The noise that repeated judgements show; None where no sample has two."""
    percents = [
        [percent_of(triple) for triple in judgement.repeats]
        for judgement in judgements
        if len(judgement.repeats) > 1
    ]
    if not percents:
        return None
    sample_sd = pooled_sd(percents)
    return JudgeNoise(
        samples=len(percents),
        repeats=max(len(p) for p in percents),
        mean=statistics.fmean(statistics.fmean(p) for p in percents),
        sample_sd=sample_sd,
        run_sd=sample_sd / len(percents) ** 0.5,
        same=statistics.fmean(len(set(j.repeats)) == 1 for j in judgements if len(j.repeats) > 1),
    )
