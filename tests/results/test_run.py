from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
from changed_runs import changed
from typer.testing import CliRunner

from egost.main import app
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


def told(*words: str) -> str:
    done = CliRunner().invoke(app, list(words))
    assert done.exit_code == 0, done.output
    return done.output


def test_summary_has_the_figures_and_show_what_made_them(copied_run: Run) -> None:
    file = str(copied_run.results_file)
    summary, shown = told("summary", file), told("show", file)
    # Responses of the saved run: 2 of 6 right, on 6 clips; action_reverse 1 of 2.
    assert re.search(
        r"^egost_mini_direction_reverse +33\.3 +0\.0-[\d.]+ +25\.0 +6 +0 *$", summary, re.MULTILINE
    )
    assert " compat " not in summary
    table = re.findall(r"^egost_mini.*\d *$", summary, re.MULTILINE)
    assert len(table) == 9 and max(map(len, table)) <= 80
    assert "33.3" not in shown and "samples: 40 asked, 40 scored" in shown and "packages: egost" in shown
    assert "packages" not in summary and "compat" in told("summary", file, "--all")
    for metric in (" semantic ", " invalid ", " score ", " judge_failed "):
        assert metric in told("summary", file, "--all") and metric not in summary


@pytest.mark.parametrize(
    ("throughput", "line"),
    [
        ({"avg_sent_mb": 1234.56}, "sent to the servers: 1,234.6 MB of questions and frames"),
        ({"avg_sent_mb": 0.0}, None),
        ({"avg_sent_mb": float("nan")}, None),
        ({"avg_sent_mb": "12"}, None),
        ([], None),
        (None, None),
    ],
)
def test_summary_says_how_much_was_sent(copied_run: Run, throughput: object, line: str | None) -> None:
    results = json.loads(copied_run.results_file.read_text(encoding="utf-8"))
    results["throughput"] = throughput
    copied_run.results_file.write_text(json.dumps(results), encoding="utf-8")
    said = told("summary", str(copied_run.results_file))
    assert line in said.splitlines() if line else "sent to the servers" not in said


def test_compat_is_shown_where_it_differs_and_reasons_where_there_are_some(copied_run: Run) -> None:
    results = json.loads(copied_run.results_file.read_text(encoding="utf-8"))
    results["results"]["egost_mini_direction_reverse"]["compat,none"] = 50.0
    copied_run.results_file.write_text(json.dumps(results), encoding="utf-8")
    assert re.search(
        r"^egost_mini_direction_reverse +33\.3 +0\.0-[\d.]+ +50\.0 +25\.0 +6 +0 *$",
        told("summary", str(copied_run.results_file)),
        re.MULTILINE,
    )


def test_the_reasons_of_unscored_samples_stand_below_the_figures(copied_run: Run) -> None:
    def lost(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        for row in rows[:2]:
            del row["percent"]["score"]
            row["percent"].update(unscored="generation_failed", choice=None)
        return rows

    run = changed(copied_run, "egost_mini_direction_reverse", lost)
    said = told("summary", str(run.results_file))
    assert re.search(
        r"^unscored in egost_mini_direction_reverse: 2 generation_failed; [\d.]+ if all", said, re.MULTILINE
    )
