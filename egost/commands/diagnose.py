"""`egost diagnose`: what a score owes to seeing, by controls on a model, and how far text alone gets, without one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from egost.commands.front import says_what_to_do
from egost.commands.run import Engine
from egost.tasks.errors import SettingError

_ALL = "blind,shuffled,reversed,middle,rotated"


@says_what_to_do
def diagnose(
    model: Annotated[
        str | None,
        typer.Argument(
            help="A model, as for egost run. With --text-only a run, st-r1-rows or a file of rows, else the release."
        ),
    ] = None,
    tasks: Annotated[str, typer.Option(help="Tasks or groups, of one world.")] = "egost_mcq",
    controls: Annotated[str, typer.Option(help="Controls, separated by commas.")] = _ALL,
    engine: Annotated[Engine | None, typer.Option(help="Engine; by default the model's first.")] = None,
    base_url: Annotated[str | None, typer.Option(help="URL of a server or an API.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="At most so many samples of each task.")] = None,
    max_new_tokens: Annotated[
        int | None, typer.Option(min=1, help="Most tokens of a response; by default the prompt's.")
    ] = None,
    text_only: Annotated[
        bool, typer.Option("--text-only", help="Measure how far text alone gets, without a model or a video.")
    ] = False,
    train: Annotated[
        str | None,
        typer.Option(
            help="With --text-only: rows that a checkpoint was trained on (st-r1-rows, 63 to 630, a JSONL)."
        ),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder; by default that of the model's runs.")
    ] = None,
) -> None:
    """Ask a model again under controls, and show what its score loses; or measure how far text alone gets.

    Writes controls.json (with --text-only text_floor.json), which the leaderboard and the report read. The controls
    share the journal with egost run: what is answered is not asked again, and the same command goes on after a kill.
    """
    from egost.commands.diagnosis import measure_text_only, run_controls
    from egost.model_adapters.run_plan import RunOptions
    from egost.tasks.clips.controls import read_controls

    if text_only:
        measure_text_only(model, tasks, train, output)
    elif model is None:
        raise SettingError(
            "which model? Name one (egost models lists them), or take --text-only, which needs none."
        )
    elif train is not None:
        raise SettingError(
            "--train belongs to --text-only: a checkpoint tells by itself what it was trained on."
        )
    else:
        options = RunOptions(tasks, engine.value if engine else None, output=output, base_url=base_url)
        run_controls(model, options, read_controls(controls), limit, max_new_tokens)
