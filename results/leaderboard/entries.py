"""Runs as the leaderboard sees them: their samples by task, and what made their figures."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from egost.results.intervals import same_figure
from egost.results.records import SampleRecord
from egost.results.run import Run, read_run
from egost.results.run_header import RunError, TaskHeader, TrainedOn
from egost.tasks.errors import EgostError
from egost.tasks.sample import World

_SNAPSHOT = re.compile(
    r"(?:^|/)models--(?P<owner>[^/]+)--(?P<name>[^/]+)/snapshots/(?P<commit>[0-9a-f]{40})/?$"
)
"""A checkpoint in the hub's cache."""

_NAMES_A_MODEL = ("pretrained", "model", "model_version", "model_path", "model_name")
"""Arguments of lmms-eval's adapters that name a checkpoint, in the order in which they are believed."""


@dataclass(frozen=True, eq=False)
class Entry:
    """One run. Two of them are the same only if they are one object.

    records: samples by task, `route_forward` to `action_reverse`; headers: how each task was made.
    model, revision, engine: who answered and by what; revision is empty where the run does not tell it.
    judge: of the routes, empty without routes. prompt, frames: label and name of the protocol; empty where unknown.
    as_published: the value of `EGOST_AS_PUBLISHED`; empty for our own protocol. date: the day of the run (ISO).
    generation: arguments that were changed from the tasks' own, empty if none.
    """

    file: Path
    run: Run
    world: World
    records: Mapping[str, tuple[SampleRecord, ...]]
    headers: Mapping[str, TaskHeader]
    model: str
    revision: str
    engine: str
    judge: str
    prompt: str
    frames: str
    as_published: str
    release: str
    release_sha256: str
    date: str
    generation: str
    training: TrainedOn | None

    @property
    def settings(self) -> tuple[str | float | None, ...]:
        """What a figure depends on: a newer run with the same settings replaces an older one."""
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
            *(
                self.frames,
                self.as_published,
                self.generation,
                self.training.policy if self.training else "",
                self.run.header.limit,
            ),
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
        except EgostError as error:
            unreadable.append(Unreadable(file, str(error)))
    kept = [e for e in entries if not any(_replaces(other, e) for other in entries)]
    return Found(
        tuple(sorted(kept, key=lambda e: (e.model.casefold(), e.date, e.file.resolve()))),
        tuple(sorted(unreadable, key=lambda u: u.path)),
        len(entries) - len(kept),
    )


def read_entry(file: Path) -> Entry:
    """The entry of a results file. Raises RunError where it, or its samples, cannot be read or do not fit together."""
    run = read_run(file)
    worlds = {record.world for record in run.records}
    if len(worlds) != 1:
        raise RunError(
            f"{file} {'mixes the mini world with the benchmark' if worlds else 'holds no sample'}: evaluate the "
            "tasks of one world in a run of its own."
        )
    _check_figures(run)
    return entry_of(run)


def entry_of(run: Run) -> Entry:
    """The entry of a run, of the mini world if one of its tasks is. Raises RunError, see `Run.records`."""
    records, header = run.records, run.header
    names = {_short(name): name for name in header.tasks}
    model, revision = _model(run)
    return Entry(
        file=run.results_file,
        run=run,
        world="mini" if any(record.world == "mini" for record in records) else "official",
        records={task: tuple(r for r in records if r.task == name) for task, name in names.items()},
        headers={task: header.tasks[name] for task, name in names.items()},
        model=model,
        revision=revision,
        engine=_engine(run),
        judge=header.joined("judge"),
        prompt=header.joined("prompt"),
        frames=", ".join(sorted({r.frames.protocol for r in records if r.frames}))
        or header.joined("sampling_protocol"),
        as_published="" if header.gen_kwargs else header.joined("as_published"),
        release=header.joined("release_revision"),
        release_sha256=header.joined("release_sha256"),
        date="-".join(day.groups()) if (day := re.match(r"(\d{4})(\d{2})(\d{2})_", header.date)) else "",
        generation=header.gen_kwargs,
        training=header.trained_on,
    )


def _why_no_run(path: Path) -> str:
    try:
        read_run(path)
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


def _check_figures(run: Run) -> None:
    """A results file whose figures are not those of its samples was joined or changed by hand."""
    scores: dict[str, list[float]] = {name: [] for name in run.header.tasks}
    for record in run.records:
        if record.percent is not None:
            scores[record.task].append(record.percent)
    for figure in run.figures:
        if figure.name not in scores:
            continue
        own = fmean(scores[figure.name]) if scores[figure.name] else math.nan
        if not same_figure(figure.percent, own):
            raise RunError(
                f"{run.results_file} says {figure.percent:.2f} for {figure.name}, but its samples give {own:.2f}: one "
                "of the files is not of this run, or was changed. Evaluate again; the journal gives the responses back."
            )


def _model(run: Run) -> tuple[str, str]:
    """Name and revision of the model: those of the hub, where it is in the hub's cache."""
    arguments = {name: str(value) for name, value in run.header.arguments.items()}
    given = next((arguments[name] for name in _NAMES_A_MODEL if arguments.get(name)), "")
    if snapshot := _SNAPSHOT.search(given):
        return f"{snapshot['owner']}/{snapshot['name']}", snapshot["commit"]
    answered = {(r.generation.model, r.generation.revision or "") for r in run.records if r.generation}
    if answered:
        return ", ".join(sorted({name for name, _ in answered})), ", ".join(
            sorted({rev for _, rev in answered})
        )
    is_path = given.startswith(("/", ".", "~")) or given.count("/") > 1
    name = Path(given).name if is_path else given
    return name or run.header.model_label or "unnamed", arguments.get("revision", "")


def _engine(run: Run) -> str:
    if engines := sorted({r.generation.engine for r in run.records if r.generation}):
        return ", ".join(engines)
    version = run.header.first.packages.get("lmms-eval")
    return " ".join(filter(None, ("lmms-eval", version, str(run.header.adapter))))
