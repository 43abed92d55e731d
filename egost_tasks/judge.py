"""Judges of route descriptions: one function on a batch, behind which any judge can stand.

    judge = get_judge(None)
    [verdict] = judge([RouteItem("Part3/route_forward/17", question, reference, prediction, "forward")])

A judge gives three whole numbers from 0 to 5 (paper, section 5.1 and figure 6), or says why it could not.
A failure is never a score.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from egost_tasks.errors import EgostError
from egost_tasks.sample import Way

BEST = 5
"""Highest score of each of the three aspects (paper, section 5.1)."""

DEFAULT_JUDGE = "offline"


class JudgeError(EgostError):
    """A judge is unknown, or broke the contract of a judge."""


@dataclass(frozen=True, slots=True)
class RouteItem:
    """One route description to be judged; `prediction` is the model's final text, without its thinking."""

    sample_id: str
    question: str
    reference: str
    prediction: str
    way: Way


@dataclass(frozen=True, slots=True)
class Judgement:
    """Scores of one route description.

    direction, landmark, semantic: whole numbers 0 to 5 (paper, section 5.1; Table 2's D, L and S).
    reasons: what the judge based them on, for people.
    judge: the judge's name with its version or snapshot.
    empty: the prediction held no text, so that all three are 0 by rule.

    Raises JudgeError when a score is not a whole number from 0 to 5.
    """

    sample_id: str
    direction: int
    landmark: int
    semantic: int
    reasons: str
    judge: str
    empty: bool = False

    def __post_init__(self) -> None:
        for aspect in ("direction", "landmark", "semantic"):
            score = getattr(self, aspect)
            if type(score) is not int or not 0 <= score <= BEST:
                raise JudgeError(
                    f"Judge {self.judge} gave {aspect}={score!r} to sample {self.sample_id}; expected a "
                    f"whole number from 0 to {BEST}. Return a JudgeFailure where no score can be read."
                )

    @property
    def percent(self) -> float:
        """The sample's score, 0 to 100: the mean of the three, times 20 (paper, section 5.1 and Table 2)."""
        return (self.direction + self.landmark + self.semantic) / 3 * 100 / BEST


@dataclass(frozen=True, slots=True)
class JudgeFailure:
    """A route description that could not be judged: unscored, never 0.

    reason: a short stable word that is counted beside the scores.
    text: what the judge said, kept for people; empty if it said nothing.
    """

    sample_id: str
    reason: str
    text: str
    judge: str


class Judge(Protocol):
    """Scores a batch; the result has one entry for each item, in the order of the items."""

    @property
    def name(self) -> str:
        """The judge's name with its version or snapshot, as the results record it."""

    def __call__(self, items: Sequence[RouteItem]) -> list[Judgement | JudgeFailure]: ...


def judge_empty(item: RouteItem, judge: str) -> Judgement | None:
    """The rule for a prediction without text, the same for every judge: 0/0/0, and flagged as empty.

    The reference code drops such a sample from the denominator, which rewards silence. None if there is text.
    """
    if item.prediction.strip():
        return None
    return Judgement(item.sample_id, 0, 0, 0, "The prediction is empty.", judge, empty=True)


def _offline() -> Judge:
    from egost_tasks.rubric import OfflineRubric

    return OfflineRubric()


JUDGES: dict[str, Callable[[], Judge]] = {"offline": _offline}
"""The judges that exist, by the name that a user asks for."""


def get_judge(spec: str | None) -> Judge:
    """The judge that a user asked for by name.

    spec: a name of `JUDGES`; None takes the environment's `EGOST_JUDGE`, or `offline` where that is not set.
    Raises JudgeError when there is no such judge.
    """
    name = spec or os.environ.get("EGOST_JUDGE") or DEFAULT_JUDGE
    if name not in JUDGES:
        asked = "asked for" if spec else "named by EGOST_JUDGE"
        raise JudgeError(f"No judge {name!r} ({asked}). Judges that exist: {', '.join(sorted(JUDGES))}.")
    return JUDGES[name]()
