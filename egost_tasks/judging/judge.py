"""Judges of route descriptions: one function on a batch, behind which any judge can stand.

    judge = get_judge("offline")
    [verdict] = judge([RouteItem("Part3/route_forward/17", question, reference, prediction, "forward")])

A judge gives three whole numbers from 0 to 5 (paper, section 5.1 and figure 6), or says why it could not.
A failure is never a score.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from egost.tasks.errors import EgostError
from egost.tasks.sample import Way, World

if TYPE_CHECKING:
    from egost.tasks.chat.usage import JudgeUsage

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
class Judgement:
    """Scores of one route description.

    direction, landmark, semantic: whole numbers 0 to 5 (paper, section 5.1; Table 2's D, L and S).
    reasons: what the judge based them on, for people.
    judge: the judge's name with its version or snapshot.
    empty: the prediction held no text, so that all three are 0 by rule.
    snapshot: the model that the judge's server says it is; empty for a judge without a server.
    repeats: where a sample is judged several times, (direction, landmark, semantic) of each judgement that could
        be read. The first is the one above and counts; `egost.tasks.judging.noise` tells how far they
        differ.

    Raises JudgeError when a score is not a whole number from 0 to 5.
    """

    sample_id: str
    direction: int
    landmark: int
    semantic: int
    reasons: str
    judge: str
    empty: bool = False
    snapshot: str = ""
    repeats: tuple[tuple[int, int, int], ...] = ()

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

    @property
    def usage(self) -> JudgeUsage | None:
        """What it has asked of its server so far; None for a judge without one."""

    def start(self, items: Sequence[RouteItem]) -> None:
        """Begin to judge items that will be asked for later, without waiting; nothing where that gains nothing."""

    def __call__(self, items: Sequence[RouteItem]) -> list[Judgement | JudgeFailure]: ...


def judge_empty(item: RouteItem, judge: str) -> Judgement | None:
    """The rule for a prediction without text, the same for every judge: 0/0/0, and flagged as empty.

    The reference code drops such a sample from the denominator, which rewards silence. None if there is text.
    """
    if item.prediction.strip():
        return None
    return Judgement(item.sample_id, 0, 0, 0, "The prediction is empty.", judge, empty=True)


def _offline() -> Judge:
    from egost.tasks.judging.rubric import OfflineRubric

    return OfflineRubric()


JUDGES: dict[str, Callable[[], Judge]] = {"offline": _offline}
"""The judges without a server, by the name that a user asks for."""

SERVER_FORMS = "gpt-4o, gpt-SNAPSHOT, openai:MODEL@BASE_URL, azure:DEPLOYMENT@ENDPOINT"
"""How a user names a judge behind a server (see `egost.tasks.chat.endpoint`)."""


def chosen_judge(world: World, repeats: int | None = None) -> Judge:
    """The judge that the environment's `EGOST_JUDGE` names; repeats: see `get_judge`.

    The mini world falls back on `offline`, since its figures are no benchmark results.
    Raises JudgeError when the benchmark has no judge, there is no such judge, or it lacks a key.
    """
    spec = os.environ.get("EGOST_JUDGE")
    if not spec and world == "official":
        raise JudgeError(
            "No judge is chosen for the route descriptions. Set EGOST_JUDGE=gpt-4o and OPENAI_API_KEY for the paper's "
            f"judge, EGOST_JUDGE=offline for scores by rules (no key, no network), or one of {SERVER_FORMS}."
        )
    return get_judge(spec or "offline", repeats)


def get_judge(spec: str, repeats: int | None = None) -> Judge:
    """The judge of a name; the same name gives the same judge within a process.

    spec: a name of `JUDGES` or one of `SERVER_FORMS`, with `+compat` behind it for the reference code's form of
        reply.
    repeats: judgements for each sample; None takes `EGOST_JUDGE_REPEATS`, or 1. Rules give the same judgement
        each time, so that a judge without a server takes no notice.
    Raises JudgeError when there is no such judge or it lacks a key.
    """
    if spec in JUDGES:
        return JUDGES[spec]()
    if spec.startswith(("gpt-", "openai:", "azure:")):
        from egost.tasks.judging.openai_judge import shared_judge

        return shared_judge(spec, _chosen_repeats() if repeats is None else repeats)
    told = "of that form" if "@" in spec else repr(spec)
    raise JudgeError(
        f"No judge {told}. EGOST_JUDGE or --judge is one of: {', '.join(sorted(JUDGES))}, {SERVER_FORMS}."
    )


def _chosen_repeats() -> int:
    asked = os.environ.get("EGOST_JUDGE_REPEATS") or "1"
    if not asked.isdecimal() or int(asked) < 1:
        raise JudgeError(f"EGOST_JUDGE_REPEATS is {asked!r}; expected a whole number from 1 on.")
    return int(asked)
