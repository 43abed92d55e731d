"""One real run that the tests of this room share: a small mini world, and a model that has learned to say letters."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from filelock import FileLock
from lmms_eval_command import lmms_eval
from taught_checkpoint import taught_checkpoint

from egost.results.run import Run, read_run
from egost.tasks.mini_world import write_mini_release
from egost.tasks.release.release import Release, mini_revision

CLIPS = 6


@dataclass(frozen=True)
class DemoHome:
    """Where the demo run was made. cache: its EGOST_CACHE, with the mini world in it; checkpoint: of its model.

    output: its --output_path. Not to be written into: other tests look at it, too.
    """

    folder: Path

    @property
    def cache(self) -> Path:
        return self.folder / "cache"

    @property
    def checkpoint(self) -> Path:
        return self.folder / "taught"

    @property
    def output(self) -> Path:
        return self.folder / "run"

    def evaluate(self, output: Path, *arguments: str, tasks: str = "egost_mini", **settings: str) -> Run:
        """The checkpoint by the plain lmms-eval command; what was asked before comes from the journal."""
        adapter = f"adapter=qwen2_vl,pretrained={self.checkpoint},device_map=cpu"
        done = lmms_eval(
            *("--tasks", tasks, "--model", "egost_journal", "--model_args", adapter, "--device", "cpu"),
            *("--gen_kwargs", "max_new_tokens=8", "--output_path", str(output), "--log_samples", *arguments),
            cwd=self.folder,
            cache=self.cache,
            **{"EGOST_ONLY": "1", "OMP_NUM_THREADS": "1", **settings},
        )
        assert output.is_dir(), done.stdout[-3000:] + done.stderr[-3000:]
        return read_run(output)


@contextmanager
def _one_thread() -> Iterator[None]:
    """So small a model is slower with several threads, and much slower where other processes want the cores, too."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def demo_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DemoHome]:
    base = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent  # All workers have this one in common.
    home = DemoHome(base / "results_demo")
    with FileLock(base / "results_demo.lock"), pytest.MonkeyPatch.context() as patch:
        # A fixture of a session comes before the one that gives each test its own cache.
        patch.setenv("EGOST_CACHE", str(home.cache))
        if not home.output.is_dir():
            home.folder.mkdir(exist_ok=True)
            root = write_mini_release(home.cache / "mini", clips=CLIPS, seed=3, progress=False)
            with _one_thread():
                taught_checkpoint(home.folder, Release("mini", (root,), mini_revision(root)))
            home.evaluate(home.output)
    yield home


@pytest.fixture(scope="session")
def demo_run(demo_home: DemoHome) -> Run:
    """The run, to be read alone: a test that changes its files takes `copied_run`."""
    return read_run(demo_home.output)


@pytest.fixture
def copied_run(demo_run: Run, tmp_path: Path) -> Run:
    """A copy of the run for one test, which may break it."""
    shutil.copytree(demo_run.results_file.parent, tmp_path / "run")
    return read_run(tmp_path / "run")
