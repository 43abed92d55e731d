"""`egost report`: a run, or two side by side, as one HTML file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from egost.commands.front import console, says_what_to_do
from egost.tasks.cache import cache_root, write_whole


@says_what_to_do
def report(
    run: Annotated[Path, typer.Argument(help="An --output_path of lmms-eval, saved with --log_samples.")],
    run_b: Annotated[
        Path | None, typer.Argument(help="Another run, to be shown next to the first; flips come first.")
    ] = None,
    output: Annotated[Path, typer.Option("-o", "--output", help="The file to write.")] = Path("report.html"),
    frames_mb: Annotated[
        float, typer.Option(help="Megabytes of frames in the file; the frames get smaller to fit.", min=0)
    ] = 24.0,
) -> None:
    """Write a report with all figures and a browser of all samples: one file that opens without a network.

    Frames come from the cache (EGOST_CACHE), where the run left them.
    """
    from egost.results.report.page import report_page
    from egost.results.run import read_run

    runs = [read_run(path) for path in (run, run_b) if path]
    page = report_page(runs, cache_root(), round(frames_mb * 1e6))
    write_whole(output, page.html)
    absent = f"; {page.absent} clips are without frames, each says why" if page.absent else ""
    console.print(
        f"{output}: {len(page.html) / 1e6:.1f} MB, {page.samples} samples, {page.clips} clips with frames up to "
        f"{page.width} pixels wide{absent}",
    )
