"""Real video files whose frames carry their number as a picture, and ways to damage them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from functools import wraps
from pathlib import Path
from typing import Any, Concatenate, ParamSpec

import av
import numpy as np
import numpy.typing as npt

P = ParamSpec("P")

_BITS = 16
_ROTATIONS = {
    # Degrees clockwise by which a player turns the stored frames: the matrix's four corners (a, b, c, d), in 16.16.
    90: (0, 1, -1, 0),
    180: (-1, 0, 0, -1),
    270: (0, -1, 1, 0),
}


def numbered_frame(number: int, size: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """uint8 RGB [H, W, 3]: a 4 x 4 board of bright and dark fields, which are the number's bits; size is (W, H)."""
    width, height = size
    field = (np.arange(height) * 4 // height * 4)[:, None] + np.arange(width) * 4 // width
    bright = ((number >> field) & 1).astype(np.uint8)
    grain = np.random.default_rng(number).integers(
        0, 25, (-(-height // 2), -(-width // 2), 3), dtype=np.uint8
    )
    grain = grain.repeat(2, 0)[:height].repeat(2, 1)[:, :width]
    return 30 + 160 * bright[..., None] + grain + np.array([0, 24, 6], np.uint8)


def frame_number(frame: npt.NDArray[np.uint8]) -> int:
    """The number that an upright frame of `numbered_frame` carries, read from the middle of each field."""
    height, width = frame.shape[:2]
    number = 0
    for bit in range(_BITS):
        y, x = (2 * (bit // 4) + 1) * height // 8, (2 * (bit % 4) + 1) * width // 8
        number |= int(frame[y - 1 : y + 2, x - 1 : x + 2].mean() > 128) << bit
    return number


def numbers(frames: Sequence[npt.NDArray[np.uint8]]) -> list[int]:
    return [frame_number(frame) for frame in frames]


def encoded_once(write: Callable[Concatenate[Path, P], Path]) -> Callable[Concatenate[Path, P], Path]:
    """Encodes a film once a process: whoever asks for the same again gets a copy of its bytes."""
    known: dict[str, bytes] = {}

    @wraps(write)
    def wrapped(path: Path, *args: P.args, **how: P.kwargs) -> Path:
        film = repr((path.suffix, args, sorted(how.items())))
        if film in known:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(known[film])
        else:
            known[film] = write(path, *args, **how).read_bytes()
        return path

    return wrapped


@encoded_once
def write_video(
    path: Path,
    n_frames: int,
    *,
    size: tuple[int, int] = (128, 96),
    rate: int = 25,
    gop: int = 12,
    pix_fmt: str = "yuv420p",
    codec: str = "libx264",
    times_ms: Sequence[int] | None = None,
    colorspace: int | None = None,
    index_first: bool = True,
    **options: str,
) -> Path:
    """Write numbered frames 0 to n - 1; size is (width, height), times_ms are their times in milliseconds."""
    flags = {"movflags": "faststart"} if index_first and path.suffix == ".mp4" else {}
    with av.open(str(path), "w", options=flags) as container:
        stream: Any = container.add_stream(codec, rate=rate)
        stream.width, stream.height, stream.pix_fmt = *size, pix_fmt
        stream.options = {"g": str(gop), "crf": "18"} | options if codec.startswith("libx264") else options
        if times_ms:
            stream.codec_context.time_base = Fraction(1, 1000)
        if colorspace:
            stream.codec_context.colorspace = colorspace
        for i in range(n_frames):
            frame = av.VideoFrame.from_ndarray(numbered_frame(i, size), format="rgb24")
            if times_ms:
                frame.pts, frame.time_base = times_ms[i], Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def write_audio(path: Path, seconds: float = 1.0) -> Path:
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("aac", rate=16000)
        stream.layout = "mono"
        tone = np.sin(np.arange(int(16000 * seconds)) / 20).astype(np.float32)[None]
        frame = av.AudioFrame.from_ndarray(tone, format="fltp", layout="mono")
        frame.sample_rate = 16000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def muxed(
    target: Path,
    *sources: Path,
    tags: Mapping[str, str] | None = None,
    options: Mapping[str, str] | None = None,
) -> Path:
    """The first stream of each source in one file, as it is coded."""
    with av.open(str(target), "w", options=dict(options or {})) as container:
        container.metadata.update(tags or {})
        inputs = [av.open(str(source)) for source in sources]
        streams = [container.add_stream_from_template(source.streams[0]) for source in inputs]
        for source, stream in zip(inputs, streams, strict=True):
            for packet in source.demux(source.streams[0]):
                if packet.size:
                    packet.stream = stream
                    container.mux(packet)
            source.close()
    return target


def patch(path: Path, atom: bytes, offset: int, content: bytes) -> Path:
    """Overwrite bytes of an mp4 box, counted from its name."""
    data = bytearray(path.read_bytes())
    at = data.index(atom) + offset
    data[at : at + len(content)] = content
    path.write_bytes(data)
    return path


def rotate(path: Path, clockwise: int) -> Path:
    """Make players turn the frames; the stored frames stay as they are."""
    a, b, c, d = (value << 16 for value in _ROTATIONS[clockwise])
    matrix = b"".join(v.to_bytes(4, "big", signed=True) for v in (a, b, 0, c, d, 0, 0, 0, 1 << 30))
    # tkhd, version 0: the matrix lies behind the name, version, times, track, duration, layer and volume.
    return patch(path, b"tkhd", 4 + 40, matrix)


def cut(path: Path, share: float, name: str = "cut.mp4") -> Path:
    data = path.read_bytes()
    target = path.with_name(name)
    target.write_bytes(data[: int(len(data) * share)])
    return target


def read_film(path: Path) -> npt.NDArray[np.uint8]:
    """All frames of a clip, uint8 RGB [N, H, W, 3]."""
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])
