"""The first step: cuts all clips of a list into one form, in parallel processes, and lists what it cut, with a plot.

The form: upright H.264 in yuv420p, square pixels, a constant frame rate, no sound.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from itertools import chain
from math import ceil
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from egost.tasks.cache import write_picture
from egost.tasks.clips.packets import (
    FrameLost,
    decoded_frames,
    in_order,
    open_video,
    read_packets,
    sought_frames,
)
from egost.tasks.clips.pixels import transfer, upright_rgb
from egost.tasks.construction.spec import SCENES, Cut, read_spec
from egost.tasks.construction.workfolder import ClipRow, WorkFolder, write_lines
from egost.tasks.errors import ClipError
from egost.tasks.mini_world.raycast import write_film
from egost.tasks.progress import counted, in_processes, usable_cores

MAX_SIDE = 1280
"""Most pixels of a clip's longer side: 720p, far more than any evaluated model sees. This project's own rule."""

MAX_RATE = Fraction(30)
"""Most frames a second: a model sees 8 frames of a clip. A higher rate is divided by a whole number."""

CUTTING_VERSION = 3
"""Raised whenever the same video would give another clip."""

_SHORT_BY_S = Fraction(1, 2)
"""A video may end this many seconds earlier than the list says, because people round."""


@dataclass(frozen=True, slots=True)
class CutFailure:
    """A clip that could not be cut. reason: a short stable word; message: for people."""

    clip: str
    reason: str
    message: str


def build_clips(
    folder: WorkFolder, spec: Path, *, workers: int | None = None, progress: bool = True
) -> tuple[list[ClipRow], list[CutFailure]]:
    """Cut the clips of a list into a working folder; return the clips and the failures, in the list's order.

    workers: processes, by default one a core. A clip that was cut before from the same video with the same settings is
    kept. A clip that is no longer in the list leaves `clips.jsonl`, but not the disk. `clips.jsonl` is written anew
    after each clip, so that a run that was killed goes on.
    Raises ConstructionError.
    """
    cuts = read_spec(spec)
    with folder.step("clips"):
        folder.clip_folder.mkdir(exist_ok=True)
        earlier = folder.clips() if folder.manifest.is_file() else {}
        rows = {cut.clip: earlier[cut.clip] for cut in cuts if _is_cut(folder, cut, earlier)}
        todo = [cut for cut in cuts if cut.clip not in rows]
        failures: dict[str, CutFailure] = {}
        with counted("cutting clips", "clips", len(todo), progress) as advance:

            def take(done: ClipRow | CutFailure) -> None:
                advance()
                if isinstance(done, CutFailure):
                    failures[done.clip] = done
                    return
                rows[done.clip] = done
                _write(folder, cuts, rows)

            most = min(workers or usable_cores(), len(todo))
            in_processes(partial(cut_clip, folder.clip_folder), todo, most, take)
        _write(folder, cuts, rows)
        return (
            [rows[cut.clip] for cut in cuts if cut.clip in rows],
            [failures[cut.clip] for cut in cuts if cut.clip in failures],
        )


def _is_cut(folder: WorkFolder, cut: Cut, earlier: dict[str, ClipRow]) -> bool:
    row = earlier.get(cut.clip)
    return (
        row is not None
        and (row.source, row.scene, row.licence) == (cut.source, cut.scene, cut.licence)
        and (folder.clip_folder / cut.clip).is_file()
        and row.made_from == made_from(cut)
    )


def _write(folder: WorkFolder, cuts: Sequence[Cut], rows: dict[str, ClipRow]) -> None:
    write_lines(folder.manifest, (rows[cut.clip] for cut in cuts if cut.clip in rows))


def made_from(cut: Cut) -> str:
    """Hash of the video's state, the cut and the settings. Raises OSError where the video is missing."""
    status = cut.path.stat()
    settings = (CUTTING_VERSION, MAX_SIDE, str(MAX_RATE), cut.start_s, cut.end_s)
    what = (str(cut.path.resolve()), status.st_size, status.st_mtime_ns, settings)
    return hashlib.sha256(repr(what).encode()).hexdigest()


def cut_clip(folder: Path, cut: Cut) -> ClipRow | CutFailure:
    """Cut one clip into a folder; the file appears whole.

    Failures: `missing_file`, `unreadable`, `no_video`, `no_frames`, `truncated`, `damaged`, `hdr`, and `beyond_end`
    where the video ends before the clip does.
    """
    try:
        source = made_from(cut)
        if cut.end_s is None and read_packets(cut.path).cut:
            raise ClipError("truncated", f"{cut.path} is truncated. Get it again, or give the clip an end.")
        frames = _Frames(cut)
        path = folder / cut.clip
        write_film(path, frames, frames.rate)
        return ClipRow(
            clip=cut.clip,
            file=cut.file,
            start_s=cut.start_s,
            end_s=round(cut.start_s + float(frames.count / frames.rate), 6),
            source=cut.source,
            scene=cut.scene,
            licence=cut.licence,
            width=frames.width,
            height=frames.height,
            rate=str(frames.rate),
            frames=frames.count,
            duration_s=round(float(frames.count / frames.rate), 6),
            sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
            made_from=source,
        )
    except ClipError as error:
        return CutFailure(cut.clip, error.reason, str(error))
    except FileNotFoundError as error:
        return CutFailure(cut.clip, "missing_file", str(error))


class _Frames:
    """The frames of a clip, to iterate over once; `count`, `width` and `height` are known afterwards.

    rate: frames a second.
    """

    def __init__(self, cut: Cut) -> None:
        self._cut = cut
        self.count = self.width = self.height = 0
        container, stream = open_video(cut.path)
        with container:
            if transfer(stream) != "sdr":
                raise ClipError(
                    "hdr",
                    f"{cut.path} is HDR ({transfer(stream)}), whose colours would look pale. Convert it to SDR first, "
                    "for example by ffmpeg's filters zscale and tonemap.",
                )
            self.rate = steady_rate(stream.average_rate)
            self._size = clip_size(stream.width, stream.height, stream.sample_aspect_ratio)

    def __iter__(self) -> Iterator[NDArray[np.uint8]]:
        shown: Any = None
        pixels: NDArray[np.uint8] = np.empty((0, 0, 3), np.uint8)
        for frame in self._shown():
            if frame is not shown:
                shown, pixels = frame, upright_rgb(frame, self._size[0], self._size[1])
                self.height, self.width = pixels.shape[:2]
            self.count += 1
            yield pixels

    def _shown(self) -> Iterator[Any]:
        """For each tick of the constant rate, the decoded frame that a player shows then."""
        start = Fraction(self._cut.start_s)
        end = None if self._cut.end_s is None else Fraction(self._cut.end_s)
        # A tick takes a frame that is up to a quarter of an interval late: many containers round times.
        late = Fraction(1, 4) / self.rate
        shown: Any = None
        over, tick = start, 0
        for time, frame, lasts in _timed(self._cut.path, start):
            while shown is not None and (at := start + tick / self.rate) + late < time:
                if end is not None and at + late >= end:
                    return
                yield shown
                tick += 1
            shown, over = frame, time + lasts
        if shown is None or over <= start:
            raise ClipError("no_frames", f"{self._cut.path} has no frame at {self._cut.start_s:g} s.")
        if end is not None and over < end - _SHORT_BY_S:
            raise ClipError(
                "beyond_end",
                f"{self._cut.path} ends at {float(over):.2f} s, the clip should end at {self._cut.end_s:g} s.",
            )
        while start + tick / self.rate + late < (over if end is None else min(end, over)):
            yield shown
            tick += 1


def steady_rate(average: Fraction | None) -> Fraction:
    """The rate of a clip for a video's average rate, both in frames a second; `MAX_RATE` where it is not known."""
    if not average:
        return MAX_RATE
    return (average / ceil(average / MAX_RATE)).limit_denominator(1001)


def clip_size(width: int, height: int, aspect: Fraction | None) -> tuple[int, int]:
    """Width and height in pixels that frames are scaled to: square pixels, at most `MAX_SIDE`, even.

    aspect: of a stored pixel, width to height; None where the file does not give it.
    """
    shown = width * aspect if aspect else Fraction(width)
    shrink = min(Fraction(1), MAX_SIDE / max(shown, Fraction(height)))
    return max(2, int(shown * shrink) // 2 * 2), max(2, int(height * shrink) // 2 * 2)


def _timed(path: Path, start: Fraction) -> Iterator[tuple[Fraction, Any, Fraction]]:
    """Frames from a little before `start` on: seconds from the video's start, the frame, its duration in seconds.

    Raises ClipError (`damaged`, `unreadable`).
    """
    container, stream = open_video(path)
    with container:
        base, first = stream.time_base, stream.start_time or 0
        # AVI has no times of showing; those that ffmpeg gives to B-frames may be wrong, so that frames are counted.
        counts = container.format.name == "avi" and stream.codec_context.has_b_frames
        lost: list[int | None] = []
        if start and not counts:
            at = first + int(start / base)
            frames = sought_frames(container, stream, at, None, lost)
            try:
                head = next(frames, None)
            except FrameLost:
                head = None
            if head is None or head.pts is None or head.pts > at:
                yield from _timed(path, Fraction(0))
                return
            frames = chain([head], frames)
        else:
            frames = decoded_frames(container, stream, None, lost)
            frames = frames if counts else in_order(frames)
        interval = 1 / (stream.guessed_rate or MAX_RATE)
        time = start
        try:
            for number, frame in enumerate(chain(frames, [None])):
                if number == 0:
                    lost.clear()  # What comes before the first frame that can be decoded alone is not missing.
                elif lost:
                    raise ClipError(
                        "damaged",
                        f"{path} is damaged after {float(time):.2f} s. Get it again, or cut around it.",
                    )
                if frame is None:
                    return
                # A raw stream has no times and cannot be sought in, so its frames are counted, too.
                time = number * interval if counts or frame.pts is None else (frame.pts - first) * base
                yield time, frame, frame.duration * base if frame.duration else interval
        except FrameLost as error:
            raise ClipError(
                "unreadable", f"{path}: {error}. Convert it, for example to H.264 in mp4."
            ) from error


_BINS = 12


@dataclass(frozen=True, slots=True)
class Lengths:
    """Lengths of the clips of one source, in seconds."""

    source: str
    clips: int
    shortest: float
    median: float
    longest: float
    total: float


def lengths(rows: Sequence[ClipRow]) -> list[Lengths]:
    """Lengths of the clips by source; the last entry is of all together."""
    by_source: dict[str, list[float]] = {}
    for row in rows:
        by_source.setdefault(row.source, []).append(row.duration_s)
    groups = [*sorted(by_source.items()), ("all", [row.duration_s for row in rows])]
    return [
        Lengths(source, len(found), min(found), median(found), max(found), sum(found))
        for source, found in groups
        if found
    ]


def write_length_plot(rows: Sequence[ClipRow], path: Path) -> None:
    """Write a PNG: on the left the lengths by source, on the right the clips by scene and source.

    rows: at least one. Raises OSError.
    """
    import matplotlib
    from matplotlib.figure import Figure

    sources = sorted({row.source for row in rows})
    colours = matplotlib.colormaps["tab10" if len(sources) <= 10 else "tab20"]
    figure = Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    longest = max(row.duration_s for row in rows)
    edges = np.linspace(0, np.ceil(longest), _BINS + 1)
    left.hist(
        [[row.duration_s for row in rows if row.source == source] for source in sources],
        bins=edges.tolist(),
        stacked=True,
        color=[colours(k) for k in range(len(sources))],
        label=sources,
    )
    left.set(xlabel="length of a clip (s)", ylabel="clips", xlim=(0, edges[-1]))
    left.yaxis.get_major_locator().set_params(integer=True)
    counts = Counter((row.scene, row.source) for row in rows)
    scenes = [scene for scene in SCENES if any(row.scene == scene for row in rows)]
    start = np.zeros(len(scenes))
    for k, source in enumerate(sources):
        widths = np.array([counts[scene, source] for scene in scenes])
        right.barh([scene.replace("_", " ") for scene in scenes], widths, left=start, color=colours(k))
        start += widths
    right.set(xlabel="clips", ylim=(len(scenes) - 0.4, -0.6))
    right.xaxis.get_major_locator().set_params(integer=True)
    total = sum(row.duration_s for row in rows)
    length = f"{total / 60:.1f} minutes" if total >= 120 else f"{total:.0f} seconds"
    figure.suptitle(f"{len(rows)} clips, {length} in all")
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=6, title="source")
    # No date, so that the same clips give the same bytes.
    write_picture(path, figure, dpi=120, metadata={"Software": None})
