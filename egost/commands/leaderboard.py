"""`egost leaderboard`: the paper's tables with runs among the published rows."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from egost.commands.front import say, says_what_to_do
from egost.tasks.cache import write_whole


class Format(StrEnum):
    md = "md"
    csv = "csv"
    tex = "tex"
    html = "html"
    json = "json"
    hub = "hub"


class World(StrEnum):
    official = "official"
    mini = "mini"


def paper_rows() -> dict[str, str]:
    """Name in the paper's tables by model, in lower case."""
    from egost.model_adapters.known_models import known_models

    return {
        name.casefold(): model.paper_row
        for model in known_models().models
        if model.paper_row
        for name in (model.model, model.model.rpartition("/")[2], model.name)
    }


@says_what_to_do
def leaderboard(
    runs: Annotated[
        list[Path] | None,
        typer.Argument(help="Folders with results of lmms-eval; without one, the paper's tables alone."),
    ] = None,
    form: Annotated[
        Format | None,
        typer.Option(
            "--format",
            help="Form; by default that of the name after -o, else md. hub: .eval_results/*.yaml of a model.",
        ),
    ] = None,
    table: Annotated[
        list[int] | None,
        typer.Option(min=1, max=4, help="1, 2, 3 or 4; may be given several times; all by default."),
    ] = None,
    world: Annotated[
        World,
        typer.Option(help="mini: runs on the mini world, in tables of their own."),
    ] = World.official,
    show_all: Annotated[
        bool, typer.Option("--all", help="Show refused figures as well, struck out, and runs of both worlds.")
    ] = False,
    sort: Annotated[
        str,
        typer.Option(help="paper, model, date, or a column of the table such as avg_total (highest first)."),
    ] = "paper",
    output: Annotated[Path | None, typer.Option("--output", "-o", help="File to write to.")] = None,
) -> None:
    """Show the paper's Tables 1 to 4 with your runs among the published rows.

    A figure is shown only if it can be compared; the reasons for all others are listed.
    """
    from egost.results.leaderboard.entries import find_entries
    from egost.results.leaderboard.formats import format_of, written
    from egost.results.leaderboard.tables import leaderboard as tables_with
    from egost.results.published_tables import TABLES

    board = tables_with(
        find_entries(runs or []),
        tables=[number for number in TABLES if not table or number in table],
        world=world.value,
        show_all=show_all,
        sort=sort,
        published_as=paper_rows(),
    )
    text = written(board, (form and form.value) or (output and format_of(output)) or "md")
    if output is None:
        say(text, end="")
    else:
        write_whole(output, text.encode())
        say(f"written: {output}")
