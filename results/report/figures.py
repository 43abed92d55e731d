"""The figures of a report, each with its interval, of one run or of two, and what to know before believing them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Literal

from egost.results.compare import Unlike, unlike
from egost.results.intervals import DRAWS, Difference, Estimate, Score, estimate, paired, percent
from egost.results.leaderboard.entries import Entry, entry_of
from egost.results.leaderboard.rules import set_apart, set_apart_in_words
from egost.results.published_tables import TableNumber
from egost.results.records import SampleRecord
from egost.results.run import Run
from egost.tasks.judging.judge import BEST, Judgement
from egost.tasks.release import BENCHMARK, release_name
from egost.tasks.sample import TASK_KINDS, WAYS, TaskKind, Way, chance_level

Records = Sequence[SampleRecord]

TASKS: tuple[tuple[TaskKind, Way], ...] = tuple((kind, way) for kind in TASK_KINDS for way in WAYS)
"""The eight tasks in the order of the paper's Table 1."""

SPATIOTEMPORAL: tuple[TaskKind, ...] = ("route", "direction")
"""The kinds of tasks whose plain mean is Avg.(ST) (paper, Table 1)."""

_LENGTHS = (5.0, 15.0, 30.0, 60.0, 120.0, math.inf)
"""Upper ends of the groups of clip lengths, seconds."""

_DRAWS = 2_000
"""Of the tables of parts and of other scorings, which are many; the headline figures have all draws."""


@dataclass(frozen=True)
class Line:
    """One figure. chance: of guessing, in percent; None for routes. b, difference: None in a report of one run."""

    label: str
    a: Estimate
    b: Estimate | None
    difference: Difference | None
    chance: float | None


@dataclass(frozen=True)
class Table:
    """A table of figures. note: how they were counted, for people."""

    title: str
    note: str
    lines: tuple[Line, ...]


def task_label(kind: str, way: str) -> str:
    """`Direction F`, as the heads of the paper's tables."""
    return f"{kind.capitalize()} {way[0].upper()}"


def averages(a: Records, b: Records | None, score: Score = percent) -> Table:
    """Avg.(Total) and Avg.(ST) where their tasks are there; the mean of what there is where they are not.

    Of two runs, the tasks that both have: a mean over other tasks would not be the one that it stands next to.
    """
    if b is not None:
        shared = {record.task for record in a} & {record.task for record in b}
        a, b = ([record for record in run if record.task in shared] for run in (a, b))
    lines = [
        _line(label, _of_kinds(a, kinds), None if b is None else _of_kinds(b, kinds), score)
        for label, kinds in (("Avg.(Total)", TASK_KINDS), ("Avg.(ST)", SPATIOTEMPORAL))
        if all(_of_kinds(a, [kind], [way]) for kind in kinds for way in WAYS)
    ]
    tasks = {record.task for record in a}
    if 1 < len(tasks) < len(TASKS):
        of = "this run" if b is None else "both runs"
        lines.insert(0, _line(f"Mean of the {len(tasks)} tasks of {of}", a, b, score))
    return Table("Averages", "Plain means of the tasks, whatever their sizes (paper, Table 1).", tuple(lines))


def by_task(a: Records, b: Records | None, score: Score = percent) -> Table:
    """Each task that the first run has, in the order of the paper's Table 1."""
    lines = [
        _line(task_label(kind, way), part, None if b is None else _of_kinds(b, [kind], [way]), score)
        for kind, way in TASKS
        if (part := _of_kinds(a, [kind], [way]))
    ]
    if score is percent:
        return Table("By task", "The headline scoring (strict).", tuple(lines))
    note = "By the reference code's rules (compat), to be compared with the paper's figures."
    return Table("By task, as the reference scores", note, tuple(lines))


def route_aspects(a: Records, b: Records | None) -> Table:
    """Direction, landmark and semantic of route descriptions (paper, Table 2); without lines where there are none."""
    lines = [
        _line(
            f"{name} {way[0].upper()}",
            part,
            None if b is None else _of_kinds(b, ["route"], [way]),
            score,
            _DRAWS,
        )
        for name, score in _ASPECTS
        for way in WAYS
        if (part := _of_kinds(a, ["route"], [way]))
    ]
    note = "The judge's scores from 0 to 5, times 20, as in the paper's Table 2."
    return Table("Route descriptions: D, L and S", note, tuple(lines))


def breakdowns(a: Records, b: Records | None) -> tuple[Table, ...]:
    """Multiple-choice accuracy by source, number of options and clip length, and routes by source and length."""
    pooled = "All samples of a line together, whatever their task; the interval is over clips."
    tables = []
    for words, choose in (("Accuracy", _is_choice), ("Route score", _is_route)):
        ours, theirs = _pooled(a, choose), None if b is None else _pooled(b, choose)
        if not ours:
            continue
        tables.append(Table(f"{words} by source", pooled, _grouped(ours, theirs, lambda r: r.sample.source)))
        if choose is _is_choice:
            tables.append(
                Table(f"{words} by number of options", pooled, _grouped(ours, theirs, _options_label))
            )
        tables.append(Table(f"{words} by clip length", pooled, _grouped(ours, theirs, _length_label)))
    return tuple(tables)


def compat(record: SampleRecord) -> float | None:
    """The score of a sample by the reference code's rules."""
    return record.compat


def chance(records: Iterable[SampleRecord]) -> float | None:
    """Percent right of guessing among scored multiple-choice samples; None where there are none with options."""
    offered = [len(r.sample.options) for r in records if r.sample.options and r.percent is not None]
    return 100 * chance_level(offered) if offered else None


def _line(
    label: str, a: Records, b: Records | None, score: Score = percent, draws: int | None = None
) -> Line:
    draws = draws or (DRAWS if score is percent else _DRAWS)
    a, b = _asked_by_both(a, b)
    return Line(
        label,
        estimate(a, score=score, draws=draws),
        None if b is None else estimate(b, score=score, draws=draws),
        None if b is None else paired(a, b, score=score, draws=draws),
        chance(a) if all(map(_is_choice, a)) else None,
    )


def _asked_by_both(a: Records, b: Records | None) -> tuple[Records, Records | None]:
    """Without the scores that only one of them can have, so that the figures next to each other are of the same
    samples; each its own where they share none.
    """
    shared = {(r.task, r.sample.id) for r in a} & {(r.task, r.sample.id) for r in b or ()}
    if b is None or not shared:
        return a, b
    kept = [[r for r in run if r.percent is None or (r.task, r.sample.id) in shared] for run in (a, b)]
    return kept[0], kept[1]


def _of_kinds(records: Records, kinds: Iterable[str], ways: Iterable[str] = WAYS) -> list[SampleRecord]:
    wanted = {(kind, way) for kind in kinds for way in ways}
    return [record for record in records if (record.sample.task, record.sample.way) in wanted]


def _pooled(records: Records, choose: Callable[[SampleRecord], bool]) -> list[SampleRecord]:
    return [replace(record, task="all") for record in records if choose(record)]


def _grouped(a: Records, b: Records | None, key: Callable[[SampleRecord], str]) -> tuple[Line, ...]:
    labels = sorted({key(record) for record in a}, key=_numbers_first)
    return tuple(
        _line(
            label,
            [record for record in a if key(record) == label],
            None if b is None else [record for record in b if key(record) == label],
            draws=_DRAWS,
        )
        for label in labels
    )


def _numbers_first(label: str) -> tuple[float, str]:
    head = label.split()[0]
    return (float(head) if head.isdecimal() else math.inf, label)


def _options_label(record: SampleRecord) -> str:
    number = len(record.sample.options)
    if number == 0:
        return "not recorded (an older run)"
    return f"{number} options" if number > 1 else "1 option"


def _length_label(record: SampleRecord) -> str:
    if record.frames is None:
        return "unknown: no frames"
    shortest = 0.0
    for end in _LENGTHS:
        if record.frames.duration <= end:
            break
        shortest = end
    return f"{shortest:.0f} to {end:.0f} s" if end < math.inf else f"{shortest:.0f} s and longer"


def _is_choice(record: SampleRecord) -> bool:
    return record.sample.task != "route"


def _is_route(record: SampleRecord) -> bool:
    return record.sample.task == "route"


def _aspect(name: str) -> Score:
    def score(record: SampleRecord) -> float | None:
        judged = record.judgement
        return 100 * float(getattr(judged, name)) / BEST if isinstance(judged, Judgement) else None

    return score


_ASPECTS = (
    ("Direction (D)", _aspect("direction")),
    ("Landmark (L)", _aspect("landmark")),
    ("Semantic (S)", _aspect("semantic")),
)


@dataclass(frozen=True)
class Statement:
    """A sentence about the runs. weight: `warning` where a figure must not be taken for what it seems."""

    weight: Literal["warning", "note"]
    text: str


@dataclass(frozen=True)
class Side:
    """One of the runs.

    letter: `A` or `B`. alone: whether there is no other. label: the model's name. made_at: as a person reads it.
    """

    letter: str
    alone: bool
    label: str
    made_at: str
    run: Run
    records: tuple[SampleRecord, ...]

    @cached_property
    def entry(self) -> Entry:
        """The run as the leaderboard sees it."""
        return entry_of(self.run)

    @property
    def release(self) -> str:
        """What it was asked, for people: Ego-ST Bench only where its figures may stand next to published ones."""
        name = release_name(self.entry.world, self.entry.release)
        if name == BENCHMARK and set_apart(self.entry):
            return "questions of the benchmark, not comparable with published figures"
        return name

    def refused(self, tasks: Sequence[str], table: TableNumber) -> bool:
        """Whether one of the tasks (`route_forward`) may not stand next to a published table, or is not there."""
        apart = set_apart(self.entry, table)
        return self.entry.world == "mini" or any(
            task in apart or task not in self.entry.records for task in tasks
        )

    def named(self, text: str) -> str:
        """A text that tells which of two runs it is about."""
        begun = text[:1].upper() + text[1:]
        return begun if self.alone else f"{self.letter}: {begun}"


def read_sides(runs: Sequence[Run]) -> list[Side]:
    """One run, or two, with their samples. Raises RunError, see `Run.records`."""
    return [_read(run, letter, len(runs) == 1) for run, letter in zip(runs, "AB", strict=False)]


def _read(run: Run, letter: str, alone: bool) -> Side:
    name = run.header.model_name or str(run.header.adapter)
    # Of a folder of somebody's machine the last part is the checkpoint's name.
    label = Path(name).name if Path(name).is_absolute() else name
    return Side(letter, alone, label, _time(run.header.date), run, run.records)


def _time(date: str) -> str:
    """lmms-eval's own form is 20261121_174500."""
    try:
        return datetime.strptime(date, "%Y%m%d_%H%M%S").strftime("%Y-%m-%d %H:%M")
    except ValueError:
        return date


def statements(sides: Sequence[Side], tasks: Table) -> list[Statement]:
    """What the saved runs say about themselves. tasks: the figures by task."""
    found = [Statement(one.weight, side.named(one.text)) for side in sides for one in _of_run(side)]
    for number, side in enumerate(sides):
        if at_chance := [line.label for line in tasks.lines if _at_chance(line, number)]:
            text = f"not distinguishable from guessing (the interval reaches chance): {', '.join(at_chance)}."
            found.append(Statement("warning", side.named(text)))
    return [*found, *(_unlike(*sides) if len(sides) > 1 else [])]


def _unlike(a: Side, b: Side) -> list[Statement]:
    of_a, of_b = (
        {r.task: {s.sample.id for s in side.records if s.task == r.task} for r in side.records}
        for side in (a, b)
    )
    shared = sorted(of_a.keys() & of_b.keys())
    by_what: dict[str, list[Unlike]] = {}
    for one in unlike(a.run, b.run, shared):
        by_what.setdefault(one.what, []).append(one)
    found = []
    for what, ones in by_what.items():
        values = "; ".join(dict.fromkeys(f"{one.a} against {one.b}" for one in ones[:2]))
        more = ", and others" if len(ones) > 2 else ""
        tasks = {task for one in ones for task in one.tasks}
        found.append(
            Statement(
                "warning",
                "The runs were not made alike, so that a difference is not the model's alone: "
                f"{what}: {values}{more} ({len(tasks)} of {len(shared)} tasks).",
            )
        )
    alone = [
        sum(len(ids - other.get(task, set())) for task, ids in own.items())
        for own, other in ((of_a, of_b), (of_b, of_a))
    ]
    if any(alone):
        found.append(
            Statement(
                "warning",
                f"The figures of the tasks that both runs have, and their means, are over the samples that both were "
                f"asked: {alone[0]} samples that A alone was asked and {alone[1]} that B alone was are not in them.",
            )
        )
    return found


def _of_run(side: Side) -> list[Statement]:
    apart = set_apart_in_words(side.entry)
    if side.entry.world == "mini":
        found = [
            "This is the mini world, rendered walks for trying: its figures are no benchmark results and are not "
            "compared with published ones."
        ]
        found += [f"Not comparable with other runs of the mini world: {apart}."] if apart else []
    else:
        found = [f"Not put next to published figures: {apart}."] if apart else []
    return [Statement("warning", text) for text in found]


def _at_chance(line: Line, number: int) -> bool:
    found = line.b if number else line.a
    return line.chance is not None and found is not None and found.low <= line.chance
