"""The 8 frames of each pre-training walk, rendered once and kept as one small file a walk."""

from __future__ import annotations

import io
import tempfile
from dataclasses import fields, replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import numpy.typing as npt
from video_files import read_film

from egost.tasks.cache import write_whole
from egost.tasks.clips.protocols import PATCH, shown_size
from egost.tasks.mini_world.raycast import render, write_film
from egost.tasks.mini_world.walks import SHOWN, Camera, ClipPlan, plan_clip, shown_frames

SPLIT = "train"
SEED = 20_250_316
"""Seed of the pre-training walks: no other data of this project is made with it."""


def plan(number: int) -> ClipPlan:
    """The walk of a number: 0 and up for films, negative for lessons in text alone, which have no film."""
    return plan_clip(SEED, SPLIT, number) if number >= 0 else plan_clip(SEED + 1, SPLIT, -number)


def film(folder: Path, number: int) -> npt.NDArray[np.uint8]:
    """The 8 frames of a walk, RGB, shape (8, height, width, 3), at the size at which the model's patches are cut.

    Rendered and kept in the folder when they are not there yet.
    """
    path = folder / f"{number:06d}.npy"
    if not path.is_file():
        buffer = io.BytesIO()
        np.save(buffer, _to_patch_size(_shown(plan(number))))
        write_whole(path, buffer.getvalue())
    return np.asarray(np.load(path), dtype=np.uint8)


def _shown(walk: ClipPlan) -> npt.NDArray[np.uint8]:
    """The 8 frames as the clip's file gives them back: with what H.264 takes away."""
    shown = shown_frames(walk.truth.frames)
    camera = Camera(*(getattr(walk.camera, field.name)[shown] for field in fields(Camera)))
    frames = render(replace(walk, camera=camera, truth=replace(walk.truth, frames=SHOWN)))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "shown.mp4"
        write_film(path, frames, Fraction(walk.truth.rate))
        return read_film(path)


def _to_patch_size(frames: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    import torch
    from torchvision.transforms.v2 import InterpolationMode
    from torchvision.transforms.v2.functional import resize

    width, height = shown_size(frames.shape[2], frames.shape[1], least=3136, most=602112, patch=PATCH)
    video = torch.from_numpy(frames).permute(0, 3, 1, 2)
    resized = resize(video, [height, width], InterpolationMode.BICUBIC, antialias=True)
    return np.ascontiguousarray(resized.permute(0, 2, 3, 1).numpy())
