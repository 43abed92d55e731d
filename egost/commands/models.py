"""`egost models`: what can be evaluated, and what it takes."""

from __future__ import annotations

import json
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from egost.commands.front import console, says_what_to_do

if TYPE_CHECKING:
    from egost.model_adapters.known_models import KnownModel, KnownModels


class Format(StrEnum):
    table = "table"
    json = "json"


@says_what_to_do
def models(
    name: Annotated[
        str | None,
        typer.Argument(
            help="Short name, hub id, folder, mini-base, mini-st-r1 or tiny; all known models without."
        ),
    ] = None,
    format: Annotated[Format, typer.Option(help="table or json.")] = Format.table,
) -> None:
    """List the known models: the paper's ten, ST-R1 and today's; or show one of them."""
    from egost.model_adapters.known_models import known_models
    from egost.model_adapters.model_names import model_named

    table = known_models()
    chosen = [model_named(name)] if name else list(table.models)
    if format is Format.json:
        rows = [_facts(model, table) for model in chosen]
        typer.echo(json.dumps(rows[0] if name else rows, indent=2))
    elif name:
        _print_one(name, chosen[0], table)
    else:
        _print_all(table)


def _facts(model: KnownModel, table: KnownModels) -> dict[str, Any]:
    estimated = {
        "weights_gib": model.weights_gib and round(model.weights_gib, 1),
        "memory_gib": model.memory_gib and round(model.memory_gib, 1),
        "gpus_80gb": model.gpus,
    }
    return {
        **model.model_dump(mode="json"),
        "engines": list(model.engines),
        **estimated,
        "checked": table.checked.isoformat(),
    }


def _print_one(name: str, model: KnownModel, known: KnownModels) -> None:
    facts = {**_facts(model, known), "revision": model.revision or "not pinned"}
    facts["engines"] = ", ".join(model.engines) or "none"
    facts["hf_arguments"] = ", ".join(f"{name}={value}" for name, value in model.hf_arguments.items())
    for fact, value in facts.items():
        if value not in (None, "", False):
            console.print(f"{fact}: {value}")
    if model.engines:
        leave_out = "EGOST_TRAINED_ON=leave-out " if model.name == "st-r1" else ""
        console.print(f"Next: {leave_out}egost run {name} --dry-run")


def _print_all(known: KnownModels) -> None:
    table = Table(box=None, padding=(0, 1, 0, 0))
    for column in ("name", "model", "revision", "engines", "prompt", "frames", "GiB", "GPUs", "paper"):
        table.add_column(column, justify="right" if column in ("GiB", "GPUs") else "left", no_wrap=True)
    can_be_had = [*sorted(known.models, key=lambda model: not model.engines)]
    for model in can_be_had:
        pinned = model.revision[:7] if model.revision else "not pinned"
        table.add_row(
            model.name if model.engines else Text(model.name, "dim"),
            model.model,
            "" if model.family in ("openai", "gemini") else pinned,
            ",".join(model.engines) or Text(model.availability, "red"),
            model.prompt,
            model.protocol,
            f"{model.memory_gib:.0f}" if model.memory_gib else "",
            str(model.gpus or ""),
            ("Table 3" if model.name == "st-r1" else "Table 1") if model.paper_row else "",
        )
    # Names that are cut off cannot be typed again, so the table is as wide as it is, also in a narrow terminal.
    Console(width=160).print(table)
    for model in can_be_had:
        if model.note:
            console.print(f"{model.name}: {model.note}")
    console.print("On this machine without a download: mini-base, mini-st-r1 (both of the mini world).")
    console.print(
        f"GiB, GPUs: estimated, in bfloat16, on GPUs of 80 GB. Availability as of {known.checked}.",
    )
