"""`egost sweep`: score against frames, with known scores and with a real model."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from changed_runs import changed
from egost_command import egost
from typer.testing import CliRunner
from video_files import write_video

from egost.main import app
from egost.results.run import Run
from egost.results.run_header import RunError
from egost.results.sweep import as_json, draw, sweep
from egost.tasks.clips.clips import get_clip
from egost.tasks.clips.protocols import parse_protocol
from egost.tasks.errors import SettingError

TASK = "egost_mini_direction_forward"


def of_right(run: Run, right: int) -> Run:
    """The run with the first samples of a task right, and its others wrong."""

    def change(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        for place, row in enumerate(rows):
            row["percent"]["score"] = 100.0 if place < right else 0.0
        return rows

    return changed(run, TASK, change)


def test_gains_are_over_the_next_smaller_number_whatever_the_order(
    demo_run: Run, copied_run: Run, tmp_path: Path
) -> None:
    n = sum(record.task == TASK for record in demo_run.records)
    few = of_right(copied_run, 1)
    rows = sweep({16: few, 4: demo_run, 64: few})
    assert [row.frames for row in rows] == [4, 16, 64]
    assert rows[0].gain is None
    was = rows[0].by_task[TASK].value
    assert rows[1].by_task[TASK].value == pytest.approx(100 / n)
    assert rows[1].gain is not None
    # One of the eight tasks moved.
    assert rows[1].gain.value == pytest.approx((100 / n - was) / 8)
    assert rows[2].gain is not None and rows[2].gain.ties == rows[2].gain.n == rows[2].score.n
    assert [row["gain"] and row["gain"]["value"] for row in json.loads(as_json(rows))][2] == 0
    draw(rows, "title", tmp_path / "sweep.png")
    assert (tmp_path / "sweep.png").read_bytes().startswith(b"\x89PNG")


def test_runs_of_different_tasks_are_no_sweep(demo_run: Run, copied_run: Run) -> None:
    del copied_run.results["configs"][TASK]
    with pytest.raises(RunError, match="different tasks"):
        sweep({1: demo_run, 2: copied_run})


@pytest.mark.parametrize("word", ["0", "65", "-1", "1.5", "x", "", "\u0663", "9" * 6000, "8 8"])
@pytest.mark.parametrize("others", ["", "1,", "64, 2,"])
def test_a_bad_number_is_refused_by_name_before_anything_is_asked(word: str, others: str) -> None:
    done = CliRunner().invoke(app, ["sweep", "gpt-4o", "--frames", f"{others}{word}"])
    assert done.exit_code == 2 and "Expected whole numbers from 1 to 64" in done.output, done.output
    assert f"--frames: '{word[:50].strip()}" in done.output


def test_a_bad_number_in_the_setting_is_refused_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EGOST_FRAME_COUNTS", "1,65")
    with pytest.raises(SettingError, match="EGOST_FRAME_COUNTS: '65' is no number of frames"):
        get_clip(write_video(tmp_path / "walk.mp4", 3), parse_protocol("uniform2"))


def test_the_plans_keep_the_models_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EGOST_PROTOCOL", raising=False)
    done = CliRunner().invoke(app, ["sweep", "gpt-4o", "--frames", "16,1,16", "--dry-run"])
    assert done.exit_code == 0, done.output
    lines = [line for line in done.output.splitlines() if "lmms-eval --tasks" in line]
    assert [line.partition("EGOST_PROTOCOL=")[2].split()[0] for line in lines] == [
        "uniform1+224x224",
        "uniform16+224x224",
    ]
    assert [line.partition("EGOST_FRAME_COUNTS=")[2].split()[0] for line in lines] == ["1,16"] * 2
    assert [line.partition("--output_path ")[2].split()[0] for line in lines] == [
        "runs/gpt-4o-frames/uniform1",
        "runs/gpt-4o-frames/uniform16",
    ]


def test_a_real_sweep_shares_the_journal_and_goes_on(
    tmp_path: Path, mini_release: Callable[..., Path]
) -> None:
    cache = tmp_path / "cache"
    mini_release(cache / "mini", clips=6, seed=5)
    words = ("sweep", "mini-base", "--tasks", TASK, "--limit", "1", "--frames")
    first = egost(*words, "3", cwd=tmp_path, cache=cache)
    assert first.returncode == 0, first.stdout + first.stderr

    def asked() -> int:
        with sqlite3.connect(cache / "journal" / "responses.sqlite") as journal:
            [[count]] = journal.execute("select count(*) from replies").fetchall()
        return int(count)

    assert asked() == 1
    again = egost(*words, "3,1", cwd=tmp_path, cache=cache)
    assert again.returncode == 0 and asked() == 2, again.stdout + again.stderr
    folder = tmp_path / "runs" / "mini-base-frames"
    rows = json.loads((folder / "sweep.json").read_text())
    assert [(row["frames"], row["protocol"], row["score"]["n"]) for row in rows] == [
        (1, "uniform1", 1),
        (3, "uniform3", 1),
    ]
    assert rows[1]["gain"]["n"] == 1 and (folder / "sweep.png").is_file()
