"""`egost rescore`: a saved run's responses read again by the task version of today."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from egost.commands.front import console, says_what_to_do
from egost.commands.summary import summary


@says_what_to_do
def rescore(
    run: Annotated[Path, typer.Argument(help="An --output_path of lmms-eval, saved with --log_samples.")],
) -> None:
    """Read a run's saved responses again, without the model, and write new results next to the old ones.

    Needed where a run is of an older task version. Routes whose description is read differently stay unscored until
    egost judge scores them.
    """
    from egost.results.rejudge import rescore as read_again
    from egost.results.run import read_run

    found = read_run(run)
    before = {header.version for header in found.header.tasks.values()}
    written, moved = read_again(found)
    versions = ", ".join(sorted(map(str, before)))
    console.print(f"task version {versions} -> {next(iter(read_run(written).header.tasks.values())).version}")
    console.print(f"{len(moved)} of {len(found.records)} samples have another score{':' if moved else '.'}")
    for sample in moved:
        console.print(f"  {sample}")
    console.print(f"written: {written}")
    summary(written)
