"""Controls: altered frames and rotated options, to see what a model's answers depend on.

    altered_clip(clip, "reversed")    # the same frames from the last to the first, as another clip
    rotated(sample, 1)                # the same question, its second option first

An altered clip is a clip like any other: a lossless file in the cache. Its manifest says which frame of the source is
in which place, and its protocol has another name (`uniform8/reversed`), so the journal never takes it for the original.
"""

from __future__ import annotations

import random
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Literal, get_args

from egost.tasks.cache import only_writer, whole_folder
from egost.tasks.clips.clips import Clip, cache_entry, clip_folder
from egost.tasks.clips.decode_worker import CLIP_FILE, MANIFEST_FILE
from egost.tasks.clips.lossless import ENCODER, pixels_sha256, write_lossless
from egost.tasks.clips.protocols import N_FRAMES
from egost.tasks.errors import CacheError, SettingError
from egost.tasks.sample import Sample

FrameControl = Literal["shuffled", "reversed", "middle"]
Control = Literal["blind", FrameControl, "rotated"]

FRAME_CONTROLS: tuple[FrameControl, ...] = get_args(FrameControl)
CONTROLS: tuple[Control, ...] = ("blind", *FRAME_CONTROLS, "rotated")
"""`blind`: no video. `shuffled`, `reversed`, `middle`: see `frame_order`. `rotated`: see `rotated`."""

FEWEST_FRAMES = 4
"""Fewer frames have no order in which each has left its place and its neighbours."""


def read_controls(names: str) -> tuple[Control, ...]:
    """The controls that names mean, separated by commas, in the order of `CONTROLS`. Raises SettingError."""
    asked = [name.strip() for name in names.split(",") if name.strip()]
    if unknown := [name for name in asked if name not in CONTROLS]:
        raise SettingError(f"'{unknown[0]}' is no control; expected one or more of {', '.join(CONTROLS)}.")
    if not asked:
        raise SettingError(f"no control is named; expected one or more of {', '.join(CONTROLS)}.")
    return tuple(control for control in CONTROLS if control in asked)


def frame_order(control: FrameControl, seed: str, n_frames: int = N_FRAMES) -> tuple[int, ...]:
    """Which of a clip's frames, counted from 0, are in its places.

    `reversed`: from the last to the first. `middle`: the middle one in all places, as a clip of a single frame has it.
    `shuffled`: drawn by the seed, no frame in its own place and no two neighbours still next to each other.
    Raises SettingError for fewer than `FEWEST_FRAMES` frames.
    """
    if n_frames < FEWEST_FRAMES:
        raise SettingError(
            f"the control {control} needs at least {FEWEST_FRAMES} frames of a clip, and EGOST_PROTOCOL gives "
            f"{n_frames}. Choose another, for example uniform8."
        )
    if control == "reversed":
        return tuple(reversed(range(n_frames)))
    if control == "middle":
        return (n_frames // 2,) * n_frames
    draw = random.Random(seed)
    order = list(range(n_frames))
    while any(k == place for place, k in enumerate(order)) or any(
        abs(a - b) == 1 for a, b in pairwise(order)
    ):
        draw.shuffle(order)
    return tuple(order)


def altered_clip(clip: Clip, control: FrameControl) -> Clip:
    """The clip with its frames in another order, written into the cache at first use.

    The order depends on the pixels alone, so that it is the same on every machine. Several threads and
    processes may call it at once. Raises CacheError where the clip was changed or the cache cannot be written.
    """
    original = clip.manifest
    what = f"{original.source_sha256} {original.protocol}/{control} {original.pixels_sha256} {ENCODER}"
    entry = cache_entry(clip_folder(), what)
    with only_writer(entry):
        try:
            Clip.at(entry / CLIP_FILE).check()
        except CacheError:
            _write(clip, control, entry)
    altered = Clip.at(entry / CLIP_FILE)
    # The same content may lie under several names.
    return replace(altered, manifest=replace(altered.manifest, source=original.source))


def rotated(sample: Sample, by: int) -> Sample:
    """The question with its options moved on by some places: option number `by` (from 0) becomes the first."""
    count = len(sample.options)
    options = tuple(sample.options[(k + by) % count] for k in range(count))
    place = (sample.letters.index(sample.answer) - by) % count
    return replace(sample, options=options, answer=sample.letters[place])


def _write(clip: Clip, control: FrameControl, entry: Path) -> None:
    """Write the cache entry. The caller holds its lock."""
    original = clip.manifest
    order = frame_order(control, original.pixels_sha256, len(original.indices))
    frames = clip.frames()[list(order)]
    manifest = replace(
        original,
        protocol=f"{original.protocol}/{control}",
        indices=tuple(original.indices[k] for k in order),
        timestamps=tuple(original.timestamps[k] for k in order),
        pixels_sha256=pixels_sha256(frames),
    )
    with whole_folder(entry, MemoryError) as folder:
        write_lossless(frames, folder / CLIP_FILE)
        manifest.write(folder / MANIFEST_FILE)
