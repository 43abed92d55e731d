"""Clips cut out of videos as cameras make them: the frames of ffmpeg's command, or a refusal with its reason."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
from ffmpeg_files import N_FRAMES, by_ffmpeg, made, pattern
from video_files import muxed, numbers, patch, read_film

from egost.tasks.construction.cutting import CutFailure, cut_clip
from egost.tasks.construction.spec import Cut
from egost.tasks.construction.workfolder import ClipRow

H264 = ["-c:v", "libx264", "-preset", "ultrafast", "-threads", "1"]


def cut(path: Path, start: float = 0.0, end: float | None = None) -> ClipRow | CutFailure:
    return cut_clip(path.parent, Cut("clip.mp4", path, path.name, start, end, "own", "indoor_single", "MIT"))


def published(path: Path, start: float = 0.0) -> np.ndarray:
    row = cut(path, start)
    assert isinstance(row, ClipRow), row
    return read_film(path.parent / "clip.mp4")


def refused(path: Path, start: float = 0.0, end: float | None = None) -> str:
    failure = cut(path, start, end)
    assert isinstance(failure, CutFailure)
    assert not (path.parent / "clip.mp4").exists()
    return failure.reason


@pytest.mark.parametrize("matrix", ["bt709", None])
@pytest.mark.parametrize("spread", ["tv", "pc", None])
def test_colours_are_those_of_ffmpeg(tmp_path: Path, spread: str | None, matrix: str | None) -> None:
    colours = ["-color_range", spread] if spread else []
    colours += ["-colorspace", matrix] if matrix else []
    layout = "yuv420p" if spread == "pc" else "yuv444p10le"
    path = pattern(tmp_path / "film.mp4", *colours, "-pix_fmt", layout, *H264, seconds=1, rate=5)
    frames = published(path)
    count, right = by_ffmpeg(path, [3])
    assert len(frames) == count == 5
    # 4:2:0 and compression move single pixels; range and matrix move all of them.
    bias = frames[3].reshape(-1, 3).astype(float) - right[3].reshape(-1, 3)
    assert np.abs(bias.mean(0)).max() < 2


@pytest.mark.parametrize("curve", ["smpte2084", "arib-std-b67"])
def test_hdr_is_refused_by_name(tmp_path: Path, curve: str) -> None:
    colours = ["-vf", f"setparams=color_trc={curve}:colorspace=bt2020nc", "-pix_fmt", "yuv420p10le"]
    assert refused(pattern(tmp_path / "film.mkv", *colours, *H264, seconds=1)) == "hdr"


@pytest.mark.parametrize(("aspect", "width"), [("4/3", 212), ("8/9", 142)])
def test_pixels_are_squared(tmp_path: Path, aspect: str, width: int) -> None:
    path = pattern(tmp_path / "film.mp4", "-vf", f"setsar={aspect}", "-pix_fmt", "yuv420p", *H264, seconds=1)
    frames = published(path)
    assert frames.shape == (10, 120, width, 3)
    square = ["-vf", f"scale={width}:120:flags=bicubic,setsar=1", *H264]
    right = by_ffmpeg(made(tmp_path / "square.mp4", "-i", str(path), *square), [4])[1][4]
    assert np.abs(frames[4].reshape(-1).astype(float) - right).mean() < 6


FILMS = {
    "film.mp4": ["film"],
    "film.mkv": ["film"],
    "film.ts": ["film"],
    "a larger still first.mp4": ["still", "film"],
    "a larger still last.mkv": ["film", "still"],
    "sound first.mov": ["sound", "film"],
    "MPEG-4.mp4": ["mpeg4"],
    "HEVC.mkv": ["hevc"],
}


@pytest.mark.parametrize("first", [0, 7, 23])
@pytest.mark.parametrize("name", FILMS)
def test_the_frames_from_a_time_on_are_those_of_the_film(
    parts: dict[str, Path], tmp_path: Path, name: str, first: int
) -> None:
    path = muxed(tmp_path / name, *(parts[part] for part in FILMS[name]))
    assert numbers(published(path, first / 25)) == list(range(first, N_FRAMES))


@pytest.mark.parametrize("first", [0, 11])
@pytest.mark.parametrize(
    ("film", "suffix"),
    [("fields", "mp4"), ("fields", "mkv"), ("fields", "ts"), ("film", "avi"), ("mpeg4", "avi")],
)
def test_fields_and_frames_without_times_make_the_same_clip(
    copies: Callable[[str, str], Path], tmp_path: Path, film: str, suffix: str, first: int
) -> None:
    path = shutil.copy(copies(film, suffix), tmp_path)
    assert numbers(published(Path(path), first / 25)) == list(range(first, N_FRAMES))


LIES = {
    "no list": (0, b"free"),
    "not the first": (12, (2).to_bytes(4, "big")),
    "a frame that refers to others": (16, (6).to_bytes(4, "big") + (16).to_bytes(4, "big")),
}


@pytest.mark.parametrize("lie", LIES)
@pytest.mark.parametrize("film", ["film", "mpeg4", "hevc"])
@pytest.mark.parametrize("first", [7, 18])
def test_a_list_of_key_frames_that_lies_changes_no_frame(
    parts: dict[str, Path], tmp_path: Path, film: str, lie: str, first: int
) -> None:
    path = tmp_path / "film.mp4"
    path.write_bytes(parts[film].read_bytes())
    frames = published(patch(path, b"stss", *LIES[lie]), first / 25)
    assert numbers(frames) == list(range(first, N_FRAMES))


@pytest.mark.parametrize("start", [0.0, 1.0])
def test_packed_frames_are_in_their_order_or_refused(
    parts: dict[str, Path], copies: Callable[[str, str], Path], tmp_path: Path, start: float
) -> None:
    path = Path(shutil.copy(parts["packed"], tmp_path))
    frames = published(path, start)
    count, right = by_ffmpeg(path, range(N_FRAMES))
    assert len(frames) == count - 10 * start
    for i, frame in enumerate(frames, int(10 * start)):
        assert np.abs(frame.reshape(-1).astype(float) - right[i]).mean() < 6, i
    copy = made(tmp_path / "copy.mp4", "-fflags", "+genpts", "-i", str(path), "-c", "copy")
    (tmp_path / "clip.mp4").unlink()
    assert refused(copy, start) == "unreadable"


@pytest.mark.parametrize("suffix", ["mp4", "mov", "mkv", "avi"])
@pytest.mark.parametrize("number", [12, 25, 29])
def test_a_clip_with_a_damaged_frame_is_refused(
    copies: Callable[[str, str], Path], tmp_path: Path, suffix: str, number: int
) -> None:
    path = Path(shutil.copy(copies("film", suffix), tmp_path))
    with av.open(str(path)) as container:
        packets = [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]
    data = bytearray(path.read_bytes())
    start, size = packets[number]
    data[start + 8 : start + size] = bytes(size - 8)
    path.write_bytes(data)
    assert refused(path) == "damaged"
    assert isinstance(cut(path, 0.0, 0.2), ClipRow), "the part before it is sound"


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "avi"])
def test_a_video_that_was_cut_off_is_refused(
    copies: Callable[[str, str], Path], tmp_path: Path, suffix: str
) -> None:
    path = Path(shutil.copy(copies("film", suffix), tmp_path))
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
    assert refused(path) == "truncated"


def test_an_unknown_codec_is_refused(parts: dict[str, Path], tmp_path: Path) -> None:
    path = tmp_path / "film.mp4"
    path.write_bytes(parts["film"].read_bytes().replace(b"avc1", b"zzz9"))
    assert refused(path) == "unreadable"
