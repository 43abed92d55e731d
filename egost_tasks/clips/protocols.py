"""Sampling protocols: which 8 frames of a clip are taken, and at what size."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import Any, Literal, cast, get_args

import numpy as np
import numpy.typing as npt

from egost.tasks.errors import SettingError

N_FRAMES = 8
"""Frames of a clip that every model sees (paper, appendix A.2)."""

Sampling = Literal["uniform8", "ref-qwen"]

REFERENCE_FPS = 1.0
REFERENCE_MIN_FRAMES = 4
REFERENCE_MAX_FRAMES = 768
_REFERENCE_FACTOR = 2

LEAST_PIXELS = 784
"""28 x 28 pixels, one merged patch of Qwen2-VL: below, a frame shows no model anything."""

DEFAULT_PROTOCOL = "uniform8"


@dataclass(frozen=True)
class Protocol:
    """A sampling protocol; `name` is its one canonical spelling and belongs into every record.

    sampling: `uniform8` or `ref-qwen`, see `uniform8` and `ref_qwen`.
    max_pixels: largest width x height of a kept frame in pixels, aspect kept; None: as the source.
    size: (width, height) in pixels that every frame is resized to; None: as the source.
    """

    sampling: Sampling = "uniform8"
    max_pixels: int | None = None
    size: tuple[int, int] | None = None

    @property
    def name(self) -> str:
        if self.size:
            return f"{self.sampling}+{self.size[0]}x{self.size[1]}"
        return f"{self.sampling}+cap{self.max_pixels}" if self.max_pixels else self.sampling

    def indices(self, n_frames: int, duration: float) -> list[int]:
        """The 8 frames to take, as indices into the decodable frames in presentation order.

        n_frames: how many frames can be decoded, at least 1. duration: of these frames, in seconds.
        """
        return uniform8(n_frames) if self.sampling == "uniform8" else ref_qwen(n_frames, duration)

    def frame_size(self, width: int, height: int) -> tuple[int, int]:
        """(width, height) in pixels at which a frame of the given upright size is kept."""
        if self.size:
            return self.size
        if self.max_pixels is None or width * height <= self.max_pixels:
            return width, height
        scale = (self.max_pixels / (width * height)) ** 0.5
        return max(1, int(width * scale)), max(1, int(height * scale))


def parse_protocol(name: str) -> Protocol:
    """The protocol that a name means.

    `SAMPLING`, `SAMPLING+capN` (at most N pixels a frame; the reference runs ST-R1 with 360 x 420,
    `cap151200`) or `SAMPLING+WxH` (`224x224`: the closed models, paper, appendix A.2), where SAMPLING is
    `uniform8` or `ref-qwen`, and N at least `LEAST_PIXELS`. Raises SettingError on anything else.
    """
    match = re.fullmatch(r"([a-z0-9-]+?)(?:\+cap([1-9]\d*)|\+([1-9]\d*)x([1-9]\d*))?", name)
    if not match or match[1] not in get_args(Sampling):
        raise SettingError(
            f"'{name}' is no sampling protocol. Expected uniform8 or ref-qwen, alone or with one option: "
            "uniform8+cap151200 (at most so many pixels a frame), uniform8+224x224 (width x height)."
        )
    if match[2] and int(match[2]) < LEAST_PIXELS:
        raise SettingError(
            f"'{name}' leaves {match[2]} pixels a frame; expected at least {LEAST_PIXELS} (28 x 28), for example "
            f"{match[1]}+cap151200."
        )
    return Protocol(
        sampling=cast(Sampling, match[1]),
        max_pixels=int(match[2]) if match[2] else None,
        size=(int(match[3]), int(match[4])) if match[3] else None,
    )


def chosen_protocol() -> Protocol:
    """The protocol that `EGOST_PROTOCOL` names, by default `uniform8`. Raises SettingError."""
    return parse_protocol(os.environ.get("EGOST_PROTOCOL") or DEFAULT_PROTOCOL)


def uniform8(n_frames: int) -> list[int]:
    """8 frames evenly from the first to the last: `linspace(0, n - 1, 8)`, truncated (paper, appendix A.2).

    With fewer than 8 frames the truncation repeats some of them, in order; a single frame is repeated 8 times.
    """
    return _evenly(np.arange(n_frames))


def ref_qwen(n_frames: int, duration: float) -> list[int]:
    """The reference's two steps: 1 frame a second, then 8 of those evenly, from first to last.

    The first step is that of qwen-vl-utils (`smart_nframes` and the video readers of
    `qwen_vl_utils/vision_process.py`, 0.0.14) with `fps=1`: duration x 1 frames, at least 4 and at most
    768 or as many as there are, rounded down to an even number m, at `linspace(0, n - 1, m).round()`.
    The second step is the reference's edit of `fetch_video`: `linspace(0, m - 1, 8)`, truncated (README of
    the reference repository). `duration` is that of the decodable frames in seconds, so that a header
    that lies about its length changes nothing.

    A clip of less than 8 s has fewer than 8 frames after the first step, so the second repeats some. The
    reference cannot read a clip of a single frame; here that frame is repeated 8 times, as with `uniform8`.
    """
    ceiling = min(REFERENCE_MAX_FRAMES, n_frames)
    first = min(max(duration * REFERENCE_FPS, REFERENCE_MIN_FRAMES), ceiling)
    n_first = max(1, int(first // _REFERENCE_FACTOR) * _REFERENCE_FACTOR)
    # The reference rounds in single precision, which decides the ties at one half.
    return _evenly(_linspace32(n_frames - 1, n_first).round().astype(np.int64))


def _evenly(frames: npt.NDArray[np.int64]) -> list[int]:
    return [int(frame) for frame in frames[np.linspace(0, len(frames) - 1, N_FRAMES).astype(np.int64)]]


def _linspace32(end: int, steps: int) -> npt.NDArray[np.float32]:
    """What `torch.linspace(0, end, steps)` gives: counted from the nearer end, in single precision."""
    if steps == 1:
        return np.zeros(1, np.float32)
    step = np.float32(end) / np.float32(steps - 1)
    i = np.arange(steps, dtype=np.float32)
    return cast(
        npt.NDArray[np.float32],
        np.where(i < steps // 2, step * i, np.float32(end) - step * (np.float32(steps - 1) - i)),
    )


def resize(frame: npt.NDArray[np.uint8], size: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """`frame`, uint8 [H, W, 3], resampled by area (Pillow's box filter) to `size` = (width, height) pixels."""
    if (frame.shape[1], frame.shape[0]) == size:
        return frame
    from PIL import Image

    image: Any = Image.fromarray(frame).resize(size, Image.Resampling.BOX)
    return np.asarray(image, dtype=np.uint8)
