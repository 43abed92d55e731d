"""Plots of training runs: what is drawn is what the log says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from egost.main import app
from egost.training import TrainingError
from egost.training.run_log import draw_runs


def write_log(path: Path, losses: list[float]) -> Path:
    rows = [f"{step},{loss},{1 / (1 + loss)}" for step, loss in enumerate(losses, 1)]
    path.write_text("\n".join(["step,loss,token_accuracy", *rows]) + "\n7,0.5")
    return path


def test_a_curve_is_the_whole_lines_of_a_log(tmp_path: Path) -> None:
    from egost.training.run_log import curve

    log = write_log(tmp_path / "log.csv", [3.0, 2.0, 1.0])
    assert curve(log, "loss") == ([1, 2, 3], [3.0, 2.0, 1.0])
    with pytest.raises(TrainingError, match="no figures of reward"):
        curve(log, "reward")
    with pytest.raises(TrainingError, match=r"missing\.csv"):
        curve(tmp_path / "missing.csv", "loss")


@pytest.mark.parametrize(
    "content",
    [
        b"\0" * 50 + b"\n",
        b"step,loss\n1,\xff\n",
        b"loss\n1\n",
        b"step,loss\none,1\n",
        b"step,loss\n1,two\n",
        b"step,loss\n1,2,3\n",
        b'step,loss\n1,"' + b"2" * 200_000 + b'"\n',
        b"step,loss\n1" + b"0" * 5_000 + b",1\n",
        b"step,loss\n,1\n",
    ],
    ids=lambda content: repr(content[:20]),
)
def test_a_log_that_is_none_is_named(tmp_path: Path, content: bytes) -> None:
    from egost.training.run_log import curve

    (tmp_path / "log.csv").write_bytes(content)
    with pytest.raises(TrainingError, match=r"log\.csv (is no log of a training|has no figures of loss)"):
        curve(tmp_path / "log.csv", "loss")


def test_the_strong_line_is_a_mean_of_the_steps_before() -> None:
    from egost.training.run_log import smoothed

    assert smoothed([4.0, 2.0, 0.0]) == [4.0, 3.0, 2.0]
    assert smoothed([0.0] * 10 + [10.0] * 10)[-1] == 10.0


def test_the_png_shows_a_line_that_falls(tmp_path: Path) -> None:
    from egost.training.run_log import FINE_TUNING, draw

    logs = {"falling": write_log(tmp_path / "a.csv", [float(k) for k in range(30, 0, -1)])}
    draw(logs, FINE_TUNING[:1], "Fine-tuning", tmp_path / "plot.png")
    pixels = np.asarray(Image.open(tmp_path / "plot.png").convert("RGB")).astype(int)
    # matplotlib's first colour, #1f77b4.
    drawn = np.abs(pixels - (31, 119, 180)).sum(axis=2) < 30
    rows, columns = np.nonzero(drawn)
    # The legend's own stroke is short; the line begins high on the left and ends low on the right.
    left, right = rows[columns < np.quantile(columns, 0.1)], rows[columns > np.quantile(columns, 0.9)]
    assert drawn.sum() > 500 and np.median(left) + 50 < np.median(right)


def test_one_line_for_each_run_in_each_panel(tmp_path: Path) -> None:
    from egost.training.run_log import FINE_TUNING, Panel, draw

    logs = {name: write_log(tmp_path / name, [2.0, 1.0]) for name in ("a.csv", "b.csv")}
    draw(logs, [*FINE_TUNING, Panel("loss", "again")], "Both", tmp_path / "plot.png")
    pixels = np.asarray(Image.open(tmp_path / "plot.png").convert("RGB")).astype(int)
    for colour in ((31, 119, 180), (255, 127, 14)):
        columns = np.nonzero((np.abs(pixels - colour).sum(axis=2) < 30).any(axis=0))[0]
        third = pixels.shape[1] / 3
        assert {int(column / third) for column in columns} == {0, 1, 2}


def run_folder(folder: Path, header: str, *rows: str) -> Path:
    folder.mkdir()
    (folder / "log.csv").write_text("\n".join([header, *rows]) + "\n")
    return folder


def test_a_persons_own_runs_are_drawn(tmp_path: Path) -> None:
    grpo = run_folder(
        tmp_path / "grpo", "step,reward,completion_length,clipped_ratio", "1,0.2,40,0.5", "2,0.4,30,0.1"
    )
    older = run_folder(tmp_path / "older", "step,reward,completion_length", "1,0.1,40", "2,0.3,30")
    sft = run_folder(tmp_path / "sft", "step,loss,token_accuracy", "1,2.0,0.1", "2,1.0,0.5")
    widths = {}
    for name, runs in {"one": [grpo], "two": [grpo, older], "fine": [sft]}.items():
        out = tmp_path / f"{name}.png"
        done = CliRunner().invoke(app, ["train", "plot", *map(str, runs), "-o", str(out)])
        assert done.exit_code == 0, done.output
        widths[name] = Image.open(out).width
    assert widths["one"] > widths["two"] == widths["fine"], "a panel for each figure that all runs have"
    done = CliRunner().invoke(app, ["train", "plot", str(sft)])
    assert done.exit_code == 0 and (sft / "log.png").is_file()


@pytest.mark.parametrize(
    ("folders", "says"),
    [
        (["grpo", "sft"], "Plot them apart"),
        (["empty"], r"empty holds no log\.csv with a step"),
        (["nowhere"], r"nowhere holds no log\.csv with a step"),
    ],
)
def test_what_cannot_be_drawn_is_named(tmp_path: Path, folders: list[str], says: str) -> None:
    run_folder(tmp_path / "grpo", "step,reward,completion_length", "1,0.2,40")
    run_folder(tmp_path / "sft", "step,loss,token_accuracy", "1,2.0,0.1")
    run_folder(tmp_path / "empty", "step,loss")
    with pytest.raises(TrainingError, match=says):
        draw_runs([tmp_path / name for name in folders], tmp_path / "plot.png")
    assert not (tmp_path / "plot.png").exists()
