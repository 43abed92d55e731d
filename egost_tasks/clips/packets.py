"""The packets of a video file, counted by demuxing it: what it really holds, whatever its headers say."""

from __future__ import annotations

import mmap
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO

import av
from av.stream import Disposition

from egost.tasks.clips.pixels import Transfer, transfer
from egost.tasks.errors import ClipError

_HOLE = bytes(64)

_MOST_BETWEEN = 1024
"""Bytes between two packets of a Matroska file: heads of blocks and clusters take 24 where nothing is missing."""


_INTRA = (0, 1, 5, 7)
"""`AVPictureType` of pictures that refer to no other: none named, I, SI, BI."""

_B = 3


class FrameLost(Exception):
    """A frame that a packet promises cannot be decoded, or is not where its packet says."""


@dataclass(frozen=True)
class Packet:
    """One coded frame: presentation and decoding time in units of the stream's time base."""

    pts: int
    dts: int
    is_key: bool


@dataclass(frozen=True)
class PacketTable:
    """The coded frames of a file, in decoding order, without those that are never shown or are cut off.

    codec: its name in ffmpeg. has_times: whether each frame has its own presentation time, so that it can be found
    by seeking. (An AVI file has none; copied into mp4, frames that are shown out of order keep the times of decoding.)
    hidden: presentation times of the frames that an edit list hides.
    tail: how long the last frame is shown, 0 where the file does not say.
    time_base: seconds, the unit of all times here. rate: frames a second as the container has it, or None.
    cut: whether the file ends before its own parts or its own duration do; None where it does not say where it ends.
    promised: how many frames the container lists, or its duration holds; 0 where it does not say.
    n_damaged: packets that are damaged, see `_is_damaged`.
    width, height: of the stored frames, pixels. pixel_aspect: of a stored pixel, width to height, as '4:3'.
    transfer: how the stream codes brightness.
    """

    codec: str
    packets: tuple[Packet, ...]
    has_times: bool
    hidden: tuple[int, ...]
    tail: int
    time_base: Fraction
    rate: Fraction | None
    cut: bool | None
    promised: int
    n_damaged: int
    width: int
    height: int
    pixel_aspect: str
    transfer: Transfer

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
    """The container and the video stream that a player plays; the cover picture of a song is no video.

    Raises ClipError (`unreadable`, `no_video`).
    """
    container = _open(source)
    pictures = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
    streams = [s for s in pictures if s.codec_context is not None]
    if streams:
        return container, _played(source, streams)
    kinds = ", ".join(sorted({s.type for s in container.streams})) or "nothing"
    container.close()
    if pictures:
        raise ClipError(
            "unreadable",
            f"{source} is coded in {_codec_tag(source)}, which no decoder here knows. Convert it, "
            "for example to H.264.",
        )
    raise ClipError("no_video", f"{source} holds no video, only: {kinds}")


def _open(source: Path) -> Any:
    try:
        # Titles and tags are nobody's pixels: what is not UTF-8 in them is no reason to stop.
        return av.open(str(source), metadata_errors="replace")
    except MemoryError:
        raise
    except (av.FFmpegError, OSError, ValueError) as error:
        raise ClipError(
            "unreadable", f"{source} cannot be opened as a video: {error}. Download it again."
        ) from error


def _played(source: Path, streams: Sequence[Any]) -> Any:
    """Of several video streams: one that moves, before it the one marked as default, then the largest.

    A phone's motion photo holds a still track, which is larger than the film.
    """
    if len(streams) == 1:
        return streams[0]
    counts: Counter[int] = Counter()
    with _open(source) as container:
        for packet in container.demux([container.streams[s.index] for s in streams]):
            counts[packet.stream.index] += bool(packet.size)
    moving = [s for s in streams if counts[s.index] > 1] or streams
    return max(moving, key=lambda s: (bool(s.disposition & Disposition.default), s.width * s.height))


def _codec_tag(source: Path) -> str:
    """What the container calls the codec of its first track: mp4's sample entry, AVI's handler, Matroska's codec id."""
    tags = rb"stsd.{12}([ -~]{4})", rb"strh.{4}vids([ -~]{4})", rb"(V_[A-Z0-9/_]{3,})"
    with source.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        found = next(filter(None, (re.search(tag, data, re.DOTALL) for tag in tags)), None)
        return f"'{found.group(1).decode()}'" if found else "an unknown codec"


def read_packets(source: Path) -> PacketTable:
    """Demux the whole file, without decoding. Raises ClipError (`unreadable`, `no_video`)."""
    container, stream = open_video(source)
    shown: list[tuple[int | None, int | None, bool]] = []
    hidden: list[int] = []
    tail, damaged, last = 0, 0, None
    codec = stream.codec_context.name
    with container:
        for packet in whole_packets(container, stream):
            if _is_damaged(packet):
                damaged += 1
            elif packet.is_discard:
                hidden.append(packet.pts)
            elif not _never_shown(codec, packet):
                shown.append((packet.pts, packet.dts, packet.is_keyframe))
                if last is None or (packet.pts is not None and packet.pts > last):
                    last, tail = packet.pts, packet.duration or 0
        times = [pts for pts, _, _ in shown]
        known = None not in times and len(set(times)) == len(times)
        of_decoding = stream.codec_context.has_b_frames and all(pts == dts for pts, dts, _ in shown)
        promised, cut = stream.frames, _is_cut(source, container.format.name)
        if "matroska" in container.format.name:
            within, at_end = _lost_in_matroska(source, container, stream, cut)
            damaged += within
            cut = True if at_end else cut
            promised = len(shown) + damaged + at_end if at_end or not cut else 0
        return PacketTable(
            codec=codec,
            packets=tuple(Packet(pts or 0, pts or 0 if dts is None else dts, key) for pts, dts, key in shown),
            has_times=known and not (of_decoding and len(times) > 1),
            hidden=tuple(hidden),
            tail=tail,
            time_base=stream.time_base,
            rate=stream.average_rate,
            cut=cut,
            promised=promised,
            n_damaged=damaged,
            width=stream.width,
            height=stream.height,
            pixel_aspect="{0.numerator}:{0.denominator}".format(stream.sample_aspect_ratio or Fraction(1)),
            transfer=transfer(stream),
        )


def _is_damaged(packet: Any) -> bool:
    """Whether the demuxer found a packet incomplete, or it holds a hole of zeros, as an interrupted download leaves.

    H.264 and HEVC code no three zero bytes in a row (ISO 14496-10 and 23008-2, 7.4.1), and in mp4 and Matroska, whose
    description of them begins with a 1, no padding lies between them.
    """
    if packet.is_corrupt:
        return True
    codec = packet.stream.codec_context
    coded_without_zeros = codec.name in ("h264", "hevc") and (codec.extradata or b"").startswith(b"\1")
    return coded_without_zeros and _HOLE in bytes(packet)


def _never_shown(codec: str, packet: Any) -> bool:
    """Whether a packet of VP8 or VP9 holds a reference picture alone.

    VP8: bit 4 of the first byte is show_frame (RFC 6386, 9.1). VP9: show_frame follows the frame's type in the
    uncompressed header (VP9 bitstream specification, 6.2); a superframe always ends in a shown one.
    """
    if codec == "vp8":
        return not bytes(packet)[0] >> 4 & 1
    if codec != "vp9":
        return False
    data = bytes(packet)
    if data[-1] & 0xE0 == 0xC0:
        return False
    bits = f"{data[0]:08b}{data[1] if len(data) > 1 else 0:08b}"
    at = 5 if bits[2:4] == "11" else 4
    return bits[at] == "0" and bits[at + 2] == "0"


def _lost_in_matroska(source: Path, container: Any, stream: Any, cut: bool | None) -> tuple[int, int]:
    """How many frames a Matroska file lost: within, where bytes belong to no packet and time passes, and at its end.

    The duration in its head is that of the longest track: the end of the last packet of any track is held against it.
    """
    rate = stream.average_rate
    if not rate:
        return 0, 0
    within, stop, hole, seen, end = Fraction(0), 0, False, None, Fraction(0)
    with _open(source) as every:
        for packet in whole_packets(every, None):
            if packet.pts is None or packet.pos is None:
                continue
            hole = hole or 0 < stop < packet.pos - _MOST_BETWEEN
            stop = packet.pos + packet.size
            time = packet.pts * packet.time_base
            end = max(end, time + (packet.duration or 0) * packet.time_base)
            if packet.stream.index == stream.index:
                if hole and seen is not None and time > seen:
                    within += round((time - seen) * rate) - 1
                seen, hole = time if seen is None else max(time, seen), False
    missing = Fraction(container.duration or 0, av.time_base) - end
    noticed = missing > (0 if cut else max(Fraction(1, 2), 2 / rate))
    return int(within), int(missing * rate) if noticed else 0


def whole_packets(container: Any, stream: Any) -> Iterator[Any]:
    """The packets of a stream (None: of all) that hold data, as far as the file can be read."""
    try:
        for packet in container.demux(*([] if stream is None else [stream])):
            if packet.size:
                yield packet
    except (av.error.InvalidDataError, av.error.EOFError):
        return


def decoded_frames(
    container: Any, stream: Any, wanted: Collection[int] | None, lost: list[int | None] | None = None
) -> Iterator[Any]:
    """Whole frames from the container's position on, in presentation order; damaged ones are skipped.

    wanted: presentation times of the frames that must be among them; None: all. Of the others, those that no
    frame refers to are not decoded, which saves up to half of the time. lost: gets the time of each packet or frame
    that is damaged.
    """
    lost = [] if lost is None else lost
    codec = stream.codec_context
    for packet in chain(whole_packets(container, stream), [None]):
        if packet is not None and _is_damaged(packet):
            lost.append(packet.pts)
            continue
        skippable = wanted is not None and packet is not None and packet.pts not in wanted
        codec.skip_frame = "NONREF" if skippable else "DEFAULT"
        try:
            frames = codec.decode(packet)
        except av.error.InvalidDataError:
            lost.append(packet.pts if packet else None)
            continue
        for frame in frames:
            if frame.is_corrupt:
                lost.append(frame.pts)
            else:
                yield frame


def sought_frames(
    container: Any, stream: Any, at: int, wanted: Collection[int] | None, lost: list[int | None]
) -> Iterator[Any]:
    """The frames of `decoded_frames` from the key frame at or before a time on.

    Raises FrameLost where it cannot be sought, is no key frame in truth, or where frames come in another order than
    their times say.
    """
    try:
        container.seek(at, stream=stream)
    except (av.FFmpegError, OSError) as error:
        raise FrameLost(f"seeking is refused: {error}") from error
    frames = in_order(decoded_frames(container, stream, wanted, lost))
    # Before the key frame, B-frames may come that are stored after it and shown before it.
    first = list(_up_to_the_first_that_is_no_b(frames))
    if first and first[-1].pict_type not in _INTRA:
        raise FrameLost("a frame is marked as a key frame that refers to others")
    yield from chain(first, frames)


def _up_to_the_first_that_is_no_b(frames: Iterable[Any]) -> Iterator[Any]:
    for frame in frames:
        yield frame
        if frame.pict_type != _B:
            return


def in_order(frames: Iterable[Any]) -> Iterator[Any]:
    """The same frames. Raises FrameLost where they come in another order than their times say, as in copies of AVI."""
    latest = None
    for frame in frames:
        if frame.pts is not None:
            if latest is not None and frame.pts < latest:
                raise FrameLost("frames are not shown in the order of their times")
            latest = frame.pts
        yield frame


def _is_cut(source: Path, container: str) -> bool | None:
    """Whether a file ends before its outermost parts do; None where its container does not say where it ends.

    A length in a header may be wrong and says nothing about the data; a part that reaches beyond the end of the file
    shows that bytes are missing. container: its name in ffmpeg.
    """
    size = source.stat().st_size
    with source.open("rb") as file:
        if "mp4" in container:
            end = _end_of_boxes(file, size)
        elif container == "avi":
            end = _end_of_riff(file, size)
        else:
            end = _end_of_segment(file.read(4096)) if "matroska" in container else None
    return None if end is None else end > size


def _end_of_boxes(file: BinaryIO, size: int) -> int | None:
    """Where an ISO media file (mp4, mov) ends by its boxes (ISO 14496-12, 4.2); None where fragments have no index at
    the end, so that any number may be missing."""
    start, kinds = 0, [b""]
    while start + 8 <= size:
        file.seek(start)
        head = file.read(16)
        length = int.from_bytes(head[:4], "big")
        if length == 1:
            length = int.from_bytes(head[8:16], "big")
        if length == 0:
            return size
        if length < 8:
            break
        kinds.append(head[4:8])
        start += length
    return None if b"moof" in kinds and kinds[-1] != b"mfra" and start <= size else start


def _end_of_riff(file: BinaryIO, size: int) -> int | None:
    """Where an AVI file ends by its RIFF chunks, of which a long one has several; None where it was never closed."""
    start = 0
    while start + 8 <= size:
        file.seek(start)
        kind, length = file.read(4), int.from_bytes(file.read(4), "little")
        if kind != b"RIFF":
            break
        if length == 0:
            return None
        start += 8 + length + length % 2
    return start


def _end_of_segment(head: bytes) -> int | None:
    """Where a Matroska file ends by the length of its segment (RFC 8794, 4 and 6); None where that is unknown."""
    at = 0
    for _ in ("the head", "the segment"):
        at += 4
        if at + 8 > len(head):
            return None
        width = 9 - head[at].bit_length()
        length = int.from_bytes(head[at : at + width], "big") - (1 << 7 * width)
        at += width
        start, at = at, at + length
    return None if length == (1 << 7 * width) - 1 else start + length
