"""The exceptions that a user of the benchmark can meet.

Every message says what happened, where (file, sample id), what was expected and what to do.
"""

from __future__ import annotations

import functools
import os
import shlex
from collections.abc import Callable
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


class EgostError(Exception):
    """Base of every error that this project raises on purpose."""


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
    """The cache folder cannot be written (full, read-only, not a folder)."""


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
