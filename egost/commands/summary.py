"""`egost summary`: the figures of a run."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from egost.commands.front import console, marked, says_what_to_do
from egost.commands.show import print_set_apart
from egost.tasks.errors import one_line

if TYPE_CHECKING:
    from egost.results.intervals import Estimate
    from egost.results.run import Run


@says_what_to_do
def summary(
    run: Annotated[Path, typer.Argument(help="An --output_path of lmms-eval, or a results file.")],
    all_figures: Annotated[
        bool, typer.Option("--all", help="Every figure that is recorded, also compat.")
    ] = False,
) -> None:
    """Show the figures of the newest run in a folder, with their 95 % intervals.

    Exit code 2 when the run did not finish, 1 when more of a task's samples are unscored than the task allows.
    What made the figures: egost show.
    """
    from egost.results.run import read_run
    from egost.results.run_header import RunError

    found = read_run(run)
    for name, value in found.settings.items():
        console.print(one_line(f"{name}: {value}"))
    estimates: dict[str, Estimate] = {}
    damage = None
    if found.samples_files:
        try:
            estimates = _estimates(found)
        except RunError as error:
            damage = error
    Console(width=120).print(_figures(found, estimates, all_figures))
    if all_figures:
        console.print(_all_figures(found))
    for name, made in found.own_tasks.items():
        percent = found.results["results"].get(name, {}).get("percent,none")
        figure = f", percent {percent:.1f}" if isinstance(percent, float) else ""
        console.print(marked("not comparable", one_line(f"{name}: {made}{figure}"), "yellow"))
    if damage:
        console.print(f"The figures are shown, the samples cannot be used: {damage}")
    elif found.samples_files:
        _print_of_samples(found, estimates)
    if sent := found.sent_mb:
        console.print(f"sent to the servers: {sent:,.1f} MB of questions and frames")
    console.print(f"results: {found.results_file}")
    for path in found.samples_files:
        console.print(f"samples: {path}")
    if bad := [row.name for row in found.figures if not row.publishable]:
        console.print(
            marked(
                "Not to be published,",
                f"too many samples are unscored: {', '.join(bad)}. What only the judge failed on can be judged again: "
                "egost judge RUN",
            )
        )
        raise typer.Exit(1)


def _estimates(run: Run) -> dict[str, Estimate]:
    """The interval of each task. Raises RunError where the samples cannot be read."""
    from egost.results.intervals import estimate

    records = run.records
    return {name: estimate([r for r in records if r.task == name]) for name in run.header.tasks}


def _figures(run: Run, estimates: dict[str, Estimate], all_figures: bool) -> Table:
    rows = run.figures
    columns = {
        "percent": [_number(row.percent) for row in rows],
        "interval": [_interval(estimates.get(row.name)) for row in rows],
        "compat": [_number(row.compat) for row in rows],
        "chance": [_number(row.chance) for row in rows],
        "Avg.(ST)": [_number(row.spatiotemporal) for row in rows],
        "scored": ["" if row.scored is None else str(row.scored) for row in rows],
        "unscored": ["" if row.unscored is None else str(row.unscored) for row in rows],
    }
    if columns["compat"] == columns["percent"] and not all_figures:
        del columns["compat"]
    for name in ("interval", "chance", "Avg.(ST)"):
        if not any(columns[name]):
            del columns[name]
    table = Table(box=None, padding=(0, 1, 0, 0))
    table.add_column("task or group", no_wrap=True)
    for name in columns:
        table.add_column(name, justify="right", no_wrap=True)
    for row, *cells in zip(rows, *columns.values(), strict=True):
        table.add_row(Text(row.name, "bold" if row.is_group else ""), *cells)
    return table


def _all_figures(run: Run) -> Table:
    """Each recorded figure of each task, as lmms-eval names it, without their standard errors."""
    table = Table(box=None, padding=(0, 1, 0, 0))
    for name in ("task or group", "figure", "value"):
        table.add_column(name, justify="right" if name == "value" else "left", no_wrap=True)
    for row in run.figures:
        for key, value in sorted(run.results["results"][row.name].items()):
            metric, comma, _ = key.partition(",")
            if comma and "_stderr" not in metric and isinstance(value, (int, float)):
                table.add_row(row.name, metric, "not known" if math.isnan(value) else f"{value:.6g}")
    return table


def _number(value: float | None) -> str:
    return "" if value is None or math.isnan(value) else f"{value:.1f}"


def _interval(found: Estimate | None) -> str:
    return "" if found is None or math.isnan(found.low) else f"{found.low:.1f}-{found.high:.1f}"


def _print_of_samples(run: Run, estimates: dict[str, Estimate]) -> None:
    """What the samples say that is in no figure."""
    from collections import Counter

    from egost.results.both_ways import both_ways_by_kind
    from egost.results.diagnosis.controls import controls_of
    from egost.results.labels.corrected import corrected_beside
    from egost.results.run_header import RunError

    print_set_apart(run)
    for kind, both in both_ways_by_kind(run.records).items():
        chance = "" if math.isnan(both.chance) else f", a guess {both.chance:.1f}"
        unscored = f", {both.unscored} pairs unscored" if both.unscored else ""
        console.print(f"{kind}, right both ways: {both}{chance}, of {both.pairs} pairs{unscored}")
    try:
        if (controls := controls_of(run)) and (circular := controls.circular):
            whole = circular.circular
            console.print(f"right in all rotations: {whole.value:.1f} ({_interval(whole)}), n {whole.n}")
        for task, score in corrected_beside(run.results_file, run.records).items():
            console.print(f"{task}, corrected by people's labels: {score}")
    except RunError as error:
        console.print(marked("not read:", str(error), "yellow"))
    for name, found in estimates.items():
        reasons = Counter(r.unscored for r in run.records if r.task == name and r.unscored)
        if reasons:
            told = ", ".join(f"{n} {reason}" for reason, n in reasons.items())
            bounds = (
                f"; {found.least:.1f} if all were wrong, {found.most:.1f} if right"
                if found.bounds_matter
                else ""
            )
            console.print(one_line(f"unscored in {name}: {told}{bounds}"))
    if cut := sum(record.cut_in_thinking for record in run.records):
        console.print(
            f"{cut} of {len(run.records)} responses end inside their thinking, so that they hold no answer: raise "
            "max_new_tokens (--gen_kwargs), or take EGOST_PROMPT=direct."
        )
    replaced = [r.generation.replaced for r in run.records if r.generation and r.generation.replaced]
    if replaced:
        console.print(
            f"{len(replaced)} responses held {sum(replaced)} halves of surrogate pairs, which are U+FFFD in the "
            "samples."
        )
