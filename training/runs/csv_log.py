"""A run's figures as a CSV file, one line for each time that the trainer logs."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from egost.tasks.cache import write_whole

LOG_FILE = "log.csv"


class CsvLog(TrainerCallback):  # type: ignore[misc]
    """Writes `log.csv` into the output folder: the step, then the columns that it was given.

    columns: the file's columns, and for each the trainer's name of its figure; empty where a log has none.
    A run that goes on from a checkpoint drops the lines after it, so that the file is as an unbroken run's.
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
        told = any(value is not None for column, value in values.items() if column != "epoch")
        if state.is_world_process_zero and told:
            with (Path(args.output_dir) / LOG_FILE).open("a", newline="", encoding="utf-8") as file:
                writer = csv.DictWriter(file, ["step", *self.columns], lineterminator="\n")
                writer.writerow({"step": state.global_step, **values})


def read_log(path: Path) -> list[dict[str, str]]:
    """The lines of a log, without one that was cut off when its run died; nothing where there is no file."""
    if not path.is_file():
        return []
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    return list(csv.DictReader(line for line in lines if line.endswith("\n")))
