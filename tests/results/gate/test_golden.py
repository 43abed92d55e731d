"""The golden record of the embedded checkpoint against what is installed: all that needs no model and no processor."""

from __future__ import annotations

import pytest
from places import GOLDEN as FOLDER

from egost.results.gate.baseline import Baseline
from egost.results.gate.baseline_file import read_baseline
from egost.results.gate.regression import rescored
from egost.tasks.clips.protocols import parse_protocol
from egost.tasks.prompts import load_prompt
from egost.tasks.scoring import scores
from egost.tasks.scoring.choices import Choice, compat_choice

GOLDEN = FOLDER / "tiny.jsonl"


@pytest.fixture(scope="module")
def golden() -> Baseline:
    return read_baseline(GOLDEN)


def test_the_frames_are_the_same_ones(golden: Baseline) -> None:
    for record in golden.records.values():
        seen = record.frames
        assert seen is not None
        assert parse_protocol(seen.protocol).indices(seen.n_frames, seen.duration) == list(seen.indices)


def test_the_prompt_reads_the_same(golden: Baseline) -> None:
    prompt = load_prompt("direct")
    assert all(prompt.render(record.sample) == record.prompt for record in golden.records.values())
    assert {task.settings["prompt_sha256"] for task in golden.tasks.values()} == {prompt.sha256}


def test_the_replies_are_worth_the_same(golden: Baseline, monkeypatch: pytest.MonkeyPatch) -> None:
    assert list(rescored(golden)) == []
    monkeypatch.setattr(
        scores, "strict_choice", lambda reply, options: Choice(compat_choice(reply), "letter")
    )
    moved = list(rescored(golden))
    assert moved and {sample.stage for sample in moved} == {"scoring"}, "the replies tell parsers apart"
