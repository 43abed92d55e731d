"""Files as cameras and phones make them, held against ffmpeg's own command where pixels count."""

from __future__ import annotations

import itertools
import os
import signal
import threading
from pathlib import Path

import numpy as np
import pytest
from ffmpeg_files import decode, made, pattern, same_as_ffmpeg
from places import ROOT
from video_files import numbers, patch, write_video

from egost.tasks.clips import clips
from egost.tasks.clips.clips import get_clip
from egost.tasks.clips.decoders import Decoder
from egost.tasks.clips.packets import read_packets
from egost.tasks.clips.protocols import Protocol
from egost.tasks.construction.cutting import CutFailure, cut_clip
from egost.tasks.construction.spec import Cut
from egost.tasks.construction.workfolder import ClipRow
from egost.tasks.errors import ClipError

CASES = ROOT.parent / "shared" / "cases"
TURNS = {
    # The corners (a, b, c, d) of a display matrix, and what it does to an upright picture's stored form.
    "as stored": (1, 0, 0, 1),
    "mirrored": (-1, 0, 0, 1),
    "upside down": (-1, 0, 0, -1),
    "flipped": (1, 0, 0, -1),
    "clockwise": (0, 1, -1, 0),
    "counter-clockwise": (0, -1, 1, 0),
    "transposed": (0, 1, 1, 0),
    "transposed the other way": (0, -1, -1, 0),
}


RANGES, MATRICES = ("tv", "pc", None), ("bt470bg", "bt709", "bt2020nc", None)
LAYOUTS = ("yuv420p", "yuv422p", "yuv444p", "yuv420p10le", "yuv422p10le")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_range_and_matrix_are_the_streams_own(tmp_path: Path, layout: str) -> None:
    for colour_range, matrix in itertools.product(RANGES, MATRICES):
        colours = [*(["-color_range", colour_range] if colour_range else [])]
        colours += ["-colorspace", matrix] if matrix else []
        path = pattern(tmp_path / "colours.mp4", "-pix_fmt", layout, *colours, "-c:v", "libx264", seconds=1)
        assert same_as_ffmpeg(path, decode(path)), (colour_range, matrix)


def test_full_range_is_not_read_as_limited(tmp_path: Path) -> None:
    path = made(
        tmp_path / "white.mp4", "-f", "lavfi", "-i", "color=white:size=64x64:rate=10:duration=1",
        "-vf", "scale=out_range=pc", "-color_range", "pc", "-pix_fmt", "yuvj420p", "-c:v", "mjpeg", "-q:v", "2",
    )  # fmt: skip
    assert decode(path).frames.min() >= 254


@pytest.mark.parametrize("decoder", ["decord"])
def test_another_decoder_is_refused_where_it_shows_other_colours(tmp_path: Path, decoder: Decoder) -> None:
    pytest.importorskip("decord")
    deep = pattern(tmp_path / "deep.mp4", "-pix_fmt", "yuv420p10le", "-c:v", "libx264")
    with pytest.raises(
        ClipError, match=r"yuv420p10le, which decord shows differently\. Use EGOST_DECODER=pyav"
    ):
        decode(deep, decoder)
    for layout in ("yuv420p", "yuv422p10le", "yuv444p"):
        path = pattern(tmp_path / "same.mp4", "-pix_fmt", layout, "-color_range", "pc", "-c:v", "libx264")
        assert np.array_equal(decode(path, decoder).frames, decode(path).frames)


def turned(path: Path, corners: tuple[int, int, int, int]) -> Path:
    a, b, c, d = (value << 16 for value in corners)
    matrix = b"".join(v.to_bytes(4, "big", signed=True) for v in (a, b, 0, c, d, 0, 0, 0, 1 << 30))
    return patch(path, b"tkhd", 44, matrix)


@pytest.mark.parametrize("name", TURNS)
def test_all_eight_orientations_are_as_ffmpeg_shows_them(tmp_path: Path, name: str) -> None:
    path = turned(write_video(tmp_path / "turned.mp4", 20), TURNS[name])
    clip = decode(path)
    assert same_as_ffmpeg(path, clip)
    a, b, c, d = TURNS[name]
    kept = get_clip(path, Protocol())
    assert kept.manifest.mirrored == (a * d - b * c < 0)
    assert np.array_equal(kept.frames(), clip.frames)


def cut(path: Path, target: str) -> ClipRow | CutFailure:
    return cut_clip(path.parent, Cut(target, path, path.name, 0.0, None, "own", "indoor_single", "MIT"))


def test_construction_turns_frames_as_they_are_shown(tmp_path: Path) -> None:
    for name, corners in TURNS.items():
        path = turned(write_video(tmp_path / "turned.mp4", 20, gop=1), corners)
        assert isinstance(cut(path, "clip.mp4"), ClipRow), name
        shown, published = decode(path), decode(tmp_path / "clip.mp4")
        assert shown.frames.shape == published.frames.shape, name
        assert np.abs(shown.frames.astype(int) - published.frames).mean() < 4, name


def test_construction_keeps_the_colours_of_full_range(tmp_path: Path) -> None:
    colours = ["-color_range", "pc", "-colorspace", "bt709", "-pix_fmt", "yuv420p", "-c:v", "libx264"]
    path = pattern(tmp_path / "full.mp4", *colours)
    assert isinstance(cut(path, "clip.mp4"), ClipRow)
    shown, published = (
        decode(path).frames.mean((0, 1, 2)),
        decode(tmp_path / "clip.mp4").frames.mean((0, 1, 2)),
    )
    assert np.abs(shown - published).max() < 1, "range and matrix are kept; compression moves single pixels"


def test_pixels_that_are_not_square_are_named(tmp_path: Path) -> None:
    path = pattern(tmp_path / "wide.mp4", "-vf", "setsar=4/3", "-pix_fmt", "yuv420p", "-c:v", "libx264")
    assert get_clip(path, Protocol()).manifest.pixel_aspect == "4:3"


def test_the_larger_still_track_is_not_the_video(tmp_path: Path) -> None:
    film = write_video(tmp_path / "film.mp4", 30)
    still = write_video(tmp_path / "still.mp4", 1, size=(256, 192))
    for order in ((film, still), (still, film)):
        inputs = [word for path in order for word in ("-i", str(path))]
        path = made(tmp_path / "both.mp4", *inputs, "-map", "0:v", "-map", "1:v", "-c", "copy")
        clip = decode(path)
        assert clip.n_frames == 30
        assert numbers(clip.frames) == list(clip.indices)


@pytest.mark.parametrize("codec", ["libvpx", "libvpx-vp9"])
def test_reference_pictures_that_are_never_shown_do_not_count(tmp_path: Path, codec: str) -> None:
    options = ["-auto-alt-ref", "1", "-lag-in-frames", "16", "-b:v", "300k", "-pix_fmt", "yuv420p"]
    passes = [*options, "-passlogfile", str(tmp_path / "log"), "-c:v", codec]
    source = ["-f", "lavfi", "-i", "testsrc2=size=160x120:rate=30:duration=4"]
    made(Path("/dev/null"), *source, *passes, "-pass", "1", "-f", "null")
    path = made(tmp_path / "hidden.webm", *source, *passes, "-pass", "2")
    clip = decode(path)
    assert (clip.n_frames, clip.expected_frames) == (120, 120)
    assert same_as_ffmpeg(path, clip)


def test_a_key_flag_that_lies_is_noticed(tmp_path: Path) -> None:
    path = pattern(tmp_path / "plain.mp4", "-c:v", "mpeg4", "-g", "300", "-pix_fmt", "yuv420p")
    data = path.read_bytes()
    # Without its table of key frames, a file says that every frame is one (ISO 14496-12, 8.6.2).
    path.write_bytes(data.replace(b"stss", b"free"))
    assert all(packet.is_key for packet in read_packets(path).packets)
    clip = decode(path)
    assert (clip.counted_by, clip.n_frames) == ("decoding", 20)
    assert same_as_ffmpeg(path, clip)


def test_tags_that_are_not_utf8_are_no_fault(tmp_path: Path) -> None:
    for name in ("film.mp4", "film.mkv", "film.mov", "film.avi"):
        codec = "mpeg4" if name.endswith("avi") else "libx264"
        path = pattern(tmp_path / name, "-metadata", "title=CAFE-BAR", "-pix_fmt", "yuv420p", "-c:v", codec)
        path.write_bytes(path.read_bytes().replace(b"CAFE-BAR", b"CAF\xe9-BAR"))
        clip = decode(path)
        assert clip.n_frames == 20, name


def test_an_unknown_codec_is_named(tmp_path: Path) -> None:
    path = write_video(tmp_path / "strange.mp4", 10)
    path.write_bytes(path.read_bytes().replace(b"avc1", b"zzz9"))
    with pytest.raises(ClipError, match=r"coded in 'zzz9', which no decoder here knows") as error:
        decode(path)
    assert error.value.reason == "unreadable"


def test_a_webm_that_was_cut_short_is_recognised(tmp_path: Path) -> None:
    whole = pattern(tmp_path / "whole.webm", "-c:v", "libvpx", "-pix_fmt", "yuv420p", seconds=6)
    assert decode(whole).n_frames == 60
    short = tmp_path / "short.webm"
    short.write_bytes(whole.read_bytes()[: whole.stat().st_size * 6 // 10])
    with pytest.raises(ClipError, match=r"was cut off") as error:
        decode(short)
    assert error.value.reason == "truncated"


def test_hdr_is_recorded_and_not_cut_into_clips(tmp_path: Path) -> None:
    for name, curve in (("pq", "smpte2084"), ("hlg", "arib-std-b67")):
        colours = ["-vf", f"setparams=color_trc={curve}:colorspace=bt2020nc", "-pix_fmt", "yuv420p10le"]
        path = pattern(tmp_path / f"{name}.mp4", *colours, "-c:v", "libx264")
        assert get_clip(path, Protocol()).manifest.transfer == name
        failure = cut(path, "clip.mp4")
        assert isinstance(failure, CutFailure) and failure.reason == "hdr"


def test_the_time_of_other_work_on_the_machine_is_not_the_clips(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clips._pool.stop_all()
    get_clip(write_video(tmp_path / "first.mp4", 10), Protocol())
    monkeypatch.setenv("EGOST_DECODE_TIMEOUT", "0.5")
    [child] = clips._pool._idle
    os.kill(child.pid, signal.SIGSTOP)
    threading.Timer(1.5, os.kill, (child.pid, signal.SIGCONT)).start()
    assert get_clip(write_video(tmp_path / "second.mp4", 10), Protocol()).manifest.n_frames == 10
    assert clips._pool._idle == [child], "three times the limit had passed on the clock"


@pytest.mark.skipif(not CASES.is_dir(), reason="the handed-over files are not here")
@pytest.mark.parametrize(
    ("name", "frames"),
    [
        ("full_range_bt709.mp4", 60),
        ("mirrored_left_right.mp4", 60),
        ("two_tracks_larger_still.mp4", 60),
        ("first_frame_not_marked_as_key.mp4", 60),
        ("metadata_latin1.mp4", 60),
        ("vp8_hidden_frames.webm", 180),
        ("mpeg4_without_sync_table.mp4", 60),
    ],
)
def test_the_handed_over_files(name: str, frames: int) -> None:
    clip = decode(CASES / name)
    assert (clip.n_frames, clip.expected_frames) == (frames, frames)
    if name != "two_tracks_larger_still.mp4":
        assert same_as_ffmpeg(CASES / name, clip)
