"""Twenty and more files of each kind that a quick reader takes wrongly: streams, packets, key frames, tags, codecs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ffmpeg_files import decode, made, pattern, same_as_ffmpeg
from field_coded import write_field_coded
from video_files import numbers, patch, write_audio, write_video

from egost.tasks.clips.decoders import DecodedClip
from egost.tasks.errors import ClipError

N_FRAMES = 30
CONTAINERS = ("mp4", "mov", "mkv")


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """What files are put together from: films whose frames carry their numbers."""
    folder = tmp_path_factory.mktemp("parts")
    fast = {"preset": "superfast", "threads": "1"}
    numbered: dict[str, Any] = {"size": (64, 64), "gop": 10}
    film = write_video(folder / "film.mp4", N_FRAMES, **numbered, **fast)
    closed = {"x265-params": "log-level=none:open-gop=0:keyint=10"}
    return {
        "film": film,
        "other": write_video(folder / "other.mp4", 12, size=(96, 96), **fast),
        "still": write_video(folder / "still.mp4", 1, size=(128, 128), **fast),
        "sound": write_audio(folder / "sound.mp4"),
        "cover": made(folder / "cover.png", "-i", str(film), "-frames:v", "1", "-s", "256x256"),
        "mpeg4": write_video(folder / "mpeg4.mp4", N_FRAMES, codec="mpeg4", qscale="2", g="10", **numbered),
        "hevc": write_video(folder / "hevc.mp4", N_FRAMES, codec="libx265", **numbered, **fast, **closed),
        "fields": write_field_coded(folder / "fields.h264", N_FRAMES),
        "packed": pattern(folder / "packed.avi", "-c:v", "libxvid", "-bf", "2", "-g", "10", seconds=3),
    }


def right(clip: DecodedClip, n_frames: int = N_FRAMES) -> bool:
    """Whether the 8 frames carry the numbers of their indices, of so many."""
    return clip.n_frames == n_frames and numbers(clip.frames) == list(clip.indices)


TRACKS = {
    "the film alone": ("film",),
    "a larger still first": ("still", "film"),
    "a larger still last": ("film", "still"),
    "two stills": ("still", "film", "still"),
    "sound first": ("sound", "film"),
    "sound and a still": ("sound", "still", "film"),
    "a larger film that is not the default": ("other", "film"),
}


@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("name", TRACKS)
def test_the_film_is_found_among_the_tracks(
    parts: dict[str, Path], tmp_path: Path, name: str, container: str
) -> None:
    tracks = TRACKS[name]
    arguments = [word for track in tracks for word in ("-i", str(parts[track]))]
    arguments += [word for i in range(len(tracks)) for word in ("-map", str(i))]
    film = [track for track in tracks if track != "sound"].index("film")
    arguments += ["-c", "copy", "-disposition:v", "0", f"-disposition:v:{film}", "default"]
    assert right(decode(made(tmp_path / f"tracks.{container}", *arguments), every_frame=True))


@pytest.mark.parametrize("container", CONTAINERS)
def test_the_picture_on_the_cover_is_no_film(parts: dict[str, Path], tmp_path: Path, container: str) -> None:
    inputs = ["-i", str(parts["cover"]), "-i", str(parts["film"]), "-map", "0", "-map", "1", "-c", "copy"]
    path = made(tmp_path / f"cover.{container}", *inputs, "-disposition:v:0", "attached_pic")
    assert right(decode(path))


@pytest.mark.parametrize("suffix", ["h264", "mp4", "mov", "mkv", "ts", "avi", "flv"])
@pytest.mark.parametrize("rate", ["50", "60000/1001"])
def test_two_fields_are_one_frame(parts: dict[str, Path], tmp_path: Path, suffix: str, rate: str) -> None:
    path = made(tmp_path / f"fields.{suffix}", "-r", rate, "-i", str(parts["fields"]), "-c", "copy")
    clip = decode(path, every_frame=True)
    assert right(clip)
    assert clip.expected_frames == N_FRAMES
    assert same_as_ffmpeg(path, clip)


def test_a_field_that_was_cut_off_is_half_a_frame(parts: dict[str, Path], tmp_path: Path) -> None:
    options = ["-r", "50", "-i", str(parts["fields"]), "-c", "copy", "-movflags", "faststart"]
    data = made(tmp_path / "fields.mp4", *options).read_bytes()
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
    path = pattern(tmp_path / name, "-c:v", *INTERLACED[name], "-flags", "+ilme+ildct", "-threads", "1")
    clip = decode(path)
    assert clip.n_frames == 20
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
@pytest.mark.parametrize("film", ["film", "mpeg4", "hevc", "mov"])
def test_a_list_of_key_frames_that_lies_changes_no_frame(
    parts: dict[str, Path], tmp_path: Path, film: str, flaw: str
) -> None:
    path = tmp_path / ("film.mov" if film == "mov" else "film.mp4")
    if film == "mov":
        made(path, "-i", str(parts["film"]), "-c", "copy")
    else:
        path.write_bytes(parts[film].read_bytes())
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
    parts: dict[str, Path], tmp_path: Path, suffix: str, table: bytes, instead: bytes
) -> None:
    path = made(tmp_path / f"film.{suffix}", "-i", str(parts["film"]), "-c", "copy")
    data = path.read_bytes()
    assert table in data
    path.write_bytes(data.replace(table, instead))
    clip = decode(path)
    assert same_as_ffmpeg(path, clip)
    # Without the distance from decoding to showing, the edit list hides the first two frames.
    assert table == b"ctts" or right(clip)


BYTES = {"Latin-1": b"CAF\xe9-BAR", "Shift JIS": b"\x83J\x83t\x83F-A", "broken UTF-8": b"CAF\xc3-B\xff\xfe"}


@pytest.mark.parametrize("suffix", ["mp4", "mov", "mkv", "avi", "3gp", "flv", "asf"])
@pytest.mark.parametrize("encoding", BYTES)
def test_tags_of_any_encoding_are_no_fault(
    parts: dict[str, Path], tmp_path: Path, suffix: str, encoding: str
) -> None:
    tags = [word for tag in ("title", "comment", "artist") for word in ("-metadata", f"{tag}=CAFE-BAR")]
    path = made(tmp_path / f"film.{suffix}", "-i", str(parts["film"]), "-c", "copy", *tags)
    assert path.read_bytes().count(b"CAFE-BAR") or suffix == "asf"
    path.write_bytes(path.read_bytes().replace(b"CAFE-BAR", BYTES[encoding]))
    assert right(decode(path))


CODES = ("zzz9", "xvc1", "av02", "EVC9", "q t ", "h267", "abcd", "vvc9", "____", "N/A.")


@pytest.mark.parametrize("suffix", ["mp4", "mov"])
@pytest.mark.parametrize("code", CODES)
def test_the_code_of_an_unknown_codec_is_named(
    parts: dict[str, Path], tmp_path: Path, suffix: str, code: str
) -> None:
    path = made(tmp_path / f"film.{suffix}", "-i", str(parts["film"]), "-c", "copy")
    path.write_bytes(path.read_bytes().replace(b"avc1", code.encode()))
    with pytest.raises(ClipError, match=f"coded in '{code}', which no decoder here knows") as error:
        decode(path)
    assert error.value.reason == "unreadable"


def test_an_unknown_codec_of_matroska_is_named(parts: dict[str, Path], tmp_path: Path) -> None:
    path = made(tmp_path / "film.mkv", "-i", str(parts["film"]), "-c", "copy")
    path.write_bytes(path.read_bytes().replace(b"V_MPEG4/ISO/AVC", b"V_MPEG9/ISO/XYZ"))
    with pytest.raises(ClipError, match=r"coded in 'V_MPEG9/ISO/XYZ'"):
        decode(path)


@pytest.mark.parametrize("code", CODES)
def test_a_codec_that_an_avi_file_calls_by_a_strange_code_is_known_by_its_look(
    parts: dict[str, Path], tmp_path: Path, code: str
) -> None:
    path = made(tmp_path / "film.avi", "-i", str(parts["film"]), "-c", "copy")
    path.write_bytes(path.read_bytes().replace(b"H264", code.encode()))
    assert right(decode(path))
