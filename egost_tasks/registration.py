"""The one place that reaches into lmms-eval, so that its plain command finds our tasks and checks the judge early.

lmms-eval has no entry-point group for tasks. It loads the group `lmms_eval.models` before it indexes tasks, so
`register` uses that moment for these changes:

- Every `TaskManager` made afterwards gets the folder of our YAMLs in its `include_path`, a public argument. With
  `EGOST_ONLY=1` it also gets `include_defaults=False`, public too: indexing lmms-eval's own 1,985 tasks takes
  seconds of each start.
- `ConfigurableTask.__init__` makes a task, and `lmms.__init__` a model with its `task_dict`, in which `simple_evaluate`
  puts the data of each task once all are read and before anything is asked. So this is where both are known: what the
  model was trained on is refused or left out, what somebody's YAML changed of ours is noted, and a model that would
  take more frames than a clip has is refused.
- `lmms.create_from_arg_string`, public, makes a model of its arguments, whether these came from the command line, a
  YAML or a caller of `simple_evaluate`. The model carries them.
- `ConfigurableTask.build_all_requests`, public, is told of `--cache_requests`, and `ResponseCache.create`, public, is
  called for `--use_cache` alone: both before anything is asked.
- `TaskManager.match_tasks` is called before the model is loaded, while the tasks are read after it. So this is where a
  missing judge is noticed in time, and a task of others that an adapter of ours would be asked for.
- `EvaluationTracker.save_results_aggregated`, public, writes the results of a run: NaN, which JSON does not know, is
  null there.
- `make_table`, public, makes of a run's results the text that is printed when all is written; each task of ours has up
  to 20 figures, so that the few that people look for first are printed.
- Its log, loguru's, gets a patcher, public too, that takes keys out: lmms-eval logs `HF_TOKEN` as each run starts.
"""

from __future__ import annotations

import functools
import os
import sys
import traceback
import weakref
from collections.abc import Iterator, Mapping, MutableMapping
from importlib.metadata import version
from typing import Any

from packaging.specifiers import SpecifierSet

from egost.tasks.clips.protocols import chosen_protocol
from egost.tasks.errors import EgostError, SettingError, exits_with_message
from egost.tasks.json_text import without_nan
from egost.tasks.judging.choose import chosen_judge
from egost.tasks.keys import redacted
from egost.tasks.release.trained_on import note_model, noted_model
from egost.tasks.task_names import TASK_FOLDER, parse_task_name

TESTED_LMMS_EVAL = SpecifierSet(">=0.7.3,<0.8")

ONLY_OURS = "EGOST_ONLY"
"""Set to 1 in the environment: index our tasks alone."""


def register() -> list[Any]:
    """Entry point of the group `lmms_eval.models`: adds our tasks, offers no model.

    On a version of lmms-eval outside `TESTED_LMMS_EVAL` nothing is registered and an error is logged: an
    exception here would also switch off the plugins that lmms-eval loads after this one.
    """
    from lmms_eval import utils
    from lmms_eval.api.model import lmms
    from lmms_eval.api.task import ConfigurableTask
    from lmms_eval.caching.response_cache import ResponseCache
    from lmms_eval.loggers.evaluation_tracker import EvaluationTracker
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
        TaskManager.match_tasks = _checked(TaskManager.match_tasks)
        ConfigurableTask.__init__ = _remembered(ConfigurableTask.__init__)
        lmms.__init__ = _with_guarded_tasks(lmms.__init__)
        ConfigurableTask.build_all_requests = _uncached(ConfigurableTask.build_all_requests)
        ResponseCache.create = classmethod(_not_of_ours(ResponseCache.create.__func__))
        EvaluationTracker.save_results_aggregated = _as_json(EvaluationTracker.save_results_aggregated)
        whole, few = utils.make_table, _few_rows(utils.make_table)
        for name in ("lmms_eval.utils", "lmms_eval.evaluator", "lmms_eval.__main__", "__main__"):
            if getattr(sys.modules.get(name), "make_table", None) is whole:
                sys.modules[name].make_table = few  # type: ignore[attr-defined]
        lmms.create_from_arg_string = classmethod(_noting(lmms.create_from_arg_string.__func__))
    return []


def _without_keys(record: Any) -> None:
    said = record["message"]
    if error := record["exception"]:
        # loguru would print what each name of the traceback holds.
        said += "\n" + "".join(traceback.format_exception(error.type, error.value, error.traceback))
        record["exception"] = None
    record["message"] = redacted(said)


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


def _checked(match_tasks: Any) -> Any:
    @functools.wraps(match_tasks)
    def wrapped(self: Any, task_list: list[str]) -> list[str]:
        matched: list[str] = match_tasks(self, task_list)
        if str(self.model_name).startswith("egost_"):
            _refuse_foreign(self, matched)
        ours = [found for name in matched if (found := parse_task_name(name))]
        for world in {found.world for found in ours if "route" in found.kinds}:
            try:
                chosen_judge(world)
            except EgostError as error:
                raise SystemExit(f"egost: {error}") from error
        return matched

    return wrapped


def _refuse_foreign(manager: Any, names: list[str]) -> None:
    from egost.tasks.own_tasks import foreign_tasks

    if foreign := next(foreign_tasks(manager.task_index, names), None):
        raise SystemExit(
            f"egost: --model {manager.model_name} evaluates egost tasks only, and {foreign} is none: run it by itself, "
            "with one of lmms-eval's own adapters."
        )


def _not_of_ours(create: Any) -> Any:
    @functools.wraps(create)
    def wrapped(cls: Any, cache_root: str, **kwargs: Any) -> Any:
        if any(_asks_ours(vars(task.config)) for task in _single_tasks(kwargs.get("task_dict") or {})):
            raise SystemExit(
                "egost: --use_cache would keep a failed request as an answer for good, and lose how each response was "
                "made. Leave it out: our adapters keep every response in the journal, and lmms-eval's own do with "
                "--model egost_journal --model_args adapter=NAME,..."
            )
        return create(cls, cache_root, **kwargs)

    return wrapped


def _uncached(build: Any) -> Any:
    @functools.wraps(build)
    def wrapped(self: Any, *args: Any, **kwargs: Any) -> None:
        if kwargs.get("cache_requests") and _asks_ours(vars(self.config)):
            raise SystemExit(
                "egost: --cache_requests would ask what it kept before, without the clips, whatever release it was of. "
                "Leave it out: our requests are made in a second."
            )
        build(self, *args, **kwargs)

    return wrapped


def _as_json(save: Any) -> Any:
    @functools.wraps(save)
    def wrapped(self: Any, results: dict[str, Any], *args: Any, **kwargs: Any) -> None:
        if not any(_asks_ours(config) for config in results["configs"].values()):
            save(self, results, *args, **kwargs)
            return
        written = without_nan(results)
        save(self, written, *args, **kwargs)
        results.update({name: value for name, value in written.items() if name not in results})

    return wrapped


FIRST_FIGURES = ("percent", "chance", "n_scored")
"""What lmms-eval's table shows of a task, with `n_unscored` where there are some."""


def _few_rows(make_table: Any) -> Any:
    """lmms-eval's table with the first figures of each task of ours. The results hold all, as before."""

    @functools.wraps(make_table)
    def wrapped(results: dict[str, Any], column: str = "results", *args: Any, **kwargs: Any) -> str:
        configs = results.get("configs", {})
        ours = {name for name in results[column] if _asks_ours(configs.get(name, {}))}
        rows = {
            name: {key: value for key, value in row.items() if name not in ours or _is_first(key, value)}
            for name, row in results[column].items()
        }
        table: str = make_table({**results, column: rows}, column, *args, **kwargs)
        if not ours:
            return table
        return (
            f"{table}\negost: the first figures of each task. All of them are in the results file of --output_path; "
            "`egost summary RUN --all` prints them."
        )

    return wrapped


def _is_first(key: str, value: object) -> bool:
    metric, _, of_filter = key.partition(",")
    # Standard errors are a column of their figure's row.
    metric = metric.partition("_stderr")[0]
    return not of_filter or metric in FIRST_FIGURES or (metric == "n_unscored" and value != 0)


_tasks: MutableMapping[int, Any] = weakref.WeakValueDictionary()
"""The tasks of lmms-eval that this process has made, by the identity of their data."""


def _remembered(init: Any) -> Any:
    @functools.wraps(init)
    def wrapped(self: Any, *args: Any, **kwargs: Any) -> None:
        init(self, *args, **kwargs)
        _tasks[id(self.dataset)] = self

    return wrapped


class _GuardedTasks(dict[str, Any]):
    """The `task_dict` of a model."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self._model = weakref.ref(model)

    def __setitem__(self, name: str, data: Any) -> None:
        if task := _tasks.get(id(data)):
            # lmms-eval leaves the name out of a task that came as a dictionary, and then fails when all is answered.
            task.config.task = task.config.task or name
            self._prepare(task)
        super().__setitem__(name, data)

    @exits_with_message
    def _prepare(self, task: Any) -> None:
        from egost.tasks.own_tasks import leave_out_trained, note_changes

        check_frames(self._model())
        model = vars(self._model())
        note_model(model.get("egost_names") or _said_of_itself(model))
        leave_out_trained(task)
        note_changes(task)


def check_frames(model: Any) -> None:
    """Raise SettingError for an adapter of lmms-eval that would not take a clip's frames as they are.

    A chat model that asks for more than there are fails, and one that asks for fewer samples them again. A simple one
    with a limit takes no more than that; those of the Qwen families read two frames at a time, so that the last of an
    odd number would be lost.
    """
    given, frames = vars(model), chosen_protocol().n_frames
    limit = given.get("max_num_frames")
    if model.is_simple and isinstance(limit, int) and (limit < frames or frames % 2):
        remedy = "an even number of frames" if frames % 2 else f"max_num_frames={frames} in --model_args"
        raise SettingError(
            f"lmms-eval's adapter would not show the model all {frames} frames of EGOST_PROTOCOL. Take {remedy}, or "
            "one of egost's engines (egost run --engine transformers)."
        )
    if model.is_simple or any(given.get(name) for name in ("fps", "video_fps", "pass_video_url")):
        return
    for name in ("nframes", "max_frames_num"):
        if isinstance(asked := given.get(name), int) and asked != frames:
            what = "fail" if asked > frames else "leave the others out"
            raise SettingError(
                f"lmms-eval's adapter would take {asked} frames of each clip, which has {frames}, and {what}. Add "
                f"{name}={frames} to --model_args."
            )


def _said_of_itself(model: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """What may name the checkpoint of a model that was made in Python: its texts, and the names in what it loaded."""
    for name, part in model.items():
        yield name, part
        for loaded in (part, getattr(part, "config", None)):
            yield name, getattr(loaded, "name_or_path", None)
            yield name, getattr(loaded, "_name_or_path", None)


def _with_guarded_tasks(init: Any) -> Any:
    @functools.wraps(init)
    def wrapped(self: Any, *args: Any, **kwargs: Any) -> None:
        init(self, *args, **kwargs)
        self.task_dict = _GuardedTasks(self)

    return wrapped


def _single_tasks(task_dict: Mapping[Any, Any]) -> Iterator[Any]:
    for value in task_dict.values():
        if isinstance(value, Mapping):
            yield from _single_tasks(value)
        else:
            yield value


def _asks_ours(config: Mapping[str, Any]) -> bool:
    """Whether a task of lmms-eval asks samples of ours, whatever its name."""
    metadata = config.get("metadata")
    return isinstance(metadata, Mapping) and "release_sha256" in metadata


def _noting(create: Any) -> Any:
    @functools.wraps(create)
    def wrapped(cls: Any, arg_string: str, *args: Any, **kwargs: Any) -> Any:
        note_model(arg_string)
        model = create(cls, arg_string, *args, **kwargs)
        model.egost_names = noted_model()
        return model

    return wrapped
