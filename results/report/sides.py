"""The runs of a report, and what a reader has to know before believing their figures, in sentences."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal

from egost.results.compare import unlike
from egost.results.records import SampleRecord
from egost.results.report.figures import Line, Table
from egost.results.run import Run


@dataclass(frozen=True)
class Statement:
    """A sentence about the runs. weight: `warning` where a figure must not be taken for what it seems."""

    weight: Literal["warning", "note"]
    text: str


@dataclass(frozen=True)
class Side:
    """One of the runs.

    letter: `A` or `B`. alone: whether there is no other. label: the model's name. told: when it was made, as
    lmms-eval says it.
    """

    letter: str
    alone: bool
    label: str
    told: str
    run: Run
    records: tuple[SampleRecord, ...]

    @property
    def is_mini(self) -> bool:
        """Whether it is of the mini world, whose figures are no benchmark results."""
        return self.records[0].world == "mini"

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
    shared = sorted({r.task for r in a.records} & {r.task for r in b.records})
    differing = Counter((one.what, one.a, one.b) for one in unlike(a.run, b.run, shared))
    return [
        Statement(
            "warning",
            f"The runs were not made alike, so that a difference is not the model's alone: {what}: {in_a} against "
            f"{in_b} ({tasks} of {len(shared)} tasks).",
        )
        for (what, in_a, in_b), tasks in differing.items()
    ]


def _of_run(side: Side) -> list[Statement]:
    found = []
    if side.is_mini:
        found.append(
            Statement(
                "warning",
                "This is the mini world, rendered walks for trying: its figures are no benchmark results and are not "
                "compared with published ones.",
            )
        )
    if bad := [row.name for row in side.run.figures if not row.publishable]:
        found.append(
            Statement(
                "warning",
                f"Not to be published, too many samples are unscored or none is scored: {', '.join(bad)}.",
            )
        )
    settings = side.run.settings
    if "limit" in settings:
        found.append(
            Statement("warning", f"Only a part of the samples was asked: limit {settings['limit']}.")
        )
    if "ARE AMONG THEM" in settings.get("trained on", ""):
        found.append(Statement("warning", f"The model was trained on {settings['trained on']}."))
    judged = any(record.sample.task == "route" for record in side.records)
    if judged and settings.get("judge", "").startswith("offline-rubric") and not side.is_mini:
        found.append(
            Statement(
                "warning",
                f"The routes were scored by rules ({settings['judge']}), the published ones by GPT-4o: they cannot be "
                "compared.",
            )
        )
    return found


def _at_chance(line: Line, number: int) -> bool:
    found = line.b if number else line.a
    return line.chance is not None and found is not None and found.low <= line.chance
