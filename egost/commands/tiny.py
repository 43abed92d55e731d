"""`egost tiny`: the embedded checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from egost.commands.front import says_what_to_do


@says_what_to_do
def tiny(
    folder: Annotated[Path | None, typer.Argument(help="Where to write it; in the cache by default.")] = None,
) -> None:
    """Print the folder of the embedded tiny Qwen2-VL checkpoint, which is made at first use."""
    from egost.model_adapters.tiny_checkpoint import tiny_checkpoint

    typer.echo(tiny_checkpoint(folder))
