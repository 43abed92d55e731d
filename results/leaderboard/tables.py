"""The tables: published rows and runs together, what is best, in which order, and what is left out.

found = find_entries([Path("runs")])
board = leaderboard(found, tables=(1,))
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from egost.results.leaderboard.entries import Entry, Found, Unreadable
from egost.results.leaderboard.rows import OWN_PROTOCOL, Cell, Row, chance_row, published_row, rows_of_run
from egost.results.leaderboard.rules import Column, whole_release
from egost.results.published_tables import PublishedTable, TableNumber, published_table
from egost.results.run_header import RunError
from egost.tasks.release import BENCHMARK, release_name
from egost.tasks.sample import World

LABELS: Mapping[TableNumber, Mapping[str, str]] = {
    1: {},
    2: {"best": "Best part"},
    3: {"training": "Trained/tested"},
    4: {"train": "Train", "test": "Test"},
}
"""Headings of the columns of words."""

_ORDERS = ("paper", "model", "date")


@dataclass(frozen=True, slots=True)
class Board:
    """One table. columns, labels: headings of the figures and of the words, by name.

    left_out: rows that are refused and not shown. notes: what holds for the whole table.
    """

    number: TableNumber
    world: World
    title: str
    columns: Mapping[str, str]
    labels: Mapping[str, str]
    rows: tuple[Row, ...]
    left_out: tuple[Row, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Leaderboard:
    """All tables that were asked for. other_world: models of the runs that are not shown, being of the other world.

    replaced: runs left out for a newer one of the same settings.
    """

    boards: tuple[Board, ...]
    unreadable: tuple[Unreadable, ...]
    other_world: tuple[str, ...]
    replaced: int


def leaderboard(
    found: Found,
    *,
    tables: Sequence[TableNumber],
    world: World = "official",
    show_all: bool = False,
    sort: str = "paper",
    published_as: Mapping[str, str] | None = None,
) -> Leaderboard:
    """The tables of a world; with `show_all` those of the other world behind them, and all that is refused.

    sort: `paper` (published rows as printed, a run below the row of its model), `model`, `date` (newest first), or a
    column, highest first. published_as: name in the paper's tables by model, in lower case.
    Raises RunError for an unknown column.
    """
    columns = {column: None for number in tables for column in published_table(number).columns}
    if sort not in columns and sort not in _ORDERS:
        raise RunError(
            f"table {', '.join(map(str, tables))} cannot be sorted by '{sort}'; expected one of "
            f"{', '.join([*_ORDERS, *columns])}."
        )
    other: World = "mini" if world == "official" else "official"
    boards = _boards(world, found.entries, tables, show_all)
    if show_all:
        boards += [board for board in _boards(other, found.entries, tables, show_all) if _has_runs(board)]
    hidden = [] if show_all else [entry.model for entry in found.entries if entry.world == other]
    return Leaderboard(
        boards=tuple(replace(b, rows=_ordered(b, sort, published_as or {})) for b in boards),
        unreadable=found.unreadable,
        other_world=tuple(hidden),
        replaced=found.replaced,
    )


def _boards(
    world: World, entries: Iterable[Entry], tables: Sequence[TableNumber], show_all: bool
) -> list[Board]:
    ours = [entry for entry in entries if entry.world == world]
    if world == "official":
        newest = max(
            (e for e in ours if release_name(world, e.release) == BENCHMARK),
            key=lambda e: (e.date, e.release_sha256),
            default=None,
        )
        release = (newest.release_sha256, newest.release) if newest else ("", "")
        papers = [_board(number, ours, release, world, show_all) for number in tables]
        own = [
            e for e in ours if release_name(world, e.release) != BENCHMARK and e.release_sha256 != release[0]
        ]
        return papers + _of_each_release(own, tables, world, show_all)
    return _of_each_release(ours, tables, world, show_all)


def _of_each_release(
    ours: Sequence[Entry], tables: Sequence[TableNumber], world: World, show_all: bool
) -> list[Board]:
    """Tables of the runs on releases that are not the paper's, each release by itself."""
    # Mini worlds of different seeds ask different questions. Table 4 is of sources, of which they have none.
    releases = sorted({(e.release, e.release_sha256) for e in ours})
    boards = [
        _board(number, [e for e in ours if e.release_sha256 == sha256], (sha256, name), world, show_all)
        for name, sha256 in releases
        for number in tables
        if number != 4
    ]
    return [board for board in boards if _has_runs(board) or board.left_out]


def _board(
    number: TableNumber, entries: Sequence[Entry], release: tuple[str, str], world: World, show_all: bool
) -> Board:
    table = published_table(number)
    whole = whole_release(e for e in entries if e.release_sha256 == release[0])
    own = world == "official" and bool(release[0]) and release_name(world, release[1]) != BENCHMARK
    judged = [e for e in entries if e.judge]
    judge = max(judged, key=lambda e: e.date).judge if own and judged else None
    column = Column(number, world, release, whole, judge, own)
    runs = [row for entry in entries for row in rows_of_run(entry, table, column, show_all)]
    if world == "official" and not own:
        others = [published_row(row, table) for row in table.rows]
    else:
        others = [chance_row(entries, table)] if own else []
    title = f"Table {number}. {table.title}"
    form = f"{release_name(world, release[1])} ({release[1]}), in the form of {title}"
    return Board(
        number=number,
        world=world,
        title=form[:1].upper() + form[1:] if own or world == "mini" else title,
        columns=table.columns,
        labels=LABELS[number],
        rows=_with_best([*others, *(row for row in runs if show_all or not row.refused)], table),
        left_out=() if show_all else tuple(row for row in runs if row.refused),
        notes=tuple(_notes(table, world, bool(runs), own)),
    )


def _has_runs(board: Board) -> bool:
    return any(row.origin == "run" for row in board.rows)


def _with_best(rows: Sequence[Row], table: PublishedTable) -> tuple[Row, ...]:
    """Mark the best figure of each column, in Table 4 of each test set; none where its interval meets another's."""
    cells = [dict(row.cells) for row in rows]
    for column in table.columns:
        for test in {row.labels.get("test") for row in rows}:
            places = [
                k
                for k, row in enumerate(rows)
                if row.labels.get("test") == test
                and (cell := row.cells.get(column))
                and cell.percent is not None
                and not cell.refused
                and row.origin != "chance"
            ]
            ordered = sorted(places, key=lambda k: rows[k].cells[column].percent or 0.0)
            if len(ordered) > 1 and all(
                _is_above(rows[ordered[-1]].cells[column], rows[k].cells[column]) for k in ordered[:-1]
            ):
                cells[ordered[-1]][column] = replace(cells[ordered[-1]][column], best=True)
    return tuple(replace(row, cells=own) for row, own in zip(rows, cells, strict=True))


def _is_above(a: Cell, b: Cell) -> bool:
    """Whether a figure is above another with no overlap; a published one counts as a point."""
    lowest, highest = a.low if a.low is not None else a.percent, b.high if b.high is not None else b.percent
    return lowest is not None and highest is not None and lowest > highest


def _ordered(board: Board, sort: str, published_as: Mapping[str, str]) -> tuple[Row, ...]:
    rows = sorted(board.rows, key=lambda row: row.model.casefold())
    if sort == "model":
        return tuple(rows)
    if sort == "date":
        return tuple(sorted(rows, key=lambda row: row.date, reverse=True))
    if sort in board.columns:
        return tuple(sorted(rows, key=lambda row: -_shown(row, sort)))
    headline = next(iter(board.columns)) if board.number < 4 else "avg_forward"
    runs = sorted((r for r in rows if r.origin == "run"), key=lambda row: -_shown(row, headline))
    runs.sort(key=lambda row: row.details is None or row.details.protocol == OWN_PROTOCOL)
    placed: list[Row] = []
    printed = [r for r in board.rows if r.origin != "run"]
    for k, published in enumerate(printed):
        placed.append(published)
        if any(
            later.model == published.model and later.labels.get("test") == published.labels.get("test")
            for later in printed[k + 1 :]
        ):
            continue  # Table 3 has ST-R1 once for each number of rows; the released checkpoint is the last.
        placed += [
            run
            for run in runs
            if run not in placed
            and published_as.get(run.model.casefold()) == published.model
            and run.labels.get("test") == published.labels.get("test")
        ]
    return (*placed, *(run for run in runs if run not in placed))


def _shown(row: Row, column: str) -> float:
    cell = row.cells.get(column)
    return -1.0 if cell is None or cell.percent is None or cell.refused else cell.percent


def _notes(table: PublishedTable, world: World, has_runs: bool, own: bool) -> Iterable[str]:
    if own:
        yield "Runs on a release that is not the paper's: its figures cannot be compared with published figures."
    elif world == "official":
        yield f"Published rows are copied from {table.source}, and have no intervals."
        if days := sorted({row.tested for row in table.rows if row.tested}):
            yield f"Its closed models were asked on {', '.join(days)}."
    else:
        yield "The mini world's figures say nothing of the benchmark; they cannot be compared with published figures."
    if has_runs:
        yield "Ranges behind the figures of runs are 95 % intervals over clips."
        yield (
            "Bold: highest of its column, where its interval meets no other figure or interval."
            + (" In Table 4, of each test set." if table.number == 4 else "")
        )
    if has_runs and world == "official" and not own:
        yield "Prompts are this project's own; the paper's, 'the default cue for each model', are not published."
        if table.number < 3:
            yield "Which snapshot of gpt-4o judged the paper's routes is not known."
