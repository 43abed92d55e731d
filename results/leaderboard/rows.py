"""The rows of a table: published ones, and those of runs, cell by cell, with the reasons for refusals."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from statistics import fmean
from typing import Literal

from egost.results.both_ways import BothWays, both_ways
from egost.results.diagnosis.controls import Controls, Gap, controls_of
from egost.results.diagnosis.text_only import (
    TextOnly,
    TextOnlyScore,
    against_text_only,
    choices_together,
    not_solved_by_text,
    release_of,
    text_only,
    text_only_of,
)
from egost.results.intervals import Estimate, estimate
from egost.results.labels.corrected import Corrected, corrected_beside
from egost.results.leaderboard.entries import Entry
from egost.results.leaderboard.rules import (
    PARTS_OF_TEST,
    TELL_BOUNDS_ABOVE,
    Column,
    deviations,
    ood_refusal,
    refusals,
    train_label,
)
from egost.results.published_tables import PublishedRow, PublishedTable
from egost.results.records import SampleRecord
from egost.results.run_header import RunError
from egost.tasks.errors import ReleaseError
from egost.tasks.judging.judge import BEST, Judgement
from egost.tasks.sample import chance_level

_ASPECTS = ("direction", "landmark", "semantic")

RELEASED_ROWS_NOTE = (
    "trained on questions of the benchmark; of the 630 released ones a linear model that sees no frame answers 93.8 % "
    "(measured by this project, not by the paper)"
)

_SOURCE_OF_TEST = {"SUN3D": "sun3d", "HUJI+Self": "outdoor"}
"""Table 4's names of the test sets, and the sources of the clips in them."""


OWN_PROTOCOL = "egost protocol"
"""How a run is marked that was not made as published."""


@dataclass(frozen=True, slots=True)
class Cell:
    """A figure, 0 to 100 percent. low, high: 95 % interval, None for a published figure.

    n, of: how many samples are scored, of how many asked; None for a published figure.
    percent: None where the figure is refused and not to be shown. refused: why it is not comparable.
    notes: remarks on it. best: highest of its column, with an interval that meets no other.
    """

    percent: float | None
    low: float | None = None
    high: float | None = None
    n: int | None = None
    of: int | None = None
    refused: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    best: bool = False


@dataclass(frozen=True, slots=True)
class WithoutSeeing:
    """What the row's multiple-choice questions give away without their video, as far as it was measured.

    text: the text-only baseline. not_solved: the row's score where text alone fails. blind: the same model without the
    video. verdicts: sentences that compare the score with these, or say why a figure is missing.
    """

    text: TextOnlyScore | None
    not_solved: Estimate | None
    blind: Gap | None
    verdicts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Details:
    """How a run's row was made. scored, samples: n scored of n, over the row's tasks.

    invalid: percent of the multiple-choice replies without an offered letter; None without such tasks.
    judge_failed: routes that the judge failed on; None without routes.
    both_ways: the forward and the reverse question of a kind on a clip both right. circular: right in all rotations of
    the options, where they were asked.
    protocol: `egost protocol`, or `as published (...)`. revision: of the model, empty where the run does not tell it.
    """

    scored: int
    samples: int
    invalid: float | None
    judge_failed: int | None
    judge: str
    prompt: str
    frames: str
    protocol: str
    engine: str
    revision: str
    release: str
    results_file: str
    without_seeing: WithoutSeeing
    both_ways: BothWays | None
    circular: Estimate | None


@dataclass(frozen=True, slots=True)
class Row:
    """A line of a table. origin: chance is what a guess gets. family: of a published row. details: of a run's.

    date: ISO, empty where unknown.

    cells: by column; none where the run has not all of the column's tasks.
    """

    origin: Literal["published", "run", "chance"]
    model: str
    family: str
    labels: Mapping[str, str]
    cells: Mapping[str, Cell]
    date: str
    notes: tuple[str, ...]
    details: Details | None

    @property
    def refused(self) -> tuple[str, ...]:
        """Why no figure of the row is comparable; empty where one is."""
        if any(not cell.refused for cell in self.cells.values()):
            return ()
        return tuple(dict.fromkeys(reason for cell in self.cells.values() for reason in cell.refused))


def published_row(row: PublishedRow, table: PublishedTable) -> Row:
    """A row as the paper prints it."""
    cells = {
        column: Cell(
            percent,
            notes=(f"as the paper prints it; its own D, L and S give {table.recomputed(row, column):.1f}",)
            if column in row.misprinted
            else (),
        )
        for column, percent in row.figures.items()
    }
    notes = (RELEASED_ROWS_NOTE,) if row.family == "trained" else ()
    return Row("published", row.model, row.family, row.labels, cells, row.tested, notes, None)


def chance_row(entries: Sequence[Entry], table: PublishedTable) -> Row:
    """What a guess among the options gets on the questions of some runs of one release; nothing where a column has
    routes.
    """
    chances: dict[str, float] = {}
    for entry in entries:
        for task, records in entry.records.items():
            if offered := [len(r.sample.options) for r in records if r.sample.options]:
                chances.setdefault(task, 100 * chance_level(offered))
    tasks_of = {column: _measures(table, column)[0] for column in table.columns}
    cells = {
        column: Cell(fmean(chances[task] for task in tasks))
        for column, tasks in tasks_of.items()
        if all(task in chances for task in tasks)
    }
    return Row("chance", "chance", "", {}, cells, "", (), None)


def rows_of_run(entry: Entry, table: PublishedTable, column: Column, show_all: bool) -> list[Row]:
    """The rows of a run in a table: none where it has no task of it, one for each test set in Table 4.

    show_all: with the figures that are refused.
    """
    tests = PARTS_OF_TEST if table.number == 4 else (None,)
    rows = (_row(entry, table, column, show_all, test) for test in tests)
    return [row for row in rows if row.cells]


def _row(entry: Entry, table: PublishedTable, column: Column, show_all: bool, test: str | None) -> Row:
    cells: dict[str, Cell] = {}
    asked: dict[str, list[SampleRecord]] = {}
    for name in table.columns:
        tasks, aspect = _measures(table, name)
        of_tasks = {task: _records(entry, task, test) for task in tasks}
        if all(of_tasks.values()):
            asked |= of_tasks
            cells[name] = _cell(entry, tasks, aspect, test, column, show_all)
    records = [record for rows in asked.values() for record in rows]
    labels = {
        1: {},
        2: {"best": _best_aspect(cells)},
        3: {"training": f"{entry.training.rows if entry.training else 0}/{len(records)}"},
        4: {"train": train_label(entry), "test": test or ""},
    }[table.number]
    return Row(
        origin="run",
        model=entry.model,
        family="",
        labels=labels,
        cells=cells,
        date=entry.date,
        notes=deviations(entry, table.number),
        details=_details(entry, records, test),
    )


def _measures(table: PublishedTable, column: str) -> tuple[tuple[str, ...], str | None]:
    """The tasks whose mean a column is, and the aspect of the routes that it is of."""
    if table.number != 2:
        return table.aggregates.get(column, (column,)), None
    aspect, _, way = column.rpartition("_")
    return (f"route_{way}",), aspect if aspect in _ASPECTS else None


def _records(entry: Entry, task: str, test: str | None) -> list[SampleRecord]:
    return [r for r in entry.records.get(task, ()) if test is None or r.sample.part in PARTS_OF_TEST[test]]


def _cell(
    entry: Entry, tasks: tuple[str, ...], aspect: str | None, test: str | None, column: Column, show_all: bool
) -> Cell:
    reasons = [reason for task in tasks for reason in refusals(entry, task, column)]
    if test and (reason := ood_refusal(entry, test)):
        reasons.append(reason)
    refused = tuple(dict.fromkeys(reasons))
    if refused and not show_all:
        return Cell(None, refused=refused)
    found = _estimate(entry, tasks, aspect, test)
    of = found.n + found.unscored
    if math.isnan(found.value):
        return Cell(None, n=found.n, of=of, refused=refused or ("no sample is scored",))
    notes: tuple[str, ...] = ()
    if found.unscored > TELL_BOUNDS_ABOVE * of:
        notes = (
            f"{found.unscored} of {of} samples have no score: {found.least:.1f} if all were wrong, {found.most:.1f} "
            "if all were right",
        )
    if aspect is None and test is None and len(tasks) == 1 and (corrected := _corrected(entry, tasks[0])):
        notes = (*notes, f"corrected by people's labels: {corrected}")
    return Cell(found.value, found.low, found.high, found.n, of, refused, notes)


@cache
def _corrected(entry: Entry, task: str) -> Corrected | str | None:
    """The corrected score of a route task, or why it has none; nothing where nobody labelled the run."""
    if not task.startswith("route"):
        return None
    records = entry.records[task]
    try:
        return corrected_beside(entry.file, records).get(records[0].task)
    except RunError as error:
        return str(error)


@cache
def _estimate(entry: Entry, tasks: tuple[str, ...], aspect: str | None, test: str | None) -> Estimate:
    def score(record: SampleRecord) -> float | None:
        if aspect is None or not isinstance(record.judgement, Judgement):
            return record.compat if entry.as_published else record.percent
        return float(getattr(record.judgement, aspect)) * 100 / BEST

    return estimate([r for task in tasks for r in _records(entry, task, test)], score=score)


def _best_aspect(cells: Mapping[str, Cell]) -> str:
    """Table 2's 'best part': the aspect with the highest mean of both ways, where they are known."""
    means = {
        aspect[0].upper(): sum(
            cell.percent if (cell := cells.get(f"{aspect}_{way}")) and cell.percent is not None else math.nan
            for way in ("forward", "reverse")
        )
        for aspect in _ASPECTS
    }
    best = [letter for letter, mean in means.items() if mean == max(means.values())]
    return best[0] if len(best) == 1 and not any(map(math.isnan, means.values())) else ""


def _details(entry: Entry, records: Sequence[SampleRecord], test: str | None) -> Details:
    routes = [r for r in records if r.sample.task == "route"]
    choices = [r for r in records if r.choice]
    return Details(
        scored=sum(r.percent is not None for r in records),
        samples=len(records),
        invalid=100 * sum(r.choice is not None and r.choice.letter is None for r in choices) / len(choices)
        if choices
        else None,
        judge_failed=sum((r.unscored or "").startswith("judge_failed") for r in routes) if routes else None,
        judge=entry.judge if routes else "",
        prompt=entry.prompt,
        frames=entry.frames,
        protocol=f"as published ({entry.as_published})" if entry.as_published else OWN_PROTOCOL,
        engine=entry.engine,
        revision=entry.revision,
        release=entry.release,
        results_file=entry.file.name,
        without_seeing=_without_seeing(entry, [r for r in records if r.sample.options], test),
        both_ways=_both_ways(entry, test) if choices else None,
        circular=_circular(entry) if choices and not test else None,
    )


@cache
def _both_ways(entry: Entry, test: str | None) -> BothWays | None:
    return both_ways(r for task in entry.records for r in _records(entry, task, test))


def _circular(entry: Entry) -> Estimate | None:
    with suppress(RunError):  # `_without_seeing` says why
        if (found := _own_controls(entry)) and found.circular:
            return found.circular.circular
    return None


def _without_seeing(entry: Entry, records: Sequence[SampleRecord], test: str | None) -> WithoutSeeing:
    """The files that `egost diagnose` wrote for a run. Where there is none, and the checkpoint was trained on the
    benchmark, the text-only baseline is measured here.

    records: multiple-choice samples of the row. test: Table 4's name of their set; there the baseline has learned from
    the other sources.
    """
    verdicts: list[str] = []
    text: TextOnlyScore | None = None
    not_solved: Estimate | None = None
    blind: Gap | None = None
    try:
        if records and (found := _text_only(entry)):
            if text := _baseline(found, test):
                verdicts.append(against_text_only(choices_together(records), text))
            not_solved = not_solved_by_text(records, found)
    except (ReleaseError, RunError) as error:
        verdicts.append(str(error))
    try:
        if (controls := _own_controls(entry)) and (arm := controls.arm("blind")):
            blind = arm.overall
            if not blind.gap.low > 0:
                verdicts.append(arm.meaning)
    except RunError as error:
        verdicts.append(str(error))
    return WithoutSeeing(text, not_solved, blind, tuple(verdicts))


def _baseline(found: TextOnly, test: str | None) -> TextOnlyScore | None:
    if test:
        return found.by_source.get(_SOURCE_OF_TEST[test])
    return found.trained.floor if found.trained else found.by_clip


@cache
def _text_only(entry: Entry) -> TextOnly | None:
    written = text_only_of(entry.run)
    if written or entry.training is None or not sum(entry.training.overlap.values()):
        return written
    samples = [r.sample for rows in entry.records.values() for r in rows]
    return text_only(samples, release_of(entry.run))


@cache
def _own_controls(entry: Entry) -> Controls | None:
    """The controls of the run's own checkpoint: a folder may hold runs of several."""
    found = controls_of(entry.run)
    if found is None:
        return None
    asked = {
        (r.generation.model, r.generation.revision)
        for rows in entry.records.values()
        for r in rows
        if r.generation
    }
    model = (found.about.model.get("model"), found.about.model.get("revision"))
    return found if not asked or model in asked else None
