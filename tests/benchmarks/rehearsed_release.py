"""The release that `rehearsal.py` evaluates: the official layout, large clips in motion, made of a few shots."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

RATE, GOP = 30, 250
SIZES = ((1280, 720), (1408, 1408), (1280, 960))
"""Width and height in pixels of HUJI's, Aria's and SUN3D's kind of clip; each is filmed in two shots of a GOP."""


@dataclass(frozen=True)
class Size:
    """How large a rehearsal is.

    distinct: clips of their own; the others are links to them. seconds: of the shortest and the longest clip. frames:
    widths and heights. shots: of each of these, of which its clips are put together.
    """

    clips: int
    distinct: int
    questions: int
    seconds: tuple[int, int]
    frames: tuple[tuple[int, int], ...] = SIZES
    shots: int = 2


WHOLE = Size(789, 96, 5000, (20, 118))
QUICK = Size(24, 6, 150, (20, 40), SIZES[:2], 1)


def write_release(root: Path, size: Size) -> None:
    """Write a release in the official layout; what is there is kept."""
    from egost.tasks.mini_world.release_writer import clip_path, question_files
    from egost.tasks.mini_world.walks import plan_clip
    from egost.tasks.release.layout import write_question_files

    truths = [plan_clip(0, "test", number).truth for number in range(size.clips)]
    shortest, longest = size.seconds
    for number, truth in enumerate(truths[: size.distinct]):
        path = clip_path(root, truth)
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            seconds = shortest + (longest - shortest) * number // max(1, size.distinct - 1)
            width, height = size.frames[number % len(size.frames)]
            _film(path, _shots(root.parent / "shots", width, height, size.shots), number, seconds)
    for number, truth in enumerate(truths[size.distinct :]):
        path = clip_path(root, truth)
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.hardlink_to(clip_path(root, truths[number % size.distinct]))
    files = question_files(truths, 0)
    places = [(name, key) for name, entries in files.items() for key in entries]
    for place in range(len(places) - size.questions):
        name, key = places[place * len(places) // (len(places) - size.questions)]
        del files[name][key]
    write_question_files(root, files)


def _shots(folder: Path, width: int, height: int, count: int) -> list[Path]:
    """GOPs: a pan and a walk over a scene, in front of another that moves otherwise, under a sensor's noise."""
    import numpy as np

    from egost.tasks.mini_world.raycast import render
    from egost.tasks.mini_world.walks import Camera, plan_clip

    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{width}x{height}-{shot}.mp4" for shot in range(count)]
    for shot, path in enumerate(paths):
        if path.exists():
            continue
        random = np.random.default_rng(shot)
        plan = plan_clip(7, "test", shot)
        truth = replace(plan.truth, frames=1, width=width * 3 // 2, height=height * 3 // 2)
        camera = Camera(*(getattr(plan.camera, field.name)[:1] for field in fields(Camera)))
        scene = render(replace(plan, truth=truth, camera=camera))[0]
        blocks = [side // 2 + 1 for side in scene.shape[:2]]
        grain = random.integers(0, 16, blocks, dtype=np.uint8).repeat(2, 0).repeat(2, 1)
        scene = scene // 8 * 7 + grain[: scene.shape[0], : scene.shape[1], None]
        noise = random.integers(0, 3, (4, height, width, 1), dtype=np.uint8)
        most_x, most_y = scene.shape[1] - width, scene.shape[0] - height

        def frames(
            scene: Any = scene, noise: Any = noise, most: tuple[int, int] = (most_x, most_y)
        ) -> Iterator[Any]:
            for i in range(GOP):
                x = round(most[0] * (0.5 - 0.5 * np.cos(i / 40)))
                y = round(most[1] * (0.5 + 0.5 * np.sin(i / 23)))
                behind = scene[most[1] - y :, most[0] - x :][:height, :width]
                yield scene[y : y + height, x : x + width] // 2 + behind // 2 + noise[i % len(noise)]

        _encode(path, frames(), width, height)
    return paths


def _encode(path: Path, frames: Iterator[Any], width: int, height: int) -> None:
    import av
    import numpy as np

    part = path.with_suffix(".part")
    with av.open(str(part), "w", format="mp4") as container:
        stream: Any = container.add_stream("libx264", rate=RATE)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.options = {"preset": "superfast", "crf": "30", "g": str(GOP), "sc_threshold": "0"}
        for image in frames:
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    part.rename(path)


def _film(path: Path, shots: list[Path], number: int, seconds: int) -> None:
    """Put the packets of shots one behind the other, in an order of the number's own."""
    import av

    part = path.with_suffix(".part")
    with av.open(str(shots[0])) as first, av.open(str(part), "w", format="mp4") as film:
        target: Any = film.add_stream_from_template(first.streams.video[0])
        ticks = round(GOP / RATE / first.streams.video[0].time_base)
        for place in range(max(1, round(seconds * RATE / GOP))):
            with av.open(str(shots[(number >> place) % len(shots)])) as shot:
                for packet in shot.demux(video=0):
                    if packet.dts is not None:
                        packet.pts, packet.dts = packet.pts + place * ticks, packet.dts + place * ticks
                        packet.stream = target
                        film.mux(packet)
    part.rename(path)
