"""The learning curve of the text-only baseline, drawn with ST-R1's figures in the paper's Table 3."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from egost.results.diagnosis.text_only import CurvePoint
from egost.results.published_tables import published_table
from egost.results.run_header import RunError
from egost.tasks.cache import write_picture

_WIDTH, _HEIGHT, _DPI = 8.0, 5.0, 150
_INK = {"random": "#0072b2", "nested": "#56b4e9", "forward": "#d55e00", "reverse": "#cc79a7"}
"""Colours that people who see no red or no green tell apart."""


def draw_curve(points: Sequence[CurvePoint], chance: float, title: str, path: Path) -> None:
    """Draw the curve as a PNG of 1200 x 750 pixels, whole or not at all.

    chance: percent of a guess by the number of options. Raises RunError without points, OSError.
    """
    if not points:
        raise RunError("there is no learning curve to draw: too few questions for the smallest training set.")
    from matplotlib.figure import Figure  # a second of CPU

    figure = Figure(figsize=(_WIDTH, _HEIGHT), dpi=_DPI, layout="constrained")
    axes = figure.add_subplot()
    _draw_baseline(axes, points)
    _draw_published(axes)
    axes.axhline(chance, color="#666666", linestyle=":", linewidth=1)
    axes.text(20, chance + 1, f"chance {chance:.1f} %", color="#666666", fontsize=8)
    axes.set(xlim=(0, 660), ylim=(0, 100), xlabel="training rows", ylabel="right options, %")
    axes.set_xticks(sorted({point.rows for point in points} | {rows for rows, _, _ in published_curve()}))
    axes.set_title(title, fontsize=11)
    axes.legend(loc="lower right", fontsize=8, frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    write_picture(path, figure)


def _draw_baseline(axes: Any, points: Sequence[CurvePoint]) -> None:
    rows = [point.rows for point in points]
    axes.errorbar(
        rows,
        [point.random for point in points],
        yerr=[point.random_sd for point in points],
        color=_INK["random"],
        marker="o",
        capsize=3,
        label=f"text alone: random rows, tested on the others (mean of {points[0].draws}, sd)",
    )
    clips = [(point.rows, point.nested_other_clips) for point in points]
    shown = [(n, found) for n, found in clips if found is not None and found.n >= _FEW]
    if shown:
        axes.errorbar(
            [n for n, _ in shown],
            [found.percent for _, found in shown],
            yerr=[
                [found.percent - found.low for _, found in shown],
                [found.high - found.percent for _, found in shown],
            ],
            color=_INK["nested"],
            marker="s",
            capsize=3,
            label="text alone: released subset, tested on other clips (95 % interval)",
        )


def _draw_published(axes: Any) -> None:
    published = published_curve()
    for place, way in ((1, "forward"), (2, "reverse")):
        axes.plot(
            [row[0] for row in published],
            [row[place] for row in published],
            color=_INK[way],
            marker="^" if way == "forward" else "v",
            linestyle="--",
            label=f"ST-R1 with video, {way} (Table 3, tested on 3582 others)",
        )


_FEW = 20
"""Below so many questions a point is left out of the plot; the JSON has it."""


def published_curve() -> list[tuple[int, float, float]]:
    """ST-R1 in the paper's Table 3: training rows, percent right forward and reverse, for each size."""
    rows = [row for row in published_table(3).rows if row.model == "ST-R1"]
    return [
        (int(row.labels["training"].split("/")[0]), row.figures["avg_forward"], row.figures["avg_reverse"])
        for row in rows
    ]
