"""The mini world's exact steps as somebody would annotate them."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

from egost.tasks.construction.annotations import Annotation, Step
from egost.tasks.construction.spec import SCENES, Scene
from egost.tasks.construction.workfolder import ClipRow, WorkFolder, write_lines
from egost.tasks.mini_world.steps import ClipTruth
from egost.tasks.mini_world.walks import plan_clip

ACTION_WORDS = {
    "crouch": "crouch down",
    "tiptoe": "stretch up on tiptoe",
    "look_up": "look up at the ceiling",
    "look_down": "look down at the floor",
    "light": "switch the light off and on again",
    "door": "open a sliding door",
}


def scene_of(truth: ClipTruth) -> Scene:
    return SCENES[truth.part - 1]


def annotation_of(truth: ClipTruth, annotator: str = "truth") -> Annotation:
    steps = tuple(
        Step(
            step.turn or "straight",
            str(step.landmark) if step.landmark else "",
            ACTION_WORDS[step.action] if step.action else "",
            step.time_s,
        )
        for step in truth.steps
        if step.kind != "start"
    )
    return Annotation(truth.clip, annotator, scene_of(truth), steps)


def annotated_folder(root: Path, clips: int, truths: Iterable[ClipTruth] | None = None) -> WorkFolder:
    """A working folder whose clips are only listed, not there, with an annotation each."""
    folder = WorkFolder(root)
    found = list(truths or (plan_clip(0, "test", number).truth for number in range(clips)))
    rows = []
    for truth in found:
        seconds = float(truth.frames / Fraction(truth.rate))
        rows.append(
            ClipRow(
                truth.clip, truth.clip, 0.0, seconds, "mini", scene_of(truth), "MIT", truth.width, truth.height,
                truth.rate, truth.frames, seconds, "0" * 64, "0" * 64,
            )
        )  # fmt: skip
        folder.annotations.save(annotation_of(truth))
    write_lines(folder.manifest, rows)
    return folder
