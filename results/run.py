"""A finished run: what lmms-eval left in its output folder."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from egost_tasks.errors import EgostError


class RunError(EgostError):
    """A folder holds no finished run of lmms-eval, or one that cannot be read."""


@dataclass(frozen=True)
class TaskResult:
    """Figures of one task or group.

    percent: 0 to 100, the headline; NaN where nothing was scored. compat: by the reference's rules.
    chance: accuracy of guessing in percent, None for routes and groups.
    spatiotemporal: for a group, Avg.(ST) of the paper's Table 1; None where it has no such task.
    scored, unscored: numbers of samples, None for a group.
    """

    name: str
    is_group: bool
    percent: float
    compat: float
    chance: float | None
    spatiotemporal: float | None
    scored: int | None
    unscored: int | None

    @property
    def publishable(self) -> bool:
        """Whether there is a figure at all."""
        return not math.isnan(self.percent)


@dataclass(frozen=True)
class Run:
    """One results JSON of lmms-eval with the samples files of the same moment."""

    results_file: Path
    samples_files: tuple[Path, ...]
    results: dict[str, Any]

    def samples(self, task: str) -> list[dict[str, Any]]:
        """The samples of a task, as lmms-eval wrote them. Raises RunError when they were not saved."""
        for path in self.samples_files:
            if path.name.endswith(f"_samples_{task}.jsonl"):
                return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        raise RunError(
            f"{self.results_file.parent} holds no samples of {task}: run lmms-eval again with --log_samples."
        )

    @property
    def figures(self) -> list[TaskResult]:
        """Figures of our tasks and groups, groups first."""
        groups = self.results.get("groups", {})
        rows = [
            _task_result(name, name in groups, row)
            for name, row in self.results["results"].items()
            if any(key.startswith("percent,") for key in row)
        ]
        return sorted(rows, key=lambda row: not row.is_group)


def latest_run(folder: Path) -> Run:
    """The newest run below an `--output_path` of lmms-eval.

    Raises RunError when there is none: lmms-eval exits with 0 even when a run has failed, so that a missing
    results file is the sign of it.
    """
    # Names carry the time of a zone that --timezone sets, so they do not sort.
    files = sorted(folder.rglob("*_results.json"), key=lambda path: path.stat().st_mtime_ns)
    if not files:
        raise RunError(
            f"{folder} holds no *_results.json: the run did not finish. lmms-eval exits with 0 all the same; "
            "its error stands above its last lines."
        )
    newest = files[-1]
    try:
        results = json.loads(newest.read_text(encoding="utf-8"))
        results["results"]
    except (ValueError, KeyError, TypeError) as error:
        raise RunError(f"{newest} is no results file of lmms-eval ({error!r}).") from error
    stamp = newest.name.removesuffix("_results.json")
    return Run(newest, tuple(sorted(newest.parent.glob(f"{stamp}_samples_*.jsonl"))), results)


def _task_result(name: str, is_group: bool, row: dict[str, Any]) -> TaskResult:
    values = {key.split(",")[0]: value for key, value in row.items() if "," in key and "_stderr" not in key}
    return TaskResult(
        name=name,
        is_group=is_group,
        percent=float(values["percent"]),
        compat=float(values["compat"]),
        chance=values.get("chance"),
        spatiotemporal=values.get("spatiotemporal"),
        scored=values.get("n_scored"),
        unscored=values.get("n_unscored"),
    )
