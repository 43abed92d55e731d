"""`egost construct`: build a benchmark of the same kind from first-person videos."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from egost_commands.front import Workers, console, says_what_to_do

construct_app = typer.Typer(
    help="Build such a benchmark from videos: clips, annotate, questions, calibrate, publish.",
    no_args_is_help=True,
)

Out = Annotated[Path, typer.Argument(help="Working folder of the construction.")]


@construct_app.command()
@says_what_to_do
def clips(
    spec: Annotated[
        Path, typer.Argument(help="CSV or JSON: file, start, end, source, scene; also licence, name.")
    ],
    out: Out,
    workers: Workers = None,
) -> None:
    """Cut the videos into clips of one form, on all cores; run it again to go on (exit code 1 when one fails)."""
    from egost_tasks.construction.clip_step import build_clips, lengths
    from egost_tasks.construction.length_plot import write_length_plot
    from egost_tasks.construction.workfolder import WorkFolder

    folder = WorkFolder(out)
    rows, failures = build_clips(folder, spec, workers=workers)
    for failure in failures:
        console.print(f"[red]{failure.reason}[/] {failure.clip}: {failure.message}", soft_wrap=True)
    if rows:
        table = Table("source", "clips", "shortest s", "median s", "longest s", "all min")
        for found in lengths(rows):
            figures = (found.shortest, found.median, found.longest, found.total / 60)
            table.add_row(found.source, str(found.clips), *(f"{figure:.1f}" for figure in figures))
        console.print(table)
        write_length_plot(rows, folder.lengths_plot)
        console.print(f"plot: {folder.lengths_plot}", soft_wrap=True, highlight=False)
    console.print(f"{len(rows)} of {len(rows) + len(failures)} clips in {folder.clip_folder}", soft_wrap=True)
    raise typer.Exit(1 if failures else 0)


@construct_app.command()
@says_what_to_do
def annotate(
    out: Out,
    import_: Annotated[
        Path, typer.Option("--import", help="CSV or JSON of annotations that were made elsewhere.")
    ],
) -> None:
    """Take annotated routes into the working folder, all of a file or none."""
    from egost_tasks.construction.annotation_import import import_annotations
    from egost_tasks.construction.workfolder import WorkFolder

    folder = WorkFolder(out)
    imported = import_annotations(folder, import_)
    done = {annotation.clip for annotation in folder.annotations.all()}
    console.print(
        f"imported: {len(imported)} annotations; {len(done)} of {len(folder.clips())} clips are annotated"
    )
