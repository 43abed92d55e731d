"""What all sub-commands share: the console they print to, the exit code of an error, and common options."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, ParamSpec, TypeVar

import typer
from rich.console import Console

from egost.tasks.errors import EgostError

if TYPE_CHECKING:
    from egost.tasks.release.release import Release

P = ParamSpec("P")
R = TypeVar("R")

# Long paths and messages stay on one line, so that they can be copied and searched for.
console = Console(soft_wrap=True, highlight=False)

Mini = Annotated[bool, typer.Option("--mini", help="The mini world instead of the official release.")]
Workers = Annotated[int | None, typer.Option(help="Processes at once; all cores by default.", min=1)]


def says_what_to_do(command: Callable[P, R]) -> Callable[P, R]:
    """An error of ours becomes one message and exit code 2, without a traceback."""

    @functools.wraps(command)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except EgostError as error:
            typer.echo(f"egost: {error}", err=True)
            raise typer.Exit(2) from error

    return wrapped


def asked_release(mini: bool) -> Release:
    from egost.tasks.release.release import open_release

    return open_release("mini" if mini else "official")
