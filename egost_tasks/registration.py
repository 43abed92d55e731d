"""The one place that reaches into lmms-eval, so that its plain command finds our tasks and checks the judge early.

lmms-eval has no entry-point group for tasks. It loads the group `lmms_eval.models` before it indexes tasks, so
`register` uses that moment for these changes:

- Every `TaskManager` made afterwards gets the folder of our YAMLs in its `include_path`, a public argument. With
  `EGOST_ONLY=1` it also gets `include_defaults=False`, public too: indexing lmms-eval's own 1,985 tasks takes
  seconds of each start.
- `ResponseCache.create`, public, is called for `--use_cache` alone, with the tasks, before anything is asked.
- `TaskManager.match_tasks` is called before the model is loaded, while the tasks are read after it. So this is where a
  missing judge is noticed in time.
- `TaskManager.load_task_or_group` and `load_config`, public, give the tasks that are evaluated, so that what somebody's
  YAML changed of ours is noted in them.
- `lmms.create_from_arg_string`, public, is called with the model's arguments before the tasks are read, whether these
  came from the command line, a YAML or a caller of `simple_evaluate`. They are passed on to `trained_on`.
- Its log, loguru's, gets a patcher, public too, that takes keys out: lmms-eval logs `HF_TOKEN` as each run starts.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from typing import Any

from packaging.specifiers import SpecifierSet

from egost.tasks.errors import EgostError
from egost.tasks.judging.choose import chosen_judge
from egost.tasks.keys import redacted
from egost.tasks.release.trained_on import note_model
from egost.tasks.task_names import TASK_FOLDER, parse_task_name

TESTED_LMMS_EVAL = SpecifierSet(">=0.7.3,<0.8")

ONLY_OURS = "EGOST_ONLY"
"""Set to 1 in the environment: index our tasks alone."""


def register() -> list[Any]:
    """Entry point of the group `lmms_eval.models`: adds our tasks, offers no model.

    On a version of lmms-eval outside `TESTED_LMMS_EVAL` nothing is registered and an error is logged: an
    exception here would also switch off the plugins that lmms-eval loads after this one.
    """
    from lmms_eval.api.model import lmms
    from lmms_eval.caching.response_cache import ResponseCache
    from lmms_eval.tasks import TaskManager
    from loguru import logger

    installed = version("lmms-eval")
    if installed not in TESTED_LMMS_EVAL:
        logger.error(
            f"egost: lmms-eval {installed} is installed, but the egost tasks are made for {TESTED_LMMS_EVAL}; they are "
            f"not registered. Run: pip install 'lmms-eval{TESTED_LMMS_EVAL}'"
        )
        return []
    logger.configure(patcher=_without_keys)
    if not hasattr(TaskManager.__init__, "_egost"):
        TaskManager.__init__ = _with_our_folder(TaskManager.__init__)
        TaskManager.match_tasks = _with_a_judge(TaskManager.match_tasks)
        TaskManager.load_task_or_group = _noting_changes(TaskManager.load_task_or_group)
        TaskManager.load_config = _noting_changes(TaskManager.load_config)
        ResponseCache.create = classmethod(_not_of_ours(ResponseCache.create.__func__))
        lmms.create_from_arg_string = classmethod(_noting(lmms.create_from_arg_string.__func__))
    return []


def _without_keys(record: Any) -> None:
    record["message"] = redacted(record["message"])


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
        ours = [found for name in matched if (found := parse_task_name(name))]
        for world in {found.world for found in ours if "route" in found.kinds}:
            try:
                chosen_judge(world)
            except EgostError as error:
                raise SystemExit(f"egost: {error}") from error
        return matched

    return wrapped


def _not_of_ours(create: Any) -> Any:
    @functools.wraps(create)
    def wrapped(cls: Any, cache_root: str, **kwargs: Any) -> Any:
        if any(_asks_ours(task) for task in _single_tasks(kwargs.get("task_dict") or {})):
            raise SystemExit(
                "egost: --use_cache would keep a failed request as an answer for good, and lose how each response was "
                "made. Leave it out: our adapters keep every response in the journal, and lmms-eval's own do with "
                "--model egost_journal --model_args adapter=NAME,..."
            )
        return create(cls, cache_root, **kwargs)

    return wrapped


def _noting_changes(load: Any) -> Any:
    @functools.wraps(load)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        from egost.tasks.own_tasks import note_changes

        loaded = load(*args, **kwargs)
        for task in _single_tasks(loaded):
            note_changes(task)
        return loaded

    return wrapped


def _single_tasks(task_dict: Mapping[Any, Any]) -> Iterator[Any]:
    for value in task_dict.values():
        if isinstance(value, Mapping):
            yield from _single_tasks(value)
        else:
            yield value


def _asks_ours(task: Any) -> bool:
    """Whether a task of lmms-eval asks samples of ours, whatever its name."""
    return isinstance(task.config.metadata, dict) and "release_sha256" in task.config.metadata


def _noting(create: Any) -> Any:
    @functools.wraps(create)
    def wrapped(cls: Any, arg_string: str, *args: Any, **kwargs: Any) -> Any:
        note_model(arg_string)
        return create(cls, arg_string, *args, **kwargs)

    return wrapped
