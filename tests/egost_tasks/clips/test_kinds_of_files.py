"""Twenty and more files of each kind that a quick reader takes wrongly: streams, packets, key frames, tags, codecs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from ffmpeg_files import N_FRAMES, decode, made, pattern, same_as_ffmpeg
from video_files import muxed, numbers, patch

from egost.tasks.clips.decoders import DecodedClip
from egost.tasks.errors import ClipError

CONTAINERS = ("mp4", "mov", "mkv")
Copies = Callable[[str, str], Path]


def right(clip: DecodedClip, n_frames: int = N_FRAMES) -> bool:
    """Whether the 8 frames carry the numbers of their indices, of so many."""
    return clip.n_frames == n_frames and numbers(clip.frames) == list(clip.indices)


def changed(path: Path, folder: Path, old: bytes, new: bytes) -> Path:
    """A copy of a file with other bytes in the place of some that it holds."""
    data = path.read_bytes()
    assert old in data
    (folder / path.name).write_bytes(data.replace(old, new))
    return folder / path.name


TRACKS = {
    "the film alone": ("film",),
    "a larger still first": ("still", "film"),
    "a larger still last": ("film", "still"),
    "two stills": ("still", "film", "still"),
    "sound first": ("sound", "film"),
    "sound and a still": ("sound", "still", "film"),
}


@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("name", TRACKS)
def test_the_film_is_found_among_the_tracks(
    parts: dict[str, Path], tmp_path: Path, name: str, container: str
) -> None:
    sources = [parts[track] for track in TRACKS[name]]
    assert right(decode(muxed(tmp_path / f"tracks.{container}", *sources)))


@pytest.mark.parametrize("container", CONTAINERS)
def test_the_film_that_is_the_default_is_taken_before_a_larger_one(
    parts: dict[str, Path], tmp_path: Path, container: str
) -> None:
    inputs = ["-i", str(parts["other"]), "-i", str(parts["film"]), "-map", "0", "-map", "1", "-c", "copy"]
    default = ["-disposition:v:0", "0", "-disposition:v:1", "default"]
    assert right(decode(made(tmp_path / f"films.{container}", *inputs, *default)))


@pytest.mark.parametrize("container", CONTAINERS)
def test_the_picture_on_the_cover_is_no_film(parts: dict[str, Path], tmp_path: Path, container: str) -> None:
    inputs = ["-i", str(parts["cover"]), "-i", str(parts["film"]), "-map", "0", "-map", "1", "-c", "copy"]
    path = made(tmp_path / f"cover.{container}", *inputs, "-disposition:v:0", "attached_pic")
    assert right(decode(path))


@pytest.mark.parametrize("suffix", ["h264", "mp4", "mov", "mkv", "ts", "avi", "flv"])
def test_two_fields_are_one_frame(copies: Copies, suffix: str) -> None:
    clip = decode(copies("fields", suffix), every_frame=True)
    assert right(clip)
    assert clip.expected_frames == N_FRAMES
    assert suffix != "mp4" or same_as_ffmpeg(copies("fields", suffix), clip)


def test_a_field_that_was_cut_off_is_half_a_frame(copies: Copies, tmp_path: Path) -> None:
    data = copies("fields", "mp4").read_bytes()
    # Of 60 fields of 3 KB each, the last is gone, and the one before is torn.
    (tmp_path / "short.mp4").write_bytes(data[: len(data) - 4000])
    clip = decode(tmp_path / "short.mp4")
    assert (clip.n_frames, clip.expected_frames, clip.complete) == (29, 30, False)


@pytest.mark.parametrize(
    ("how", "suffix"),
    # Matroska takes no packed frames.
    [("packed", s) for s in ("avi", "mp4", "mov")] + [("unpacked", s) for s in ("avi", "mp4", "mov", "mkv")],
)
def test_frames_that_are_packed_or_have_the_times_of_decoding_keep_their_order(
    parts: dict[str, Path], tmp_path: Path, suffix: str, how: str
) -> None:
    unpack = ["-bsf:v", "mpeg4_unpack_bframes"] if how == "unpacked" else []
    options = ["-fflags", "+genpts", "-i", str(parts["packed"]), "-c", "copy", *unpack]
    path = made(tmp_path / f"film.{suffix}", *options)
    clip = decode(path, every_frame=True)
    assert same_as_ffmpeg(path, clip)
    assert list(clip.timestamps) == sorted(set(clip.timestamps))


INTERLACED = {
    "mbaff.mp4": ["libx264"],
    "mbaff.ts": ["libx264"],
    "mbaff.mkv": ["libx264", "-g", "5"],
    "frames.mpg": ["mpeg2video", "-bf", "2"],
    "frames.ts": ["mpeg2video", "-g", "5"],
    "frames.avi": ["mpeg4"],
    "frames.mov": ["prores_ks"],
}


@pytest.mark.parametrize("name", INTERLACED)
def test_interlaced_frames_count_once(tmp_path: Path, name: str) -> None:
    fields = ["-flags", "+ilme+ildct", "-threads", "1"]
    path = pattern(tmp_path / name, "-c:v", *INTERLACED[name], *fields, seconds=1)
    clip = decode(path)
    assert clip.n_frames == 10
    assert same_as_ffmpeg(path, clip)


def number(value: int) -> bytes:
    return value.to_bytes(4, "big")


TABLES = {
    # The list of key frames: after its name come 4 bytes of version, their number, and the key frames from 1 on.
    "is missing": (0, b"free"),
    "is empty": (8, number(0)),
    "names the second frame first": (12, number(2)),
    "lacks the first frame": (12, number(7)),
    "names frames that refer to others": (12, number(1) + number(6)),
    "names frames beyond the end": (16, number(900)),
}


@pytest.mark.parametrize("flaw", TABLES)
@pytest.mark.parametrize(
    ("film", "suffix"), [("film", "mp4"), ("film", "mov"), ("mpeg4", "mp4"), ("hevc", "mp4")]
)
def test_a_list_of_key_frames_that_lies_changes_no_frame(
    copies: Copies, tmp_path: Path, film: str, suffix: str, flaw: str
) -> None:
    path = tmp_path / f"film.{suffix}"
    path.write_bytes(copies(film, suffix).read_bytes())
    at, content = TABLES[flaw]
    assert right(decode(patch(path, b"stss", at, content)))


MISSING = {
    # A table, and what stands in its place.
    "mp4": [(b"stss", b"free"), (b"ctts", b"free"), (b"edts", b"free"), (b"udta", b"free")],
    "mov": [(b"stss", b"free"), (b"ctts", b"free"), (b"edts", b"free")],
    "avi": [(b"idx1", b"JUNK"), (b"odml", b"JUNK")],
    "mkv": [(b"\x1c\x53\xbb\x6b", b"\x1c\x53\xbb\x00"), (b"\x11\x4d\x9b\x74", b"\x11\x4d\x9b\x00")],
}


@pytest.mark.parametrize(("suffix", "table", "instead"), [(s, *pair) for s in MISSING for pair in MISSING[s]])
def test_a_file_without_one_of_its_tables_is_read_as_ffmpeg_does(
    copies: Copies, tmp_path: Path, suffix: str, table: bytes, instead: bytes
) -> None:
    clip = decode(path := changed(copies("film", suffix), tmp_path, table, instead))
    # Without the distance from decoding to showing, the edit list hides the first two frames.
    assert same_as_ffmpeg(path, clip) if table == b"ctts" else right(clip)


BYTES = {"Latin-1": b"CAF\xe9-BAR", "Shift JIS": b"\x83J\x83t\x83F-A", "broken UTF-8": b"CAF\xc3-B\xff\xfe"}


@pytest.mark.parametrize("suffix", ["mp4", "mov", "mkv", "avi", "3gp", "flv", "nut"])
@pytest.mark.parametrize("encoding", BYTES)
def test_tags_of_any_encoding_are_no_fault(
    copies: Copies, tmp_path: Path, suffix: str, encoding: str
) -> None:
    assert right(decode(changed(copies("film", suffix), tmp_path, b"CAFE-BAR", BYTES[encoding])))


CODES = ("zzz9", "xvc1", "av02", "EVC9", "q t ", "h267", "abcd", "vvc9", "____", "N/A.")


@pytest.mark.parametrize("suffix", ["mp4", "mov", "avi"])
@pytest.mark.parametrize("code", CODES)
def test_the_code_of_an_unknown_codec_is_named(
    copies: Copies, tmp_path: Path, suffix: str, code: str
) -> None:
    path = changed(copies("film", suffix), tmp_path, b"avc1", code.encode())
    with pytest.raises(ClipError, match=f"coded in '{code}', which no decoder here knows") as error:
        decode(path)
    assert error.value.reason == "unreadable"


def test_an_unknown_codec_of_matroska_is_named(copies: Copies, tmp_path: Path) -> None:
    path = changed(copies("film", "mkv"), tmp_path, b"V_MPEG4/ISO/AVC", b"V_MPEG9/ISO/XYZ")
    with pytest.raises(ClipError, match=r"coded in 'V_MPEG9/ISO/XYZ'"):
        decode(path)
