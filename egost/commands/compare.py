"""`egost compare`: two runs side by side."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from egost.commands.front import console, marked, says_what_to_do
from egost.tasks.cache import write_whole
from egost.tasks.errors import one_line

if TYPE_CHECKING:
    from egost.results.compare import Comparison, Flip

_SHOWN = 20


@says_what_to_do
def compare(
    run_a: Annotated[Path, typer.Argument(help="An --output_path of lmms-eval, or a results file.")],
    run_b: Annotated[Path, typer.Argument(help="Another; the difference is B - A.")],
    task: Annotated[
        list[str] | None, typer.Option(help="This task alone; may be given several times.")
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Compare runs that were not made alike, too.")
    ] = False,
    show_all: Annotated[bool, typer.Option("--all", help=f"List all flips, not the first {_SHOWN}.")] = False,
    output: Annotated[
        Path | None, typer.Option(help="File to write: .csv for the flips, .json for everything.")
    ] = None,
) -> None:
    """Compare two runs sample by sample: difference, 95 % interval over clips, p-value, samples won and lost, flips.

    Refuses runs that differ in more than their model (release, frames, prompt, judge, version, ...), and says in what.
    """
    from egost.results.compare import as_json, flips_as_csv
    from egost.results.compare import compare as compared
    from egost.results.run import read_run
    from egost.results.run_header import RunError

    if output is not None and output.suffix not in (".csv", ".json"):
        raise RunError(f"--output {output}: expected a name that ends with .csv (flips) or .json (all).")
    a, b = read_run(run_a), read_run(run_b)
    for run in (a, b):
        run.check_figures()
    found = compared(a, b, task or (), force=force)
    for name, run in (("A", a), ("B", b)):
        console.print(f"{name}: {run.results_file}")
    for one in found.unlike:
        console.print(marked("unlike", str(one)))
    console.print(_table(found))
    if found.alone_a or found.alone_b:
        console.print(
            f"Not counted: {found.alone_a} samples that A alone was asked, {found.alone_b} that B alone was."
        )
    _print_flips(found, len(found.flips) if show_all else _SHOWN)
    if output is not None:
        text = as_json(found) if output.suffix == ".json" else flips_as_csv(found)
        write_whole(output, text.encode())
        console.print(f"written: {output}")


def _table(found: Comparison) -> Table:
    from egost.results.intervals import p_text

    table = Table(box=None, padding=(0, 1, 0, 0))
    for name in ("task", "A", "B", "B - A (95 % interval)", "p", "won", "lost", "same", "clips"):
        table.add_column(name, justify="left" if name == "task" else "right")
    for row in found.rows:
        gap = row.difference
        interval = "not known" if math.isnan(gap.low) else f"{gap.low:+.1f} to {gap.high:+.1f}"
        name = re.sub("^egost_(mini_)?", "", row.name)
        table.add_row(
            Text(name, "" if len(row.tasks) == 1 else "bold"),
            *[_number(row.a), _number(row.b), f"{_number(gap.value, '+')} ({interval})"],
            p_text(gap.p_value),
            *[str(n) for n in (gap.wins, gap.losses, gap.ties, gap.clips)],
        )
    return table


def _print_flips(found: Comparison, limit: int) -> None:
    if not found.flips:
        console.print("No sample is scored unlike.")
        return
    console.print(f"{len(found.flips)} samples are scored unlike:")
    for flip in found.flips[:limit]:
        console.print(_shown(flip))
    if len(found.flips) > limit:
        console.print(
            f"... and {len(found.flips) - limit} more: --all lists them, --output FILE.csv writes them."
        )


def _shown(flip: Flip) -> Text:
    color = "green" if flip.gap > 0 else "red" if flip.gap < 0 else "yellow"
    before, after = ("unscored" if value is None else f"{value:.0f}" for value in (flip.before, flip.after))
    reason = f"({flip.unscored}) " if flip.unscored else ""
    return marked(f"  {before} -> {after}", one_line(f"{reason}{flip.sample} {flip.clip}"), color)


def _number(value: float, sign: str = "") -> str:
    return "" if math.isnan(value) else f"{value:{sign}.1f}"
