"""The Python API as a notebook uses it, on the mini world; and that importing egost stays cheap."""

from __future__ import annotations

import inspect
import json
import math
import re
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
from notebook import executed, printed
from places import ROOT

import egost


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, mini_release: Callable[..., Path]) -> Path:
    return mini_release(tmp_path_factory.mktemp("mini"), clips=4)


@pytest.fixture
def release(world: Path, monkeypatch: pytest.MonkeyPatch) -> egost.Release:
    monkeypatch.setenv("EGOST_MINI_DATA", str(world))
    return egost.open_release("mini")


def test_five_lines_lead_to_a_score(release: egost.Release) -> None:
    sample = egost.samples(release, "direction_reverse")[0]
    pixels = egost.frames(release, sample)
    question = egost.render_prompt(sample)
    score = egost.score(sample, f"<answer>{sample.answer}</answer>")

    assert pixels.shape[0] == 8 and pixels.shape[3] == 3 and pixels.dtype == np.uint8
    assert sample.question in question and all(option in question for option in sample.options)
    assert score.percent == 100.0 and score.unscored is None


def test_the_five_lines_of_the_page_run(release: egost.Release, capsys: pytest.CaptureFixture[str]) -> None:
    page = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
    code = re.findall(r"```python\n(.*?)```", page, re.DOTALL)[0]
    assert len([line for line in code.splitlines() if line]) == 4
    exec(code, {})
    assert capsys.readouterr().out in ("0.0\n", "100.0\n")


def test_the_page_names_every_exported_function() -> None:
    page = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
    functions = [name for name in egost.__all__ if inspect.isfunction(getattr(egost, name))]
    assert [name for name in functions if f"| `egost.{name}(" not in page] == []


def test_an_interval_is_of_clips_and_of_the_plain_mean_of_tasks() -> None:
    # Two tasks of unlike size: 50 and 100, whose plain mean is 75.
    rows = [
        *(("a", f"{n}.mp4", 100.0 * (n % 2)) for n in range(20)),
        ("b", "0.mp4", 100.0),
        ("b", "1.mp4", 100.0),
    ]
    value, low, high = egost.interval(rows)
    assert value == 75 and low < 75 < high
    # One clip has no other to be told apart from.
    assert math.isnan(egost.interval([("a", "0.mp4", 100.0)])[1])


def test_the_notebook_runs_and_prints_what_stands_in_it(release: egost.Release) -> None:
    path = ROOT / "examples" / "quickstart.ipynb"
    now, stored = printed(executed(path)), printed(json.loads(path.read_text(encoding="utf-8")))
    # The same walk; then a world of 4 walks instead of 40, with 4 tasks of 4 questions.
    assert now[:3] == stored[:3] and now[:3] != ["", "", ""]
    assert (now[3], stored[3]) == ("16 samples\n", "160 samples\n")
    assert now[4].split()[:4] == stored[4].split()[:4] == ["percent", "low", "high", "chance"]
    assert [bool(text) for text in now] == [bool(text) for text in stored]


def test_strict_and_compat_part_where_the_reference_reads_a_stray_letter(release: egost.Release) -> None:
    sample = next(s for s in egost.samples(release, "direction_forward") if s.answer == "B")
    score = egost.score(sample, "Based on the video, I cannot tell.")
    assert (score.percent, score.compat) == (0.0, 100.0)


def test_the_prompt_and_the_frames_can_be_chosen(release: egost.Release) -> None:
    sample = egost.samples(release, "landmark_forward")[0]
    assert "<think>" in egost.render_prompt(sample, "think")
    assert "<think>" not in egost.render_prompt(sample)
    assert egost.frames(release, sample, "uniform8+224x224").shape == (8, 224, 224, 3)


def test_routes_are_judged_one_after_the_other(release: egost.Release) -> None:
    routes = egost.samples(release, "route_forward")
    verdicts = egost.judge_routes([(routes[0], routes[0].answer), (routes[1], "")], "offline")

    right, empty = next(verdicts), next(verdicts)
    assert isinstance(right, egost.Judgement) and isinstance(empty, egost.Judgement)
    assert right.percent > 80 and right.sample_id == routes[0].id
    assert empty.percent == 0 and empty.empty
    assert next(verdicts, None) is None
    assert egost.score(routes[0], routes[0].answer, judge="offline").percent == right.percent


def test_a_route_needs_a_judge_by_name_or_by_setting(
    release: egost.Release, monkeypatch: pytest.MonkeyPatch
) -> None:
    route = egost.samples(release, "route_reverse")[0]
    with pytest.raises(egost.EgostError, match="EGOST_JUDGE"):
        egost.score(route, route.answer)
    with pytest.raises(egost.EgostError, match="EGOST_JUDGE"):
        egost.judge_routes([(route, route.answer)])
    monkeypatch.setenv("EGOST_JUDGE", "offline")
    assert egost.score(route, route.answer).percent is not None


def test_a_folder_opens_as_what_it_holds(world: Path, release_folder: Path, tmp_path: Path) -> None:
    mini, official = egost.open_release(world), egost.open_release(str(release_folder))
    assert (mini.world, official.world) == ("mini", "official")
    assert len(egost.samples(official, "action_reverse")) == 2
    with pytest.raises(egost.EgostError, match="nowhere"):
        egost.open_release(tmp_path / "nowhere")
    with pytest.raises(egost.EgostError, match="route_forward"):
        egost.samples(mini, "egost_route")


def test_a_saved_run_becomes_a_table() -> None:
    run = egost.read_run(str(ROOT / "tests" / "saved" / "mini_run"))
    table = run.dataframe()
    assert isinstance(run, egost.Run) and len(table) == len(run.records) > 0
    means = table.groupby("task", observed=True)["score"].mean()
    for figure in run.figures:
        assert figure.is_group or means[figure.name] == pytest.approx(figure.percent)


def test_a_folder_without_a_finished_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(egost.EgostError, match="did not finish"):
        egost.read_run(str(tmp_path))


def test_the_version_is_that_of_the_distribution() -> None:
    assert egost.__version__ == version("egost")


def test_every_exported_name_is_there_and_no_other() -> None:
    assert set(egost.__all__) <= set(dir(egost))
    assert all(getattr(egost, name) is not None for name in egost.__all__)
    with pytest.raises(AttributeError, match="no attribute moon"):
        _ = egost.moon


@pytest.mark.parametrize(
    ("used", "heavy"),
    [
        ("import egost, egost.tasks.errors", ("numpy", "typer", "rich", "yaml", "av", "importlib.metadata")),
        ("import egost; egost.score", ("torch", "transformers", "lmms_eval", "openai", "datasets", "pandas")),
    ],
)
def test_importing_egost_brings_in_nothing_heavy(used: str, heavy: tuple[str, ...], tmp_path: Path) -> None:
    code = f"{used}\nimport sys\nprint(*sorted(set({heavy!r}) & sys.modules.keys()))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert done.stdout.split() == []
