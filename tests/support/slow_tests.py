"""Which tests are slow. No test is marked by hand: a test is slow if it reaches what is listed here.

It may reach it through its fixtures, through functions and classes of the tests, or through an import.
"""

from __future__ import annotations

import ast
import inspect
import sys
import types
from collections.abc import Iterable, Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

SLOW_HELPERS = {
    ("egost_command", "EGOST"): "starts what trains or evaluates",
    ("egost_command", "egost_run"): "starts lmms-eval",
    ("egost_serve", "start_serving"): "starts vLLM's server",
    ("grpo_runs", "PROCESS"): "trains",
    ("headless_chromium", "chromium_page"): "starts a browser",
    ("lmms_eval_command", "COMMAND"): "starts lmms-eval",
    ("lmms_eval_command", "lmms_eval"): "starts lmms-eval",
    ("lmms_eval_command", "lmms_eval_on_two_ranks"): "starts lmms-eval",
    ("sft_runs", "PROCESS"): "trains",
    ("taught_checkpoint", "taught_checkpoint"): "trains",
    ("test_text_only", "shown"): "fits a learning curve",
    ("video_runs", "make_world"): "builds a checkpoint and renders clips for it",
    ("wheels", "build_wheel"): "builds a wheel",
}
"""What starts, trains or builds something that takes seconds: module and name of a helper or a fixture."""

SLOW_PACKAGES = (
    *(
        "accelerate",
        "lmms_eval",
        "peft",
        "qwen_vl_utils",
        "torch",
        "torchvision",
        "transformers",
        "trl",
        "vllm",
    ),
)
"""Packages whose import takes seconds of CPU."""

QUICK_MODULES = ("lmms_eval.api.filter", "lmms_eval.api.instance")
"""Modules of theirs that import none of the rest."""

_OURS = ("egost", "pretraining")
_TESTS = str(Path(__file__).parents[1])


def why_slow(item: pytest.Item) -> str | None:
    """What makes a test slow, or None if it is quick."""
    if not isinstance(item, pytest.Function):
        return None
    starts = [item.function, *getattr(getattr(item, "callspec", None), "params", {}).values()]
    fixtures = item._fixtureinfo.name2fixturedefs
    starts += [fixtures[name][-1].func for name in item.fixturenames if fixtures.get(name)]
    return next(filter(None, _reasons(starts)), None)


def _reasons(starts: Iterable[Any]) -> Iterator[str | None]:
    """A reason or None for each thing that the functions reach, in any order."""
    todo, seen = list(starts), set()
    while todo:
        value = todo.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        yield _slow_objects().get(id(value))
        if inspect.isfunction(value):
            yield SLOW_HELPERS.get((value.__module__.rpartition(".")[2], value.__name__))
        if isinstance(value, types.ModuleType):
            yield _why_import(value.__name__)
        elif isinstance(getattr(value, "__module__", None), str):
            yield _why_import(value.__module__)
        if isinstance(value, type) and _is_of_the_tests(value):
            todo += vars(value).values()
        function = inspect.unwrap(value) if callable(value) else value
        code = getattr(function, "__code__", None)
        if not isinstance(code, types.CodeType) or not code.co_filename.startswith(_TESTS):
            continue
        todo += [cell.cell_contents for cell in function.__closure__ or ()]
        for names in _names(code):
            yield from map(_why_import, names)
            yield next((SLOW_HELPERS[pair] for pair in SLOW_HELPERS if names >= set(pair)), None)
            found = [function.__globals__[name] for name in names if name in function.__globals__]
            modules = [value for value in found if isinstance(value, types.ModuleType)]
            todo += found
            todo += [vars(m)[name] for m in modules if _is_of_the_tests(m) for name in names & vars(m).keys()]


def _is_of_the_tests(value: Any) -> bool:
    module = (
        value
        if isinstance(value, types.ModuleType)
        else sys.modules.get(str(getattr(value, "__module__", "")))
    )
    return (getattr(module, "__file__", None) or "").startswith(_TESTS)


def _names(code: types.CodeType) -> Iterator[set[str]]:
    """The names that a function and each function within it look up or import."""
    yield set(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _names(constant)


@cache
def _slow_objects() -> dict[int, str]:
    """The things of SLOW_HELPERS that are imported, by their identity."""
    return {
        id(vars(sys.modules[module])[name]): reason
        for (module, name), reason in SLOW_HELPERS.items()
        if module in sys.modules and name in vars(sys.modules[module])
    }


@cache
def _why_import(module: str) -> str | None:
    """The slow package that a module imports at its top, by whatever way."""
    todo, seen = [module], set()
    while todo:
        name = todo.pop()
        if name.partition(".")[0] in SLOW_PACKAGES and name not in QUICK_MODULES:
            return f"imports {name}"
        if name.startswith(_OURS) and name not in seen:
            seen.add(name)
            spec = find_spec(name)
            todo += _imported(Path(spec.origin)) if spec and spec.origin else ()
    return None


def _is_support(module: str) -> bool:
    return (Path(__file__).parent / module.replace(".", "/")).with_suffix(".py").is_file()


@cache
def _imported(file: Path) -> tuple[str, ...]:
    """The modules that a file imports at its top, without those for types alone."""
    found = []
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.append(node.module)
            if node.module.startswith(_OURS):
                found += [f"{node.module}.{a.name}" for a in node.names if _is_module(node.module, a.name)]
    return tuple(found)


def _is_module(package: str, name: str) -> bool:
    spec = find_spec(package)
    folders = spec.submodule_search_locations if spec else None
    return any((Path(folder) / f"{name}.py").is_file() for folder in folders or ())
