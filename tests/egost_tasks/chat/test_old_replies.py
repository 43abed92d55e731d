"""What versions with four stores of replies have paid for is not asked for again; their files stay as they are.

`old_replies` was written by commit 6715bb3: the judge, the writer of options and the writer of reasoning asked
`http://model.invalid/v1` (a name that never leads anywhere) by a proxy, with the questions below. `expected.json` is
what they gave.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from egost.tasks.chat.calls import Pacing
from egost.tasks.chat.endpoint import parse_endpoint
from egost.tasks.chat.reply_store import STORE, stored_bodies
from egost.tasks.construction.annotations import Annotation, Step
from egost.tasks.construction.model_calls import OpenAIWriter, find_endpoint
from egost.tasks.construction.workfolder import cost_of
from egost.tasks.construction.writers import ChoiceRequest, Written
from egost.tasks.judging.judge import JudgeFailure, Judgement, JudgeStopped, RouteItem
from egost.tasks.judging.openai_judge import OpenAIJudge
from egost.tasks.sample import Sample
from egost.training.rows.thought_writer import thought_writer, writer_endpoint

OLD = Path(__file__).with_name("old_replies")
URL = "http://model.invalid/v1"
QUICK = Pacing(concurrency=1, tries=2, first_wait_s=0.01, longest_wait_s=0.02, breaker_calls=1, breaker_s=0)
"""The first call ends in an error, since nobody is there."""

ITEMS = [
    RouteItem(f"s{i}", "Which way?", "Turn left at the sofa.", f"walk {i}", "reverse" if i % 2 else "forward")
    for i in range(6)
]
FIRST = (Step("left", "red door", "", 0.2), Step("right", "lamp", "open a box", 0.5))
SECOND = (Step("left", "bed", "", 0.2), Step("right", "sofa", "", 0.5))
REQUESTS = [
    ChoiceRequest(
        Annotation("1.mp4", "ana", "indoor_multi", FIRST),
        "landmark",
        ("forward", "reverse"),
        ("bed", "sofa"),
    ),
    ChoiceRequest(Annotation("2.mp4", "ana", "indoor_multi", SECOND), "direction", ("forward",), ()),
]


def pair(number: int) -> tuple[Sample, Sample]:
    clip, route = f"{number}.mp4", f"From B, turn left {number}."
    return (
        Sample(f"Part1/direction_forward/{number}", "direction", "forward", 1, clip, "Which?", ("left", "right"), "B"),
        Sample(f"Part1/route_reverse/{number}", "route", "reverse", 1, clip, "Tell.", (), route),
    )  # fmt: skip


@pytest.fixture
def cache(own_cache: Path) -> Path:
    shutil.copytree(OLD, own_cache, dirs_exist_ok=True)
    return own_cache


@pytest.fixture
def expected() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((OLD / "expected.json").read_text(encoding="utf-8"))
    return found


def hashes(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def as_of_old(verdict: Judgement | JudgeFailure) -> dict[str, Any]:
    """A verdict as the old versions wrote it."""
    assert isinstance(verdict, Judgement)
    assert verdict.compat is None, "not asked in the public code's form"
    assert verdict.votes == (), "judged by one"
    found: dict[str, Any] = json.loads(json.dumps(asdict(verdict)))
    del found["compat"], found["votes"]
    return found


@pytest.mark.parametrize(("name", "repeats"), [("strict", 1), ("repeats", 2)])
def test_no_judgement_is_paid_for_twice(
    cache: Path, expected: dict[str, Any], name: str, repeats: int
) -> None:
    before = hashes(OLD)
    judge = OpenAIJudge(parse_endpoint(f"openai:judge-model@{URL}"), repeats=repeats, pacing=QUICK)
    assert [as_of_old(verdict) for verdict in judge(ITEMS)] == expected[name]
    used = judge.usage
    assert (used.calls, used.judged, used.cached) == (0, 0, len(ITEMS) * repeats)
    assert used.snapshots == ("judge-model-2026-01-01",)
    unknown = RouteItem("new", "Which way?", "Turn left.", "walk 99", "forward")
    with pytest.raises(JudgeStopped, match="does not answer"):
        judge([unknown])
    judge.close()
    after = hashes(cache)
    assert {path: after[path] for path in before} == before


def test_no_option_is_paid_for_twice(cache: Path, expected: dict[str, Any]) -> None:
    """One of the questions had a reply that made no sense; it is not asked for again either, and its price counts."""
    folder = cache / "writer"
    writer = OpenAIWriter(find_endpoint(f"openai:writer-model@{URL}", "--writer"), folder, QUICK)
    written = [options for options in writer(REQUESTS) if isinstance(options, Written)]
    assert [[list(map(list, w.wrong)), w.snapshot] for w in written] == expected["options"]
    assert stored_bodies(folder / STORE) == {}, "nothing new came"
    cost = cost_of(folder)
    assert (cost.replies, cost.tokens_in, cost.tokens_out) == (3, 2700, 300)


def test_no_reasoning_is_paid_for_twice(cache: Path, expected: dict[str, Any]) -> None:
    write = thought_writer(writer_endpoint(f"openai:thought-model@{URL}"), pacing=QUICK)
    assert write([pair(number) for number in range(2)]) == (expected["thinks"], {})
