"""Makes the plain `lmms-eval` command find our tasks, and look for a judge before it loads a model.

lmms-eval has no entry-point group for tasks. Its group `lmms_eval.models` is loaded when `lmms_eval.models`
is imported, which the command does before it indexes tasks; `register` uses that moment to add this
folder to the `include_path` (a public argument) of every `TaskManager` that is made afterwards. The command
asks `TaskManager.match_tasks` for the tasks before it loads the model, the tasks themselves are read after it:
so that is where a missing judge is noticed in time. Which model it is, is known where lmms-eval makes it of
`--model_args` (`lmms.create_from_arg_string`, public, called before the tasks are read, whether the arguments came
from the command line, a YAML or a caller of `simple_evaluate`): there `trained_on` is told of them. `EGOST_ONLY`
set to 1 leaves out lmms-eval's own 1,985 tasks (`include_defaults`, a public argument, too), whose index takes
seconds of each start. This is the only place of the project that reaches into the host.
"""

from __future__ import annotations

import functools
import os
import re
from importlib.metadata import version
from pathlib import Path
from typing import Any

from packaging.specifiers import SpecifierSet

from egost.tasks.errors import EgostError
from egost.tasks.judging.judge import chosen_judge
from egost.tasks.release.trained_on import note_model
from egost.tasks.sample import World

TESTED_HOST = SpecifierSet(">=0.7.3,<0.8")
TASK_FOLDER = Path(__file__).resolve().parent

ONLY_OURS = "EGOST_ONLY"
"""Set to 1 in the environment: index our tasks alone."""


def register() -> list[Any]:
    """Entry point of the group `lmms_eval.models`: adds our tasks, offers no model.

    On a version of lmms-eval outside `TESTED_HOST` nothing is registered and an error is logged: an
    exception here would also switch off the plugins that lmms-eval loads after this one.
    """
    from lmms_eval.api.model import lmms
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
        TaskManager.match_tasks = _with_a_judge(TaskManager.match_tasks)
        lmms.create_from_arg_string = classmethod(_noting(lmms.create_from_arg_string.__func__))
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
        if os.environ.get(ONLY_OURS) == "1" and not args:
            kwargs.setdefault("include_defaults", False)
        init(self, verbosity, [*theirs, str(TASK_FOLDER)], *args, **kwargs)

    wrapped._egost = True  # type: ignore[attr-defined]
    return wrapped


def _with_a_judge(match_tasks: Any) -> Any:
    @functools.wraps(match_tasks)
    def wrapped(self: Any, task_list: list[str]) -> list[str]:
        matched: list[str] = match_tasks(self, task_list)
        worlds: set[World] = {
            "mini" if "_mini" in name else "official" for name in matched if _has_routes(name)
        }
        for world in worlds:
            try:
                chosen_judge(world)
            except EgostError as error:
                raise SystemExit(f"egost: {error}") from error
        return matched

    return wrapped


def _noting(create: Any) -> Any:
    @functools.wraps(create)
    def wrapped(cls: Any, arg_string: str, *args: Any, **kwargs: Any) -> Any:
        note_model(arg_string)
        return create(cls, arg_string, *args, **kwargs)

    return wrapped


def _has_routes(name: str) -> bool:
    """Whether a task or group of ours holds route tasks."""
    return re.fullmatch(r"egost(_mini)?(_st|_route(_forward|_reverse)?)?", name) is not None
