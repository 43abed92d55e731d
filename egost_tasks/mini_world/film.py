"""Writes frames to an H.264 file, and reads them back."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from itertools import chain
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

_X264 = "qp=21:b-adapt=0:bframes=2:scenecut=0:weightp=0:aq-mode=0:mbtree=0:threads=1"
"""One thread, and nothing that x264's look-ahead decides: with it, 144 x 112 frames gave other bytes each time."""


def write_film(path: Path, frames: Iterable[NDArray[np.uint8]], rate: Fraction) -> None:
    """Encode RGB frames, each of shape (height, width, 3) with even sizes, as H.264 in yuv420p.

    The frames are taken one by one; there must be one at least. The file appears whole or not at all, also where the
    frames end with an exception; the same frames give the same bytes on one machine.
    """
    part = path.with_name(f".{path.name}.part")
    try:
        _encode(part, frames, rate)
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def _encode(path: Path, frames: Iterable[NDArray[np.uint8]], rate: Fraction) -> None:
    remaining = iter(frames)
    first = next(remaining)
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=rate)
        stream.height, stream.width = first.shape[:2]
        stream.pix_fmt = "yuv420p"
        stream.codec_context.thread_count = 1
        stream.options = {"preset": "veryfast", "x264-params": _X264}
        for pixels in chain([first], remaining):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())


def read_film(path: Path) -> NDArray[np.uint8]:
    """All frames of a clip that `write_film` wrote, in RGB."""
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])
