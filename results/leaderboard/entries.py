"""Runs as the leaderboard sees them: their samples by task, and what made their figures."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from egost.results.gate.recount import same_figure
from egost.results.records import SampleRecord, our_tasks, read_records
from egost.results.run import Run, RunError, latest_run
from egost.tasks.sample import World

_SNAPSHOT = re.compile(
    r"(?:^|/)models--(?P<owner>[^/]+)--(?P<name>[^/]+)/snapshots/(?P<commit>[0-9a-f]{40})/?$"
)
"""A checkpoint in the hub's cache."""

_NAMES_A_MODEL = ("pretrained", "model", "model_version", "model_path", "model_name")
"""Arguments of lmms-eval's adapters that name a checkpoint, in the order in which they are believed."""


@dataclass(frozen=True, slots=True)
class Training:
    """What a run says of the rows that its checkpoint was trained on.

    policy: `refuse`, `leave-out` or `allow` (see `egost.tasks.release.trained_on`). rows: all of them.
    overlap: samples of the release that were trained on, by task (`direction_forward`).
    parts: rows of the official release by part, `Part3`; None where the run is older than their recording.
    """

    policy: str
    rows: int
    overlap: Mapping[str, int]
    parts: Mapping[str, int] | None


@dataclass(frozen=True, eq=False)
class Entry:
    """One run. Two of them are the same only if they are one object.

    records: samples by task, `route_forward` to `action_reverse`; metadata: of these tasks, as the run says it.
    model, revision, engine: who answered and by what; revision is empty where the run does not say it.
    judge: of the routes, empty without routes. prompt, frames: label and name of the protocol; empty where unknown.
    date: the day of the run (ISO). generation: arguments that were changed from the tasks' own, empty if none.
    """

    file: Path
    run: Run
    world: World
    records: Mapping[str, tuple[SampleRecord, ...]]
    metadata: Mapping[str, Mapping[str, Any]]
    model: str
    revision: str
    engine: str
    judge: str
    prompt: str
    frames: str
    release: str
    release_sha256: str
    date: str
    generation: str
    training: Training | None

    @property
    def settings(self) -> tuple[str, ...]:
        """What a figure depends on: a newer run with the same settings replaces an older one."""
        trained = self.training.policy if self.training else ""
        limit = str(self.run.results.get("config", {}).get("limit"))
        return (
            *(
                self.world,
                self.release_sha256,
                self.model,
                self.revision,
                self.engine,
                self.judge,
                self.prompt,
            ),
            *(self.frames, self.generation, trained, limit),
        )


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A folder or file that gives no entry, and why."""

    path: Path
    reason: str


@dataclass(frozen=True, slots=True)
class Found:
    """What lies in some folders. replaced: runs left out because a newer one has the same settings and tasks."""

    entries: tuple[Entry, ...]
    unreadable: tuple[Unreadable, ...]
    replaced: int


def find_entries(paths: Sequence[Path]) -> Found:
    """All runs in some folders (or of some results files), in an order that does not depend on that of the paths."""
    files: dict[Path, Path] = {}
    unreadable: list[Unreadable] = []
    for path in paths:
        found = sorted(path.rglob("*_results.json")) if path.is_dir() else [path]
        files |= {file.resolve(): file for file in found}
        if not found:
            unreadable.append(Unreadable(path, _why_no_run(path)))
    entries: list[Entry] = []
    for file in files.values():
        try:
            entries.append(read_entry(file))
        except RunError as error:
            unreadable.append(Unreadable(file, str(error)))
    kept = [e for e in entries if not any(_replaces(other, e) for other in entries)]
    return Found(
        tuple(sorted(kept, key=lambda e: (e.model.casefold(), e.date, e.file.resolve()))),
        tuple(sorted(unreadable, key=lambda u: u.path)),
        len(entries) - len(kept),
    )


def read_entry(file: Path) -> Entry:
    """The entry of a results file. Raises RunError where it, or its samples, cannot be read or do not fit together."""
    run = latest_run(file)
    records = read_records(run)
    worlds = {record.world for record in records}
    if len(worlds) != 1:
        raise RunError(
            f"{file} {'mixes the mini world with the benchmark' if worlds else 'holds no sample'}: evaluate the "
            "tasks of one world in a run of its own."
        )
    _check_figures(run, records)
    try:
        return _entry(file, run, records, worlds.pop())
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise RunError(
            f"{file} does not tell how it was made in a form that can be read ({error!r}): it was written by another "
            "version, or was changed."
        ) from error


def _entry(file: Path, run: Run, records: Sequence[SampleRecord], world: World) -> Entry:
    tasks = our_tasks(run)
    metadata = {_short(task): run.results["configs"][task].get("metadata") or {} for task in tasks}
    model, revision = _model(run, records)
    return Entry(
        file=file,
        run=run,
        world=world,
        records={_short(task): tuple(r for r in records if r.task == task) for task in tasks},
        metadata=metadata,
        model=model,
        revision=revision,
        engine=_engine(run, records),
        judge=_told(metadata, "judge"),
        prompt=_told(metadata, "prompt"),
        frames=", ".join(sorted({r.frames.protocol for r in records if r.frames}))
        or _told(metadata, "sampling_protocol"),
        release=_told(metadata, "release_revision"),
        release_sha256=_told(metadata, "release_sha256"),
        date=_date(run),
        generation=_generation(run),
        training=_training(metadata.values()),
    )


def _why_no_run(path: Path) -> str:
    try:
        latest_run(path)
    except RunError as error:
        return str(error)
    raise AssertionError(path)


def _replaces(newer: Entry, older: Entry) -> bool:
    return (
        newer.settings == older.settings
        and newer.file.resolve().parent == older.file.resolve().parent
        and set(older.records) <= set(newer.records)
        and (newer.file.stat().st_mtime_ns, newer.file) > (older.file.stat().st_mtime_ns, older.file)
    )


def _short(task: str) -> str:
    return task.removeprefix("egost_").removeprefix("mini_")


def _check_figures(run: Run, records: Sequence[SampleRecord]) -> None:
    """A results file whose figures are not those of its samples was joined or changed by hand."""
    scores: dict[str, list[float]] = {record.task: [] for record in records}
    for record in records:
        if record.percent is not None:
            scores[record.task].append(record.percent)
    for told in run.figures:
        if told.name not in scores:
            continue
        own = fmean(scores[told.name]) if scores[told.name] else math.nan
        if not same_figure(told.percent, own):
            raise RunError(
                f"{run.results_file} says {told.percent:.2f} for {told.name}, but its samples give {own:.2f}: one of "
                "the files is not of this run, or was changed. Evaluate again; the journal gives the replies back."
            )


def _told(metadata: Mapping[str, Mapping[str, Any]], key: str) -> str:
    return ", ".join(sorted({str(told[key]) for told in metadata.values() if told.get(key)}))


def _arguments(run: Run) -> dict[str, str]:
    given = run.results.get("config", {}).get("model_args") or ""
    pairs = (
        given.items()
        if isinstance(given, Mapping)
        else (p.partition("=")[::2] for p in str(given).split(","))
    )
    return {str(name): str(value) for name, value in pairs}


def _model(run: Run, records: Iterable[SampleRecord]) -> tuple[str, str]:
    """Name and revision of the model: those of the hub, where it lies in the hub's cache."""
    arguments = _arguments(run)
    given = next((arguments[name] for name in _NAMES_A_MODEL if arguments.get(name)), "")
    if snapshot := _SNAPSHOT.search(given):
        return f"{snapshot['owner']}/{snapshot['name']}", snapshot["commit"]
    asked = {(r.generation.model, r.generation.revision or "") for r in records if r.generation}
    if asked:
        return ", ".join(sorted({name for name, _ in asked})), ", ".join(sorted({rev for _, rev in asked}))
    is_path = given.startswith(("/", ".", "~")) or given.count("/") > 1
    name = Path(given).name if is_path else given
    return name or str(run.results.get("model_name_sanitized") or "unnamed"), arguments.get("revision", "")


def _engine(run: Run, records: Iterable[SampleRecord]) -> str:
    told = sorted({r.generation.engine for r in records if r.generation})
    if told:
        return ", ".join(told)
    version = _told({"": run.results["configs"][our_tasks(run)[0]].get("metadata") or {}}, "packages")
    found = re.search(r"'lmms-eval': '([^']+)'", version)
    return " ".join(
        filter(None, ("lmms-eval", found and found[1], str(run.results.get("config", {}).get("model"))))
    )


def _date(run: Run) -> str:
    digits = re.match(r"(\d{4})(\d{2})(\d{2})_", str(run.results.get("date", "")))
    return "-".join(digits.groups()) if digits else ""


def _generation(run: Run) -> str:
    told = run.results.get("config", {}).get("gen_kwargs") or {}
    if not isinstance(told, Mapping):
        return str(told)
    return ", ".join(f"{name}={value}" for name, value in sorted(told.items()))


def _training(metadata: Iterable[Mapping[str, Any]]) -> Training | None:
    for told in metadata:
        if "trained_on" in told:
            return Training(
                policy=str(told["trained_on"]),
                rows=int(told["trained_on_rows"]),
                overlap=Counter(told["trained_on_overlap"]),
                parts=told.get("trained_on_parts"),
            )
    return None
