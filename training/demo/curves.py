"""Plots of training runs, from their `log.csv`: loss and token accuracy, reward and completion length (Figures 7-9)."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from egost.tasks.cache import write_whole
from egost.training import TrainingError
from egost.training.runs.callbacks import read_log

SMOOTH = 10
"""Steps that the strong line is a mean of."""


@dataclass(frozen=True)
class Panel:
    """One diagram. column: of `log.csv`; label: of its axis."""

    column: str
    label: str


FINE_TUNING = (Panel("loss", "loss"), Panel("token_accuracy", "mean token accuracy"))
"""Figure 8."""

REWARD = (
    Panel("reward", "mean accuracy reward"),
    Panel("completion_length", "mean completion length (tokens)"),
)
"""Figures 7 and 9."""


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
        axes.set_xlabel("optimizer step")
        axes.set_ylabel(panel.label)
        axes.grid(alpha=0.3)
        axes.legend(frameon=False)
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png", dpi=130)
    write_whole(out, drawn.getvalue())


def smoothed(values: Sequence[float]) -> list[float]:
    """The mean of each value and those before it, `SMOOTH` at most."""
    return [float(np.mean(values[max(0, k + 1 - SMOOTH) : k + 1])) for k in range(len(values))]
