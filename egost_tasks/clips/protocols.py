"""Sampling protocols: which frames of a clip are taken, 8 unless said otherwise, and at what size a model sees them."""

from __future__ import annotations

import math
import os
import re
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from egost.tasks.as_published import chosen
from egost.tasks.errors import SettingError

N_FRAMES = 8
"""Frames of a clip that every model sees (paper, appendix A.2), by the default and by the reference's two samplings."""

MOST_FRAMES = 64
"""Most frames of a `uniformN`, this project's own limit: a clip of them has to fit in memory."""

_REFERENCE = ("ref-qwen", "ref-internvl")

REFERENCE_FPS = 1.0
REFERENCE_MIN_FRAMES = 4
REFERENCE_MAX_FRAMES = 768
_REFERENCE_FACTOR = 2

PATCH = 28
"""Side in pixels of a merged patch of Qwen2-VL and Qwen2.5-VL, one token of a frame."""

LEAST_PATCHES = 4
"""The least merged patches of a frame: a smaller one is enlarged, as the processors of the Qwen families do."""

LEAST_PIXELS = PATCH**2
"""One merged patch: below, a frame shows no model anything."""

DEFAULT_PROTOCOL = "uniform8"

_COUNT = re.compile(r"uniform([1-9][0-9]?)")
_NAME = re.compile(
    r"(?P<sampling>[a-z0-9-]+?)"
    r"(?:\+cap(?:(?P<least>[1-9]\d*)-)?(?P<most>[1-9]\d*)(?:p(?P<patch>[1-9]\d*))?"
    r"|\+(?P<width>[1-9]\d*)x(?P<height>[1-9]\d*))?",
    re.ASCII,
)


@dataclass(frozen=True)
class Protocol:
    """A sampling protocol; `name` is its one canonical spelling and belongs into every record.

    sampling: `uniformN` (see `uniform`), `ref-qwen` or `ref-internvl` (see `ref_qwen`, `ref_internvl`).
    max_pixels: limit of width x height of a kept frame in pixels, aspect kept, sides multiples of `patch`; None: as
    the source. min_pixels: with max_pixels, frames below it are enlarged; None: `LEAST_PATCHES` patches.
    size: (width, height) in pixels that every frame is resized to; None: as the source.
    """

    sampling: str = DEFAULT_PROTOCOL
    max_pixels: int | None = None
    size: tuple[int, int] | None = None
    min_pixels: int | None = None
    patch: int = PATCH

    @property
    def name(self) -> str:
        if self.size:
            return f"{self.sampling}+{self.size[0]}x{self.size[1]}"
        if self.max_pixels is None:
            return self.sampling
        least = f"{self.min_pixels}-" if self.min_pixels else ""
        patch = f"p{self.patch}" if self.patch != PATCH else ""
        return f"{self.sampling}+cap{least}{self.max_pixels}{patch}"

    @property
    def n_frames(self) -> int:
        """How many frames of a clip are taken: 8 by the reference's samplings, N by `uniformN`."""
        return N_FRAMES if self.sampling in _REFERENCE else int(self.sampling.removeprefix("uniform"))

    def indices(self, n_frames: int, duration: float) -> list[int]:
        """The frames to take, as indices into the decodable frames in presentation order.

        n_frames: how many frames can be decoded, at least 1. duration: of these frames, in seconds.
        """
        if self.sampling == "ref-qwen":
            return ref_qwen(n_frames, duration)
        return ref_internvl(n_frames) if self.sampling in _REFERENCE else uniform(n_frames, self.n_frames)

    def frame_size(self, width: int, height: int) -> tuple[int, int]:
        """(width, height) in pixels at which a frame of the given upright size is kept."""
        if self.size:
            return self.size
        if self.max_pixels is None:
            return width, height
        least = self.min_pixels or LEAST_PATCHES * self.patch**2
        return shown_size(
            width, height, least=min(least, self.max_pixels), most=self.max_pixels, patch=self.patch
        )

    def kept(self, frame: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """A frame, uint8 [H, W, 3], at its size: a bicubic filter where a family's processor or the reference resizes
        so, else by area.
        """
        size = self.frame_size(frame.shape[1], frame.shape[0])
        return resize(frame, size, bicubic=bool(self.max_pixels) or self.sampling in _REFERENCE)


def shown_size(width: int, height: int, *, least: int, most: int, patch: int) -> tuple[int, int]:
    """(width, height) in pixels at which the Qwen families see a frame: the one rule for evaluation and training.

    Each side is the nearest multiple of `patch`. Where that is above `most` or below `least` pixels, the frame is
    scaled to this limit and its sides are cut or filled up to whole patches, so that the limit holds: 704 x 704 gives
    364 x 364 at `most` 151,200. The same as `smart_resize` of transformers and qwen-vl-utils.
    """
    pixels = width * height
    nearest = [round(side / patch) * patch for side in (width, height)]
    if math.prod(nearest) > most:
        shrink = math.sqrt(pixels / most)
        nearest = [math.floor(side / shrink / patch) * patch for side in (width, height)]
    elif math.prod(nearest) < least:
        grow = math.sqrt(least / pixels)
        nearest = [math.ceil(side * grow / patch) * patch for side in (width, height)]
    return max(patch, nearest[0]), max(patch, nearest[1])


def parse_protocol(name: str) -> Protocol:
    """The protocol that a name means.

    SAMPLING is `uniformN` (N frames, 1 to `MOST_FRAMES`), `ref-qwen` or `ref-internvl`, alone (frames as large as in
    the source), or

    - `SAMPLING+capN`: at most N pixels a frame, at least `LEAST_PIXELS` (the paper asks ST-R1 with 360 x 420,
      `cap151200`); `capM-N`: at least M as well (the reference, `cap100352-151200`); with `p32` behind it, sides are
      multiples of 32 (Qwen3-VL) instead of 28.
    - `SAMPLING+WxH`: `224x224` for the closed models, `448x448` for InternVL (paper, appendix A.2).

    Raises SettingError on anything else.
    """
    match = _NAME.fullmatch(name)
    count = match and _COUNT.fullmatch(match["sampling"])
    if not match or not (match["sampling"] in _REFERENCE or (count and int(count[1]) <= MOST_FRAMES)):
        asked = re.match(r"uniform(\d+)", name)
        raise SettingError(
            f"'{name}' {f'asks for {asked[1]} frames of a clip' if match and asked else 'is no sampling protocol'}. "
            "Expected uniform8 or ref-qwen or ref-internvl, alone or with one option: uniform8+cap151200 (at most so "
            "many pixels a frame), uniform8+cap100352-151200 (at least so many, too), uniform8+224x224 (width x "
            f"height); uniformN takes N frames, 1 to {MOST_FRAMES}."
        )
    least, most, patch = (int(match[part]) if match[part] else None for part in ("least", "most", "patch"))
    smallest = (patch or PATCH) ** 2
    if most and most < max(smallest, least or 0):
        raise SettingError(
            f"'{name}' leaves {most} pixels a frame; expected at least {max(smallest, least or 0)} "
            f"({'its own lower limit' if least and least > smallest else f'{patch or PATCH} x {patch or PATCH}'}), "
            f"for example {match['sampling']}+cap151200."
        )
    return Protocol(
        sampling=match["sampling"],
        max_pixels=most,
        size=(int(match["width"]), int(match["height"])) if match["width"] else None,
        min_pixels=least,
        patch=patch or PATCH,
    )


def chosen_protocol() -> Protocol:
    """The protocol that `EGOST_PROTOCOL` names, by default `uniform8`. Raises SettingError."""
    return parse_protocol(chosen("EGOST_PROTOCOL") or DEFAULT_PROTOCOL)


def frame_counts(text: str, given_as: str) -> list[int]:
    """The numbers of frames that a list names, each once, smallest first. Raises SettingError."""
    counts = set()
    for word in text.split(","):
        if not (word.strip().isascii() and word.strip().isdigit()) or not 1 <= int(word[:9]) <= MOST_FRAMES:
            raise SettingError(
                f"{given_as}: '{word.strip()}' is no number of frames that a clip can give. Expected whole numbers "
                f"from 1 to {MOST_FRAMES} with commas between, for example 1,2,4,8,16,32."
            )
        counts.add(int(word))
    return sorted(counts)


def counts_kept(protocol: Protocol) -> list[Protocol]:
    """The protocols of `EGOST_FRAME_COUNTS`, which differ from one of `uniformN` in the number of frames alone.

    Raises SettingError.
    """
    counts = os.environ.get("EGOST_FRAME_COUNTS")
    if not counts or protocol.sampling in _REFERENCE:
        return []
    return [
        replace(protocol, sampling=f"uniform{count}") for count in frame_counts(counts, "EGOST_FRAME_COUNTS")
    ]


def uniform(n_frames: int, kept: int = N_FRAMES) -> list[int]:
    """Some frames evenly from the first to the last: `linspace(0, n - 1, kept)`, truncated (paper, appendix A.2: 8).

    Of fewer frames than are kept the truncation repeats some, in order; one frame that is kept is the first.
    """
    return _evenly(np.arange(n_frames), kept)


def ref_qwen(n_frames: int, duration: float) -> list[int]:
    """The reference's two steps: 1 frame a second, then 8 of those evenly, from first to last.

    The first step is that of qwen-vl-utils (`smart_nframes` and the video readers of
    `qwen_vl_utils/vision_process.py`, 0.0.14) with `fps=1`: duration x 1 frames, at least 4 and at most
    768 or as many as there are, rounded down to an even number m, at `linspace(0, n - 1, m).round()`.
    The second step is the reference's edit of `fetch_video`: `linspace(0, m - 1, 8)`, truncated (README of
    the reference repository). `duration` is that of the decodable frames in seconds, so that a header
    that lies about its length changes nothing.

    A clip of less than 8 s has fewer than 8 frames after the first step, so the second repeats some. The
    reference cannot read a clip of a single frame; here that frame is repeated 8 times, as with `uniform`.
    """
    ceiling = min(REFERENCE_MAX_FRAMES, n_frames)
    first = min(max(duration * REFERENCE_FPS, REFERENCE_MIN_FRAMES), ceiling)
    n_first = max(1, int(first // _REFERENCE_FACTOR) * _REFERENCE_FACTOR)
    # The reference rounds in single precision, which decides the ties at one half.
    return _evenly(_linspace32(n_frames - 1, n_first).round().astype(np.int64))


def ref_internvl(n_frames: int) -> list[int]:
    """The middles of 8 equal segments, as the reference takes them for InternVL2.5: of 300 frames 18, 55, ... 280.

    A segment is (n - 1) / 8 frames long; frame i is half a segment plus i segments rounded to a whole frame (a half to
    the even one), the sum truncated.
    """
    segment = (n_frames - 1) / N_FRAMES
    return [int(segment / 2 + round(segment * i)) for i in range(N_FRAMES)]


def _evenly(frames: npt.NDArray[np.int64], kept: int = N_FRAMES) -> list[int]:
    return [int(frame) for frame in frames[np.linspace(0, len(frames) - 1, kept).astype(np.int64)]]


def _linspace32(end: int, steps: int) -> npt.NDArray[np.float32]:
    """What `torch.linspace(0, end, steps)` gives, counted from the nearer end.

    The step is of single precision; processors multiply and add in one go, so that each number is rounded once.
    """
    step = float(np.float32(end) / np.float32(max(1, steps - 1)))
    i = np.arange(steps)
    return np.where(i < steps // 2, step * i, end - step * (steps - 1 - i)).astype(np.float32)


def resize(
    frame: npt.NDArray[np.uint8], size: tuple[int, int], *, bicubic: bool = False
) -> npt.NDArray[np.uint8]:
    """`frame`, uint8 [H, W, 3], resampled to `size` = (width, height) pixels: by area (Pillow's box filter), or
    bicubic with antialiasing, as transformers' processors and qwen-vl-utils do.
    """
    if (frame.shape[1], frame.shape[0]) == size:
        return frame
    from PIL import Image

    resample = Image.Resampling.BICUBIC if bicubic else Image.Resampling.BOX
    image: Any = Image.fromarray(frame).resize(size, resample)
    return np.asarray(image, dtype=np.uint8)
