"""`egost train`: from a release to ST-R1. Each run is one YAML; flags behind it override what it says."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from egost.commands import train_demo
from egost.commands.front import console, says_what_to_do

train_app = typer.Typer(help="Make training rows, train, merge adapters.", no_args_is_help=True)

train_app.command()(train_demo.demo)

_FLAGS = {"allow_extra_args": True, "ignore_unknown_options": True}

Config = Annotated[Path, typer.Argument(help="YAML of the run, for example one of training/configs/.")]


@train_app.command()
@says_what_to_do
def data(
    out: Annotated[Path, typer.Option(help="Folder for the rows, their split and their data card.")],
    world: Annotated[str, typer.Option(help="official or mini: which release they are of.")] = "official",
    root: Annotated[
        Path | None, typer.Option(help="Folder of the release; by default the one that the tasks use.")
    ] = None,
    rows: Annotated[
        int, typer.Option(min=1, help="How many; the paper's are 63, 126, 252, 378, 504, 630.")
    ] = 630,
    tasks: Annotated[
        str, typer.Option(help="Which questions, of direction,landmark,action,route.")
    ] = "direction,landmark,action",
    seed: Annotated[int, typer.Option(help="Of the choice and the wordings; the same seed nests.")] = 0,
    by: Annotated[str, typer.Option(help="What is divided: rows (as the paper) or clips.")] = "rows",
    hold_out: Annotated[
        str | None, typer.Option(help="Source that is the test alone: sun3d or outdoor (Table 4).")
    ] = None,
    no_think: Annotated[bool, typer.Option("--no-think", help="Without reasoning (Table 3's sft).")] = False,
    writer: Annotated[
        str | None,
        typer.Option(help="Who writes the reasoning instead of the templates: gpt-4o, openai:MODEL[@URL]."),
    ] = None,
    released: Annotated[
        str | None,
        typer.Option(
            help="The authors' rows: a total_test_mcq_*.jsonl, or a size (63 to 630) of the shipped."
        ),
    ] = None,
) -> None:
    """Build training rows from a release: each question reasoned about by the route of the other way."""
    import shlex
    import sys

    from egost.training.rows.build_rows import write_rows
    from egost.training.rows.row_choices import RowChoices, chosen_rows

    built = chosen_rows(
        RowChoices(world, root, rows, tasks, seed, by, hold_out, not no_think, writer, released)
    )
    card = write_rows(out, built, command=f"egost {shlex.join(sys.argv[1:])}")
    console.print(
        f"{card['rows']} rows about {card['clips']} clips; {card['test_samples']} samples are the test."
    )
    if card["clips_on_both_sides"]:
        console.print(
            f"{card['clips_on_both_sides']} clips stand on both sides (--by clips keeps them apart)."
        )
    floor = card["text_only"].get("linear")
    if floor:
        console.print(
            f"Text alone answers {100 * floor['accuracy']:.1f} % of them, chance is {100 * floor['chance']:.1f} %."
        )
    for name in ("rows.jsonl", "split.json", "card.json", "README.md"):
        console.print(str(out / name))
    if len(built.rows) < built.asked:
        console.print(
            f"[red]{built.asked - len(built.rows)} rows could not be made[/]: the card lists them. What was "
            "written is kept; run the same again."
        )
        raise typer.Exit(1)


@train_app.command(context_settings=_FLAGS)
@says_what_to_do
def sft(context: typer.Context, config: Config) -> None:
    """Fine-tune with video; any flag of the recipe may follow (--rows FILE, --learning_rate 1e-5, --dry-run)."""
    from egost.training.sft import main

    main(["--config", str(config), *context.args])


@train_app.command(context_settings=_FLAGS)
@says_what_to_do
def grpo(context: typer.Context, config: Config) -> None:
    """Train by GRPO with video; any flag of the recipe may follow (--rows FILE, --learning_rate 1e-6, --dry-run)."""
    from egost.training.grpo import main

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
    from egost.training.runs.merge import merge as merge_adapters

    merged = merge_adapters(adapter, out, base)
    console.print(f"Merged: {merged.folder} ({merged.revision[:19]})")
