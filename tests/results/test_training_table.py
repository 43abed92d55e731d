"""Table 3's form: means by hand, paired gains, controls, and a sentence for each aim."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

import numpy as np
import pytest

from egost.results.records import SampleRecord
from egost.results.run_header import RunError
from egost.results.training_table import (
    TrainedModel,
    as_json,
    controlled,
    form,
    markdown,
    targets,
    training_table,
)
from egost.tasks.sample import Sample, TaskKind, Way

CLIPS = 40


def record(kind: str, way: str, clip: int, percent: float) -> SampleRecord:
    sample = Sample(
        f"Part1/{kind}_{way}/{clip}", cast(TaskKind, kind), cast(Way, way), 1, f"{clip}.mp4", "Which?",
        (f"left {clip % 7}", f"right {clip % 5}", f"back {clip % 3}", f"on {clip % 4}"), "ABCD"[clip % 4],
    )  # fmt: skip
    return SampleRecord(
        f"egost_mini_{kind}_{way}",
        "mini",
        sample,
        "",
        "",
        percent,
        percent,
        None,
        None,
        None,
        None,
        None,
        None,
    )


def answers(share: float, seed: int) -> tuple[SampleRecord, ...]:
    """Of each task and way `CLIPS` questions, of which about a share is right."""
    rng = np.random.default_rng(seed)
    return tuple(
        record(kind, way, clip, 100.0 * (rng.random() < share))
        for kind in ("direction", "landmark")
        for way in ("forward", "reverse")
        for clip in range(CLIPS)
    )


def model(label: str, share: float, *, blind: float = 0.25, seed: int = 0) -> TrainedModel:
    return TrainedModel(label, 252, answers(share, seed), {"blind": answers(blind, seed + 1)})


def test_figures_are_means_of_the_tasks() -> None:
    records = tuple(
        record(kind, way, clip, 100.0 * (clip < right))
        for (kind, way), right in {
            ("direction", "forward"): 10, ("direction", "reverse"): 20,
            ("landmark", "forward"): 30, ("landmark", "reverse"): 40,
        }.items()
        for clip in range(CLIPS)
    )  # fmt: skip
    table = training_table([TrainedModel("base", 0, records, {})], [])
    [row] = table.rows
    assert row.figures == {
        "direction_forward": 25.0, "direction_reverse": 50.0, "landmark_forward": 75.0, "landmark_reverse": 100.0,
        "avg_forward": 50.0, "avg_reverse": 75.0,
    }  # fmt: skip
    assert (row.whole.value, row.whole.n, row.whole.clips) == (62.5, 160, CLIPS)
    assert row.whole.low < 62.5 < row.whole.high
    assert row.kinds["direction"].value == 37.5 and table.chance == pytest.approx(25.0)


def test_ours_stand_before_the_published_rows_which_are_marked() -> None:
    table = training_table([model("base", 0.4), model("ST-R1", 0.8, seed=5)], [("base", "ST-R1")])
    head, rows = form(table)
    assert [row[0] for row in rows[:3]] == ["base", "ST-R1", "Qwen2-VL-7B (published)"]
    assert all(len(row) == len(head) for row in rows)
    assert rows[-1][:5] == ["ST-R1 (published)", "630", "3582", "86.3 / 86.1", "82.0 / 85.5"]
    text = markdown(table)
    assert len(controlled(table)[1]) == 2
    # Heads and rules of two tables, the first one's head at the text's start.
    assert text.count("\n| ") == len(rows) + 2 + 3 and "Chance is 25.0 %" in text
    assert "a linear model of the options' wording gets" in text


def test_each_aim_has_a_sentence_that_says_whether_it_was_reached() -> None:
    models = [model("base", 0.45), model("SFT", 0.46, seed=3), model("ST-R1", 0.85, blind=0.6, seed=7)]
    table = training_table(models, [("base", "SFT"), ("SFT", "ST-R1")])
    aims = targets(table, "base", "ST-R1", 60.0)
    told = {aim.sentence.split(":")[0]: aim.reached for aim in aims}
    assert told == {
        "base is above chance on direction": True,
        "base is above chance on landmark": True,
        "ST-R1 has 60 % on direction": True,
        "ST-R1 has 60 % on landmark": True,
        "base < SFT beyond the paired interval": False,
        "SFT < ST-R1 beyond the paired interval": True,
        "base without the clip is not above chance": True,
        "SFT without the clip is not above chance": True,
        "ST-R1 without the clip is not above chance": False,
        "the options' wording alone is not above chance": told[
            "the options' wording alone is not above chance"
        ],
    }
    assert str(aims[0]).startswith("Reached: ") and "chance 25.0 %" in aims[0].sentence
    assert [target["reached"] for target in as_json(table, aims)["targets"]] == [aim.reached for aim in aims]


def test_checkpoints_that_were_asked_otherwise_are_refused() -> None:
    one = model("base", 0.5)
    other = replace(model("SFT", 0.5), records=one.records[1:])
    with pytest.raises(RunError, match="the same questions"):
        training_table([one, other], [])
