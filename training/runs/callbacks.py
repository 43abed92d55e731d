"""Callbacks of transformers' Trainer: `log.csv`, checkpoints that are marked when whole, steps left out for NaN."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from egost.tasks.cache import write_whole

LOG_FILE = "log.csv"
MARK = "egost_whole.json"
"""The last file of a checkpoint. A folder without it was being written when its run died."""

_CHECKPOINT = re.compile(r"checkpoint-(\d+)")


class CsvLog(TrainerCallback):  # type: ignore[misc]
    """Writes `log.csv` into the output folder: the step, then one column for each figure.

    columns: the file's columns, and for each the trainer's name of its figure; empty where a log has none.
    A run that resumes from a checkpoint drops the lines after it, so that the file is as an unbroken run's.
    """

    def __init__(self, columns: Mapping[str, str]) -> None:
        self.columns = columns

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.is_world_process_zero:
            path = Path(args.output_dir) / LOG_FILE
            kept = [row for row in read_log(path) if int(row["step"]) <= state.global_step]
            text = io.StringIO()
            writer = csv.DictWriter(text, ["step", *self.columns], lineterminator="\n")
            writer.writeheader()
            writer.writerows(kept)
            write_whole(path, text.getvalue().encode())

    def on_log(
        self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any
    ) -> None:
        values = {column: (logs or {}).get(name) for column, name in self.columns.items()}
        # The summary at a run's end has none of a step's figures.
        is_step = any(value is not None for column, value in values.items() if column != "epoch")
        if state.is_world_process_zero and is_step:
            with (Path(args.output_dir) / LOG_FILE).open("a", newline="", encoding="utf-8") as file:
                writer = csv.DictWriter(file, ["step", *self.columns], lineterminator="\n")
                writer.writerow({"step": state.global_step, **values})


def read_log(path: Path) -> list[dict[str, str]]:
    """The lines of a log, without one that was cut off when its run died; nothing where there is no file."""
    if not path.is_file():
        return []
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    return list(csv.DictReader(line for line in lines if line.endswith("\n")))


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
    """Delete the checkpoints that were being written when their run died, and return their paths."""
    whole = set(whole_checkpoints(output))
    broken = [p for p in _folders(output) if _CHECKPOINT.fullmatch(p.name) and p not in whole]
    for folder in broken:
        shutil.rmtree(folder)
    return broken


class NonFiniteSteps(TrainerCallback):  # type: ignore[misc]
    """Leaves out an optimizer step whose gradient has NaN or infinity on any process, so that no weight is ruined.

    Without gradients the optimizer changes neither weights nor its own state; the schedule goes on.
    record: called with 1.0 for a step that is left out, else with 0.0.

    DeepSpeed steps inside its own backward pass, out of reach of a callback: see `VideoGRPOTrainer`.
    """

    def __init__(self, record: Callable[[float], None]) -> None:
        self.record = record

    def on_pre_optimizer_step(
        self, args: Any, state: Any, control: Any, model: Any = None, optimizer: Any = None, **_: Any
    ) -> None:
        import torch
        from accelerate.utils import reduce

        gradients = [weight.grad for weight in model.parameters() if weight.grad is not None]
        if not gradients:
            return
        norm = torch.nn.utils.get_total_norm(gradients)
        bad = reduce((~torch.isfinite(norm)).float().reshape(1).to(args.device), "sum").item() > 0
        self.record(float(bad))
        if bad:
            optimizer.zero_grad(set_to_none=True)


def _folders(output: Path) -> list[Path]:
    return [path for path in output.iterdir() if path.is_dir()] if output.is_dir() else []
