"""A finished run: what lmms-eval left in its output folder.

run = read_run(Path("runs"))
run.header.first.prompt         # how it was made
run.figures[0].percent          # what it scored
run.dataframe()                 # its samples, one row each
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from egost.results.records import MOST_OF_A_SAMPLE, SampleRecord, read_samples
from egost.results.run_header import RunError, RunHeader, TrainedOn, read_header
from egost.tasks.json_text import read_json, shown
from egost.tasks.judging.judge import Judgement
from egost.tasks.release import world_label
from egost.tasks.task_names import parse_task_name, task_name
from egost.tasks.text_files import json_lines

if TYPE_CHECKING:
    import pandas as pd

_MOST_OF_A_RUN = 64 << 20
"""Bytes of a results file. One with all tasks has 60,000."""


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

    @cached_property
    def header(self) -> RunHeader:
        """How the run was made. Raises RunError where that cannot be read."""
        return read_header(self.results_file, self.results)

    @cached_property
    def records(self) -> tuple[SampleRecord, ...]:
        """All samples of the run, by task and in the order of the run.

        Raises RunError where the run has no samples of ours, or where its files are cut, written by another version,
        hold a sample twice, a score that is no number from 0 to 100, fewer samples than the run asked, or tasks of
        two releases.
        """
        header = self.header
        if not header.tasks:
            raise self._nothing_of_ours()
        self._refuse_unscored()
        releases = {(task.release_revision, task.release_sha256) for task in header.tasks.values()}
        releases.discard((None, None))
        if len(releases) > 1:
            names = ", ".join(sorted(str(revision) for revision, _ in releases))
            raise RunError(
                f"{self.results_file} mixes tasks of {len(releases)} releases ({names}): evaluate them on one release."
            )
        return tuple(
            record
            for name, task in header.tasks.items()
            for record in read_samples(self.samples_file(name), task.name, task.asked)
        )

    @property
    def sent_mb(self) -> float | None:
        """MB of questions and frames that the client sent to servers; None where it did not say."""
        throughput = self.results.get("throughput")
        sent = throughput.get("avg_sent_mb") if isinstance(throughput, dict) else None
        return sent if isinstance(sent, float) and math.isfinite(sent) else None

    def dataframe(self) -> pd.DataFrame:
        """The samples as a pandas DataFrame; columns and dtypes: see `COLUMNS`.

        Raises RunError as `records` does.
        """
        return samples_table(self.records)

    def samples_file(self, task: str) -> Path:
        """The JSONL of a task's samples. Raises RunError when they were not saved."""
        for path in self.samples_files:
            if path.name.endswith(f"_samples_{task}.jsonl"):
                return path
        raise RunError(
            f"{self.results_file.parent} holds no samples of {task}: run lmms-eval again with --log_samples."
        )

    def samples(self, task: str) -> list[dict[str, Any]]:
        """The samples of a task, as lmms-eval wrote them. Raises RunError when they were not saved, or are damaged."""
        path = self.samples_file(task)
        try:
            return [row for _, row in json_lines(path, MOST_OF_A_SAMPLE, mend=True)]
        except (OSError, ValueError) as error:
            raise RunError(f"{path}, {error}. The file was cut or changed; evaluate again.") from error

    def check_figures(self) -> None:
        """Raise RunError as `figures` does: who reads the samples alone trusts no results file that is damaged."""
        _ = self.figures

    @property
    def figures(self) -> list[TaskResult]:
        """Figures of our tasks and groups, groups first. Raises RunError when there is none, nor one on top."""
        groups = self.results.get("groups", {})
        own = self.own_tasks
        ours = [
            name
            for name, row in self.results["results"].items()
            if parse_task_name(name) and ("percent,none" in row or name not in own)
        ]
        if not ours and not own:
            raise self._nothing_of_ours()
        self._refuse_unscored()
        rows = [self._figure(name, name in groups) for name in ours]
        return sorted(rows, key=lambda row: not row.is_group)

    @property
    def settings(self) -> dict[str, str]:
        """What made the figures, for people: model, release, protocol, prompt, judge, limit."""
        header = self.header
        settings = {"model": f"{header.adapter} ({header.model_args})"}
        for field in ("world", "release_revision", "as_published", "sampling_protocol", "prompt", "judge"):
            settings[field] = header.joined(field)
        if settings["world"] == "official":
            settings["world"] = world_label("official", settings["release_revision"])
        settings["gen_kwargs"] = header.gen_kwargs
        settings["system_instruction"] = header.system_instruction or ""
        trained = {_overlap(task.trained_on) for task in header.tasks.values() if task.trained_on}
        settings["trained on"] = ", ".join(sorted(trained))
        if header.limit is not None:
            settings["limit"] = f"{header.limit} (a part of the samples: for trying only)"
        return {name: value for name, value in settings.items() if value}

    @property
    def own_tasks(self) -> dict[str, str]:
        """What somebody's own YAMLs made of our tasks, for people, by the name of the task: none is comparable."""
        told = {}
        for name, config in self.results["configs"].items():
            metadata = config.get("metadata") if isinstance(config, dict) else None
            if isinstance(metadata, dict) and (base := metadata.get("based_on")):
                changed = metadata.get("overridden")
                fields = ", ".join(map(str, changed)) if isinstance(changed, list) else ""
                told[name] = f"{base} with its own {fields}" if fields else f"{base} under another name"
        return {**told, **dict(self._own_groups())}

    def _own_groups(self) -> Iterator[tuple[str, str]]:
        """Groups of our names that somebody's YAML replaced: of other tasks, or no plain mean of them."""
        members = self.results.get("group_subtasks")
        for name, row in self.results.get("groups", {}).items():
            known, tasks = parse_task_name(name), members.get(name) if isinstance(members, dict) else None
            if not known or not isinstance(tasks, list):
                continue
            if {*map(str, tasks)} != {task_name(known.world, *one) for one in known.tasks}:
                yield name, f"{name} of {len(tasks)} tasks of its own choice"
                continue
            figures = [self.results["results"].get(task, {}).get("percent,none") for task in tasks]
            shown = row.get("percent,none")
            if None in (*figures, shown) or math.isnan(mean := fmean(figures)):
                continue
            if not math.isclose(shown, mean, abs_tol=1e-6):
                yield name, f"{name} with weights of its own"

    def _nothing_of_ours(self) -> RunError:
        own = "; ".join(f"{name} is {made}" for name, made in self.own_tasks.items())
        return RunError(
            f"{self.results_file} has no task of Ego-ST Bench"
            + (f" that can be compared: {own}." if own else ".")
        )

    @property
    def predict_only(self) -> bool:
        """Whether it holds responses alone, since lmms-eval was told not to score them."""
        return any("bypass,none" in self.results["results"].get(task, {}) for task in self.header.tasks)

    def _refuse_unscored(self) -> None:
        if self.predict_only:
            raise RunError(
                f"{self.results_file} was run with --predict_only: it holds responses and no scores. Score them: "
                f"egost judge {self.results_file}"
            )

    def _figure(self, name: str, is_group: bool) -> TaskResult:
        task = self.header.tasks.get(name)
        try:
            row = self.results["results"][name]
            return _task_result(name, is_group, row, task.max_unscored_share if task else 0.0)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise RunError(
                f"{self.results_file}: the figures of {name} cannot be read ({error!r})."
            ) from error


def read_run(path: Path) -> Run:
    """The newest run below an `--output_path` of lmms-eval, or the run of a results file.

    Raises RunError when there is none: lmms-eval exits with 0 even when a run has failed, so that a missing
    results file is the sign of it.
    """
    if not path.exists():
        raise RunError(
            f"there is no {path}: the run did not finish, or had another --output_path. lmms-eval exits with 0 "
            "when a run fails; its error is above its last lines."
        )
    # Names carry the time of a zone that --timezone sets, so they do not sort.
    found = [path] if path.is_file() else list(path.rglob("*_results.json"))
    newest = max(found, key=lambda file: file.stat().st_mtime_ns, default=None)
    if newest is None:
        raise RunError(
            f"{path} holds no *_results.json: the run did not finish. lmms-eval exits with 0 all the same; "
            "its error is above its last lines."
        )
    try:
        results = read_json(newest, max_bytes=_MOST_OF_A_RUN, mend=True)
        _check(results)
        _with_nan(results)
    except (OSError, TypeError, ValueError) as error:
        raise RunError(f"{newest} cannot be read: it is no results file of lmms-eval ({error}).") from error
    stamp = newest.name.removesuffix("_results.json")
    return Run(newest, tuple(sorted(newest.parent.glob(f"{stamp}_samples_*.jsonl"))), results)


def evaluated_name(results_file: Path) -> str:
    """What the files of a run are named by, without the time at which it was judged or scored again."""
    return re.split("-(?:judged|rescored)-", results_file.name.removesuffix("_results.json"))[0]


def _check(results: Any) -> None:
    """Raises TypeError or ValueError unless there are figures of tasks, and those of ours are numbers, or none."""
    if not isinstance(results, dict):
        raise TypeError(f"it holds {shown(results)}")
    for part in ("results", "configs"):
        if not isinstance(results.get(part), dict):
            raise TypeError(f"{part}: expected an object, found {shown(results.get(part))}")
    if not isinstance(results.get("groups", {}), dict):
        raise TypeError(f"groups: expected an object, found {shown(results['groups'])}")
    for part in ("results", "groups"):
        for name, row in results.get(part, {}).items():
            if parse_task_name(name):
                _check_figures(f"{part}.{name}", row)


def _check_figures(name: str, row: Any) -> None:
    if not isinstance(row, dict):
        raise TypeError(f"{name}: expected an object, found {shown(row)}")
    for key, value in row.items():
        metric, comma, _ = key.partition(",")
        if not comma or "_stderr" in metric or value is None:
            continue
        known = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not known or not (math.isnan(value) or 0 <= value <= _MOST.get(metric, 2**53)):
            raise ValueError(f"{name}.{key}: expected a number, found {shown(value)}")
        if metric.startswith("n_") and not isinstance(value, int):
            raise ValueError(f"{name}.{key}: expected a whole number, found {shown(value)}")


def _with_nan(results: dict[str, Any]) -> None:
    """Put NaN in the place of each figure of ours that is null, since no sample has one: JSON has no NaN."""
    for row in (*results["results"].values(), *results.get("groups", {}).values()):
        for key, value in row.items() if isinstance(row, dict) else ():
            if value is None and key.endswith(",none") and not key.startswith("n_"):
                row[key] = math.nan


_MOST = dict.fromkeys(("percent", "spatiotemporal", "chance", "invalid", "empty", "truncated"), 100)
"""The highest that a figure can be."""


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


def _overlap(trained: TrainedOn) -> str:
    """How many of a release's samples a checkpoint was trained on, and what became of them."""
    overlap = sum(trained.overlap.values())
    rows = f"{trained.rows} rows"
    if overlap == 0:
        return f"{rows}, none of them in this release"
    if trained.policy == "allow":
        return f"{rows}; {overlap} samples of this release ARE AMONG THEM (EGOST_TRAINED_ON=allow)"
    if trained.policy == "refuse":
        return f"{rows}, none of them in these tasks"
    if trained.rows == 0:
        return f"nothing known; the {overlap} samples that ST-R1 was trained on are left out (EGOST_TRAINED_ON=paper)"
    return f"{rows}; the {overlap} samples of this release among them are left out"


COLUMNS = {
    "task": "string",
    "kind": "category",
    "way": "category",
    "sample_id": "string",
    "clip": "string",
    "source": "category",
    "n_options": "int64",
    "question": "string",
    "answer": "string",
    "response": "string",
    "choice": "string",
    "score": "float64",
    "compat": "float64",
    "scored": "bool",
    "reason": "string",
    "direction": "Float64",
    "landmark": "Float64",
    "semantic": "Float64",
    "truncated": "boolean",
    "prompt_tokens": "Int64",
    "completion_tokens": "Int64",
    "video_tokens": "Int64",
}
"""The columns in their order, with their dtypes."""


def samples_table(records: Sequence[SampleRecord]) -> pd.DataFrame:
    """One row for each record, in their order, with the columns and dtypes of `COLUMNS`; what is unknown is NA.

    task: registered name (`egost_direction_reverse`); kind, way: its parts. sample_id: unique within a run.
    clip: part and file (`Part1/128.mp4`), the unit to cluster by; source: where it was recorded. n_options: 0 for a
    route. answer: the right letter, or the reference route. response: as it came, with its thinking.
    choice: the letter that the response names, NA for none. score: the headline score, 0 to 100, NaN where unscored;
    compat: by the reference code's rules. scored: whether there is a score; reason: why there is none.
    direction, landmark, semantic: the judge's scores of a route, 0 to 5. truncated: whether the response was cut at
    max_new_tokens. prompt_tokens, completion_tokens, video_tokens: as far as the engine tells them.
    """
    import pandas as pd

    table = pd.DataFrame([_row(record) for record in records], columns=list(COLUMNS))
    return table.astype(COLUMNS)


def _row(record: SampleRecord) -> dict[str, Any]:
    sample, made = record.sample, record.generation
    judged = record.judgement if isinstance(record.judgement, Judgement) else None
    return {
        "task": record.task,
        "kind": sample.task,
        "way": sample.way,
        "sample_id": sample.id,
        "clip": record.cluster,
        "source": sample.source,
        "n_options": len(sample.options),
        "question": sample.question,
        "answer": sample.answer,
        "response": record.response,
        "choice": record.choice.letter if record.choice else None,
        "score": record.percent,
        "compat": record.compat,
        "scored": record.percent is not None,
        "reason": record.unscored,
        **{aspect: getattr(judged, aspect, None) for aspect in ("direction", "landmark", "semantic")},
        **{name: getattr(made, name, None) for name in ("truncated", "prompt_tokens", "completion_tokens")},
        "video_tokens": made.video_tokens if made else None,
    }
