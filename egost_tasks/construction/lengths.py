"""How long the clips are and where they come from: a table and a plot (paper, figure 4)."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from egost.tasks.cache import write_whole
from egost.tasks.construction.spec import SCENES
from egost.tasks.construction.workfolder import ClipRow

_BINS = 12


@dataclass(frozen=True, slots=True)
class Lengths:
    """Lengths of the clips of one source, in seconds."""

    source: str
    clips: int
    shortest: float
    median: float
    longest: float
    total: float


def lengths(rows: Sequence[ClipRow]) -> list[Lengths]:
    """Lengths of the clips by source; the last entry is of all together."""
    by_source: dict[str, list[float]] = {}
    for row in rows:
        by_source.setdefault(row.source, []).append(row.duration_s)
    groups = [*sorted(by_source.items()), ("all", [row.duration_s for row in rows])]
    return [
        Lengths(source, len(found), min(found), median(found), max(found), sum(found))
        for source, found in groups
        if found
    ]


def write_length_plot(rows: Sequence[ClipRow], path: Path) -> None:
    """Write a PNG: on the left the lengths by source, on the right the clips by scene and source.

    rows: at least one. Raises OSError.
    """
    sources = sorted({row.source for row in rows})
    colours = matplotlib.colormaps["tab10" if len(sources) <= 10 else "tab20"]
    figure = Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    longest = max(row.duration_s for row in rows)
    edges = np.linspace(0, np.ceil(longest), _BINS + 1)
    left.hist(
        [[row.duration_s for row in rows if row.source == source] for source in sources],
        bins=edges.tolist(),
        stacked=True,
        color=[colours(k) for k in range(len(sources))],
        label=sources,
    )
    left.set(xlabel="length of a clip (s)", ylabel="clips", xlim=(0, edges[-1]))
    left.yaxis.get_major_locator().set_params(integer=True)
    counts = Counter((row.scene, row.source) for row in rows)
    scenes = [scene for scene in SCENES if any(row.scene == scene for row in rows)]
    start = np.zeros(len(scenes))
    for k, source in enumerate(sources):
        widths = np.array([counts[scene, source] for scene in scenes])
        right.barh([scene.replace("_", " ") for scene in scenes], widths, left=start, color=colours(k))
        start += widths
    right.set(xlabel="clips", ylim=(len(scenes) - 0.4, -0.6))
    right.xaxis.get_major_locator().set_params(integer=True)
    total = sum(row.duration_s for row in rows)
    length = f"{total / 60:.1f} minutes" if total >= 120 else f"{total:.0f} seconds"
    figure.suptitle(f"{len(rows)} clips, {length} in all")
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=6, title="source")
    sink = io.BytesIO()
    # No date, so that the same clips give the same bytes.
    figure.savefig(sink, format="png", dpi=120, metadata={"Software": None})
    write_whole(path, sink.getvalue())
