"""Writes and reads the frames of a clip without loss, in a file that every video reader opens: H.264 on RGB planes."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path
from typing import Any, cast

import av
import numpy as np
import numpy.typing as npt

Frames = npt.NDArray[np.uint8]

ENCODER = "libx264rgb-1"
"""Named in the cache's keys: raised whenever the same frames would be written otherwise."""

MAX_SIDE = 16384
"""Pixels; x264's limit."""


def write_lossless(frames: Frames, path: Path) -> None:
    """Write uint8 RGB frames [N, H, W, 3] as an mp4 at 1 frame a second, without loss, and check them.

    At 1 frame a second no reader that samples by time (1 or 2 frames a second) drops or repeats a frame.
    RGB planes, unlike YUV, come back exactly, at odd sizes as well: through PyAV, OpenCV and torchcodec at
    any size, through decord 0.6.0 from 73 pixels of width on (below, it gives some widths wrongly).

    Raises OSError where the file cannot be written (full, read-only), ValueError where a side is longer
    than MAX_SIDE or the frames do not come back as they were, MemoryError where x264 stops: it has no other reason.
    """
    if max(frames.shape[1:3]) > MAX_SIDE:
        raise ValueError(f"{frames.shape[2]} x {frames.shape[1]} pixels; x264 takes up to {MAX_SIDE} a side")
    buffer = io.BytesIO()
    try:
        _encode(frames, buffer)
    except av.error.ExternalError as error:
        raise MemoryError(f"x264 stopped: {error}") from error
    # Python's own writing raises on a full disk; libav's muxer may close a cut file without an error.
    with path.open("wb") as file:
        file.write(buffer.getbuffer())
        file.flush()
        os.fsync(file.fileno())
    pairs = zip_longest(_frames(path), frames, fillvalue=np.zeros(0, np.uint8))
    if not all(np.array_equal(read, frame) for read, frame in pairs):
        raise ValueError(f"the frames in {path} are not those that were written")


def _encode(frames: Frames, buffer: io.BytesIO) -> None:
    with av.open(buffer, "w", format="mp4") as container:
        stream: Any = container.add_stream("libx264rgb", rate=1)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "rgb24"
        # The fastest preset reads back three times as fast as the default one, for a tenth more bytes.
        stream.options = {"crf": "0", "preset": "ultrafast"}
        for i, pixels in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
            frame.pts = i
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def read_lossless(path: Path) -> Frames:
    """All frames of a file, uint8 RGB [N, H, W, 3].

    Raises av.FFmpegError, OSError or ValueError where it cannot be read.
    """
    return np.stack([*_frames(path)])


def lossless_sha256(path: Path) -> str:
    """The `pixels_sha256` of a file, found with one frame in memory at a time. Raises as `read_lossless`."""
    found = hashlib.sha256()
    for frame in _frames(path):
        found.update(np.ascontiguousarray(frame).data)
    return found.hexdigest()


def _frames(path: Path) -> Iterator[Frames]:
    """The frames of a file one by one, uint8 RGB [H, W, 3]."""
    with av.open(str(path)) as container:
        if not container.streams.video:
            raise ValueError("it holds no video")
        for frame in container.decode(video=0):
            yield cast(Frames, frame.to_ndarray(format="rgb24"))


def pixels_sha256(frames: Frames) -> str:
    """SHA-256 of the frames as one C-ordered uint8 array."""
    return hashlib.sha256(np.ascontiguousarray(frames).data).hexdigest()
