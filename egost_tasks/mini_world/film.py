"""Writes a rendered clip to an H.264 file, and reads the frames back."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

_X264 = "qp=21:b-adapt=0:bframes=2:scenecut=0:weightp=0:aq-mode=0:mbtree=0:threads=1"
"""One thread, and nothing that x264's look-ahead decides: with it, 144 x 112 frames gave other bytes each time."""


def write_film(path: Path, frames: NDArray[np.uint8], rate: Fraction) -> None:
    """Encode RGB frames, shape (n, height, width, 3) with even sizes, as H.264 in yuv420p.

    The file appears whole or not at all; the same frames give the same bytes on one machine.
    """
    beside = path.with_name(f".{path.name}.part")
    with av.open(str(beside), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=rate)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        stream.codec_context.thread_count = 1
        stream.options = {"preset": "veryfast", "x264-params": _X264}
        for pixels in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())
    beside.replace(path)


def read_film(path: Path) -> NDArray[np.uint8]:
    """All frames of a clip that `write_film` wrote, in RGB."""
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])
