"""Who judges the route descriptions: a judge by its name, and what judging has cost.

judge = chosen_judge("official")      # the one that EGOST_JUDGE names
judge = get_judge("offline")
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable
from typing import Any

from egost.tasks.as_published import chosen
from egost.tasks.chat.endpoint import SERVER_FORMS
from egost.tasks.errors import SettingError
from egost.tasks.judging.judge import Judge, JudgeError
from egost.tasks.judging.panel import Panel
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
