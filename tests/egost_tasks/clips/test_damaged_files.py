"""Files that were cut or have a hole: what is missing is noticed, and what was not looked at is not called complete."""

from __future__ import annotations

from pathlib import Path

import av
import pytest
from ffmpeg_files import decode, pattern
from video_files import muxed

from egost.tasks.clips.clips import get_clip
from egost.tasks.clips.protocols import Protocol
from egost.tasks.errors import ClipError

CODECS = {
    "h264.mp4": ["-c:v", "libx264", "-preset", "superfast", "-g", "20", "-movflags", "faststart"],
    "hevc.mp4": ["-c:v", "libx265", "-preset", "ultrafast", "-x265-params", "log-level=error"],
    "mpeg4.avi": ["-c:v", "mpeg4"],
    "mjpeg.avi": ["-c:v", "mjpeg"],
    "vp8.webm": ["-c:v", "libvpx", "-deadline", "realtime"],
    "vp9.webm": ["-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8"],
    "mpeg2.mpg": ["-c:v", "mpeg2video"],
    "wmv2.wmv": ["-c:v", "wmv2"],
    "theora.ogv": ["-c:v", "libtheora"],
}
COPIES: dict[str, tuple[str, dict[str, str]]] = {
    # Name of a file: of the one that it is copied from, and how.
    "end.mp4": ("h264.mp4", {}),
    "film.mov": ("h264.mp4", {"movflags": "faststart"}),
    "film.3gp": ("h264.mp4", {"movflags": "faststart"}),
    "h264.mkv": ("h264.mp4", {}),
    "hevc.mkv": ("hevc.mp4", {}),
    "mpeg4.mp4": ("mpeg4.avi", {"movflags": "faststart"}),
    "fragments.mp4": ("h264.mp4", {"movflags": "frag_keyframe"}),
    "live.mkv": ("h264.mp4", {"live": "1"}),
    "film.ts": ("h264.mp4", {}),
    "film.flv": ("h264.mp4", {}),
    "film.h264": ("h264.mp4", {}),
}
SAYS_ITS_END = ("h264.mp4", "end.mp4", "film.mov", "film.3gp", "h264.mkv", "vp8.webm", "mpeg4.avi")
LEAVES_IT_OPEN = (
    *("fragments.mp4", "live.mkv", "film.ts", "film.flv", "film.h264"),
    *("mpeg2.mpg", "wmv2.wmv", "theora.ogv"),
)
DAMAGED = ("h264.mp4", "h264.mkv", "hevc.mp4", "hevc.mkv", "mpeg4.mp4", "mjpeg.avi", "vp8.webm", "vp9.webm")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """40 frames each."""
    folder = tmp_path_factory.mktemp("whole")
    always = ["-threads", "1", "-pix_fmt", "yuv420p"]
    films = {name: pattern(folder / name, *always, *CODECS[name], seconds=4) for name in CODECS}
    for name, (source, options) in COPIES.items():
        films[name] = muxed(folder / name, films[source], options=options)
    return films


def cut(path: Path, share: float, folder: Path) -> Path:
    target = folder / path.name
    target.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    return target


@pytest.mark.parametrize("share", [0.9, 0.6, 0.3])
@pytest.mark.parametrize("name", SAYS_ITS_END)
def test_a_file_that_says_its_end_is_refused_when_it_is_cut(
    whole: dict[str, Path], tmp_path: Path, name: str, share: float
) -> None:
    assert decode(whole[name], every_frame=True).complete
    with pytest.raises(ClipError) as error:
        decode(cut(whole[name], share, tmp_path))
    assert error.value.reason == ("unreadable" if name == "end.mp4" else "truncated")


@pytest.mark.parametrize("share", [0.9, 0.6, 0.3])
@pytest.mark.parametrize("name", LEAVES_IT_OPEN)
def test_a_file_that_leaves_its_end_open_is_never_called_complete(
    whole: dict[str, Path], tmp_path: Path, name: str, share: float
) -> None:
    short = cut(whole[name], share, tmp_path)
    try:
        clip = decode(short, every_frame=True)
    except ClipError as error:
        assert error.reason == "truncated", "its last frame is damaged, and that is more than one of twenty"
    else:
        assert clip.n_frames < 40
        assert not clip.complete


@pytest.mark.parametrize("name", [name for name in SAYS_ITS_END if name != "end.mp4"])
def test_a_file_that_lost_its_last_frame_alone_is_used_and_says_so(
    whole: dict[str, Path], tmp_path: Path, name: str
) -> None:
    with av.open(str(whole[name])) as container:
        [*_, last] = sorted(packet.pos for packet in container.demux(video=0) if packet.size)
    (tmp_path / name).write_bytes(whole[name].read_bytes()[: last + 1])
    clip = decode(tmp_path / name)
    assert (clip.n_frames, clip.complete) == (39, False)
    # Matroska says when it ends, but not how many frames it holds: one that is shown before the last may be lost.
    assert clip.expected_frames == 40 or (name == "h264.mkv" and clip.expected_frames is None)


@pytest.mark.parametrize("name", DAMAGED)
def test_only_a_clip_of_which_every_frame_was_decoded_is_complete(whole: dict[str, Path], name: str) -> None:
    quick, sure = decode(whole[name]), decode(whole[name], every_frame=True)
    assert (quick.complete, sure.complete) == (None, True)
    assert quick.indices == sure.indices == (0, 5, 11, 16, 22, 27, 33, 39)


@pytest.mark.parametrize("number", [13, 20, 29])
@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_frame_between_the_8_does_not_leave_a_clip_complete(
    whole: dict[str, Path], tmp_path: Path, name: str, number: int
) -> None:
    with av.open(str(whole[name])) as container:
        packets = sorted((p.pts, p.pos, p.size) for p in container.demux(video=0) if p.size)
    _, start, size = packets[number]
    data = bytearray(whole[name].read_bytes())
    data[start : start + max(size, 1200)] = bytes(max(size, 1200))
    (tmp_path / name).write_bytes(data)
    try:
        assert not decode(tmp_path / name).complete
        assert decode(tmp_path / name, every_frame=True).complete is False
    except ClipError as error:
        assert error.reason == "truncated"


def test_an_avi_file_that_was_never_closed_is_not_called_complete(
    whole: dict[str, Path], tmp_path: Path
) -> None:
    data = whole["mpeg4.avi"].read_bytes()
    (tmp_path / "open.avi").write_bytes(data[:4] + bytes(4) + data[8:])
    clip = decode(tmp_path / "open.avi", every_frame=True)
    assert (clip.n_frames, clip.complete) == (40, None)


def test_the_cache_is_asked_again_where_less_was_looked_at(whole: dict[str, Path]) -> None:
    quick = get_clip(whole["h264.mp4"], Protocol())
    assert quick.manifest.complete is None
    sure = get_clip(whole["h264.mp4"], Protocol(), every_frame=True)
    assert sure.manifest.complete
    assert sure.manifest.pixels_sha256 == quick.manifest.pixels_sha256
    assert get_clip(whole["h264.mp4"], Protocol()) == sure
