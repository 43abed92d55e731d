"""`egost summary`: the figures of a run."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from egost.commands.front import console, marked, says_what_to_do
from egost.commands.show import print_set_apart
from egost.tasks.errors import one_line

if TYPE_CHECKING:
    from egost.results.run import Run


@says_what_to_do
def summary(run: Annotated[Path, typer.Argument(help="An --output_path of lmms-eval.")]) -> None:
    """Show the figures of the newest run in a folder.

    Exit code 2 when the run did not finish, 1 when more of a task's samples are unscored than the task allows.
    """
    from egost.results.run import read_run

    found = read_run(run)
    for name, value in found.settings.items():
        console.print(one_line(f"{name}: {value}"))
    table = Table(box=None, padding=(0, 1, 0, 0))
    for name in ("task or group", "percent", "compat", "chance", "Avg.(ST)", "scored", "unscored"):
        table.add_column(name, justify="left" if name.startswith("task") else "right", no_wrap=True)
    for row in found.figures:
        numbers = [row.percent, row.compat, row.chance, row.spatiotemporal]
        table.add_row(
            Text(row.name, "bold" if row.is_group else ""),
            *["" if n is None or math.isnan(n) else f"{n:.1f}" for n in numbers],
            *["" if n is None else str(n) for n in (row.scored, row.unscored)],
        )
    console.print(table)
    for name, made in found.own_tasks.items():
        percent = found.results["results"].get(name, {}).get("percent,none")
        figure = f", percent {percent:.1f}" if isinstance(percent, float) else ""
        console.print(marked("not comparable", one_line(f"{name}: {made}{figure}"), "yellow"))
    if found.samples_files:
        _print_of_samples(found)
    console.print(f"results: {found.results_file}")
    for path in found.samples_files:
        console.print(f"samples: {path}")
    if bad := [row.name for row in found.figures if not row.publishable]:
        console.print(
            marked(
                "Not to be published,",
                f"too many samples are unscored: {', '.join(bad)}. The reasons are in the samples; what only the judge "
                "failed on can be judged again: egost judge RUN",
            )
        )
        raise typer.Exit(1)


def _print_of_samples(run: Run) -> None:
    """What the samples say that is in no figure."""
    from egost.results.run_header import RunError

    try:
        print_set_apart(run)
        replaced = [r.generation.replaced for r in run.records if r.generation and r.generation.replaced]
    except RunError as error:
        console.print(f"The figures are shown, the samples cannot be used: {error}")
        return
    if replaced:
        console.print(
            f"{len(replaced)} responses held {sum(replaced)} halves of surrogate pairs, which are U+FFFD in the "
            "samples."
        )
