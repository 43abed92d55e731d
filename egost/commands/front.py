"""What all sub-commands share: the console they print to, the exit code of an error, and common options."""

from __future__ import annotations

import functools
import io
import math
import sys
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Annotated, Any, ParamSpec, TypeVar

import typer
from rich.console import Console
from rich.segment import Segment
from rich.text import Text

from egost.tasks.cache import not_used
from egost.tasks.errors import EgostError, visible

if TYPE_CHECKING:
    from egost.results.intervals import Difference, Estimate
    from egost.tasks.release.release import Release

P = ParamSpec("P")
R = TypeVar("R")


class _Console(Console):
    """Shows the names that strangers gave as they are: no markup, and nothing that a terminal would act upon."""

    def render(self, *args: Any, **kwargs: Any) -> Iterable[Segment]:
        for segment in super().render(*args, **kwargs):
            yield segment if segment.control else segment._replace(text=visible(segment.text))


# Long paths and messages stay on one line, so that they can be copied and searched for.
console = _Console(soft_wrap=True, highlight=False, markup=False)

Mini = Annotated[bool, typer.Option("--mini", help="The mini world instead of the official release.")]
Workers = Annotated[int | None, typer.Option(help="Processes at once; all cores by default.", min=1)]


def says_what_to_do(command: Callable[P, R]) -> Callable[P, R]:
    """An error of ours, of a disk, or of a missing package becomes one message and exit code 2, without a traceback."""

    @functools.wraps(command)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        for stream in (sys.stdout, sys.stderr):
            # A console may know ASCII alone, and a name on a disk need be no text.
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="backslashreplace")
        try:
            return command(*args, **kwargs)
        except BrokenPipeError:
            raise
        except (EgostError, OSError) as error:
            say(f"egost: {error if isinstance(error, EgostError) else not_used(error)}", err=True)
            raise typer.Exit(2) from error
        except ModuleNotFoundError as error:
            package = (error.name or "").partition(".")[0]
            if package in ("", "egost"):
                raise
            say(
                f"egost: this command needs {package}, which is not installed here. `pip install .` in a checkout of "
                "egost, without --no-deps, installs what asking a model needs.",
                err=True,
            )
            raise typer.Exit(2) from error

    return wrapped


def say(text: str, *, end: str = "\n", err: bool = False) -> None:
    """Print a text of several lines as it is, but for what a terminal would act upon."""
    typer.echo(visible(text) + end, nl=False, err=err)


def marked(word: str, rest: str, style: str = "red") -> Text:
    """A line that begins with a word in a style."""
    return Text.assemble((word, style), f" {rest}")


def asked_release(mini: bool) -> Release:
    from egost.tasks.release.release import open_release

    return open_release("mini" if mini else "official")


def with_interval(found: Estimate | Difference, sign: str = "") -> str:
    """A figure with its interval, for people."""
    if math.isnan(found.value):
        return "not known"
    between = "not known" if math.isnan(found.low) else f"{found.low:{sign}.1f} to {found.high:{sign}.1f}"
    return f"{found.value:{sign}.1f} ({between})"
