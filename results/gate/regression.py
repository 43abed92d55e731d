"""Has a run moved away from its baseline, and which thing has moved it?

    verdict = regression(read_baseline(path), baseline_of(latest_run(Path("runs"))))
    verdict.failed, verdict.moved          # True, ("frames",)

A figure is made in stages, each from the one before: data, frames, prompt, model, scoring, aggregation. A sample is put
down to the first stage at which it differs; what differs behind it follows from that. Scoring and aggregation are
looked at by themselves as well: the baseline's replies are scored by the installed scorer, and the run's figures are
counted again from its samples, so that two faults at once are both named.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from egost.results.gate.baseline import Baseline, Miscount, miscounts
from egost.results.gate.moved_samples import STAGES, Change, MovedSample, Stage, moved_samples, rescored
from egost.results.gate.recount import same_figure
from egost.results.intervals import Difference, paired
from egost.tasks.errors import EgostError
from egost.tasks.provenance import MAX_UNSCORED_SHARE

SIGNIFICANT = 0.05

_STAGE_OF_SETTING: dict[str, Stage] = {
    "release_sha256": "data",
    "sampling_protocol": "frames",
    "prompt_sha256": "prompt",
    "judge": "scoring",
    "judge_model_asked": "scoring",
    "judge_prompt_sha256": "scoring",
}


class RegressionError(EgostError):
    """A run and a baseline have nothing in common that could be compared."""


@dataclass(frozen=True, slots=True)
class MovedFigure:
    """The figure of a task or group, percent 0 to 100, that is not what it was."""

    name: str
    metric: str
    was: float
    now: float


@dataclass(frozen=True, slots=True)
class Drop:
    """How far a score has moved, sample by sample. name: a task, or `average` for the plain mean over all of them.

    too_far: whether it is lower by more than the tolerance, and more than chance explains.
    """

    name: str
    difference: Difference
    too_far: bool


@dataclass(frozen=True)
class Verdict:
    """What became of a run, held against its baseline.

    compared: number of samples in both. settings: what has changed for whole tasks. samples: those that moved.
    rescored: baseline samples whose stored reply the installed scorer gives another score. groups: those that average
    other tasks. miscounts: figures of the run that its samples do not give. figures: that differ from the baseline's.
    drops: the scores' differences where a tolerance was given, else empty. unpublishable: tasks with too many unscored
    samples, where a tolerance was given. notes: what differs and moves nothing by itself.
    moved: stages that have moved, in their order. failed: whether that is more than was allowed.
    """

    compared: int
    settings: tuple[Change, ...]
    samples: tuple[MovedSample, ...]
    rescored: tuple[MovedSample, ...]
    groups: tuple[Change, ...]
    miscounts: tuple[Miscount, ...]
    figures: tuple[MovedFigure, ...]
    drops: tuple[Drop, ...]
    unpublishable: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def moved(self) -> tuple[Stage, ...]:
        found = {change.stage for change in (*self.settings, *self.groups)}
        found |= {sample.stage for sample in (*self.samples, *self.rescored)}
        if self.miscounts:
            found.add("aggregation")
        return tuple(stage for stage in STAGES if stage in found)

    @property
    def failed(self) -> bool:
        allowed = {"model"} if self.drops else set()
        too_far = self.unpublishable or any(drop.too_far for drop in self.drops)
        return bool(set(self.moved) - allowed or too_far)


def regression(was: Baseline, now: Baseline, tolerance: float | None = None) -> Verdict:
    """Hold a run against its baseline.

    tolerance: None for a model that must say the same to every sample. Else the points by which a score may fall
    because the model has changed: other replies are allowed, as long as neither the average over all tasks nor a
    task falls further than that *and* further than chance explains (95 % interval over clips below 0 for the
    average; for the tasks the p-values by Bonferroni's rule). All other stages are held as strictly as without.

    Raises RegressionError where the two share no sample.
    """
    shared = [key for key in was.records if key in now.records]
    if not shared:
        raise RegressionError(
            f"the run has no sample of the baseline: it has {_listed(now.tasks)}, the baseline {_listed(was.tasks)}. "
            "Compare runs of the same tasks."
        )
    drops = () if tolerance is None else tuple(_drops(was, now, tolerance))
    return Verdict(
        compared=len(shared),
        settings=tuple(_moved_settings(was, now)),
        samples=tuple(moved_samples(was, now)),
        rescored=tuple(rescored(was)),
        groups=tuple(_moved_groups(was, now)),
        miscounts=tuple(miscounts(now)),
        figures=tuple(_moved_figures(was, now)),
        drops=drops,
        unpublishable=tuple(_unpublishable(now)) if drops else (),
        notes=tuple(_notes(was, now)),
    )


def _listed(names: Mapping[str, object]) -> str:
    return ", ".join(sorted(names)) or "none"


# --- whole tasks and groups -------------------------------------------------------------------------------


def _moved_settings(was: Baseline, now: Baseline) -> Iterator[Change]:
    before, after = _identities(was), _identities(now)
    if before and after and before != after:
        yield Change("model", "model", before, after)
    found: dict[Change, None] = {}
    for task, old in was.tasks.items():
        if (new := now.tasks.get(task)) is None:
            continue
        for name, stage in _STAGE_OF_SETTING.items():
            if old.settings.get(name) != new.settings.get(name):
                label = name.removesuffix("_sha256")
                told = [_with_hash(settings, name) for settings in (old.settings, new.settings)]
                found[Change(stage, label.replace("_", " "), told[0], told[1])] = None
        for name in sorted({*old.generation, *new.generation}):
            if old.generation.get(name) != new.generation.get(name):
                values = [str(generation.get(name)) for generation in (old.generation, new.generation)]
                found[Change("prompt", name, values[0], values[1])] = None
    yield from sorted(found, key=lambda change: STAGES.index(change.stage))


def _identities(baseline: Baseline) -> str:
    return ", ".join(
        sorted({" ".join(filter(None, (m.model, m.revision, m.snapshot))) for m in baseline.models})
    )


def _with_hash(settings: Mapping[str, str], name: str) -> str:
    """A setting with its name for people beside its hash."""
    value = settings.get(name, "none")
    named = {"release_sha256": "release_revision", "prompt_sha256": "prompt"}.get(name)
    return f"{settings.get(named, '')} ({value[:12]})" if named else value


def _moved_groups(was: Baseline, now: Baseline) -> Iterator[Change]:
    for name, old in was.groups.items():
        new = now.groups.get(name)
        if new and new.tasks != old.tasks:
            yield Change("aggregation", f"tasks of {name}", ", ".join(old.tasks), ", ".join(new.tasks))


def _moved_figures(was: Baseline, now: Baseline) -> Iterator[MovedFigure]:
    for before, after in ((was.groups, now.groups), (was.tasks, now.tasks)):
        for name, old in before.items():
            new = after.get(name)
            for metric, value in old.figures.items():
                figure = new.figures.get(metric, math.nan) if new else math.nan
                if not same_figure(value, figure):
                    yield MovedFigure(name, metric, value, figure)


def _drops(was: Baseline, now: Baseline, tolerance: float) -> Iterator[Drop]:
    tasks = [task for task in was.tasks if task in now.tasks]
    whole = paired(list(was.records.values()), list(now.records.values()))
    yield Drop("average", whole, -whole.value > tolerance and whole.high < 0)
    for task in tasks if len(tasks) > 1 else ():
        difference = paired(was.of_task(task), now.of_task(task))
        told = difference.p_value * len(tasks) < SIGNIFICANT
        yield Drop(task, difference, -difference.value > tolerance and told)


def _unpublishable(now: Baseline) -> Iterator[str]:
    for task in now.tasks:
        records = now.of_task(task)
        if sum(record.unscored is not None for record in records) > MAX_UNSCORED_SHARE * len(records):
            yield task


# --- what moves nothing by itself -----------------------------------------------------------------------


def _notes(was: Baseline, now: Baseline) -> Iterator[str]:
    for name in sorted({*was.packages, *now.packages}):
        if was.packages.get(name) != now.packages.get(name):
            yield f"{name} {was.packages.get(name, 'none')} -> {now.packages.get(name, 'none')}"
    engines = [_engines(baseline) for baseline in (was, now)]
    for name in sorted({*engines[0], *engines[1]}):
        if engines[0].get(name) != engines[1].get(name):
            yield f"engine: {name} {engines[0].get(name, 'none')} -> {engines[1].get(name, 'none')}"
    versions = [
        {task: found.settings.get("version", "none") for task, found in baseline.tasks.items()}
        for baseline in (was, now)
    ]
    for before, after in sorted({(v, versions[1][t]) for t, v in versions[0].items() if t in versions[1]}):
        if before != after:
            yield f"task version {before} -> {after}"
    if extra := sorted(set(now.tasks) - set(was.tasks)):
        yield f"not in the baseline, so not compared: {', '.join(extra)}"


def _engines(baseline: Baseline) -> dict[str, str]:
    """Engines and their settings by name; several values of one setting stand side by side."""
    found: dict[str, set[str]] = {}
    for model in baseline.models:
        for name, value in {"name": model.engine, **model.settings}.items():
            found.setdefault(name, set()).add(str(value))
    return {name: ", ".join(sorted(values)) for name, values in found.items()}
