"""`egost report`: a run, or two side by side, as one HTML file."""

from __future__ import annotations

import os
from dataclasses import replace
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
    publish: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Write that page, the leaderboard and all reports into a folder of their own, to be served.",
        ),
    ] = None,
    frames_mb: Annotated[
        float, typer.Option(help="Megabytes of frames in the file; the frames get smaller to fit.", min=0)
    ] = 7.5,
) -> None:
    """Write a report with all figures and a browser of all samples: one file that opens without a network.

    Frames come from the cache (EGOST_CACHE), where the run left them.
    """
    from egost.results.report.page import report_page
    from egost.results.run import read_run

    if publish and (output or run_b):
        raise typer.BadParameter("it takes one folder of runs and no --output", param_hint="--publish")
    output = output or (publish / "index.html" if publish else Path("index.html" if index else "report.html"))
    if index or publish:
        _write_index(run, output, round(frames_mb * 1e6), publish)
        return
    runs = [read_run(path) for path in (run, run_b) if path]
    page = report_page(runs, cache_root(), round(frames_mb * 1e6))
    write_whole(output, page.html)
    absent = f"; {page.absent} clips are without frames, each says why" if page.absent else ""
    console.print(
        f"{output}: {len(page.html) / 1e6:.1f} MB, {page.samples} samples, {page.clips} clips with frames up to "
        f"{page.width} pixels wide{absent}",
    )


def _write_index(folder: Path, output: Path, frames_limit: int, publish: Path | None) -> None:
    """Write the page that leads to a report of each run, and the reports that are not there yet or are older.

    They lie next to the runs, or all in the folder `publish` with the leaderboard.
    """
    from egost.results.report.page import index_page, index_row, report_page
    from egost.results.run import read_run
    from egost.results.run_header import RunError

    rows: list[dict[str, Any]] = []
    unreadable: list[str] = []
    files = sorted(folder.rglob("*_results.json")) if folder.is_dir() else [folder]
    for file in files:
        page = file.with_name(f"{file.name.removesuffix('_results.json')}_report.html")
        if publish:
            # As the runs lie to each other: two of them may have files of one name.
            page = publish / "reports" / page.relative_to(folder if folder.is_dir() else folder.parent)
        try:
            one = read_run(file)
            if not page.is_file() or page.stat().st_mtime_ns < file.stat().st_mtime_ns:
                write_whole(page, report_page([one], cache_root(), frames_limit).html)
            link = quote(os.path.relpath(page, output.parent).replace(os.sep, "/"))
            # Made here, so that a run that cannot be shown costs its own line alone.
            rows.append(index_row(one, link))
        except EgostError as error:
            # What is published names no folder of this machine.
            unreadable.append(str(error).replace(f"{folder}{os.sep}", "") if publish else str(error))
    if not rows:
        raise RunError(f"{folder} holds no run that can be shown. {' '.join(unreadable)}".rstrip())
    boards = _write_leaderboards(folder, publish) if publish else []
    write_whole(output, index_page(rows, unreadable, boards))
    where = f"its report in {publish / 'reports'}" if publish else "a report next to it"
    console.print(f"{output}: {len(rows)} runs, each with {where}")
    for reason in unreadable:
        console.print(marked("not read:", reason))


def _write_leaderboards(folder: Path, publish: Path) -> list[tuple[str, str]]:
    """Write the leaderboard of each world that the runs are of; give title and file name of each.

    Only comparable figures are published; each page lists why others are not.
    """
    from egost.commands.leaderboard import paper_rows
    from egost.results.leaderboard.entries import find_entries
    from egost.results.leaderboard.formats import written
    from egost.results.leaderboard.tables import leaderboard
    from egost.results.published_tables import TABLES

    found = find_entries([folder])
    pages: list[tuple[str, str]] = []
    for world, title, name in (
        ("official", "Leaderboard", "leaderboard.html"),
        ("mini", "Leaderboard of the mini world", "leaderboard-mini.html"),
    ):
        ours = replace(found, entries=tuple(entry for entry in found.entries if entry.world == world))
        if ours.entries:
            board = leaderboard(ours, tables=TABLES, world=ours.entries[0].world, published_as=paper_rows())
            write_whole(publish / name, written(board, "html").encode())
            pages.append((title, name))
    return pages
