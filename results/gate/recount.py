"""The figures of tasks and groups, counted again from single samples.

lmms-eval stores the figures and the samples of a run side by side. Where they do not agree, something between them is
wrong: an aggregation of ours, or the host's. So nothing here is shared with `egost.tasks.scoring.scores`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence

from egost.results.records import SampleRecord
from egost.tasks.judging.judge import JudgeFailure, Judgement
from egost.tasks.sample import chance_level

Figures = Mapping[str, float]
"""Value by metric (`percent`, `compat`, `n_scored`, ...), as in lmms-eval's results; NaN where no sample has one."""

_Value = Callable[[SampleRecord], float | None]

GROUP_METRICS = ("percent", "compat", "spatiotemporal")
"""What our groups average: the plain mean over their tasks, whatever the sizes (paper, Table 1)."""


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


def same_figure(a: float, b: float) -> bool:
    """Whether two figures differ by no more than rounding, which depends on the order of a sum."""
    return math.isclose(a, b, rel_tol=1e-9, abs_tol=1e-9) or (math.isnan(a) and math.isnan(b))


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
