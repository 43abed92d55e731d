"""Runs drawn from a population whose truth is known: right-or-wrong samples, those of one clip alike."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from egost.results.records import SampleRecord
from egost.tasks.sample import Sample, TaskKind, Way

TASKS = [
    f"egost_{kind}_{way}"
    for kind in ("route", "direction", "landmark", "action")
    for way in ("forward", "reverse")
]


def record(task: str, number: int, clip: str, percent: float | None, part: int = 1) -> SampleRecord:
    """A sample with nothing but its place and its score."""
    kind, way = task.rsplit("_", 2)[-2:]
    sample = Sample(
        f"Part{part}/{kind}_{way}/{number}",
        cast(TaskKind, kind),
        cast(Way, way),
        part,
        clip,
        "Which way?",
        ("left", "right"),
        "A",
    )
    unscored = "generation_failed:timeout" if percent is None else None
    return SampleRecord(
        *(task, "official", sample, "Which way?", "A", percent, percent, unscored),
        choice=None,
        judgement=None,
        frames=None,
        clip_error=None,
        generation=None,
    )


@dataclass(frozen=True)
class Population:
    """clips: in one run. hardness: standard deviation of a clip's effect on all of its samples, in logits: the reason
    why they go together. easiness: of each task, logits. action_share: of the clips that have the last two tasks.
    per_task: the most samples that a clip has in a task; from 1 on, each number as likely.
    """

    clips: int
    hardness: float = 1.5
    easiness: tuple[float, ...] = (-1.0, -0.7, -0.4, -0.1, 0.2, 0.5, 0.8, 1.1)
    action_share: float = 0.4
    per_task: int = 2

    def truth(self, gain: float = 0.0) -> NDArray[np.float64]:
        """The percent of each task over all clips that there could be."""
        points, weights = np.polynomial.hermite_e.hermegauss(60)
        levels = np.array(self.easiness)[:, None] + gain + self.hardness * points
        return 100 * (expit(levels) * weights).sum(axis=1) / weights.sum()

    def draw(self, rng: np.random.Generator, gains: tuple[float, ...] = (0.0,)) -> list[list[SampleRecord]]:
        """One run for each gain, on the same clips and questions."""
        clip, task = self._places(rng)
        effect = self.hardness * rng.standard_normal(self.clips)
        level = np.array(self.easiness)[task] + effect[clip]
        return [
            [
                record(TASKS[t], number, f"{c}.mp4", 100.0 * right)
                for number, (c, t, right) in enumerate(
                    zip(clip, task, rng.random(len(clip)) < expit(level + gain), strict=True)
                )
            ]
            for gain in gains
        ]

    def _places(self, rng: np.random.Generator) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        numbers = rng.integers(1, self.per_task + 1, (self.clips, len(self.easiness)))
        if len(self.easiness) == len(TASKS):
            numbers[rng.random(self.clips) >= self.action_share, -2:] = 0
        clip, task = np.nonzero(numbers)
        times = numbers[clip, task]
        return np.repeat(clip, times), np.repeat(task, times)


MINI = Population(clips=40)
"""About as many samples as the mini world has."""
OFFICIAL = Population(clips=789, per_task=1, action_share=0.5)
"""About as many as the benchmark has: over 5,000 samples of 789 clips (paper, section 3.1)."""
