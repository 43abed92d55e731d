"""A finished run: what lmms-eval left in its output folder."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from egost.tasks.errors import EgostError


class RunError(EgostError):
    """A folder holds no finished run of lmms-eval, or one that cannot be read."""


OUR_NAMES = re.compile(r"egost(_mini)?(_st|_mcq|_(route|direction|landmark|action)(_forward|_reverse)?)?")
"""Names of our tasks and groups; a run may hold others beside them."""


@dataclass(frozen=True)
class TaskResult:
    """Figures of one task or group.

    percent: 0 to 100, the headline; NaN where nothing was scored. compat: by the reference's rules.
    chance: accuracy of guessing in percent, None for routes and groups.
    spatiotemporal: Avg.(ST) of the paper's Table 1 for the groups that hold its four tasks, else None.
    scored, unscored: numbers of samples, None for a group.
    max_unscored_share: above this share of unscored samples the figure is not to be published.
    """

    name: str
    is_group: bool
    percent: float
    compat: float
    chance: float | None
    spatiotemporal: float | None
    scored: int | None
    unscored: int | None
    max_unscored_share: float

    @property
    def publishable(self) -> bool:
        """Whether there is a figure, and no more samples are unscored than the task allows."""
        if self.scored is None or self.unscored is None:
            return not math.isnan(self.percent)
        return self.scored > 0 and self.unscored <= self.max_unscored_share * (self.scored + self.unscored)


@dataclass(frozen=True)
class Run:
    """One results JSON of lmms-eval with the samples files of the same moment."""

    results_file: Path
    samples_files: tuple[Path, ...]
    results: dict[str, Any]

    def samples(self, task: str) -> list[dict[str, Any]]:
        """The samples of a task, as lmms-eval wrote them. Raises RunError when they were not saved."""
        lines = self.samples_file(task).read_text(encoding="utf-8").splitlines()
        return [json.loads(line) for line in lines]

    def samples_file(self, task: str) -> Path:
        """The JSONL of a task's samples. Raises RunError when they were not saved."""
        for path in self.samples_files:
            if path.name.endswith(f"_samples_{task}.jsonl"):
                return path
        raise RunError(
            f"{self.results_file.parent} holds no samples of {task}: run lmms-eval again with --log_samples."
        )

    @property
    def figures(self) -> list[TaskResult]:
        """Figures of our tasks and groups, groups first. Raises RunError when the run has none of them."""
        groups = self.results.get("groups", {})
        ours = [name for name in self.results["results"] if OUR_NAMES.fullmatch(name)]
        if not ours:
            raise RunError(f"{self.results_file} has no task of Ego-ST Bench.")
        rows = [self._figure(name, name in groups) for name in ours]
        return sorted(rows, key=lambda row: not row.is_group)

    @property
    def settings(self) -> dict[str, str]:
        """What made the figures, for people: model, release, protocol, prompt, judge, limit."""
        tasks = [task for task in self.results["configs"] if OUR_NAMES.fullmatch(task)]
        metadata = [self.results["configs"][task].get("metadata") or {} for task in tasks]
        config = self.results.get("config", {})
        settings = {"model": f"{config.get('model')} ({config.get('model_args')})"}
        for key in ("world", "release_revision", "sampling_protocol", "prompt", "judge"):
            settings[key] = ", ".join(sorted({str(m[key]) for m in metadata if m.get(key)}))
        if trained := sorted({_told_overlap(m) for m in metadata if "trained_on" in m}):
            settings["trained on"] = ", ".join(trained)
        if config.get("limit") not in (None, -1, -1.0):
            settings["limit"] = f"{config['limit']} (a part of the samples: for trying only)"
        return {name: value for name, value in settings.items() if value}

    def _figure(self, name: str, is_group: bool) -> TaskResult:
        try:
            row = self.results["results"][name]
            metadata = self.results["configs"].get(name, {}).get("metadata") or {}
            return _task_result(name, is_group, row, metadata.get("max_unscored_share", 0.0))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise RunError(
                f"{self.results_file}: the figures of {name} cannot be read ({error!r})."
            ) from error


def _told_overlap(metadata: dict[str, Any]) -> str:
    overlap = sum(metadata["trained_on_overlap"].values())
    rows = f"{metadata['trained_on_rows']} rows"
    if overlap == 0:
        return f"{rows}, none of them in this release"
    if metadata["trained_on"] == "allow":
        return f"{rows}; {overlap} samples of this release ARE AMONG THEM (EGOST_TRAINED_ON=allow)"
    if metadata["trained_on"] == "refuse":
        return f"{rows}, none of them in these tasks"
    return f"{rows}; the {overlap} samples of this release among them are left out"


def latest_run(folder: Path) -> Run:
    """The newest run below an `--output_path` of lmms-eval, or the run of a results file.

    Raises RunError when there is none: lmms-eval exits with 0 even when a run has failed, so that a missing
    results file is the sign of it.
    """
    if not folder.exists():
        raise RunError(
            f"there is no {folder}: the run did not finish, or had another --output_path. lmms-eval exits with 0 "
            "when a run fails; its error stands above its last lines."
        )
    # Names carry the time of a zone that --timezone sets, so they do not sort.
    found = [folder] if folder.is_file() else list(folder.rglob("*_results.json"))
    files = sorted(found, key=lambda path: path.stat().st_mtime_ns)
    if not files:
        raise RunError(
            f"{folder} holds no *_results.json: the run did not finish. lmms-eval exits with 0 all the same; "
            "its error stands above its last lines."
        )
    newest = files[-1]
    try:
        results = json.loads(newest.read_text(encoding="utf-8"))
        if not isinstance(results["results"], dict) or not isinstance(results["configs"], dict):
            raise TypeError("'results' and 'configs' are no objects")
    except (ValueError, KeyError, TypeError) as error:
        raise RunError(f"{newest} is no results file of lmms-eval ({error!r}).") from error
    stamp = newest.name.removesuffix("_results.json")
    return Run(newest, tuple(sorted(newest.parent.glob(f"{stamp}_samples_*.jsonl"))), results)


def _task_result(name: str, is_group: bool, row: dict[str, Any], max_unscored_share: float) -> TaskResult:
    values = {key.split(",")[0]: value for key, value in row.items() if "," in key and "_stderr" not in key}
    return TaskResult(
        name=name,
        is_group=is_group,
        percent=float(values["percent"]),
        compat=float(values["compat"]),
        chance=values.get("chance"),
        spatiotemporal=values.get("spatiotemporal") if re.fullmatch(r"egost(_mini)?(_st)?", name) else None,
        scored=values.get("n_scored"),
        unscored=values.get("n_unscored"),
        max_unscored_share=max_unscored_share,
    )
