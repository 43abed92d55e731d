from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from egost.results.diagnosis.control_figures import _circular_meaning, _gap_meaning, compare_controls
from egost.results.diagnosis.controls import (
    AS_ASKED,
    SAMPLES_FILE,
    About,
    read_controls_file,
    write_controls,
)
from egost.results.diagnosis.text_only import TextOnlyScore, against_text_only, release_of
from egost.results.intervals import Difference, Estimate
from egost.results.run import Run


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [
        (-60.0, 60.0, "Too few samples to tell"),
        (-1.0, 10.1, "Too few samples to tell"),
        (-60.0, 9.9, "the score can be had without the video"),
        (-2.0, 2.0, "the score can be had without the video"),
        (0.5, 60.0, "the score uses the video"),
        (-60.0, -0.5, "can be had without the video, and more"),
        (math.nan, math.nan, "Too few clips"),
    ],
)
def test_few_samples_say_nothing_of_the_video(low: float, high: float, said: str) -> None:
    found = _gap_meaning("blind", Difference(0.0, low, high, 1.0, 0.5, 0, 0, 24, 24, 12))
    assert said in found
    if said.startswith("Too few samples"):
        assert "uses the video or can be had" in found and f"{low:+.1f} to {high:+.1f}" in found


def test_few_questions_do_not_say_that_text_alone_does_it() -> None:
    baseline = TextOnlyScore(40.0, 20.0, 60.0, 25.0, 24, 12)
    few = Estimate(35.0, 10.0, 71.0, 12.0, 24, 12, 0, 35.0, 35.0)
    assert "too few samples to tell" in against_text_only(few, baseline)
    assert "does not exceed" in against_text_only(replace(few, high=45.0), baseline)
    rotated = Difference(0.0, -30.0, 30.0, 1.0, 0.5, 0, 0, 24, 24, 12)
    assert _circular_meaning(rotated, 50.0).startswith("Too few samples to tell")
    assert "not clearly less" in _circular_meaning(replace(rotated, high=3.0), 50.0)


def test_controls_on_one_clip_are_read_back_as_they_were_written(demo_run: Run, tmp_path: Path) -> None:
    records = [r for r in demo_run.records if r.sample.options]
    few = [r for r in records if r.cluster == records[0].cluster]
    about = About(
        {}, "vllm", "", release_of(demo_run), "uniform8", "direct-1", "", "egost_mini", None, None, 0, ""
    )
    broken = replace(few[0], response="half of a pair: \ud83d")
    replies = {AS_ASKED: few, "blind": [broken, *few[1:]]}
    found = compare_controls(replies, [], about)
    arm = found.arm("blind")
    assert arm is not None
    assert math.isnan(arm.overall.gap.low), "nothing is known of other clips"
    path = write_controls(tmp_path, found, replies, [])
    lines = [json.loads(line) for line in (tmp_path / SAMPLES_FILE).read_text().splitlines()]
    assert lines[len(few)]["response"] == broken.response
    assert repr(read_controls_file(path)) == repr(found)
    assert math.isnan(json.loads(path.read_text())["score"]["low"])
