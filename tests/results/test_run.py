from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from egost.results.run import Run, read_run
from egost.results.run_header import RunError


def write_run(folder: Path, stamp: str = "20260101_000000", **changes: Any) -> Path:
    figures = {"percent,none": 50.0, "compat,none": 40.0, "n_scored,none": 98, "n_unscored,none": 2}
    content = {
        "results": {"egost_route_forward": figures, "hellaswag": {"acc,none": 1.0}},
        "configs": {"egost_route_forward": {"metadata": {"max_unscored_share": 0.02, "judge": "j-1"}}},
        "config": {"model": "m", "model_args": "a=b", "limit": None},
        **changes,
    }
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{stamp}_results.json"
    path.write_text(json.dumps(content))
    return path


def test_our_figures_and_what_made_them(tmp_path: Path) -> None:
    write_run(tmp_path / "model")
    run = read_run(tmp_path)
    [row] = run.figures
    assert (row.name, row.percent, row.scored, row.spatiotemporal) == ("egost_route_forward", 50, 98, None)
    assert run.settings == {"model": "m (a=b)", "judge": "j-1"}
    assert row.publishable, "2 of 100 unscored is just allowed"


@pytest.mark.parametrize(
    ("scored", "unscored", "percent"), [(97, 3, 50.0), (0, 100, float("nan")), (0, 0, 0.0)]
)
def test_too_many_unscored_samples(tmp_path: Path, scored: int, unscored: int, percent: float) -> None:
    figures = {
        "percent,none": percent,
        "compat,none": 0.0,
        "n_scored,none": scored,
        "n_unscored,none": unscored,
    }
    write_run(tmp_path, results={"egost_route_forward": figures})
    assert not read_run(tmp_path).figures[0].publishable


def test_the_newest_run_counts_whatever_its_name(tmp_path: Path) -> None:
    newer = write_run(tmp_path, "20260101_000000")
    older = write_run(tmp_path, "20260101_080000")
    os.utime(older, (1, 1))
    assert read_run(tmp_path).results_file == newer
    assert read_run(older).results_file == older


def test_what_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="there is no"):
        read_run(tmp_path / "nowhere")
    with pytest.raises(RunError, match="did not finish"):
        read_run(tmp_path)
    for content in ("{", "[]", '{"results": {}}', '{"results": 5, "configs": {}}'):
        (tmp_path / "x_results.json").write_text(content)
        with pytest.raises(RunError, match="no results file"):
            read_run(tmp_path)
    write_run(tmp_path, "y", results={"hellaswag": {"acc,none": 1.0}})
    with pytest.raises(RunError, match="no task of Ego-ST"):
        _ = read_run(tmp_path).figures
    write_run(tmp_path, "z", results={"egost_route_forward": 5})
    with pytest.raises(RunError, match="cannot be read"):
        _ = read_run(tmp_path).figures
    write_run(tmp_path, "w")
    with pytest.raises(RunError, match="--log_samples"):
        read_run(tmp_path).samples("egost_route_forward")


def test_a_group_that_somebody_replaced_is_marked(copied_run: Run) -> None:
    assert not copied_run.own_tasks
    results = copied_run.results
    figures = [results["results"][task]["percent,none"] for task in results["group_subtasks"]["egost_mini"]]
    for part in ("results", "groups"):
        results[part]["egost_mini"] = {"percent,none": sum(figures) / 8 + 0.5, "compat,none": 1.0}
    assert copied_run.own_tasks == {"egost_mini": "egost_mini with weights of its own"}
    results["group_subtasks"]["egost_mini"].pop()
    assert copied_run.own_tasks == {"egost_mini": "egost_mini of 7 tasks of its own choice"}
