"""Fixtures that several rooms share: a release in the official layout, with real video files."""

from __future__ import annotations

import gc
import itertools
import json
import os
import shutil
import signal

# Processes that run side by side, each with as many threads as there are cores, spend most of their time waiting for
# one another. Numpy and torch read this when they are loaded.
os.environ["OMP_NUM_THREADS"] = "1"

from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer.testing
from attacks import summary
from demo_runs import DemoHome, make_demo_home
from filelock import FileLock
from missing_programs import not_run
from release_files import choice_entry, write_video
from slow_tests import why_slow, why_slow_file
from wheels import build

from egost.model_adapters.engine import AdapterError
from egost.model_adapters.vllm_engine import vllm_version
from egost.tasks.mini_world import write_mini_release
from egost.tasks.release import release as release_module

# `CliRunner` makes all of egost's commands anew in each call, which costs more than most of them.
typer.testing._get_command = cache(typer.testing._get_command)  # type: ignore[attr-defined]

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell starts what runs in its background so, and commands that tests interrupt would inherit it.
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave alone what would only be collected to be deselected."""
    is_tests = collection_path.name.startswith("test_") and collection_path.suffix == ".py"
    return (
        config.option.markexpr == "not slow" and is_tests and bool(why_slow_file(collection_path))
    ) or None


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what is slow, begin with its files, and skip what needs the real vLLM where it is not."""
    slow = [item for item in items if why_slow(item)]
    for item in slow:
        item.add_marker(pytest.mark.slow)
    # So that no process is left alone with them at the end.
    slow_files = {item.path for item in slow}
    items.sort(key=lambda item: item.path not in slow_files)
    for_vllm = [item for item in items if item.path.parent.name == "vllm_in_process"]
    try:
        if for_vllm:
            vllm_version()
    except AdapterError as error:
        for item in for_vllm:
            item.add_marker(pytest.mark.skip(reason=str(error)))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """End with what came of the attacks of tests/hostile, and with what a missing program left out."""
    stats = terminalreporter.stats
    for line in not_run(stats.get("skipped", ())):
        terminalreporter.write_line(line)
    ended = [*stats.get("passed", ()), *stats.get("failed", ())]
    for line in summary([report for report in ended if report.when == "call"]):
        terminalreporter.write_line(line)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """Look for no garbage while tests are collected, nor later in what that made: nearly all of it stays."""
    gc.disable()
    yield
    gc.collect()
    gc.freeze()
    gc.enable()


_numbers = itertools.count()


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Each test has a cache of its own, and no setting of the person who runs it."""
    for name in [name for name in os.environ if name.startswith("EGOST_")]:
        monkeypatch.delenv(name)
    # Not by `mktemp`, which looks through all that were made before.
    cache = tmp_path_factory.getbasetemp() / f"own_cache{next(_numbers)}"
    cache.mkdir()
    monkeypatch.setenv("EGOST_CACHE", str(cache))
    release_module.open_release.cache_clear()
    yield cache
    release_module.open_release.cache_clear()


def shared_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all processes of this run of the tests have in common."""
    base = tmp_path_factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout, built once for all tests."""
    folder = shared_folder(tmp_path_factory) / "wheel"
    with FileLock(f"{folder}.lock"):
        return next(folder.glob("*.whl"), None) or build(folder, "wheel")


@pytest.fixture(scope="session")
def mini_release(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Copies a mini release of test walks into a folder; each is rendered once for all tests."""
    rendered = shared_folder(tmp_path_factory) / "mini_releases"
    rendered.mkdir(exist_ok=True)

    def copied(root: Path, clips: int, seed: int = 0) -> Path:
        release = rendered / f"{clips}_of_seed_{seed}"
        with FileLock(f"{release}.lock"):
            write_mini_release(release, clips=clips, seed=seed, workers=1, progress=False)
        return shutil.copytree(release, root, dirs_exist_ok=True)

    return copied


@pytest.fixture(scope="session")
def demo_home(tmp_path_factory: pytest.TempPathFactory) -> DemoHome:
    """A small mini world, a checkpoint that says letters, and a run of it, made once for all tests."""
    return make_demo_home(shared_folder(tmp_path_factory) / "results_demo")


@pytest.fixture
def questions(tmp_path: Path) -> Callable[..., Path]:
    """Writes the 26 question files, two entries each, into a folder; keyword arguments replace whole files."""

    def write(root: Path = tmp_path / "release", **replaced: Any) -> Path:
        root.mkdir(parents=True, exist_ok=True)
        for name in sorted(release_module.QUESTION_FILES):
            part, way, kind = name.removesuffix(".json").split("_", 2)
            keys = {"1": f"{part[-1]}1.mp4", "2": f"{part[-1]}2.mp4"}
            content = {
                key: {
                    "video": clip,
                    "question": "Describe the route.",
                    f"{way}_answer": "Turn left at the door.",
                }
                if kind == "qa"
                else choice_entry(way, clip)
                for key, clip in keys.items()
            }
            content = replaced.get(name.removesuffix(".json"), content)
            (root / name).write_text(content if isinstance(content, str) else json.dumps(content))
        return root

    return write


@pytest.fixture
def release_folder(questions: Callable[..., Path]) -> Path:
    """A whole small release: 26 question files and 8 clips in the part folders of the reference code."""
    root = questions()
    for part, folder in release_module.PART_FOLDERS.items():
        for number in (1, 2):
            write_video(root / folder / f"{part}{number}.mp4", seed=10 * part + number)
    return root
