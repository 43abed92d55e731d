"""The exceptions that a user of the benchmark can meet.

Every message says what happened, where (file, sample id), what was expected and what to do.
"""

from __future__ import annotations

import functools
import os
import re
import shlex
from collections.abc import Callable
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


LONGEST_MESSAGE = 2_000
"""Characters. A longer message repeats what somebody else wrote, a million names of columns for example."""

_FOR_NO_TERMINAL = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)


def visible(text: str) -> str:
    """A text as a terminal may show it: what would move the cursor or turn the line round is written as `\\u001b`.

    A tab and a line feed stay.
    """
    return _FOR_NO_TERMINAL.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def one_line(text: str) -> str:
    """A text as `visible` on one line."""
    return visible(text).replace("\n", "\\u000a").replace("\t", "\\u0009")


@functools.cache
def say_once(level: str, message: str) -> None:
    """Log what egost has to say, the first time alone that it says it. level: one of loguru's, such as `WARNING`."""
    from loguru import logger

    logger.log(level, f"egost: {message}")


def install_command(extra: str) -> str:
    """The command that installs what an extra of egost asks for. It does not name egost, which is on no index."""
    from importlib.metadata import requires

    from packaging.requirements import Requirement

    of_extra = [r for r in map(Requirement, requires("egost") or ()) if r.marker and "extra" in str(r.marker)]
    asked = [str(r).split(";")[0] for r in of_extra if r.marker and r.marker.evaluate({"extra": extra})]
    return f"pip install {shlex.join(sorted(asked))}"


class EgostError(Exception):
    """Base of every error that this project raises on purpose; its text is `visible` and not beyond LONGEST_MESSAGE."""

    def __str__(self) -> str:
        text = visible(super().__str__())
        if len(text) <= LONGEST_MESSAGE:
            return text
        end = LONGEST_MESSAGE // 4
        start = LONGEST_MESSAGE - end - 40
        return f"{text[:start]} [... {len(text) - start - end:,} characters ...] {text[-end:]}"


class ReleaseError(EgostError):
    """The release on disk cannot be used: missing, half there, unreadable, ambiguous, or too few questions."""


class ClipError(EgostError):
    """A clip has no usable frames; its samples are unscored with this reason.

    `reason` is a short stable word (`empty`, `unreadable`, `no_video`, `timeout`, `memory`, ...)
    that is counted next to the scores; the message is for people.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class CacheError(EgostError):
    """A file or folder, for example of the cache, cannot be written (disk full, read-only, not a folder)."""


class SettingError(EgostError):
    """A setting cannot be understood: a name of a task, protocol, decoder or prompt, a limit, or a prompt file."""


class ConstructionError(EgostError):
    """A step of `egost construct` cannot go on: what a person or an earlier step left cannot be used."""


def download_command() -> str:
    """For messages: the command that gets what is missing of the release, to where `egost` looks for it.

    That is the folder that `EGOST_DATA` names, else the hub's cache.
    """
    folder = os.environ.get("EGOST_DATA")
    return f"egost data download --to {shlex.quote(folder)}" if folder else "egost data download"


def exits_with_message(function: Callable[P, R]) -> Callable[P, R]:
    """Let an EgostError leave a function that lmms-eval calls as `SystemExit` with its one message.

    lmms-eval retries a failing function five times and then prints a traceback without end.
    """

    @functools.wraps(function)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return function(*args, **kwargs)
        except EgostError as error:
            raise SystemExit(f"egost: {error}") from error

    return wrapped
