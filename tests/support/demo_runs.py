"""A real run that many tests share: a small mini world, and a model that has learned to say letters."""

from __future__ import annotations

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
            **settings,
        )
        assert output.is_dir(), done.stdout[-3000:] + done.stderr[-3000:]
        return read_run(output)


def make_demo_home(folder: Path) -> DemoHome:
    """Make the world, the checkpoint and the run, unless another process has made them."""
    home = DemoHome(folder)
    with FileLock(f"{folder}.lock"), pytest.MonkeyPatch.context() as patch:
        # A fixture of a session comes before the one that gives each test its own cache.
        patch.setenv("EGOST_CACHE", str(home.cache))
        if not home.output.is_dir():
            home.folder.mkdir(exist_ok=True)
            root = write_mini_release(home.cache / "mini", clips=CLIPS, seed=3, progress=False)
            with _one_thread():
                taught_checkpoint(home.folder, Release("mini", (root,), mini_revision(root)))
            home.evaluate(home.output)
    return home


@contextmanager
def _one_thread() -> Iterator[None]:
    """So small a model is slower with several threads, and much slower where other processes want the cores, too."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
