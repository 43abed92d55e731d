"""Who judges the route descriptions: a judge by its name, and what judging has cost.

judge = chosen_judge("official")      # the one that EGOST_JUDGE names
judge = get_judge("offline")
judge = get_judge("gpt-4o,openai:MODEL@URL,offline")      # a panel: each one's scores are kept, their median counts
"""

from __future__ import annotations

import os
import re
import statistics
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from egost.tasks.as_published import chosen
from egost.tasks.chat.endpoint import SERVER_FORMS
from egost.tasks.errors import SettingError, say_once
from egost.tasks.judging.judge import (
    ASPECTS,
    Judge,
    JudgeError,
    JudgeFailure,
    Judgement,
    JudgeStopped,
    JudgeUsage,
    RouteItem,
    Vote,
    percent_of,
    pooled_sd,
)
from egost.tasks.judging.rubric import OfflineRubric
from egost.tasks.keys import may_hold_secret
from egost.tasks.sample import World

JUDGES: dict[str, Callable[[], Judge]] = {"offline": OfflineRubric}
"""The judges without a server, by the name that a user asks for."""


def chosen_judge(world: World, repeats: int | None = None) -> Judge:
    """The judge that the environment's `EGOST_JUDGE` names; repeats: see `get_judge`.

    The mini world falls back on `offline`, since its figures are no benchmark results.
    Raises JudgeError when the benchmark has no judge, there is no such judge, or it lacks a key.
    """
    spec = chosen("EGOST_JUDGE") if world == "official" else os.environ.get("EGOST_JUDGE")
    if not spec and world == "official":
        raise JudgeError(
            "No judge is chosen for the route descriptions. Set EGOST_JUDGE=gpt-4o and OPENAI_API_KEY for the paper's "
            f"judge, EGOST_JUDGE=offline for scores by rules (no key, no network), or one of {SERVER_FORMS}."
        )
    return get_judge(spec or "offline", repeats)


def get_judge(spec: str, repeats: int | None = None) -> Judge:
    """The judge of a name; the same name gives the same judge within a process.

    spec: a name of `JUDGES` or one of `SERVER_FORMS`, with `+compat` behind it for the reference code's form of
        reply; or several of these with commas between them, whose median is the score (see `Panel`).
    repeats: judgements for each sample; None takes `EGOST_JUDGE_REPEATS`, or 1. Rules give the same judgement
        each time, so that a judge without a server takes no notice.
    Raises JudgeError when there is no such judge or it lacks a key.
    """
    if len(names := judge_names(spec)) > 1:
        return _panel(tuple(get_judge(name, repeats) for name in names))
    if spec in JUDGES:
        return JUDGES[spec]()
    if not spec.startswith(("gpt-", "openai:", "azure:")):
        named = "of that form" if may_hold_secret(spec) else repr(spec)
        raise JudgeError(
            f"No judge {named}. EGOST_JUDGE or --judge is one of: {', '.join(sorted(JUDGES))}, {SERVER_FORMS}."
        )
    # Here, since the client takes seconds to import and the offline judge does without it.
    from egost.tasks.judging.openai_judge import shared_judge

    try:
        return shared_judge(spec, _chosen_repeats() if repeats is None else repeats)
    except SettingError as error:
        raise JudgeError(
            f"{error} This is the judge of EGOST_JUDGE or --judge; each form may end in +compat, and "
            "EGOST_JUDGE=offline scores by rules, without a key."
        ) from None


def judge_names(spec: str) -> tuple[str, ...]:
    """The judges that a text names: one, or several with commas between them."""
    return tuple(name.strip() for name in _BETWEEN.split(spec))


_BETWEEN = re.compile(rf",(?=\s*(?:gpt-|openai:|azure:|(?:{'|'.join(JUDGES)})\s*(?:,|$)))")
"""A comma with another judge behind it: a comma may stand in a URL as well."""


def _panel(judges: tuple[Judge, ...]) -> Panel:
    names = [judge.name for judge in judges]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise JudgeError(f"EGOST_JUDGE or --judge names {twice} twice; name each judge once.")
    return Panel(judges)


_counted: dict[str, dict[str, float]] = {}
_counting = threading.Lock()
_COUNTED = ("calls", "cached", "retries", "tokens_in", "tokens_out", "usd", "wall_s")


def cost_increments(judge: Judge) -> dict[str, Any]:
    """How far a judge's account has grown since the last call in this process, as `judge_...` metrics.

    The judge serves all samples and threads at once, so that one increment says nothing of one sample; the
    sum of a task's increments is what the task has cost, over all ranks. Nothing for a judge without a server.
    Each value is a dictionary, because of numbers lmms-eval would make a standard error.
    """
    with _counting:
        used = judge.usage
        if used is None:
            return {}
        now = {field: value for field in _COUNTED if (value := getattr(used, field)) is not None}
        before = _counted.get(judge.name, {})
        _counted[judge.name] = now
    return {f"judge_{field}": {"n": value - before.get(field, 0)} for field, value in now.items()}


def _chosen_repeats() -> int:
    asked = os.environ.get("EGOST_JUDGE_REPEATS") or "1"
    if not asked.isdecimal() or int(asked) < 1:
        raise JudgeError(f"EGOST_JUDGE_REPEATS is {asked!r}; expected a whole number from 1 on.")
    return int(asked)


STOPPED = "judge_stopped"
"""Why a judge is absent whose server refuses or does not answer at all."""


class Panel:
    """Judges that vote on each description.

    A judge that fails on a sample is absent there, and so is one whose server refuses or does not answer at all. A
    sample is unscored where all of them are absent.
    """

    def __init__(self, judges: Sequence[Judge]) -> None:
        self.judges = tuple(judges)

    @property
    def name(self) -> str:
        """The judges' names, as `median of A & B`."""
        return "median of " + " & ".join(judge.name for judge in self.judges)

    @property
    def usage(self) -> JudgeUsage | None:
        """The accounts of the judges with a server, added up; None where there is none."""
        used = [used for judge in self.judges if (used := judge.usage)]
        return _together(self.name, used) if used else None

    def start(self, items: Sequence[RouteItem]) -> None:
        """Have each judge begin; see `Judge`."""
        for judge in self.judges:
            judge.start(items)

    def __call__(self, items: Sequence[RouteItem]) -> list[Judgement | JudgeFailure]:
        """The median of the verdicts on each item. Raises JudgeStopped when all judges have stopped."""
        self.start(items)
        columns, stopped = [], []
        for judge in self.judges:
            try:
                columns.append(judge(items))
            except JudgeStopped as error:
                stopped.append(error)
                say_once("WARNING", f"{error} The other judges go on without it.")
                columns.append([_verdict_before(judge, item) for item in items])
        if len(stopped) == len(self.judges):
            raise stopped[0]
        return [
            _median(item, self.name, verdicts)
            for item, verdicts in zip(items, zip(*columns, strict=True), strict=True)
        ]


def _verdict_before(judge: Judge, item: RouteItem) -> Judgement | JudgeFailure:
    """What a judge said of an item before it stopped."""
    try:
        return judge([item])[0]
    except JudgeStopped:
        return JudgeFailure(item.sample_id, STOPPED, "", judge.name)


def _median(
    item: RouteItem, name: str, verdicts: Sequence[Judgement | JudgeFailure]
) -> Judgement | JudgeFailure:
    judged = [verdict for verdict in verdicts if isinstance(verdict, Judgement)]
    if not judged:
        failed = [verdict for verdict in verdicts if isinstance(verdict, JudgeFailure)]
        reasons = {failure.reason for failure in failed}
        text = "\n".join(f"{failure.judge}: {failure.text or failure.reason}" for failure in failed)
        compat = statistics.median(failure.compat for failure in failed)
        return JudgeFailure(
            item.sample_id, reasons.pop() if len(reasons) == 1 else "all_failed", text, name, compat
        )
    direction, landmark, semantic = (
        _whole(statistics.median(getattr(one, aspect) for one in judged)) for aspect in ASPECTS
    )
    return Judgement(
        item.sample_id,
        direction,
        landmark,
        semantic,
        "; ".join(f"{one.judge}: {one.reasons}" for one in judged if one.reasons),
        name,
        empty=all(one.empty for one in judged),
        compat=None
        if all(one.compat is None for one in judged)
        else statistics.median(one.percent if one.compat is None else one.compat for one in judged),
        snapshot=" & ".join(dict.fromkeys(one.snapshot for one in judged if one.snapshot)),
        votes=tuple(_vote(verdict) for verdict in verdicts),
    )


def _vote(verdict: Judgement | JudgeFailure) -> Vote:
    if isinstance(verdict, JudgeFailure):
        return Vote(verdict.judge, None, verdict.reason)
    return Vote(verdict.judge, (int(verdict.direction), int(verdict.landmark), int(verdict.semantic)))


def _whole(score: float) -> float:
    return int(score) if score == int(score) else score


def _together(name: str, used: Sequence[JudgeUsage]) -> JudgeUsage:
    """One account of several; a price is known where each one's is. wall_s: of the longest, since they work at once."""

    def sum_of(field: str) -> int:
        return sum(getattr(one, field) for one in used)

    def joined(field: str) -> str:
        return " & ".join(dict.fromkeys(getattr(one, field) for one in used))

    prices = [one.usd for one in used]
    return JudgeUsage(
        judge=name,
        prompt=joined("prompt"),
        prompt_sha256=joined("prompt_sha256"),
        judged=sum_of("judged"),
        asked=joined("asked"),
        snapshots=tuple(dict.fromkeys(snapshot for one in used for snapshot in one.snapshots)),
        left_out=tuple(dict.fromkeys(parameter for one in used for parameter in one.left_out)),
        calls=sum_of("calls"),
        cached=sum_of("cached"),
        retries=sum_of("retries"),
        faults=dict(sum((Counter(one.faults) for one in used), Counter())),
        failures=dict(sum((Counter(one.failures) for one in used), Counter())),
        tokens_in=sum_of("tokens_in"),
        tokens_out=sum_of("tokens_out"),
        usd=None if None in prices else sum(price for price in prices if price is not None),
        prices_of=used[0].prices_of,
        prices={model: price for one in used for model, price in one.prices.items()},
        wall_s=max(one.wall_s for one in used),
    )


@dataclass(frozen=True, slots=True)
class PanelSpread:
    """How far the judges of a panel differ on a set of samples; percent points of the route score.

    means: each judge's mean over the samples that it scored. absent: how many samples each one gave no score to, by
    reason. samples: those that two judges or more scored. sample_sd: standard deviation of the judges' scores of one
    sample (pooled over these samples). same: share of them that all judges score alike, 0 to 1.
    """

    means: dict[str, float | None]
    absent: dict[str, dict[str, int]]
    samples: int
    sample_sd: float | None
    same: float | None


def panel_spread(judgements: Sequence[Judgement]) -> PanelSpread | None:
    """The spread among judges that voted; None where none did."""
    voted = [judgement.votes for judgement in judgements if judgement.votes]
    if not voted:
        return None
    names = list(dict.fromkeys(vote.judge for votes in voted for vote in votes))
    percents: dict[str, list[float]] = {name: [] for name in names}
    absent: dict[str, Counter[str]] = {name: Counter() for name in names}
    of_samples: list[list[tuple[int, int, int]]] = []
    for votes in voted:
        given = [vote.scores for vote in votes if vote.scores is not None]
        if len(given) > 1:
            of_samples.append(given)
        for vote in votes:
            if vote.scores is None:
                absent[vote.judge][vote.failed] += 1
            else:
                percents[vote.judge].append(percent_of(vote.scores))
    return PanelSpread(
        means={name: statistics.fmean(found) if found else None for name, found in percents.items()},
        absent={name: dict(reasons) for name, reasons in absent.items() if reasons},
        samples=len(of_samples),
        sample_sd=pooled_sd([[*map(percent_of, given)] for given in of_samples]) if of_samples else None,
        same=statistics.fmean(len(set(given)) == 1 for given in of_samples) if of_samples else None,
    )
