"""Which tests are slow. No test is marked by hand: a test is slow if it reaches what is listed here.

It may reach it through its fixtures, through functions and classes of the tests, or through an import.
"""

from __future__ import annotations

import ast
import inspect
import re
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
    ("families", "prompt_renderer"): "imports transformers",
    ("grpo_runs", "PROCESS"): "trains",
    ("headless_chromium", "chromium_page"): "starts a browser",
    ("lmms_eval_command", "COMMAND"): "starts lmms-eval",
    ("lmms_eval_command", "plain_lmms_eval"): "starts lmms-eval",
    ("lmms_eval_command", "lmms_eval_on_two_ranks"): "starts lmms-eval",
    ("parity_run", "run_parity"): "runs checkpoints",
    ("preloaded", "run_preloaded"): "starts lmms-eval or trains",
    ("server_engines", "engine"): "asks servers",
    ("taught_checkpoint", "taught_checkpoint"): "trains",
    ("tiny_checkpoint", "tiny_checkpoint"): "builds a checkpoint",
    ("text_only_baseline", "linear_baseline"): "fits a text-only baseline",
    ("text_only_baseline", "text_only_accuracy"): "fits a text-only baseline",
    ("text_only_baseline", "trained_baseline"): "fits a text-only baseline",
    ("test_parity", "test_a_checkpoint_of_the_package_by_its_short_name"): "runs checkpoints",
    ("test_parity", "test_a_group_and_names_with_a_space_between"): "runs checkpoints",
    ("test_parity", "test_the_command"): "runs checkpoints",
    ("test_server_engine", "answers"): "asks servers about many clips",
    ("test_text_only", "shown"): "fits a learning curve",
    ("video_runs", "make_world"): "builds a checkpoint and renders clips for it",
    ("wheels", "build"): "builds a wheel or an sdist",
}
"""What starts, trains, fits or builds something that takes seconds: module and name of a helper or a fixture."""

SLOW_NAMES = {
    "executable": "starts Python",
    "SIGINT": "interrupts a process",
    "SIGKILL": "kills a process",
    "SIGSTOP": "holds processes up",
    "killpg": "kills a process",
    "send_signal": "interrupts a process",
}
"""Names that code looks up to start a Python process, or to end one in the middle of its work."""

SLOW_TESTS = {
    "starts lmms-eval": (
        "test_a_real_sweep_shares_the_journal_and_goes_on",
        "test_real_answers_are_journaled_one_by_one_by_their_seed",
    ),
    "decodes 64 frames of 1080p": ("test_64_frames_of_1080p_stay_within_a_bound_of_memory",),
    "fits a text-only baseline": (
        "test_a_biased_writer_is_caught_by_name",
        "test_a_run_is_measured_from_its_saved_samples",
        "test_a_floor_that_does_not_fit_is_refused",
        "test_a_model_that_was_not_trained_is_tested_without_st_r1s_rows_as_in_table_3",
        "test_a_score_that_needs_no_seeing_is_told",
        "test_a_trained_checkpoint_stands_in_table_3_beside_what_text_alone_gets",
        "test_blind_runs_raise_doubts",
        "test_each_aim_has_a_sentence_that_says_whether_it_was_reached",
        "test_figures_are_means_of_the_tasks",
        "test_ours_stand_before_the_published_rows_which_are_marked",
        "test_questions_are_written_and_calibrated",
        "test_the_command_takes_the_released_rows",
        "test_what_diagnose_wrote_stands_beside_the_run",
        "test_text_alone_stays_at_chance",
        "test_what_the_offline_writer_writes_is_kept_whole",
    ),
    "simulates hundreds of runs": (
        "test_a_difference_is_seen_as_often_as_was_planned",
        "test_a_difference_that_is_not_there_is_seen_in_5_of_100_runs",
        "test_the_interval_holds_the_truth_in_95_of_100_runs",
    ),
    "plans or renders hundreds of walks": (
        "test_its_films_share_no_map_with_test_and_training_walks",
        "test_pretraining_walks_are_no_test_walks",
        "test_splits_share_no_map",
        "test_the_same_arguments_give_the_same_bytes_in_any_number_of_processes",
        "test_turns_are_drawn_evenly",
    ),
    "builds a checkpoint": (
        "test_a_checkpoint_of_the_package[tiny]",
        "test_a_checkpoint_of_the_package_is_served_from_its_folder[tiny]",
        "test_the_command_that_is_suggested_fits_what_is_said_of_the_model[tiny-egost_mini-egost run tiny --dry-run]",
        "test_the_embedded_checkpoint_needs_no_vllm[tiny]",
    ),
    "judges a thousand routes": (
        "test_a_thousand_judgements_under_all_faults_at_once",
        "test_every_trick_earns_nothing_with_every_reference",
    ),
    "waits for a server that does not answer": (
        "test_a_429_halves_the_calls_at_once_and_they_grow_back",
        "test_a_dead_endpoint_ends_the_asking_soon",
        "test_a_server_that_answers_nothing_ends_the_run",
    ),
    "imports torch or lmms-eval": (
        "test_every_function_of_the_paper_exists",
        "test_every_shipped_recipe_is_read",
        "test_model_args_that_cannot_work_end_the_command_with_one_message",
        "test_the_papers_recipe_from_the_real_configuration",
    ),
    "runs several commands one after another": (
        "test_every_command_can_be_typed",
        "test_walks_come_out_as_they_went_in",
        "test_what_is_not_ready_is_refused",
    ),
    "encodes and decodes many films": (
        "test_a_clip_that_takes_too_long_ends_its_child_alone",
        "test_a_webm_that_was_cut_short_is_recognised",
        "test_any_size_can_be_kept",
        "test_each_protocol_shows_what_decoding_would_give[24-how0]",
        "test_every_file_of_a_folder_is_held_against_ffmpeg",
        "test_every_reader_gives_the_written_bytes_back",
        "test_range_and_matrix_are_the_streams_own",
        "test_reference_pictures_that_are_never_shown_do_not_count",
    ),
    "renders the mini world": (
        "test_it_has_the_official_layout",
        "test_the_shown_frames_show_each_landmark_and_the_side_of_each_turn",
    ),
    "decodes or scales large frames": (
        "test_a_clip_that_needs_too_much_memory_has_its_reason",
        "test_a_limit_makes_them_smaller_and_then_leaves_the_last_out",
    ),
    "compares a run of many clips several times": (
        "test_a_tolerance_allows_other_replies_but_no_drop_beyond_chance",
    ),
}
"""Tests that take seconds by what they do themselves; a name with brackets is one case of a test."""

_WHY_BY_NAME = {test: reason for reason, tests in SLOW_TESTS.items() for test in tests}

SLOW_PACKAGES = (
    "accelerate",
    "lmms_eval",
    "peft",
    "qwen_vl_utils",
    "torch",
    "torchvision",
    "transformers",
    "trl",
    "vllm",
)
"""Packages whose import takes seconds of CPU."""

QUICK_MODULES = ("lmms_eval.api.filter", "lmms_eval.api.instance")
"""Modules of theirs that import none of the rest."""

_FIRST_DEFINITION = re.compile(r"^(?:@|async def |class |def )", re.M)
"""Where what a file imports ends: reading no further takes a twentieth of the time."""

_spec = cache(find_spec)

_TESTS = str(Path(__file__).parents[1])


def why_slow_file(file: Path) -> str | None:
    """Why a whole file of tests is slow, so that it need not even be collected; or None.

    It imports a slow package, or holds attacks, hundreds of which are made when it is imported.
    """
    if file.parent.name == "hostile":
        return "attacks by the hundred"
    return next(filter(None, map(_why_import, _imported(file))), None)


def why_slow(item: pytest.Item) -> str | None:
    """What makes a test slow, or None if it is quick."""
    if not isinstance(item, pytest.Function):
        return None
    if why := _WHY_BY_NAME.get(item.originalname) or _WHY_BY_NAME.get(item.name):
        return why
    if why := why_slow_file(item.path):
        return why
    fixtures = item._fixtureinfo.name2fixturedefs
    functions = [
        item.function,
        *(fixtures[name][-1].func for name in item.fixturenames if fixtures.get(name)),
    ]
    given = getattr(getattr(item, "callspec", None), "params", {}).values()
    return next(filter(None, map(_why_function, functions)), None) or next(
        filter(None, _reasons(given)), None
    )


@cache
def _why_function(function: Any) -> str | None:
    """Remembered, since many tests have the same function or fixture."""
    return next(filter(None, _reasons([function])), None)


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
            yield next((SLOW_NAMES[name] for name in SLOW_NAMES if name in names), None)
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
        if name not in seen and (_is_ours(name)):
            seen.add(name)
            spec = _spec(name)
            todo += _imported(Path(spec.origin)) if spec and spec.origin else ()
    return None


@cache
def _is_ours(module: str) -> bool:
    """Whether a module is the product's or a helper of its tests."""
    first = Path(__file__).parent / module.partition(".")[0]
    return first.name == "egost" or first.with_suffix(".py").is_file() or first.is_dir()


@cache
def _imported(file: Path) -> tuple[str, ...]:
    """The modules that a file imports at its top, without those for types alone."""
    found = []
    text = file.read_text(encoding="utf-8")
    try:
        body = ast.parse(_FIRST_DEFINITION.split(text, 1)[0]).body
    except SyntaxError:
        # It begins within a string.
        body = ast.parse(text).body
    for node in body:
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.append(node.module)
            if _is_ours(node.module):
                found += [f"{node.module}.{a.name}" for a in node.names if _is_module(node.module, a.name)]
    return tuple(found)


def _is_module(package: str, name: str) -> bool:
    spec = _spec(package)
    folders = spec.submodule_search_locations if spec else None
    return any((Path(folder) / f"{name}.py").is_file() for folder in folders or ())
