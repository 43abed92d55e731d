"""How long the way from a video file to its 8 frames takes, and which decoder is the fastest. Run by `make bench`.

Everything is measured in one run, each way in turn, and the best of several rounds counts, in seconds of CPU. The
ratios are against the reference's way (the installed qwen-vl-utils reads the clip at 1 frame a second, 8 of these are
kept) and against decoding every frame; below 1 a way is slower. A scene that passes by costs little to decode; a
film of `make rehearsal` shows texture in motion, as a walk does.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any, get_args

import av
import numpy as np
from rehearsal import _film, _shots
from rich.console import Console
from rich.table import Table

from egost.tasks.clips import packets
from egost.tasks.clips.clips import get_clip
from egost.tasks.clips.decoders import DEFAULT_DECODER, Decoder, decode_clip
from egost.tasks.clips.lossless import read_lossless, write_lossless
from egost.tasks.clips.protocols import Protocol, uniform

VIDEOS = {
    # name: seconds, frames from one key frame to the next (None: texture in motion, 250)
    "60 s, key frame every 250": (60, 250),
    "60 s, key frame every 30": (60, 30),
    "5 s, key frame every 250": (5, 250),
    "60 s in motion, key frame every 250": (60, None),
}
SIZE = (1280, 720)
RATE = 30
REFERENCE, EVERY = "reference: 1 frame a second", "every frame"

Ways = dict[str, Callable[[], Any]]


def write_walk(path: Path, seconds: int, gop: int | None) -> None:
    """A 720p H.264 video with the defaults of x264's `veryfast`: a pan over a grainy scene; or a film in motion."""
    width, height = SIZE
    if gop is None:
        _film(path, _shots(path.parent / "shots", width, height, 1), 0, seconds)
        return
    random = np.random.default_rng(0)
    scene = random.integers(0, 200, (height // 16, width // 4, 3), dtype=np.uint8).repeat(16, 0).repeat(16, 1)
    scene += random.integers(0, 40, (height, 1, 3), dtype=np.uint8)
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("libx264", rate=RATE)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.options = {"preset": "veryfast", "g": str(gop), "sc_threshold": "0"}
        stream.thread_type = "FRAME"
        for i in range(seconds * RATE):
            left = 3 * i % (scene.shape[1] - width)
            image = np.ascontiguousarray(scene[:, left : left + width])
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())


def by_reference(path: Path) -> Any:
    from qwen_vl_utils import vision_process

    reader = "decord" if find_spec("decord") else vision_process.get_video_reader_backend()
    video = vision_process.VIDEO_READER_BACKENDS[reader]({"video": str(path), "fps": 1.0})[0]
    return video[np.linspace(0, len(video) - 1, 8).astype(int)]


def by_every_frame(path: Path) -> Any:
    with av.open(str(path)) as container:
        wanted = set(uniform(container.streams.video[0].frames))
        return [f.to_ndarray(format="rgb24") for i, f in enumerate(container.decode(video=0)) if i in wanted]


def decoded(path: Path) -> tuple[int, int]:
    """How many frames our way decodes, and how many the video has."""
    count, decoder = 0, packets.decoded_frames

    def counting(*given: Any) -> Any:
        nonlocal count
        for frame in decoder(*given):
            count += 1
            yield frame

    packets.decoded_frames = counting
    try:
        every = decode_clip(path, Protocol(), DEFAULT_DECODER).n_frames
        return count, every
    finally:
        packets.decoded_frames = decoder


def best_times(ways: Ways, rounds: int, clock: Callable[[], float] = time.process_time) -> dict[str, float]:
    """Seconds of the fastest of some rounds, in each of which every way has its turn."""
    best = dict.fromkeys(ways, float("inf"))
    for _ in range(rounds):
        for name, way in ways.items():
            start = clock()
            way()
            best[name] = min(best[name], clock() - start)
    return best


def decoding(path: Path, rounds: int) -> dict[str, float]:
    installed = [d for d in get_args(Decoder) if d == DEFAULT_DECODER or find_spec(d)]
    ways: Ways = {REFERENCE: lambda: by_reference(path), EVERY: lambda: by_every_frame(path)}
    ways |= {d: lambda d=d: decode_clip(path, Protocol(), d) for d in installed}
    return best_times(ways, rounds)


def keeping(path: Path, folder: Path, rounds: int) -> dict[str, float]:
    """The steps of `get_clip` around the decoding."""
    frames = decode_clip(path, Protocol(), DEFAULT_DECODER).frames
    kept = folder / "kept.mp4"
    caches = iter(range(1000))

    def fresh() -> Any:
        return get_clip(path, Protocol(), cache=folder / f"cache{next(caches)}")

    start = time.perf_counter()
    fresh()
    first = time.perf_counter() - start
    ways: Ways = {
        "8 frames: write without loss and check": lambda: write_lossless(frames, kept),
        "8 frames: read back": lambda: read_lossless(kept),
        "get_clip: new clip, warm child": fresh,
        "get_clip: from the cache": lambda: get_clip(path, Protocol(), cache=folder / "cache0"),
    }
    return {"get_clip: new clip, first in this process": first, **best_times(ways, rounds, time.perf_counter)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    console = Console()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["EGOST_CACHE"] = str(folder / "cache")
        paths = {}
        for number, (title, (seconds, gop)) in enumerate(VIDEOS.items()):
            console.print(f"writing a video: {title}")
            paths[title] = folder / f"{number}.mp4"
            write_walk(paths[title], seconds, gop)
        for title, path in paths.items():
            times = decoding(path, rounds)
            ours, every = decoded(path)
            heading = f"8 frames of {title}, 720p: {ours} of {every} are decoded"
            table = Table("way", "CPU s", "x reference", "x every frame", title=heading)
            for way, seconds_taken in times.items():
                ratios = (times[REFERENCE] / seconds_taken, times[EVERY] / seconds_taken)
                table.add_row(way, f"{seconds_taken:.3f}", *(f"{ratio:.2f}" for ratio in ratios))
            console.print(table)
        title = next(iter(paths))
        table = Table("step", "s", title=f"keeping the 8 frames of {title}, 720p, {DEFAULT_DECODER}")
        for step, seconds_taken in keeping(paths[title], folder, rounds).items():
            table.add_row(step, f"{seconds_taken:.4f}")
        console.print(table)


if __name__ == "__main__":
    main()
