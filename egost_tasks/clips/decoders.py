"""Decoders: PyAV (by seeking), torchcodec and decord find the 8 frames of a clip and decode them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from math import ceil
from pathlib import Path
from typing import Any, Literal, cast, get_args

import numpy as np
import numpy.typing as npt

from egost.tasks.clips.packets import (
    FrameLost,
    Packet,
    PacketTable,
    decoded_frames,
    open_video,
    read_packets,
    sought_frames,
)
from egost.tasks.clips.pixels import Image, Orientation, Transfer, orientation, upright_rgb
from egost.tasks.clips.protocols import Protocol
from egost.tasks.errors import ClipError, SettingError

Decoder = Literal["pyav", "torchcodec", "decord"]
DEFAULT_DECODER: Decoder = "pyav"

DECODING_VERSION = 4
"""Named in the cache's keys: raised whenever the same file would give other frames, or other facts about them."""

MIN_COMPLETE_SHARE = 0.95
"""Share of the frames of a cut or damaged file that must decode, else it is an error: this project's own rule."""

_PACKAGES: dict[str, str] = {"pyav": "av", "torchcodec": "torchcodec", "decord": "decord"}


@dataclass(frozen=True)
class DecodedClip:
    """The 8 frames of a clip and what is known of them; the fields are those of `ClipManifest`.

    frames: uint8 RGB [8, height, width, 3], upright, resized by the protocol.
    """

    frames: npt.NDArray[np.uint8]
    n_frames: int
    counted_by: str
    expected_frames: int | None
    complete: bool | None
    indices: tuple[int, ...]
    timestamps: tuple[float, ...]
    duration: float
    source_width: int
    source_height: int
    rotation: int
    mirrored: bool
    pixel_aspect: str
    transfer: Transfer


@dataclass(frozen=True)
class _Picked:
    """Upright frames by index, and how they were made upright."""

    images: dict[int, Image]
    orientation: Orientation


@dataclass(frozen=True)
class _Found:
    """What one decode of a file gave; see `DecodedClip`. times: of all decodable frames, seconds."""

    picked: _Picked
    table: PacketTable
    times: Sequence[Fraction]
    duration: Fraction
    counted_by: str
    expected_frames: int | None
    complete: bool | None

    def clip(self, protocol: Protocol) -> DecodedClip:
        """The frames that a protocol takes."""
        indices = protocol.indices(len(self.times), float(self.duration))
        kept = {i: protocol.kept(self.picked.images[i]) for i in set(indices)}
        return DecodedClip(
            frames=np.stack([kept[i] for i in indices]),
            n_frames=len(self.times),
            counted_by=self.counted_by,
            expected_frames=self.expected_frames,
            complete=self.complete,
            indices=tuple(indices),
            timestamps=tuple(float(self.times[i]) for i in indices),
            duration=float(self.duration),
            source_width=self.table.width,
            source_height=self.table.height,
            rotation=self.picked.orientation.rotation,
            mirrored=self.picked.orientation.mirrored,
            pixel_aspect=self.table.pixel_aspect,
            transfer=self.table.transfer,
        )


def chosen_decoder() -> Decoder:
    """The decoder that `EGOST_DECODER` names, by default `pyav`. Raises SettingError."""
    name = os.environ.get("EGOST_DECODER") or DEFAULT_DECODER
    if name not in get_args(Decoder):
        raise SettingError(f"EGOST_DECODER is '{name}'; expected one of: {', '.join(get_args(Decoder))}")
    if find_spec(_PACKAGES[name]) is None:
        raise SettingError(
            f"EGOST_DECODER is '{name}', which is not installed. Run: pip install {_PACKAGES[name]}; "
            f"or unset EGOST_DECODER to use {DEFAULT_DECODER}."
        )
    return cast(Decoder, name)


def decoder_version(decoder: Decoder) -> str:
    """The version of the package that a decoder comes from."""
    try:
        return version(_PACKAGES[decoder])
    except PackageNotFoundError:
        return "unknown"


def decode_clip(
    source: Path, protocol: Protocol, decoder: Decoder, *, every_frame: bool = False
) -> DecodedClip:
    """Decode the frames that the protocol takes from a video file, 8 unless it says otherwise.

    The frames are counted by demuxing, never taken from a header. Where one of the 8 cannot be decoded, all
    frames are decoded (`pyav` only) and those that really come out are counted. A file that was cut off or is
    damaged is used as long as `MIN_COMPLETE_SHARE` of its frames decode. A header that claims more than the
    file's own index lists is no reason to refuse it: no frame is missing.
    every_frame: decode all frames in any case, to know whether the clip is complete; the 8 frames stay the same.
    Raises ClipError: `unreadable`, `no_video`, `no_frames`, `truncated`.
    """
    return decode_clips(source, [protocol], decoder, every_frame=every_frame)(protocol)


def decode_clips(
    source: Path,
    protocols: Sequence[Protocol],
    decoder: Decoder,
    *,
    every_frame: bool = False,
    most_bytes: int | None = None,
) -> Callable[[Protocol], DecodedClip]:
    """Decode a file once for several protocols; what is returned gives each one's clip, as `decode_clip` would.

    It raises KeyError for a protocol that takes frames of its own, where a frame of all together is lost or they are
    more than most_bytes: then the first protocol's frames alone are decoded. Raises as `decode_clip`.
    """
    table = read_packets(source)
    _refuse_holes(source, table, table.expected_frames(), len(table.packets))
    if not table.packets:
        raise ClipError(
            "no_frames", f"{source} has a video stream without a single whole frame. Download it again."
        )
    try:
        found = _by_packets(source, table, protocols, decoder, most_bytes)
    except FrameLost as error:
        if len(protocols) > 1:
            return decode_clips(source, protocols[:1], decoder, every_frame=every_frame)
        if decoder != "pyav":
            raise ClipError(
                "unreadable",
                f"{source}: {decoder} did not deliver a frame ({error}). Try EGOST_DECODER=pyav.",
            ) from error
        return _by_decoding(source, table, protocols[0]).clip
    if every_frame and found.complete is None:
        lost: list[int | None] = []
        decoded = sum(1 for _ in _all_frames(source, lost))
        found = replace(found, complete=_complete(table, lost, decoded, len(found.times)))
    return found.clip


def _complete(
    table: PacketTable, lost: Sequence[int | None], n_frames: int, expected: int | None
) -> bool | None:
    """Whether a clip of which all frames were decoded is complete; None where the file does not say where it ends."""
    if lost or expected is None or n_frames < expected:
        return False
    return None if table.cut is None else True


def _refuse_holes(source: Path, table: PacketTable, expected: int | None, n_frames: int) -> None:
    if expected and n_frames < MIN_COMPLETE_SHARE * expected:
        where = "was cut off" if table.cut else "is damaged"
        raise ClipError(
            "truncated",
            f"{source} {where}: {n_frames} of the {expected} frames that its index lists can be decoded, at "
            f"least {MIN_COMPLETE_SHARE:.0%} are needed. Download it again.",
        )


def _by_packets(
    source: Path, table: PacketTable, protocols: Sequence[Protocol], decoder: Decoder, most_bytes: int | None
) -> _Found:
    if not table.has_times:
        raise FrameLost("its packets have no times of their own")
    if decoder != "pyav":
        _refuse_differing(source, decoder)
    shown = table.pts
    times = [(pts - shown[0]) * table.time_base for pts in shown]
    duration = times[-1] + _tail(table, len(times), times[-1])
    taken = [set(protocol.indices(len(times), float(duration))) for protocol in protocols]
    wanted = set().union(*taken)
    if most_bytes is not None and len(wanted) * table.width * table.height * 3 > most_bytes:
        wanted = taken[0]
    picked = _PICK[decoder](source, table, sorted(wanted))
    expected = table.expected_frames()
    complete = None if expected == len(times) else False
    return _Found(picked, table, times, duration, "packets", expected, complete)


def _refuse_differing(source: Path, decoder: Decoder) -> None:
    """Refuse a stream whose pixels another decoder gives differently from ffmpeg (measured on decord 0.6.0)."""
    frame = next(_all_frames(source), None)
    if frame is None:
        return
    why = None
    if orientation(frame).mirrored:
        why = "its frames are mirrored"
    elif (layout := frame.format).components[0].bits > 8 and [c.height for c in layout.components] != [
        layout.height
    ] * len(layout.components):
        why = f"its colours are stored as {layout.name}"
    if why:
        raise ClipError(
            "unreadable",
            f"{source}: {why}, which {decoder} shows differently. Use EGOST_DECODER=pyav for it.",
        )


def _by_decoding(source: Path, table: PacketTable, protocol: Protocol) -> _Found:
    """Decode all frames from the front. A packet is not always a frame: where nothing is lost, the frames count."""
    lost: list[int | None] = []
    decoded = [(frame.pts, frame.interlaced_frame) for frame in _all_frames(source, lost)]
    stamps = [pts for pts, _ in decoded]
    if not stamps:
        raise ClipError(
            "no_frames",
            f"{source}: none of its {len(table.packets)} frames can be decoded. Download it again.",
        )
    a_frame = 1
    if any(interlaced for _, interlaced in decoded):
        # Each of the two fields may have a packet of its own.
        a_frame = max(1, round((len(table.packets) - len(lost)) / len(stamps)))
    expected: int | None = len(stamps)
    if lost or table.cut or table.n_damaged:
        expected = (promised := table.expected_frames()) and ceil(promised / a_frame)
    _refuse_holes(source, table, expected, len(stamps))
    if None not in stamps:
        times = [(pts - min(stamps)) * table.time_base for pts in sorted(stamps)]
    elif table.rate:
        times = [i / table.rate for i in range(len(stamps))]
    else:
        raise ClipError(
            "unreadable", f"{source} says neither when its frames are shown nor how many a second."
        )
    duration = times[-1] + _tail(table, len(times), times[-1])
    wanted = set(protocol.indices(len(times), float(duration)))
    frames = ((i, frame) for i, frame in enumerate(_all_frames(source)) if i in wanted)
    complete = _complete(table, lost, len(times), expected)
    return _Found(_picked(frames), table, times, duration, "decoding", expected, complete)


def _tail(table: PacketTable, n_frames: int, span: Fraction) -> Fraction:
    """Seconds for which the last frame is shown; the mean interval where the file does not say."""
    if table.tail:
        return table.tail * table.time_base
    return span / (n_frames - 1) if n_frames > 1 else Fraction(0)


def _picked(frames: Iterable[tuple[int, Any]]) -> _Picked:
    images: dict[int, Image] = {}
    turned = Orientation()
    for i, frame in frames:
        turned = orientation(frame)
        images[i] = upright_rgb(frame)
    return _Picked(images, turned)


def _all_frames(source: Path, lost: list[int | None] | None = None) -> Iterator[Any]:
    container, stream = open_video(source)
    with container:
        yield from decoded_frames(container, stream, wanted=None, lost=lost)


def _by_pyav(source: Path, table: PacketTable, indices: Sequence[int]) -> _Picked:
    """Seek to the key frame before each wanted frame, and decode on from there."""
    container, stream = open_video(source)
    with container:
        return _picked(_sought(container, stream, table, indices))


def _sought(
    container: Any, stream: Any, table: PacketTable, indices: Sequence[int]
) -> Iterator[tuple[int, Any]]:
    shown = table.pts
    key_of = _keys(table)
    frames: Iterator[Any] = iter(())
    lost: list[int | None] = []
    at: Packet | None = None
    wanted = {shown[i] for i in indices}
    for i in indices:
        if at != key_of[shown[i]]:
            at = key_of[shown[i]]
            frames = sought_frames(container, stream, at.pts, wanted, lost)
        for frame in frames:
            if frame.pts is None or frame.pts >= shown[i]:
                break
        else:
            raise FrameLost(f"frame {i} does not decode")
        if frame.pts != shown[i] or lost:
            raise FrameLost(f"frame {i}, or one that it may refer to, does not decode")
        if frame.interlaced_frame:
            raise FrameLost("a packet may hold one field of a frame")
        yield i, frame


def _keys(table: PacketTable) -> dict[int, Packet]:
    """The key frame from which each frame, named by its presentation time, can be decoded.

    A frame that is stored after a key frame but shown before it may need the key frame before that one.
    """
    keys: list[Packet] = []
    found = {}
    for packet in table.packets:
        if packet.is_key or not keys:
            keys.append(packet)
        found[packet.pts] = next((key for key in reversed(keys) if key.pts <= packet.pts), keys[0])
    return found


def _by_torchcodec(source: Path, table: PacketTable, indices: Sequence[int]) -> _Picked:
    from torchcodec.decoders import VideoDecoder

    try:
        video = VideoDecoder(str(source), dimension_order="NHWC", num_ffmpeg_threads=1)
        batch = video.get_frames_at(indices=list(indices))
    except (RuntimeError, ValueError, IndexError) as error:
        raise FrameLost(str(error).splitlines()[0]) from error
    _check_times(table, indices, batch.pts_seconds.tolist())
    return _Picked(dict(zip(indices, batch.data.numpy(), strict=True)), _orientation(source))


def _by_decord(source: Path, table: PacketTable, indices: Sequence[int]) -> _Picked:
    import decord

    if table.hidden:
        # Measured with 0.6.0: it counts these frames and gives wrong ones next to them.
        raise FrameLost(f"{len(table.hidden)} frames are hidden by an edit list, which it cannot read")
    try:
        video = decord.VideoReader(str(source), num_threads=1)
        images = video.get_batch(list(indices)).asnumpy()
        times = video.get_frame_timestamp(list(indices))[:, 0].tolist()
    except (decord.DECORDError, IndexError) as error:
        raise FrameLost(str(error).splitlines()[0]) from error
    _check_times(table, indices, times)
    return _Picked(dict(zip(indices, images, strict=True)), _orientation(source))


def _check_times(table: PacketTable, indices: Sequence[int], times: Sequence[float]) -> None:
    shown = table.pts
    expected = [float((shown[i] - shown[indices[0]]) * table.time_base) + times[0] for i in indices]
    for i, time, right in zip(indices, times, expected, strict=True):
        if abs(time - right) > 1e-3:
            raise FrameLost(f"it gave the frame at {time:.3f} s in the place of frame {i} at {right:.3f} s")


def _orientation(source: Path) -> Orientation:
    return next((orientation(frame) for frame in _all_frames(source)), Orientation())


_PICK: dict[Decoder, Callable[[Path, PacketTable, Sequence[int]], _Picked]] = {
    "pyav": _by_pyav,
    "torchcodec": _by_torchcodec,
    "decord": _by_decord,
}
