"""What more frames are worth: runs of one model at several numbers of frames, side by side and paired.

found = sweep({4: read_run(Path("runs/m/uniform4")), 8: read_run(Path("runs/m/uniform8"))})
found[1].gain.value             # points that 8 frames gain over 4, sample by sample
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from egost.results.intervals import Difference, Estimate, estimate, paired
from egost.results.run import Run
from egost.results.run_header import RunError
from egost.tasks.cache import write_picture
from egost.tasks.json_text import without_nan


@dataclass(frozen=True, slots=True)
class FrameCount:
    """The figures at one number of frames. protocol: its name. run: the results file.

    score: the mean of the tasks' means. by_task: each task's, by registered name. gain: over the next smaller number,
    paired by sample and clustered by clip; None for the smallest.
    """

    frames: int
    protocol: str
    run: str
    score: Estimate
    by_task: Mapping[str, Estimate]
    gain: Difference | None


def sweep(runs: Mapping[int, Run]) -> list[FrameCount]:
    """The figures by number of frames, smallest first.

    runs: by number of frames. Raises RunError where they are of other tasks, or cannot be read.
    """
    tasks = {number: sorted(run.header.tasks) for number, run in runs.items()}
    if len({tuple(names) for names in tasks.values()}) > 1:
        raise RunError(f"the runs of a sweep are of different tasks: {tasks}. Run it again with one --tasks.")
    rows: list[FrameCount] = []
    fewer: Run | None = None
    for number, run in sorted(runs.items()):
        run.check_figures()
        rows.append(
            FrameCount(
                frames=number,
                protocol=run.header.joined("sampling_protocol"),
                run=str(run.results_file),
                score=estimate(run.records),
                by_task={
                    name: estimate([record for record in run.records if record.task == name])
                    for name in tasks[number]
                },
                gain=paired(fewer.records, run.records) if fewer else None,
            )
        )
        fewer = run
    return rows


def as_json(rows: Sequence[FrameCount]) -> str:
    """All of a sweep, NaN as null."""
    return json.dumps(without_nan([asdict(row) for row in rows]), indent=2, allow_nan=False)


def draw(rows: Sequence[FrameCount], title: str, path: Path) -> None:
    """Draw score against frames with its intervals as a PNG of 1200 x 750 pixels, whole or not at all."""
    from matplotlib.figure import Figure  # a second of CPU

    figure = Figure(figsize=(8.0, 5.0), dpi=150, layout="constrained")
    axes = figure.add_subplot()
    counts, scores = [row.frames for row in rows], [row.score for row in rows]
    axes.errorbar(
        counts,
        [score.value for score in scores],
        yerr=[
            [score.value - score.low for score in scores],
            [score.high - score.value for score in scores],
        ],
        color="#0072b2",
        marker="o",
        capsize=3,
        label="mean of the tasks, 95 % interval over clips",
    )
    for name in rows[0].by_task:
        axes.plot(counts, [row.by_task[name].value for row in rows], color="#bbbbbb", linewidth=0.8, zorder=0)
        axes.annotate(
            name, (counts[-1], rows[-1].by_task[name].value), color="#888888", fontsize=6, va="center"
        )
    axes.set_xscale("log", base=2)
    axes.set_xticks(counts, [str(count) for count in counts])
    axes.set(ylim=(0, 100), xlabel="frames of a clip", ylabel="score, %")
    axes.set_title(title, fontsize=11)
    axes.legend(loc="lower right", fontsize=8, frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    write_picture(path, figure)
