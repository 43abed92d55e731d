"""Table 3's form: means by hand, paired gains, controls, and a sentence for each aim."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
import pytest
from PIL import Image

from egost.results.records import SampleRecord
from egost.results.run_header import RunError
from egost.results.training_table import (
    TrainedModel,
    as_json,
    aspects_table,
    controlled,
    draw_figure_1,
    form,
    markdown,
    out_of_domain,
    targets,
    targets_out_of_domain,
    tasks_table,
    training_table,
)
from egost.tasks.judging.judge import Judgement
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


def route(way: str, clip: int, direction: int, landmark: int, semantic: int) -> SampleRecord:
    sample = Sample(
        f"Part1/route_{way}/{clip}", "route", cast(Way, way), 1, f"{clip}.mp4", "Which way?", (), "Go on."
    )
    percent = 100 * (direction + landmark + semantic) / 15
    judged = Judgement(sample.id, direction, landmark, semantic, "", "offline")
    asked = record("direction", way, clip, percent)
    return replace(asked, task=f"egost_mini_route_{way}", sample=sample, judgement=judged)


def with_routes(share: float, judged: tuple[int, int, int], seed: int) -> tuple[SampleRecord, ...]:
    told = [route(way, clip, *judged) for way in ("forward", "reverse") for clip in range(CLIPS)]
    return (*told, *answers(share, seed))


def test_all_tasks_with_their_controls_a_guess_and_the_wording() -> None:
    seen = TrainedModel(
        "ST-R1",
        630,
        with_routes(1.0, (5, 4, 3), 0),
        {"blind": with_routes(0.0, (1, 0, 0), 0), "other": with_routes(0.0, (0, 0, 1), 0)},
    )
    head, rows = tasks_table([seen])
    assert head[2:] == [
        f"{kind} {way}" for kind in ("Route", "Direction", "Landmark", "Action") for way in "FR"
    ]
    assert [row[:2] for row in rows] == [
        ["ST-R1", "with the clip"], ["ST-R1", "without the clip"], ["ST-R1", "with another walk's clip"],
        ["a guess", ""], ["a linear model", "the options' wording"],
    ]  # fmt: skip
    cells = [[cell.split(" ")[0] for cell in row[2:]] for row in rows]
    # (5 + 4 + 3) / 15 is 80 %, 1 / 15 is 6.7 %; nothing was asked about actions.
    assert cells[0] == ["80.0", "80.0", *4 * ["100.0"], "", ""]
    assert cells[1] == cells[2] == ["6.7", "6.7", *4 * ["0.0"], "", ""]
    assert cells[3] == ["", "", *4 * ["25.0"], "", ""]
    assert rows[4][4] == rows[4][5] and " to " in rows[4][4] and rows[4][2] == rows[4][8] == ""
    head, rows = aspects_table([seen])
    assert head[2:] == ["D F", "D R", "L F", "L R", "S F", "S R"]
    # Scores of 5, times 20.
    assert [cell.split(" ")[0] for cell in rows[0][2:]] == ["100.0", "100.0", "80.0", "80.0", "60.0", "60.0"]
    assert [cell.split(" ")[0] for cell in rows[1][2:]] == ["20.0", "20.0", "0.0", "0.0", "0.0", "0.0"]


def test_routes_are_no_part_of_table_3_and_text_alone_has_its_column(tmp_path: Path) -> None:
    models = [
        TrainedModel("base", 0, with_routes(0.4, (5, 5, 5), 1), {"blind": with_routes(0.2, (0, 0, 0), 2)}),
        TrainedModel("ST-R1", 630, with_routes(0.9, (5, 5, 5), 3), {"blind": with_routes(0.3, (0, 0, 0), 4)}),
    ]
    without = [
        replace(m, records=answers(share, seed))
        for m, share, seed in zip(models, (0.4, 0.9), (1, 3), strict=True)
    ]
    table = training_table(models, [("base", "ST-R1")])
    assert table.rows[1].figures == training_table(without, []).rows[1].figures
    assert table.rows[0].whole.n == 4 * CLIPS and table.gains[0].difference.n == 4 * CLIPS
    assert table.text_only is not None
    wrong = round((1 - table.text_only.accuracy) * 4 * CLIPS)
    assert [row.unread.n for row in table.rows if row.unread] == [wrong, wrong]
    head, rows = controlled(table)
    assert head[-1] == "where text alone fails" and " to " in rows[1][-1]
    draw_figure_1(models, tmp_path / "figure.png")
    pixels = np.asarray(Image.open(tmp_path / "figure.png").convert("RGB")).astype(int)
    for colour in ((31, 119, 180), (255, 127, 14)):
        assert (np.abs(pixels - colour).sum(axis=2) < 30).sum() > 100


def test_each_aim_has_a_sentence_that_says_whether_it_was_reached() -> None:
    models = [model("base", 0.45), model("SFT", 0.46, seed=3), model("ST-R1", 0.85, blind=0.6, seed=7)]
    table = training_table(models, [("base", "SFT"), ("SFT", "ST-R1")])
    aims = targets(table, "base", "ST-R1", {"direction": 60.0, "landmark": 99.0})
    told = {aim.sentence.split(":")[0]: aim.reached for aim in aims}
    assert told == {
        "base is above chance on direction": True,
        "base is above chance on landmark": True,
        "ST-R1 has 60 % on direction": True,
        "ST-R1 has 99 % on landmark": False,
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


def test_table_4_says_of_each_source_whether_it_is_above_chance_there() -> None:
    base = replace(model("mini-base", 0.25, seed=2), rows=0)
    tables = {
        "sun3d": training_table([base, model("ST-R1", 0.8, seed=5)], [("mini-base", "ST-R1")]),
        "outdoor": training_table([base, model("ST-R1", 0.25, seed=9)], [("mini-base", "ST-R1")]),
    }
    head, rows = out_of_domain(tables)
    assert head[:6] == ["", "tested on", "n", "Avg.", "Direction (D)", "Landmark (L)"]
    assert [row[:3] for row in rows] == [
        ["mini-base", "sun3d", "160"], ["ST-R1 without sun3d", "sun3d", "160"],
        ["mini-base", "outdoor", "160"], ["ST-R1 without outdoor", "outdoor", "160"],
    ]  # fmt: skip
    figures = tables["sun3d"].row("ST-R1").figures
    assert rows[1][4] == f"{figures['direction_forward']:.1f} / {figures['direction_reverse']:.1f}"
    assert all(len(row) == len(head) and " to " in row[-1] for row in rows)
    aims = {source: targets_out_of_domain(table, source, "ST-R1") for source, table in tables.items()}
    assert [found[0].reached for found in aims.values()] == [True, False]
    assert [found[1].reached for found in aims.values()] == [True, False]
    assert all(
        aim.sentence.startswith(f"on {source}, left out of the training: ")
        for source, found in aims.items()
        for aim in found
    )


def test_checkpoints_that_were_asked_otherwise_are_refused() -> None:
    one = model("base", 0.5)
    other = replace(model("SFT", 0.5), records=one.records[1:])
    with pytest.raises(RunError, match="the same questions"):
        training_table([one, other], [])
