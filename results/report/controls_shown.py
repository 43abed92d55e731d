"""What `egost diagnose` has left beside a run: the text-only floor and the controls, as tables and sentences."""

from __future__ import annotations

from dataclasses import dataclass, replace

from egost.results.diagnosis.controls import Controls, Gap, controls_of
from egost.results.diagnosis.text_only import Floor, TextOnly, against_floor, not_solved_by_text, text_only_of
from egost.results.intervals import Difference, Estimate, estimate
from egost.results.report.diagnostics import PlainTable
from egost.results.report.sides import Side
from egost.results.report.statements import Statement
from egost.tasks.errors import EgostError


@dataclass(frozen=True)
class Shown:
    """tables: what was measured. statements: whether the score is more than what needs no seeing."""

    tables: tuple[PlainTable, ...]
    statements: tuple[Statement, ...]


def controls_shown(side: Side) -> Shown:
    """Of one run. What was not measured, or cannot be read, is a statement that says what to do."""
    tables: list[PlainTable] = []
    told: list[Statement] = []
    if any(record.sample.options for record in side.records):
        try:
            if floor := text_only_of(side.run):
                tables.append(_floor_table(side, floor))
                told.append(_against_floor(side, floor))
            else:
                told.append(
                    Statement(
                        "note", "Not measured: what text alone gets. Run egost diagnose RUN --text-only"
                    )
                )
        except EgostError as error:
            told.append(_unreadable(side, error))
    try:
        if controls := controls_of(side.run):
            tables.append(_controls_table(side, controls))
            told += _blind(controls)
        else:
            told.append(
                Statement("note", "Not measured: the score without the video. Run egost diagnose MODEL")
            )
    except EgostError as error:
        told.append(_unreadable(side, error))
    return Shown(tuple(tables), tuple(Statement(one.weight, side.named(one.text)) for one in told))


def _unreadable(side: Side, error: EgostError) -> Statement:
    """Why, without the folders of the machine that wrote the report."""
    beside = side.run.results_file.parent
    return Statement("warning", str(error).replace(f"{beside}/", "").replace(f"{beside.parent}/", ""))


def _against_floor(side: Side, found: TextOnly) -> Statement:
    # The floor is of all questions together, and so must be what is put beside it.
    score = estimate([replace(r, task="choices") for r in side.records if r.sample.options])
    floor = found.trained.floor if found.trained else found.by_clip
    clearly_above = score.low > floor.high
    return Statement("note" if clearly_above else "warning", against_floor(score, floor))


def _blind(controls: Controls) -> list[Statement]:
    if (arm := controls.arm("blind")) is None:
        return [Statement("note", "Not measured: the score without the video. Run egost diagnose MODEL")]
    return [Statement("note" if arm.overall.gap.low > 0 else "warning", arm.meaning)]


def _floor_table(side: Side, found: TextOnly) -> PlainTable:
    rows = [("linear guesser, taught by other clips", found.by_clip)]
    if found.trained:
        rows.append((f"the same, taught by the {found.trained.rows} training rows", found.trained.floor))
    rows += [(f"{source} by the other sources", floor) for source, floor in found.by_source.items()]
    rows += list(found.rules.items())
    cells = [
        (name, f"{floor.percent:.1f}", _reach(floor), f"{floor.chance:.1f}", str(floor.n))
        for name, floor in rows
    ]
    left = not_solved_by_text(side.records, found)
    cells.append(("this run, where text alone fails", f"{left.value:.1f}", _reach(left), "", str(left.n)))
    return PlainTable(
        side.named("what text alone gets"),
        "Percent right in the multiple-choice questions by guessers that see no frame.",
        ("", "percent", "95 % interval", "chance", "questions"),
        tuple(cells),
    )


def _controls_table(side: Side, controls: Controls) -> PlainTable:
    rows = [(arm.name, *_gap(arm.overall), arm.meaning) for arm in controls.arms]
    if circular := controls.circular:
        rows.append(
            (
                "right in all rotations of the options",
                "",
                f"{circular.circular.value:.1f}",
                f"{circular.gap.value:+.1f} ({_reach(circular.gap)})",
                circular.meaning,
            )
        )
    for name, found in (("frames reversed", controls.turned), ("forward and reverse", controls.consistency)):
        if found:
            rows.append((name, "", "", "", found.meaning))
    return PlainTable(
        side.named("controls"),
        f"The same questions, asked otherwise ({controls.about.made_at}); gap is the score less the control, paired.",
        ("", "score", "control", "gap", "what it means"),
        tuple(rows),
    )


def _gap(found: Gap) -> tuple[str, str, str]:
    return (
        f"{found.score.value:.1f}",
        f"{found.control.value:.1f}",
        f"{found.gap.value:+.1f} ({_reach(found.gap)})",
    )


def _reach(found: Floor | Estimate | Difference) -> str:
    return f"{found.low:.1f} to {found.high:.1f}"
