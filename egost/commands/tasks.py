"""`egost tasks`: the names for lmms-eval's `--tasks`, and the folder that has them."""

from __future__ import annotations

from typing import Annotated

import typer

from egost.commands.front import console, says_what_to_do
from egost.tasks.task_names import TASK_FOLDER, TASK_NAMES


@says_what_to_do
def tasks(
    path: Annotated[
        bool, typer.Option("--path", help="Print the folder of their YAMLs, for --include_path.")
    ] = False,
) -> None:
    """List the tasks and groups; or print the folder for those ways of lmms-eval that load no plugin."""
    if path:
        console.print(str(TASK_FOLDER))
        return
    for name in TASK_NAMES.values():
        console.print(f"{name.name} ({len(name.tasks)} tasks)" if name.is_group else name.name)
