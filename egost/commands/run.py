"""`egost run`: evaluate a model with one command, a thin front of lmms-eval's."""

from __future__ import annotations

import os
import time
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from egost.commands.front import console, says_what_to_do
from egost.commands.show import write_manifest
from egost.commands.summary import summary
from egost.tasks.end_with_parent import run_script

if TYPE_CHECKING:
    from egost.model_adapters.run_plan import RunPlan


class Engine(StrEnum):
    vllm = "vllm"
    server = "server"
    hf = "hf"
    transformers = "transformers"
    api = "api"


@says_what_to_do
def run(
    model: Annotated[
        str, typer.Argument(help="Short name (egost models), hub id, folder, mini-base, mini-st-r1 or tiny.")
    ],
    extra: Annotated[
        list[str] | None, typer.Argument(help="After '--': more arguments for lmms-eval.")
    ] = None,
    tasks: Annotated[
        str | None,
        typer.Option(help="Tasks or groups, as lmms-eval takes them; by default what the model is for."),
    ] = None,
    engine: Annotated[Engine | None, typer.Option(help="Which engine; by default the model's first.")] = None,
    limit: Annotated[
        float | None, typer.Option(help="Samples of each task, or a share below 1; for trying only.")
    ] = None,
    output: Annotated[Path | None, typer.Option(help="Folder of the results; runs/MODEL by default.")] = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Ask for all replies, also for those in the journal.")
    ] = False,
    base_url: Annotated[
        str | None, typer.Option(help="URL of a server, several with ';' between, or URL of an API.")
    ] = None,
    as_published: Annotated[
        bool,
        typer.Option(
            "--as-published", help="As the authors ran it: frames, pixels, prompt, generation, judge."
        ),
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only print the command.")] = False,
) -> None:
    """Evaluate a model: prints the lmms-eval command, runs it, and shows the figures.

    The same command again goes on where a killed run stopped. Exit code 2 when the run did not finish, 1 when too
    many samples are unscored.
    """
    from egost.model_adapters.model_names import model_named
    from egost.model_adapters.run_plan import RunOptions, plan_run

    named = model_named(model)
    options = RunOptions(
        tasks or named.tasks,
        engine.value if engine else None,
        limit,
        output,
        fresh,
        base_url,
        tuple(extra or ()),
        as_published,
    )
    plan = plan_run(named, options, os.environ)
    typer.echo(plan.shown)
    for remark in plan.remarks:
        typer.echo(f"egost: {remark}", err=True)
    if not dry_run:
        _run(plan)


def _run(plan: RunPlan) -> None:
    from egost.results.run import read_run
    from egost.results.run_header import RunError

    started = time.time_ns()
    code = run_script(plan.command, {**os.environ, **plan.settings})
    again = "What is answered is kept: the same command goes on."
    if code:
        raise RunError(f"lmms-eval stopped with exit code {code}; its message is printed above. {again}")
    found = read_run(plan.output)
    if found.results_file.stat().st_mtime_ns < started:
        raise RunError(
            f"the run did not finish: {found.results_file} is of an earlier one. lmms-eval's error is printed "
            f"above its last lines. {again}"
        )
    write_manifest(found)
    console.print()
    summary(found.results_file)
