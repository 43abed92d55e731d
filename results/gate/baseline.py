"""A run as it is held against another: its samples, its figures as they were stored, and what made them."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from egost.results.intervals import same_figure
from egost.results.records import SampleRecord
from egost.results.run import Run
from egost.results.run_header import RunError
from egost.tasks.judging.judge import JudgeFailure, Judgement
from egost.tasks.sample import chance_level

WHOLE_REPLY = 1000
"""Characters. Of a longer reply a baseline keeps the beginning and the hash, so that 5,000 replies of a model that
thinks stay within some megabytes."""

_BEGINNING = 200
_CUT = re.compile(r" \[\.\.\. \d+ characters, sha256 [0-9a-f]{64}\]")

SETTINGS = (
    *("release_revision", "release_sha256", "sampling_protocol", "prompt", "prompt_sha256"),
    *("judge", "judge_model_asked", "judge_prompt", "judge_prompt_sha256", "version"),
)
"""Fields of a task's header that its figures depend on."""


Figures = Mapping[str, float]
"""Value by metric (`percent`, `compat`, `n_scored`, ...), as in lmms-eval's results; NaN where no sample has one."""

_Value = Callable[[SampleRecord], float | None]

GROUP_METRICS = ("percent", "compat", "spatiotemporal")
"""What our groups average: the plain mean over their tasks, whatever the sizes (paper, Table 1)."""


@dataclass(frozen=True, slots=True)
class Model:
    """The model, as far as the adapter recorded it (see Generation). settings: without paths of the machine."""

    engine: str
    model: str
    revision: str | None
    snapshot: str | None
    settings: Mapping[str, str | int | float | bool | None]


@dataclass(frozen=True, slots=True)
class TaskFigures:
    """A task. figures: as stored. settings: those of `SETTINGS` that were recorded. generation: limits of a reply."""

    figures: Figures
    settings: Mapping[str, str]
    generation: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class GroupFigures:
    """A group. tasks: the single tasks that it averages, sorted. figures: as stored."""

    figures: Figures
    tasks: tuple[str, ...]


@dataclass(frozen=True)
class Baseline:
    """A run as it is compared.

    packages: versions by name. records: by task and sample id, in the order of both, with replies shortened as
    `WHOLE_REPLY` says; read from a file, they have no generation and no reasons of the judge.
    """

    models: tuple[Model, ...]
    packages: Mapping[str, str]
    groups: Mapping[str, GroupFigures]
    tasks: Mapping[str, TaskFigures]
    records: Mapping[tuple[str, str], SampleRecord]

    def of_task(self, task: str) -> list[SampleRecord]:
        return [record for record in self.records.values() if record.task == task]


@dataclass(frozen=True, slots=True)
class Miscount:
    """A figure of a task or group that its samples do not give."""

    name: str
    metric: str
    stored: float
    counted: float


def baseline_of(run: Run) -> Baseline:
    """A run as it is compared. Raises RunError where its samples or figures cannot be read, RunError where they
    lack their questions."""
    records = run.records
    if bare := [record for record in records if not record.sample.question]:
        raise RunError(
            f"{run.results_file}: {len(bare)} samples ({bare[0].sample.id}, ...) lack their questions: the run is of "
            "an older version, or foreign. Evaluate again."
        )
    counted = recount(records)
    return Baseline(
        models=_models(records),
        packages=dict(sorted(run.header.packages.items())),
        groups={
            name: GroupFigures(_stored(run, name, GROUP_METRICS), tasks)
            for name, tasks in run.header.groups.items()
        },
        tasks={
            task: TaskFigures(
                figures=_stored(run, task, counted[task]),
                settings={name: value for name in SETTINGS if (value := getattr(header, name))},
                generation=header.generation,
            )
            for task, header in run.header.tasks.items()
        },
        records={
            (record.task, record.sample.id): replace(record, response=kept_reply(record.response))
            for record in sorted(records, key=lambda record: (record.task, _natural(record.sample.id)))
        },
    )


def miscounts(baseline: Baseline) -> list[Miscount]:
    """The stored figures that the samples do not give, groups last; one that is lacking counts as NaN."""
    counted: dict[str, Figures] = dict(recount(list(baseline.records.values())))
    stored: dict[str, Figures] = {name: task.figures for name, task in baseline.tasks.items()}
    for name, group in baseline.groups.items():
        counted[name] = recount_group(counted[task] for task in group.tasks if task in counted)
        stored[name] = group.figures
    return [
        Miscount(name, metric, stored[name].get(metric, float("nan")), value)
        for name, figures in counted.items()
        for metric, value in figures.items()
        if not same_figure(stored[name].get(metric, float("nan")), value)
    ]


def wording(record: SampleRecord) -> str:
    """The prompt without the sample's own words: `$question` and `$option` take their places."""
    text = record.prompt.replace(record.sample.question, "$question", 1)
    for letter, option in zip(record.sample.letters, record.sample.options, strict=True):
        text = text.replace(f"{letter}. {option}", f"{letter}. $option", 1)
    return text


def kept_reply(response: str) -> str:
    """A reply as a baseline keeps it: whole, or its beginning with its length and hash."""
    if len(response) <= WHOLE_REPLY:
        return response
    sha256 = hashlib.sha256(response.encode()).hexdigest()
    return f"{response[:_BEGINNING]} [... {len(response)} characters, sha256 {sha256}]"


def is_whole(kept: str) -> bool:
    """Whether a kept reply is all of it."""
    return _CUT.fullmatch(kept, _BEGINNING) is None


def _models(records: Sequence[SampleRecord]) -> tuple[Model, ...]:
    found: dict[str, Model] = {}
    for record in records:
        if made := record.generation:
            settings = {name: value for name, value in made.settings.items() if not _is_path(value)}
            model = Model(made.engine, made.model, made.revision, made.snapshot, settings)
            found[repr(model)] = model
    return tuple(found[key] for key in sorted(found))


def _is_path(value: object) -> bool:
    return isinstance(value, str) and value.startswith(("/", "~", "file:"))


def _stored(run: Run, name: str, metrics: Iterable[str]) -> Figures:
    """The stored figures of the given metrics; what a judge costs, for example, is none of them."""
    row = run.results["results"].get(name, {})
    return {
        metric: float(value)
        for metric in sorted(metrics)
        if isinstance(value := row.get(f"{metric},none"), (int, float))
    }


def _natural(sample_id: str) -> list[tuple[int, str]]:
    """`17` behind `2`."""
    return [(int(part) if part.isdigit() else 0, part) for part in re.split(r"(\d+)", sample_id)]


# --- the figures, counted again from single samples ------------------------------------------------------
#
# lmms-eval stores the figures and the samples of a run side by side. Where they do not agree, an aggregation is wrong:
# ours or lmms-eval's. So nothing here is shared with `egost.tasks.scoring.scores`.


def recount(records: Sequence[SampleRecord]) -> dict[str, Figures]:
    """The figures of each task by its name: all that come from scores, so not `truncated` and the judge's costs."""
    by_task: dict[str, list[SampleRecord]] = {}
    for record in records:
        by_task.setdefault(record.task, []).append(record)
    return {task: _of_task(found) for task, found in by_task.items()}


def recount_group(tasks: Iterable[Figures]) -> Figures:
    """The figures of a group whose tasks have the given ones."""
    rows = list(tasks)
    return {
        metric: math.fsum(values) / len(values)
        for metric in GROUP_METRICS
        if (values := [row[metric] for row in rows if metric in row])
    }


def _of_task(records: Sequence[SampleRecord]) -> Figures:
    kind = records[0].sample.task
    means = dict(_MEANS)
    if kind == "route":
        means |= _ROUTE_MEANS
    else:
        means |= _CHOICE_MEANS
    if kind in ("route", "direction"):
        means["spatiotemporal"] = _MEANS["percent"]
    figures = {name: _mean(value(record) for record in records) for name, value in means.items()}
    figures["n_scored"] = sum(record.unscored is None for record in records)
    figures["n_unscored"] = len(records) - figures["n_scored"]
    if kind == "route":
        figures["judge_failed"] = sum(isinstance(record.judgement, JudgeFailure) for record in records)
    return figures


def _mean(values: Iterable[float | None]) -> float:
    numbers = [value for value in values if value is not None]
    return math.fsum(numbers) / len(numbers) if numbers else math.nan


def _chance(record: SampleRecord) -> float | None:
    return None if record.unscored else 100 * chance_level([len(record.sample.options)])


def _invalid(record: SampleRecord) -> float | None:
    return None if record.choice is None else 100.0 * (record.choice.letter is None)


def _judged(record: SampleRecord) -> Judgement | None:
    return record.judgement if isinstance(record.judgement, Judgement) else None


def _aspect(name: str) -> _Value:
    return lambda record: getattr(_judged(record), name, None)


def _empty(record: SampleRecord) -> float | None:
    judged = _judged(record)
    return None if judged is None else 100.0 * judged.empty


_MEANS: dict[str, _Value] = {
    "percent": lambda record: record.percent,
    "compat": lambda record: record.compat,
}
_CHOICE_MEANS: dict[str, _Value] = {"chance": _chance, "invalid": _invalid}
_ROUTE_MEANS: dict[str, _Value] = {
    **{aspect: _aspect(aspect) for aspect in ("direction", "landmark", "semantic")},
    "empty": _empty,
}
