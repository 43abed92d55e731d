"""The saved run is what lmms-eval writes today, and the commands that read runs read one of today."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from egost.main import app
from egost.results.run import Run


def shape(value: Any) -> Any:
    """Names and types of what stands in a JSON value, without the values, and without which packages there were."""
    if isinstance(value, dict):
        return {name: "versions" if name == "packages" else shape(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [shape(inner) for inner in value[:1]]
    return type(value).__name__


def of_our_tasks(run: Run) -> dict[str, Any]:
    """What the results file says of our tasks, without the addresses of functions that lmms-eval writes down."""
    parts = ("results", "groups", "group_subtasks", "configs", "versions", "n-samples")
    return {part: {n: c for n, c in run.results[part].items() if n.startswith("egost")} for part in parts}


def test_the_saved_run_is_of_the_form_of_one_of_today(demo_run: Run, fresh_run: Run) -> None:
    assert list(demo_run.header.tasks) == list(fresh_run.header.tasks)
    assert demo_run.results.keys() == fresh_run.results.keys()
    assert shape(of_our_tasks(demo_run)) == shape(of_our_tasks(fresh_run))
    for task in list(fresh_run.header.tasks):
        [saved, made] = [
            [json.loads(line) for line in run.samples_file(task).read_text(encoding="utf-8").splitlines()]
            for run in (demo_run, fresh_run)
        ]
        assert [shape(row["percent"]["frames"]) for row in saved] == [
            shape(row["percent"]["frames"]) for row in made
        ]
        assert [(row.keys(), row["percent"].keys()) for row in saved] == [
            (row.keys(), row["percent"].keys()) for row in made
        ]
    before, now = demo_run.records, fresh_run.records
    assert [(r.task, r.sample, r.prompt) for r in before] == [(r.task, r.sample, r.prompt) for r in now]


def test_every_command_that_reads_a_run_reads_one_of_today(fresh_run: Run, tmp_path: Path) -> None:
    run, file, golden = (
        str(fresh_run.results_file.parent),
        str(fresh_run.results_file),
        tmp_path / "golden.jsonl",
    )
    commands = {
        ("summary", run): "egost_mini_route_reverse",
        ("show", file): "mini-1 test seed 3",
        ("compare", file, file): "No sample is scored unlike",
        ("leaderboard", run, "--world", "mini", "--table", "1"): "mini-1",
        ("report", run, "-o", str(tmp_path / "page.html")): "page.html",
        ("regress", run, "--baseline", str(golden), "--update"): "",
        ("regress", run, "--baseline", str(golden)): "",
    }
    for words, said in commands.items():
        done = CliRunner().invoke(app, list(words), env={"COLUMNS": "200"})
        assert done.exit_code == 0, (words, done.output)
        assert said in done.output, words
    assert (tmp_path / "page.html").stat().st_size > 10_000 and golden.stat().st_size > 1_000
