"""The packets of a video file, counted by demuxing it: what it really holds, whatever its headers say."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
from av.stream import Disposition

from egost.tasks.errors import ClipError


@dataclass(frozen=True)
class Packet:
    """One coded frame: presentation and decoding time in units of the stream's time base."""

    pts: int
    dts: int
    is_key: bool


@dataclass(frozen=True)
class PacketTable:
    """The coded frames of a file, in decoding order, without those that are never shown or are cut off.

    has_times: whether each frame has its own presentation time, so that it can be found by seeking.
    hidden: presentation times of the frames that an edit list hides.
    tail: how long the last frame is shown, 0 where the file does not say.
    time_base: seconds, the unit of all times here. rate: frames a second as the container has it, or None.
    cut: whether the file ends before its own boxes do.
    promised: how many frames the container's index lists, 0 where it does not say.
    n_damaged: packets that the demuxer found incomplete.
    width, height: of the stored frames, pixels.
    """

    packets: tuple[Packet, ...]
    has_times: bool
    hidden: tuple[int, ...]
    tail: int
    time_base: Fraction
    rate: Fraction | None
    cut: bool
    promised: int
    n_damaged: int
    width: int
    height: int

    @property
    def pts(self) -> list[int]:
        """Presentation times of the frames that are shown, ascending."""
        return sorted(packet.pts for packet in self.packets)

    def expected_frames(self) -> int | None:
        """How many frames the file should show; None where it is cut and its index does not say."""
        if not self.cut:
            return len(self.packets) + self.n_damaged
        return max(self.promised - len(self.hidden), len(self.packets)) if self.promised else None


def open_video(source: Path) -> tuple[Any, Any]:
    """The container and its largest video stream; the cover picture of a song is no video.

    Raises ClipError (`unreadable`, `no_video`).
    """
    try:
        container: Any = av.open(str(source))
    except MemoryError:
        raise
    except (av.FFmpegError, OSError, ValueError) as error:
        raise ClipError(
            "unreadable", f"{source} cannot be opened as a video: {error}. Download it again."
        ) from error
    streams = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
    if not streams:
        kinds = ", ".join(sorted({s.type for s in container.streams})) or "nothing"
        container.close()
        raise ClipError("no_video", f"{source} holds no video, only: {kinds}")
    return container, max(streams, key=lambda s: s.width * s.height)


def read_packets(source: Path) -> PacketTable:
    """Demux the whole file, without decoding. Raises ClipError (`unreadable`, `no_video`)."""
    container, stream = open_video(source)
    shown: list[tuple[int | None, int | None, bool]] = []
    hidden: list[int] = []
    tail, damaged, last = 0, 0, None
    with container:
        for packet in whole_packets(container, stream):
            if packet.is_corrupt:
                damaged += 1
            elif packet.is_discard:
                hidden.append(packet.pts)
            else:
                shown.append((packet.pts, packet.dts, packet.is_keyframe))
                if last is None or (packet.pts is not None and packet.pts > last):
                    last, tail = packet.pts, packet.duration or 0
        times = [pts for pts, _, _ in shown]
        return PacketTable(
            packets=tuple(Packet(pts or 0, pts or 0 if dts is None else dts, key) for pts, dts, key in shown),
            has_times=None not in times and len(set(times)) == len(times),
            hidden=tuple(hidden),
            tail=tail,
            time_base=stream.time_base,
            rate=stream.average_rate,
            cut="mp4" in container.format.name and _is_cut(source),
            promised=stream.frames,
            n_damaged=damaged,
            width=stream.width,
            height=stream.height,
        )


def whole_packets(container: Any, stream: Any) -> Iterator[Any]:
    """The stream's packets that hold data, as far as the file can be read."""
    try:
        for packet in container.demux(stream):
            if packet.size:
                yield packet
    except (av.error.InvalidDataError, av.error.EOFError):
        return


def _is_cut(source: Path) -> bool:
    """Whether an ISO media file (mp4, mov) ends inside of one of its top-level boxes (ISO 14496-12, 4.2).

    A length in a header may be wrong and says nothing about the data; a box that reaches beyond the end
    of the file shows that bytes are missing.
    """
    end, start = source.stat().st_size, 0
    with source.open("rb") as file:
        while start + 8 <= end:
            file.seek(start)
            head = file.read(16)
            size = int.from_bytes(head[:4], "big")
            if size == 1:
                size = int.from_bytes(head[8:16], "big")
            if size == 0:
                return False
            if size < 8:
                break
            start += size
    return start > end
