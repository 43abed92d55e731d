"""Makes the plain `lmms-eval` command find our tasks.

lmms-eval has no entry-point group for tasks. Its group `lmms_eval.models` is loaded when `lmms_eval.models`
is imported, which the command does before it indexes tasks; `register` uses that moment to add this
folder to the `include_path` (a public argument) of every `TaskManager` that is made afterwards. This is
the only place of the project that reaches into the host.
"""

from __future__ import annotations

import functools
from importlib.metadata import version
from pathlib import Path
from typing import Any

from packaging.specifiers import SpecifierSet

TESTED_HOST = SpecifierSet(">=0.7.3,<0.8")
TASK_FOLDER = Path(__file__).resolve().parent


def register() -> list[Any]:
    """Entry point of the group `lmms_eval.models`: adds our tasks, offers no model.

    On a version of lmms-eval outside `TESTED_HOST` nothing is registered and an error is logged: an
    exception here would also switch off the plugins that lmms-eval loads after this one.
    """
    from lmms_eval.tasks import TaskManager
    from loguru import logger

    host = version("lmms-eval")
    if host not in TESTED_HOST:
        logger.error(
            f"egost: lmms-eval {host} is installed, but the egost tasks are made for {TESTED_HOST}; they are "
            f"not registered. Run: pip install 'lmms-eval{TESTED_HOST}'"
        )
        return []
    if not hasattr(TaskManager.__init__, "_egost"):
        TaskManager.__init__ = _with_our_folder(TaskManager.__init__)
    return []


def _with_our_folder(init: Any) -> Any:
    @functools.wraps(init)
    def wrapped(
        self: Any,
        verbosity: str = "INFO",
        include_path: str | list[str] | None = None,
        *args: Any,
        **kwargs: Any,
    ) -> None:
        theirs = [include_path] if isinstance(include_path, str) else list(include_path or [])
        init(self, verbosity, [*theirs, str(TASK_FOLDER)], *args, **kwargs)

    wrapped._egost = True  # type: ignore[attr-defined]
    return wrapped
