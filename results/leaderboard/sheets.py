"""A leaderboard as texts in rows and columns, which Markdown, LaTeX and HTML all show."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from egost.results.both_ways import BothWays
from egost.results.intervals import Estimate
from egost.results.leaderboard.rows import Cell, Details, Row
from egost.results.leaderboard.tables import Board, Leaderboard

_REVISION_SHOWN = 12
"""Characters of a commit or hash that are shown; CSV and JSON have all of them."""

HOW = (
    *("Run", "Scored", "Invalid", "Judge failed", "Judge", "Prompt", "Frames", "Engine", "Revision", "Date"),
    *("Text alone", "Where text fails", "Blind", "Both ways", "Circular"),
)
"""Headings of the table that says how each run was made."""


@dataclass(frozen=True, slots=True)
class Field:
    """One place of a table.

    text: words, or a figure; span: its interval, empty for none. best: to be set in bold. struck: refused, shown all
    the same. marks: of footnotes. hint: n scored of n, for formats that can show more.
    """

    text: str
    span: str = ""
    best: bool = False
    struck: bool = False
    marks: tuple[str, ...] = ()
    hint: str = ""


@dataclass(frozen=True, slots=True)
class Line:
    """A row as it is shown. published: from the paper. refused: no figure of it is comparable."""

    published: bool
    refused: bool
    fields: tuple[Field, ...]


@dataclass(frozen=True, slots=True)
class Sheet:
    """A table as it is shown. words: how many of its first columns hold words.

    how: rows below `HOW`, one for each run. footnotes: mark and text. left_out: why which runs are not shown.
    """

    title: str
    head: tuple[str, ...]
    words: int
    lines: tuple[Line, ...]
    how: tuple[tuple[str, ...], ...]
    footnotes: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]
    left_out: tuple[str, ...]


def sheet(board: Board) -> Sheet:
    """A table as texts; runs are numbered from 1 in their order."""
    marks: dict[str, str] = {}
    lines: list[Line] = []
    how: list[tuple[str, ...]] = []
    for row in board.rows:
        if row.details:
            how.append((str(len(how) + 1), *_how(row.details, row.date)))
        source = (
            f"run {len(how)}, {row.details.protocol}"
            if row.details
            else "a guess among the options"
            if row.origin == "chance"
            else " ".join(filter(None, ("paper", row.date)))
        )
        verdicts = row.details.without_seeing.verdicts if row.details else ()
        fields = (
            Field(row.model, marks=_marks((*row.notes, *verdicts), marks)),
            Field(source),
            *(Field(row.labels.get(name, "")) for name in board.labels),
            *(_figure(row.cells.get(column), marks) for column in board.columns),
        )
        lines.append(Line(row.origin == "published", bool(row.refused), fields))
    return Sheet(
        title=board.title,
        head=("Model", "From", *board.labels.values(), *board.columns.values()),
        words=2 + len(board.labels),
        lines=tuple(lines),
        how=tuple(how),
        footnotes=tuple((mark, text) for text, mark in marks.items()),
        notes=board.notes,
        left_out=tuple(_left_out(row) for row in board.left_out),
    )


def remarks(board: Leaderboard) -> Iterator[str]:
    """Remarks on the whole leaderboard: which runs are not shown, and which files could not be read."""
    if board.other_world:
        yield (
            f"Not shown, being of the other world: {', '.join(board.other_world)}. Figures of the mini world and of "
            "the benchmark never stand in one table: choose with --world, or see both by --all."
        )
    if board.replaced:
        yield f"Older runs of the same settings that newer ones replace: {board.replaced}."
    for unreadable in board.unreadable:
        yield f"Not read: {unreadable.reason}"


def _left_out(row: Row) -> str:
    details = ", ".join(filter(None, (*row.labels.values(), row.date)))
    return f"{row.model}{f' ({details})' if details else ''}: {'; '.join(row.refused)}"


def _figure(cell: Cell | None, marks: dict[str, str]) -> Field:
    if cell is None:
        return Field("")
    notes = _marks((*cell.refused, *cell.notes), marks)
    hint = "" if cell.n is None else f"{cell.n} of {cell.of} samples scored"
    if cell.percent is None:
        return Field("-", marks=notes, hint=hint)
    has_span = cell.low is not None and cell.high is not None and cell.low <= cell.high
    span = f"{cell.low:.1f}-{cell.high:.1f}" if has_span else ""
    return Field(f"{cell.percent:.1f}", span, cell.best, bool(cell.refused), notes, hint)


def _marks(texts: Sequence[str], marks: dict[str, str]) -> tuple[str, ...]:
    for text in texts:
        marks.setdefault(text, _letters(len(marks)))
    return tuple(sorted((marks[text] for text in texts), key=lambda mark: (len(mark), mark)))


def _letters(number: int) -> str:
    """a, b, ..., z, aa, ab, ..."""
    before = _letters(number // 26 - 1) if number >= 26 else ""
    return before + chr(ord("a") + number % 26)


def _how(details: Details, date: str) -> tuple[str, ...]:
    kind, colon, digits = details.revision.rpartition(":")
    found = details.without_seeing
    return (
        f"{details.scored} of {details.samples}",
        "" if details.invalid is None else f"{details.invalid:.1f} %",
        "" if details.judge_failed is None else str(details.judge_failed),
        details.judge,
        details.prompt,
        details.frames,
        details.engine,
        f"{kind}{colon}{digits[:_REVISION_SHOWN]}" or "not recorded",
        date,
        str(found.text or ""),
        f"{_estimate(found.not_solved)}, n {found.not_solved.n}" if found.not_solved else "",
        f"{_estimate(found.blind.control)}, gap {found.blind.gap.value:+.1f}" if found.blind else "",
        _both_ways(details.both_ways),
        _estimate(details.circular) if details.circular else "",
    )


def _both_ways(found: BothWays | None) -> str:
    chance = "" if found is None or math.isnan(found.chance) else f", a guess {found.chance:.1f}"
    return f"{found}{chance}" if found else ""


def _estimate(found: Estimate) -> str:
    return f"{found.value:.1f} ({found.low:.1f}-{found.high:.1f})"
