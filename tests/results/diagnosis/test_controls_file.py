from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

from egost.results.diagnosis.control_figures import compare_controls
from egost.results.diagnosis.controls import (
    AS_ASKED,
    SAMPLES_FILE,
    About,
    read_controls_file,
    write_controls,
)
from egost.results.diagnosis.text_only import release_of
from egost.results.run import Run


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
