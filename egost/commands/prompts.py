"""`egost prompts import`: the authors' wording from a clone of their repository, as prompt files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from egost.commands.front import say, says_what_to_do


@says_what_to_do
def import_(
    clone: Annotated[Path, typer.Argument(help="Folder of a clone of the authors' public repository.")],
    out: Annotated[Path, typer.Option(help="Folder for the prompt files.")] = Path(),
) -> None:
    """Read the authors' wording, check it by its hash, and write it as prompt files.

    The wording is not shipped. Runs with it are marked as asked in the authors' wording.
    """
    import yaml

    from egost.tasks.cache import write_whole
    from egost.tasks.prompts import read_authors_prompts

    for prompt in read_authors_prompts(clone):
        path = out / f"{prompt.name}.yaml"
        write_whole(path, yaml.safe_dump(prompt.model_dump(), sort_keys=False, allow_unicode=True).encode())
        say(f"written: {path}; use it: EGOST_PROMPT={path}")
