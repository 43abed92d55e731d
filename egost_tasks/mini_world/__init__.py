"""The mini world: rendered walks through rooms and corridors with exact answers, in the official layout.

    root = write_mini_release(Path("mini"), clips=40, seed=0, split="test")
    for clip, truth in read_truths(root).items():
        print(clip, [step.turn or step.action or step.kind for step in truth.steps])

Its numbers are never the benchmark's: its tasks have other names (`egost_mini_*`).
"""

from egost.tasks.mini_world.release_writer import read_truths, write_mini_release
from egost.tasks.mini_world.steps import ClipTruth, Landmark, Step, backwards, way_back

__all__ = [
    "ClipTruth",
    "Landmark",
    "Step",
    "backwards",
    "read_truths",
    "way_back",
    "write_mini_release",
]
