"""`egost judge agree`: how far people agree with each other, and each judge with people."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from egost.commands.front import console, says_what_to_do
from egost.tasks.cache import write_whole
from egost.tasks.errors import one_line


@says_what_to_do
def agree(
    labels: Annotated[Path, typer.Argument(help="The file of labels, beside the run that was labelled.")],
    runs: Annotated[
        list[Path],
        typer.Argument(help="That run, and copies of it that other judges scored.", metavar="RUN"),
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="The picture; the figures go beside it.", show_default="beside the labels"
        ),
    ] = None,
) -> None:
    """Say how far people agree with each other, and each judge with people, with intervals by clip.

    Several judges stand side by side, also those that voted in a run. Writes a picture and all figures as JSON.
    """
    from egost.results.labels.agreement import agreement, judges_of
    from egost.results.labels.agreement_report import HEADS, draw, lines, meaning, to_json
    from egost.results.labels.label_file import read_labels
    from egost.results.run import read_run

    found = agreement(read_labels(labels), judges_of([read_run(run) for run in runs]))
    table = Table(box=None, padding=(0, 1, 0, 0))
    for head in HEADS:
        table.add_column(head, justify="left" if head in HEADS[:2] else "right", no_wrap=True)
    for line in lines(found):
        table.add_row(*map(one_line, line))
    Console(width=160, markup=False).print(table)
    for sentence in meaning(found):
        console.print(sentence)
    picture = output or labels.with_name(f"{labels.stem.removesuffix('_labels')}_agreement.png")
    draw(found, picture)
    figures = picture.with_suffix(".json")
    write_whole(figures, json.dumps(to_json(found), indent=1, allow_nan=False).encode())
    console.print(f"written: {picture}, {figures}")
