"""The log of a training run, `log.csv`: read, and drawn as Figures 7 to 9 of the paper.

draw_runs({"ST-CoT": folder}, out)      (`egost train plot FOLDER`)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from egost.tasks.cache import write_picture
from egost.tasks.text_files import csv_rows
from egost.training import TrainingError

LOG_FILE = "log.csv"

CUT_SHARE = 0.2
"""Of the completions of a step: beyond it, a run warns that they end by their length."""


def read_log(path: Path) -> list[dict[str, str]]:
    """The lines of a log, without one that was cut off (by an older version); nothing where there is no file.

    Raises TrainingError where one holds anything but figures.
    """
    if not path.is_file():
        return []
    try:
        rows = csv_rows(path, whole_lines=True)
        for row in rows:
            int(row["step"])
            for value in row.values():
                float(value or 0)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TrainingError(
            f"{path} is no log of a training ({error!r:.200}). Delete it, or restore it: it holds the run's figures."
        ) from error
    return rows


SMOOTH = 10
"""Steps that the strong line is a mean of."""


@dataclass(frozen=True)
class Panel:
    """One diagram. column: of `log.csv`; label: of its axis; limit: where a line marks too much."""

    column: str
    label: str
    limit: float | None = None


FINE_TUNING = (Panel("loss", "loss"), Panel("token_accuracy", "mean token accuracy"))
"""Figure 8."""

REWARD = (
    Panel("reward", "mean accuracy reward"),
    Panel("completion_length", "mean completion length (tokens)"),
    Panel("clipped_ratio", "share cut at the length's limit", CUT_SHARE),
)
"""Figures 7 and 9, and how many completions had no room to end."""


def draw_runs(runs: Sequence[Path], out: Path) -> None:
    """Draw the logs of runs of one kind, fine-tuning or GRPO, into one PNG.

    runs: output folders. Raises TrainingError for a folder without a log, and for runs of both kinds.
    """
    logs = {str(run): run / LOG_FILE for run in runs}
    columns = []
    for name, log in logs.items():
        rows = read_log(log)
        columns.append({column for row in rows for column, value in row.items() if value})
        if not rows:
            raise TrainingError(f"{name} holds no {LOG_FILE} with a step. Name the output folder of a run.")
    grpo = "reward" in columns[0]
    if any(("reward" in found) != grpo for found in columns):
        raise TrainingError(
            "these are runs of fine-tuning and of GRPO, which share no figures. Plot them apart."
        )
    panels, title = (REWARD, "GRPO") if grpo else (FINE_TUNING, "Fine-tuning")
    draw(logs, [panel for panel in panels if all(panel.column in found for found in columns)], title, out)


def curve(log: Path, column: str) -> tuple[list[int], list[float]]:
    """Steps and values of a column. Raises TrainingError where the log has none."""
    found = [(int(row["step"]), float(row[column])) for row in read_log(log) if row.get(column)]
    if not found:
        raise TrainingError(f"{log} has no figures of {column}: the run did not log a step. Train again.")
    return [step for step, _ in found], [value for _, value in found]


def draw(logs: Mapping[str, Path], panels: Sequence[Panel], title: str, out: Path) -> None:
    """Draw each panel with one line for each run, and write the PNG whole. logs: by the runs' names."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.2 * len(panels), 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title)
    for axes, panel in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        for number, (name, log) in enumerate(logs.items()):
            steps, values = curve(log, panel.column)
            axes.plot(steps, values, color=f"C{number}", alpha=0.25, linewidth=1)
            # Dashed lines show another one that they lie upon.
            style = "-" if number == 0 else "--"
            axes.plot(steps, smoothed(values), color=f"C{number}", linestyle=style, linewidth=1.8, label=name)
        if panel.limit is not None:
            axes.axhline(panel.limit, color="0.4", linewidth=1, linestyle=":")
        axes.set_xlabel("optimizer step")
        axes.set_ylabel(panel.label)
        axes.grid(alpha=0.3)
        axes.legend(frameon=False)
    write_picture(out, figure, dpi=130)


def smoothed(values: Sequence[float]) -> list[float]:
    """The mean of each value and those before it, `SMOOTH` at most."""
    return [float(np.mean(values[max(0, k + 1 - SMOOTH) : k + 1])) for k in range(len(values))]
