"""`egost sweep`: how many frames are worth it."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from egost.commands.front import console, says_what_to_do, with_interval
from egost.commands.run import EngineOption, LimitOption, YesOption, evaluated, prepared
from egost.tasks.cache import write_whole

if TYPE_CHECKING:
    from egost.results.sweep import FrameCount


@says_what_to_do
def sweep(
    model: Annotated[str, typer.Argument(help="Short name (egost models), hub id, or folder.")],
    frames: Annotated[str, typer.Option(help="Numbers of frames, with commas between.")] = "1,2,4,8,16,32",
    tasks: Annotated[
        str | None, typer.Option(help="Tasks or groups; by default what the model is for.")
    ] = None,
    engine: EngineOption = None,
    judge: Annotated[str | None, typer.Option(help="Who judges the routes, as EGOST_JUDGE.")] = None,
    limit: LimitOption = None,
    revision: Annotated[str | None, typer.Option(help="Branch, tag or commit of a hub id.")] = None,
    output: Annotated[Path | None, typer.Option(help="Folder; by default runs/MODEL-frames.")] = None,
    base_url: Annotated[
        str | None, typer.Option(help="URL of a server that was started for the most of these frames.")
    ] = None,
    yes: YesOption = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only print the commands and what is missing.")
    ] = False,
) -> None:
    """Run a model at several numbers of frames: one table and one plot of score against frames, with paired gains.

    Each number is a run of its own in the folder; the same command again goes on where it was stopped. Figures of
    other numbers than 8 never stand beside published ones.
    """
    from egost.model_adapters.model_names import EMBEDDED, model_named
    from egost.model_adapters.run_plan import RunOptions, plan_run
    from egost.results.sweep import as_json, draw
    from egost.results.sweep import sweep as swept
    from egost.tasks.clips.protocols import DEFAULT_PROTOCOL, frame_counts, parse_protocol

    counts = frame_counts(frames, "--frames")
    named = model_named(model, revision)
    base = parse_protocol(os.environ.get("EGOST_PROTOCOL") or named.protocol or DEFAULT_PROTOCOL)
    folder = output or Path("runs") / f"{named.name}-frames"
    asked_by = engine.value if engine else None
    if asked_by is None and named.name in EMBEDDED and any(count % 2 for count in counts):
        # lmms-eval's own adapters, which the package's checkpoints are asked by otherwise, show even numbers alone.
        asked_by = "transformers"
    options = {
        count: RunOptions(
            tasks=tasks or named.tasks,
            engine=asked_by,
            limit=limit,
            output=folder / f"uniform{count}",
            base_url=base_url,
            settings={
                "EGOST_PROTOCOL": replace(base, sampling=f"uniform{count}").name,
                "EGOST_FRAME_COUNTS": ",".join(map(str, counts)),
                **({"EGOST_JUDGE": judge} if judge else {}),
            },
        )
        for count in counts
    }
    if not prepared([(named, each) for each in options.values()], yes=yes, dry_run=dry_run):
        return
    rows = swept({count: evaluated(plan_run(named, each, os.environ)) for count, each in options.items()})
    Console(width=120).print(_table(rows))
    write_whole(folder / "sweep.json", as_json(rows).encode())
    draw(rows, f"{named.name}: score against frames of a clip", folder / "sweep.png")
    console.print(f"figures: {folder / 'sweep.json'}")
    console.print(f"plot: {folder / 'sweep.png'}")


def _table(rows: list[FrameCount]) -> Table:
    from egost.results.intervals import p_text

    table = Table(box=None, padding=(0, 1, 0, 0))
    for name in (
        "frames",
        "score (95 % interval)",
        "gain over fewer",
        "p",
        "won",
        "lost",
        "scored",
        "unscored",
    ):
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(
            str(row.frames),
            with_interval(row.score),
            with_interval(row.gain, "+") if row.gain else "",
            p_text(row.gain.p_value) if row.gain else "",
            *(map(str, (row.gain.wins, row.gain.losses)) if row.gain else ("", "")),
            *map(str, (row.score.n, row.score.unscored)),
        )
    return table
