"""`egost train`: from a release to ST-R1. Each run is one YAML; flags behind it override what it says."""

from __future__ import annotations

import shlex
import sys
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, get_args

import typer
from rich.table import Table
from typer.core import TyperCommand

from egost.commands.front import console, marked, says_what_to_do
from egost.tasks.sample import TASK_KINDS, World
from egost.training import TrainingError

if TYPE_CHECKING:
    from egost.tasks.release.release import Release
    from egost.training.recipe import RowsRecipe
    from egost.training.rows.build_rows import Built

T = TypeVar("T", bound=str)

train_app = typer.Typer(help="Make training rows, train, merge adapters.", no_args_is_help=True)

_FLAGS = {"allow_extra_args": True, "ignore_unknown_options": True}

Config = Annotated[
    str, typer.Argument(help="YAML file of the run, or the name of a shipped one: st_r1_7b_cot_sft, ...")
]


@train_app.command()
@says_what_to_do
def demo(
    out: Annotated[Path, typer.Option(help="Folder of the demo; one that was cut off goes on.")] = Path(
        "runs/train-demo"
    ),
    quick: Annotated[
        bool, typer.Option("--quick", help="A small version, to see that it runs; its figures mean nothing.")
    ] = False,
    base: Annotated[
        Path | None, typer.Option(help="Checkpoint to begin with; by default the shipped one.")
    ] = None,
) -> None:
    """Make the paper's experiments on the mini world on a CPU: data, training, Tables 1 to 3, Figures 1 and 7 to 9."""
    from egost.commands.train_demo import run_demo

    run_demo(out, quick, base)


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
    routes: Annotated[
        int, typer.Option(min=0, help="How many more rows, behind those, that tell a route.")
    ] = 0,
    seed: Annotated[
        int, typer.Option(help="Of choice and wordings; with one seed, fewer rows are a subset of more.")
    ] = 0,
    by: Annotated[
        str, typer.Option(help="What is split into training and test: rows (as in the paper) or clips.")
    ] = "rows",
    hold_out: Annotated[
        str | None, typer.Option(help="Source that is only in the test: sun3d or outdoor (Table 4).")
    ] = None,
    no_think: Annotated[
        bool, typer.Option("--no-think", help="Leave the reasoning out (SFT in Table 3).")
    ] = False,
    writer: Annotated[
        str | None,
        typer.Option(help="Who writes the reasoning instead of the templates: gpt-4o, openai:MODEL[@URL]."),
    ] = None,
    released: Annotated[
        str | None,
        typer.Option(
            help="The authors' rows: 63 to 630 of the shipped ones, or a file total_test_mcq_*.jsonl."
        ),
    ] = None,
) -> None:
    """Build training rows from a release; the reasoning of each is the route of the other way."""
    from egost.training.rows.build_rows import write_rows

    built = _chosen_rows(world, root, rows, tasks, routes, seed, by, hold_out, not no_think, writer, released)
    card = write_rows(out, built, command=f"egost {shlex.join(sys.argv[1:])}")
    console.print(
        f"{card['rows']} rows about {card['clips']} clips; {card['test_samples']} samples are the test."
    )
    if card["clips_on_both_sides"]:
        console.print(
            f"{card['clips_on_both_sides']} clips have questions on both sides (--by clips keeps them apart)."
        )
    baseline = card["text_only"].get("linear")
    if baseline:
        console.print(
            f"Text alone answers {100 * baseline['accuracy']:.1f} % of them, chance is "
            f"{100 * baseline['chance']:.1f} %."
        )
    for name in ("rows.jsonl", "split.json", "card.json", "README.md"):
        console.print(str(out / name))
    if len(built.rows) < built.asked:
        console.print(
            marked(
                f"{built.asked - len(built.rows)} rows could not be made:",
                "the card lists them. What was written is kept; run the same again.",
            )
        )
        raise typer.Exit(1)


def _chosen_rows(
    world: str,
    root: Path | None,
    rows: int,
    tasks: str,
    routes: int,
    seed: int,
    by: str,
    hold_out: str | None,
    with_think: bool,
    writer: str | None,
    released: str | None,
) -> Built:
    """The rows that the options of `egost train data` ask for. Raises TrainingError for an unknown word."""
    from egost.training.rows.build_rows import BuildPlan, build_released, build_rows
    from egost.training.rows.released_rows import read_rows, released_subset_rows
    from egost.training.rows.training_rows import By, HoldOut

    release = _release(_one_of("--world", world, get_args(World)), root)
    if released is not None:
        if writer or hold_out or routes:
            raise TrainingError(
                "--released takes the authors' rows and reasoning: leave --writer, --hold-out and --routes out."
            )
        found = released_subset_rows(int(released)) if released.isdecimal() else read_rows(Path(released))
        return build_released(release, found, with_think=with_think)
    plan = BuildPlan(
        rows=rows,
        routes=routes,
        seed=seed,
        tasks=tuple(_one_of("--tasks", task.strip(), TASK_KINDS) for task in tasks.split(",")),
        by=_one_of("--by", by, get_args(By)),
        hold_out=_one_of("--hold-out", hold_out, get_args(HoldOut)) if hold_out else None,
        with_think=with_think,
    )
    if writer is None:
        return build_rows(release, plan)
    if not with_think:
        raise TrainingError("--no-think wants no reasoning, so that there is nothing for --writer to write.")
    from egost.training.rows.thought_writer import thought_writer, writer_endpoint

    endpoint = writer_endpoint(writer)
    return build_rows(release, plan, thought_writer(endpoint), endpoint.label)


def _release(world: World, root: Path | None) -> Release:
    from egost.tasks.release.release import open_release, release_in

    if root is None:
        return open_release(world)
    if world == "official" and not root.is_dir():
        raise TrainingError(f"--root {root} is no folder; it must hold the release.")
    return release_in(root, world)


def _one_of(option: str, word: str, words: tuple[T, ...]) -> T:
    for known in words:
        if word == known:
            return known
    raise TrainingError(f"{option} is {word!r}; expected one of {', '.join(words)}.")


_OF_TRL = {
    "model_name_or_path": "What egost run takes: mini-base, a short name, a hub id, a folder.",
    "output_dir": "Folder of the run; one that was cut off goes on.",
    "learning_rate": "Highest learning rate.",
    "num_train_epochs": "How often every row is shown.",
    "max_steps": "Steps instead of epochs.",
    "per_device_train_batch_size": "Rows at once on a device.",
    "gradient_accumulation_steps": "Batches before a step.",
    "save_steps": "Steps between two checkpoints.",
    "seed": "Of the order and of what is drawn.",
    "use_peft": "Train LoRA adapters, with --lora_r and --lora_alpha.",
    "load_in_4bit": "Load the model in 4 bits, on a GPU.",
}
"""The flags of TRL's configurations that people set most."""


class _Recipe(TyperCommand):
    """A command whose flags are the fields of a recipe; the recipe's class is in the module of the same name."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        super().format_help(ctx, formatter)
        from dataclasses import MISSING, fields

        recipe, configuration = recipe_class(str(self.name))
        table = Table(box=None, padding=(0, 2, 0, 1))
        for one in fields(recipe):
            default = "" if one.default in (MISSING, "") else f" Default: {one.default}."
            table.add_row(f"--{one.name}", f"{one.metadata['help']}{default}")
        for name, meaning in _OF_TRL.items():
            table.add_row(f"--{name}", meaning)
        console.print("Flags, which override the YAML (egost's, then the usual ones of TRL):")
        console.print(table)
        console.print(f"All others: the fields of TRL's {configuration} and ModelConfig.")


def recipe_class(command: str) -> tuple[type[RowsRecipe], str]:
    """The recipe of `sft` or `grpo`, and the name of TRL's configuration behind it."""
    if command == "sft":
        from egost.training.sft import SftRecipe

        return SftRecipe, "SFTConfig"
    from egost.training.grpo import GrpoRecipe

    return GrpoRecipe, "GRPOConfig"


def _check_rows(flags: list[str]) -> None:
    """Raise TrainingError where the file of --rows is not there, before torch takes its seconds."""
    for flag, value in pairwise(flags):
        if flag == "--rows" and not Path(value).is_file():
            raise TrainingError(f"there is no file {value}. Make the rows: egost train data --out FOLDER")


@train_app.command(context_settings=_FLAGS, cls=_Recipe)
@says_what_to_do
def sft(context: typer.Context, config: Config) -> None:
    """Fine-tune with video; any flag of the recipe may follow (--rows FILE, --learning_rate 1e-5, --dry-run)."""
    _check_rows(context.args)
    from egost.training.sft import main

    main(["--config", config, *context.args])


@train_app.command(context_settings=_FLAGS, cls=_Recipe)
@says_what_to_do
def grpo(context: typer.Context, config: Config) -> None:
    """Train by GRPO with video; any flag of the recipe may follow (--rows FILE, --learning_rate 1e-6, --dry-run)."""
    _check_rows(context.args)
    from egost.training.grpo import main

    main(["--config", config, *context.args])


@train_app.command()
@says_what_to_do
def plot(
    runs: Annotated[list[Path], typer.Argument(help="Output folders of runs of one kind, drawn together.")],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="PNG to write; by default log.png in the first folder.")
    ] = None,
) -> None:
    """Draw the log of runs: Figure 8 of the paper for fine-tuning, Figures 7 and 9 for GRPO."""
    from egost.training.run_log import draw_runs

    target = out or runs[0] / "log.png"
    draw_runs(runs, target)
    console.print(str(target))


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
    from egost.training.checkpoint_manifest import merge as merge_adapters

    merged = merge_adapters(adapter, out, base)
    console.print(f"Merged: {merged.folder} ({merged.revision[:19]})")
