"""`egost train`: from a release to ST-R1. Each run is one YAML; flags behind it override what it says."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from egost_commands.front import console, says_what_to_do

train_app = typer.Typer(help="Make training rows, train, merge adapters.", no_args_is_help=True)

_FLAGS = {"allow_extra_args": True, "ignore_unknown_options": True}

Config = Annotated[Path, typer.Argument(help="YAML of the run, for example one of training/configs/.")]


@train_app.command(context_settings=_FLAGS)
@says_what_to_do
def sft(context: typer.Context, config: Config) -> None:
    """Fine-tune with video; any flag of the recipe may follow (--rows FILE, --learning_rate 1e-5, --dry-run)."""
    from training.sft import main

    main(["--config", str(config), *context.args])


@train_app.command(context_settings=_FLAGS)
@says_what_to_do
def grpo(context: typer.Context, config: Config) -> None:
    """Train by GRPO with video; any flag of the recipe may follow (--rows FILE, --learning_rate 1e-6, --dry-run)."""
    from training.grpo import main

    main(["--config", str(config), *context.args])


@train_app.command()
@says_what_to_do
def merge(
    adapter: Annotated[Path, typer.Argument(help="Folder of LoRA adapters.")],
    out: Annotated[Path, typer.Argument(help="New folder of the whole checkpoint.")],
    base: Annotated[
        str | None, typer.Option(help="Folder or hub id of the base model, if not the one that they name.")
    ] = None,
) -> None:
    """Put LoRA adapters into their base model: a checkpoint that vLLM and --model qwen2_vl take as it is."""
    from training.merge import merge as merge_adapters

    merged = merge_adapters(adapter, out, base)
    console.print(f"Merged: {merged.folder} ({merged.revision[:19]})", soft_wrap=True)
