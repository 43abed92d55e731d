"""Checkpoints that count only when they are whole, so that a run which was killed goes on from one that is.

A Trainer writes a checkpoint's files one after another into its folder. The last thing that `WholeCheckpoints` puts
there is a mark; a folder without it is one that was being written when the process died.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from egost.tasks.cache import write_whole

MARK = "egost_whole.json"
_CHECKPOINT = re.compile(r"checkpoint-(\d+)")


class WholeCheckpoints(TrainerCallback):  # type: ignore[misc]
    """Marks each checkpoint when all of it is written, then deletes the oldest ones beyond `keep`.

    keep: how many to keep; None keeps all. The Trainer's own `save_total_limit` would delete the last whole one
    before the new one is marked, and has to be None. finish: called with the folder before it is marked.
    """

    def __init__(self, keep: int | None, finish: Callable[[Path], None] | None = None) -> None:
        self.keep = keep
        self.finish = finish

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        from accelerate import PartialState

        PartialState().wait_for_everyone()
        if not state.is_world_process_zero:
            return
        folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        if self.finish:
            self.finish(folder)
        write_whole(folder / MARK, json.dumps({"step": state.global_step}).encode())
        if self.keep:
            for old in whole_checkpoints(Path(args.output_dir))[: -self.keep]:
                shutil.rmtree(old)


def whole_checkpoints(output: Path) -> list[Path]:
    """The whole checkpoints of a run, the oldest first."""
    found = [(int(m[1]), path) for path in _folders(output) if (m := _CHECKPOINT.fullmatch(path.name))]
    return [path for _, path in sorted(found) if (path / MARK).is_file()]


def remove_unfinished(output: Path) -> list[Path]:
    """Delete the checkpoints that were being written when their run died, and return their names."""
    whole = set(whole_checkpoints(output))
    broken = [p for p in _folders(output) if _CHECKPOINT.fullmatch(p.name) and p not in whole]
    for folder in broken:
        shutil.rmtree(folder)
    return broken


def _folders(output: Path) -> list[Path]:
    return [path for path in output.iterdir() if path.is_dir()] if output.is_dir() else []
