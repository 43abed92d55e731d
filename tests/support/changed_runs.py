"""A copy of a saved run with something else in its files."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from egost.results.run import Run, read_run


def changed(run: Run, task: str, change: Callable[[list[dict[str, Any]]], list[dict[str, Any]]]) -> Run:
    """The run with other rows in a task's samples file."""
    path = run.samples_file(task)
    rows = change([json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()])
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return read_run(run.results_file)


def with_results(run: Run, change: Callable[[dict[str, Any]], object]) -> Run:
    """The run with another results JSON."""
    content = json.loads(run.results_file.read_text(encoding="utf-8"))
    change(content)
    run.results_file.write_text(json.dumps(content), encoding="utf-8")
    return read_run(run.results_file)
