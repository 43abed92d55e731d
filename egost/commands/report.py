"""`egost report`: a run, or two side by side, as one HTML file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import typer

from egost.commands.front import console, marked, says_what_to_do
from egost.tasks.cache import cache_root, write_whole
from egost.tasks.errors import EgostError


@says_what_to_do
def report(
    run: Annotated[Path, typer.Argument(help="An --output_path of lmms-eval, saved with --log_samples.")],
    run_b: Annotated[
        Path | None, typer.Argument(help="Another run, to be shown next to the first; flips come first.")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o", "--output", help="The file to write.", show_default="report.html; index.html with --index"
        ),
    ] = None,
    index: Annotated[
        bool,
        typer.Option(
            "--index",
            help="Write a report next to each run of the folder, and one page that leads to them.",
        ),
    ] = False,
    frames_mb: Annotated[
        float, typer.Option(help="Megabytes of frames in the file; the frames get smaller to fit.", min=0)
    ] = 7.5,
) -> None:
    """Write a report with all figures and a browser of all samples: one file that opens without a network.

    Frames come from the cache (EGOST_CACHE), where the run left them.
    """
    from egost.results.report.page import report_page
    from egost.results.run import read_run

    output = output or Path("index.html" if index else "report.html")
    if index:
        _write_index(run, output, round(frames_mb * 1e6))
        return
    runs = [read_run(path) for path in (run, run_b) if path]
    page = report_page(runs, cache_root(), round(frames_mb * 1e6))
    write_whole(output, page.html)
    absent = f"; {page.absent} clips are without frames, each says why" if page.absent else ""
    console.print(
        f"{output}: {len(page.html) / 1e6:.1f} MB, {page.samples} samples, {page.clips} clips with frames up to "
        f"{page.width} pixels wide{absent}",
    )


def _write_index(folder: Path, output: Path, frames_limit: int) -> None:
    """Write a report next to each run of a folder that has none of its own yet, and the page that leads to them."""
    from egost.results.report.page import index_page, index_row, report_page
    from egost.results.run import read_run
    from egost.results.run_header import RunError

    rows: list[dict[str, Any]] = []
    unreadable: list[str] = []
    files = sorted(folder.rglob("*_results.json"))
    for file in files:
        page = file.with_name(f"{file.name.removesuffix('_results.json')}_report.html")
        try:
            one = read_run(file)
            if not page.is_file() or page.stat().st_mtime_ns < file.stat().st_mtime_ns:
                write_whole(page, report_page([one], cache_root(), frames_limit).html)
            link = quote(os.path.relpath(page, output.parent).replace(os.sep, "/"))
            # Made here, so that a run that cannot be shown costs its own line alone.
            rows.append(index_row(one, link))
        except EgostError as error:
            unreadable.append(str(error))
    if not rows:
        raise RunError(f"{folder} holds no run that can be shown. {' '.join(unreadable)}".rstrip())
    write_whole(output, index_page(rows, unreadable))
    console.print(f"{output}: {len(rows)} runs, each with a report next to it")
    for reason in unreadable:
        console.print(marked("not read:", reason))
