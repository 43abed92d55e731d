"""Video files that ffmpeg's command writes, and their frames as that command reads them."""

from __future__ import annotations

import subprocess
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import numpy.typing as npt

from egost.tasks.clips.decoders import DecodedClip, Decoder, decode_clip
from egost.tasks.clips.packets import open_video
from egost.tasks.clips.protocols import Protocol

N_FRAMES = 30
"""Of the films that `parts` makes."""

FFMPEG = imageio_ffmpeg.get_ffmpeg_exe()
Frames = npt.NDArray[np.uint8]


def made(target: Path, *arguments: str) -> Path:
    subprocess.run([FFMPEG, "-y", "-v", "error", *arguments, str(target)], check=True)
    return target


def pattern(target: Path, *arguments: str, seconds: int = 2, rate: int = 10) -> Path:
    """ffmpeg's moving test picture."""
    source = f"testsrc2=size=160x120:rate={rate}:duration={seconds}"
    return made(target, "-f", "lavfi", "-i", source, *arguments)


def decode(path: Path, decoder: Decoder = "pyav", *, every_frame: bool = False) -> DecodedClip:
    return decode_clip(path, Protocol(), decoder, every_frame=every_frame)


def by_ffmpeg(path: Path, wanted: Collection[int]) -> tuple[int, dict[int, Frames]]:
    """How many frames ffmpeg's command gives of the stream that a player plays, and the wanted: uint8 [H * W * 3]."""
    container, stream = open_video(path)
    with container:
        index, size = stream.index, stream.width * stream.height * 3
    output = ["-map", f"0:{index}", "-fps_mode", "passthrough", "-pix_fmt", "rgb24", "-f", "rawvideo", "-"]
    with subprocess.Popen(
        [FFMPEG, "-v", "fatal", "-i", str(path), *output], stdout=subprocess.PIPE
    ) as process:
        assert process.stdout
        read = process.stdout.read
        frames: Iterator[bytes] = iter(lambda: read(size), b"")
        count, found = 0, {}
        for count, frame in enumerate(frames, 1):
            if count - 1 in wanted:
                found[count - 1] = np.frombuffer(frame, np.uint8)
    return count, found


def largest_difference(indices: Sequence[int], frames: Frames, by_index: dict[int, Frames]) -> int:
    """The largest difference of a value of the 8 frames to those by index, of 255; 255 where one is not there."""
    pairs = [(ours.reshape(-1), by_index.get(i)) for i, ours in zip(indices, frames, strict=True)]
    return max(
        255 if right is None or right.shape != ours.shape else int(np.abs(right.astype(int) - ours).max())
        for ours, right in pairs
    )


def same_as_ffmpeg(path: Path, clip: DecodedClip) -> bool:
    """Whether ffmpeg's command gives as many frames, and each of the 8 within 1 of 255 under the same index."""
    count, frames = by_ffmpeg(path, clip.indices)
    return count == clip.n_frames and largest_difference(clip.indices, clip.frames, frames) <= 1
