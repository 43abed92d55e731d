from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import get_args

import av
import numpy as np
import pytest
from video_files import cut, numbers, patch, rotate, write_audio, write_video

from egost.tasks.clips.decoders import DecodedClip, Decoder, chosen_decoder, decode_clip
from egost.tasks.clips.protocols import Protocol
from egost.tasks.errors import ClipError, SettingError

OTHERS = [
    pytest.param(name, marks=pytest.mark.skipif(find_spec(name) is None, reason=f"{name} is not installed"))
    for name in get_args(Decoder)
    if name != "pyav"
]


def decode(path: Path, decoder: Decoder = "pyav", protocol: Protocol | None = None) -> DecodedClip:
    return decode_clip(path, protocol or Protocol(), decoder)


def trimmed(folder: Path) -> Path:
    """A copy of frames 30 to 79 of a video, of which the first are hidden by an edit list."""
    source, target = write_video(folder / "whole.mp4", 80, gop=25), folder / "trimmed.mp4"
    with av.open(str(source)) as read, av.open(str(target), "w") as written:
        stream = read.streams.video[0]
        copy = written.add_stream_from_template(stream)
        read.seek(25 * 512, stream=stream)
        for packet in read.demux(stream):
            if packet.size:
                packet.pts -= 30 * 512
                packet.dts -= 30 * 512
                packet.stream = copy
                written.mux(packet)
    return target


def videos(folder: Path) -> dict[str, Path]:
    return {
        "plain": write_video(folder / "plain.mp4", 80, gop=25),
        "one key frame": write_video(folder / "long.mp4", 60, gop=250, bf="3"),
        "key frames only": write_video(folder / "intra.mp4", 30, gop=1),
        "each second a key frame": write_video(folder / "dense.mp4", 30, gop=2),
        "open groups": write_video(folder / "open.mp4", 80, gop=12, **{"x264-params": "open-gop=1"}),
        "odd size": write_video(folder / "odd.mp4", 20, size=(127, 113), pix_fmt="yuv444p"),
        "variable rate": write_video(folder / "variable.mp4", 20, times_ms=[i * i * 10 for i in range(20)]),
        "bt709": write_video(folder / "bt709.mp4", 20, colorspace=1),
        "fewer than 8": write_video(folder / "five.mp4", 5),
        "matroska": write_video(folder / "plain.mkv", 40, gop=10),
        "turned 90": rotate(write_video(folder / "r90.mp4", 20), 90),
        "turned 180": rotate(write_video(folder / "r180.mp4", 20), 180),
        "turned 270": rotate(write_video(folder / "r270.mp4", 20), 270),
        "trimmed": trimmed(folder),
    }


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return videos(tmp_path_factory.mktemp("videos"))


@pytest.mark.parametrize("decoder", OTHERS)
def test_the_decoders_give_the_same_bytes(files: dict[str, Path], decoder: Decoder) -> None:
    for name, path in files.items():
        if (decoder, name) == ("decord", "trimmed"):
            continue
        ours, theirs = decode(path), decode(path, decoder)
        assert np.array_equal(ours.frames, theirs.frames), name
        assert (ours.indices, ours.timestamps, ours.rotation) == (
            theirs.indices,
            theirs.timestamps,
            theirs.rotation,
        )


def test_the_frames_are_those_that_the_indices_name(files: dict[str, Path]) -> None:
    for name, path in files.items():
        if name.startswith("turned") or name == "trimmed":
            continue
        clip = decode(path)
        assert clip.counted_by == "packets", name
        assert numbers(clip.frames) == list(clip.indices), name


def test_full_decoding_gives_the_same_frames(files: dict[str, Path]) -> None:
    with av.open(str(files["one key frame"])) as container:
        every = [f.to_ndarray(format="rgb24", dst_colorspace=5) for f in container.decode(video=0)]
    clip = decode(files["one key frame"])
    assert clip.n_frames == len(every) == 60
    assert np.array_equal(clip.frames, np.stack([every[i] for i in clip.indices]))


def test_frames_that_an_edit_list_hides_do_not_count(files: dict[str, Path]) -> None:
    clip = decode(files["trimmed"])
    assert clip.n_frames == 50
    assert numbers(clip.frames) == [30 + i for i in clip.indices]
    assert clip.expected_frames == 50


@pytest.mark.skipif(find_spec("decord") is None, reason="decord is not installed")
def test_decord_is_not_trusted_where_frames_are_hidden(files: dict[str, Path]) -> None:
    with pytest.raises(ClipError, match=r"decord.*hidden.*Try EGOST_DECODER=pyav"):
        decode(files["trimmed"], "decord")


def test_a_variable_rate_counts_frames_and_keeps_their_times(files: dict[str, Path]) -> None:
    clip = decode(files["variable rate"])
    assert clip.indices == (0, 2, 5, 8, 10, 13, 16, 19)
    assert clip.timestamps == pytest.approx([0, 0.04, 0.25, 0.64, 1.0, 1.69, 2.56, 3.61])


@pytest.mark.parametrize(("turned", "counter_clockwise"), [(90, 270), (180, 180), (270, 90)])
def test_turned_frames_stand_upright(files: dict[str, Path], turned: int, counter_clockwise: int) -> None:
    clip = decode(files[f"turned {turned}"])
    assert clip.rotation == counter_clockwise
    assert (clip.source_width, clip.source_height) == (128, 96)
    assert clip.frames.shape[1:3] == ((96, 128) if turned == 180 else (128, 96))
    stored = [np.rot90(frame, -counter_clockwise // 90) for frame in clip.frames]
    assert numbers(stored) == list(clip.indices)


def test_protocol_options_set_the_size(files: dict[str, Path]) -> None:
    assert decode(files["plain"], protocol=Protocol(max_pixels=3000)).frames.shape == (8, 28, 56, 3)
    clip = decode(files["turned 90"], protocol=Protocol(size=(40, 30)))
    assert clip.frames.shape == (8, 30, 40, 3)


def test_the_reference_takes_its_8_from_one_a_second(tmp_path: Path) -> None:
    path = write_video(tmp_path / "ten.mp4", 100, rate=10, size=(64, 64))
    clip = decode(path, protocol=Protocol("ref-qwen"))
    assert clip.duration == 10.0
    assert clip.indices == (0, 11, 22, 33, 55, 66, 77, 99)
    assert numbers(clip.frames) == list(clip.indices)


@pytest.mark.parametrize("decoder", ["pyav", *OTHERS])
def test_one_frame_stands_8_times(tmp_path: Path, decoder: Decoder) -> None:
    clip = decode(write_video(tmp_path / "one.mp4", 1), decoder)
    assert (clip.n_frames, clip.indices) == (1, (0,) * 8)
    assert clip.frames.shape == (8, 96, 128, 3)


def test_a_length_that_the_header_exaggerates_changes_nothing(tmp_path: Path) -> None:
    honest = write_video(tmp_path / "honest.mp4", 50)
    liar = write_video(tmp_path / "liar.mp4", 50)
    # The durations of the film, of its track, of the track's media and of its edit list, an hour each.
    for atom, offset, scale in (
        (b"mvhd", 20, 1000),
        (b"tkhd", 24, 1000),
        (b"mdhd", 20, 12800),
        (b"elst", 12, 1000),
    ):
        patch(liar, atom, offset, (3600 * scale).to_bytes(4, "big"))
    for protocol in (Protocol(), Protocol("ref-qwen")):
        told, known = decode(liar, protocol=protocol), decode(honest, protocol=protocol)
        assert (told.n_frames, told.indices, told.duration) == (50, known.indices, 2.0)
        assert told.expected_frames == 50
        assert np.array_equal(told.frames, known.frames)


@pytest.mark.parametrize("decoder", ["pyav", *OTHERS])
def test_frames_that_only_the_header_has_do_not_count(tmp_path: Path, decoder: Decoder) -> None:
    liar = patch(write_video(tmp_path / "liar.mp4", 50), b"stts", 12, (5000).to_bytes(4, "big"))
    with av.open(str(liar)) as container:
        assert container.streams.video[0].frames == 5000
    clip = decode(liar, decoder)
    assert (clip.n_frames, clip.expected_frames) == (50, 50)
    assert numbers(clip.frames) == list(clip.indices)


def test_a_file_cut_in_half_is_refused(tmp_path: Path) -> None:
    half = cut(write_video(tmp_path / "whole.mp4", 100), 0.5)
    with pytest.raises(ClipError, match=r"of the 100 frames that its index lists") as error:
        decode(half)
    assert error.value.reason == "truncated"


def test_a_file_that_lost_its_last_frames_is_used_and_says_so(tmp_path: Path) -> None:
    clip = decode(cut(write_video(tmp_path / "whole.mp4", 100), 0.98))
    assert 95 <= clip.n_frames < 100
    assert clip.expected_frames == 100
    # The last frames are stored out of order, so that one that is shown earlier can be lost.
    assert numbers(clip.frames)[:7] == list(clip.indices)[:7]
    assert clip.indices[7] <= numbers(clip.frames)[7] < 100


def test_a_file_cut_before_its_index_is_unreadable(tmp_path: Path) -> None:
    half = cut(write_video(tmp_path / "whole.mp4", 100, index_first=False), 0.5)
    with pytest.raises(ClipError, match=r"cannot be opened as a video") as error:
        decode(half)
    assert error.value.reason == "unreadable"


def with_hole(path: Path, start: float, end: float) -> Path:
    """Overwrite a part of the coded frames, given by shares of the file, with zeros."""
    data = bytearray(path.read_bytes())
    hole = slice(int(len(data) * start), int(len(data) * end))
    data[hole] = bytes(len(data[hole]))
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(("byte", "counted_by"), [(b"\0", "packets"), (b"\xff", "decoding")])
def test_where_a_frame_is_damaged_all_that_decode_are_counted(
    tmp_path: Path, byte: bytes, counted_by: str
) -> None:
    path = write_video(tmp_path / "hole.mp4", 100, gop=1)
    with av.open(str(path)) as container:
        [*_, last] = [packet.pos for packet in container.demux(video=0) if packet.size]
    data = path.read_bytes()
    # All of the last frame, which is one of the 8, is lost, and no other; zeros are seen without decoding.
    path.write_bytes(data[:last] + byte * (len(data) - last))
    clip = decode(path)
    assert (clip.counted_by, clip.complete) == (counted_by, False)
    assert (clip.n_frames, clip.expected_frames) == (99, 100)
    assert numbers(clip.frames) == list(clip.indices) == [0, 14, 28, 42, 56, 70, 84, 98]


def test_a_file_with_a_large_hole_is_refused(tmp_path: Path) -> None:
    path = with_hole(write_video(tmp_path / "hole.mp4", 100, gop=10), 0.4, 0.6)
    with pytest.raises(ClipError, match=r"is damaged: \d\d of the 100 frames") as error:
        decode(path)
    assert error.value.reason == "truncated"


def test_packets_without_times_are_counted_by_decoding(tmp_path: Path) -> None:
    clip = decode(write_video(tmp_path / "old.avi", 40, codec="mpeg4", bf="2", qscale="3"))
    assert (clip.n_frames, clip.counted_by) == (40, "decoding")
    assert numbers(clip.frames) == list(clip.indices)
    assert clip.timestamps == pytest.approx([i / 25 for i in clip.indices])


def test_audio_alone_is_no_video(tmp_path: Path) -> None:
    with pytest.raises(ClipError, match=r"only: audio") as error:
        decode(write_audio(tmp_path / "song.mp4"))
    assert error.value.reason == "no_video"


@pytest.mark.parametrize("content", [b"no video at all" * 100, bytes(4096)], ids=["text", "zeros"])
def test_other_files_are_unreadable(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "text.mp4"
    path.write_bytes(content)
    with pytest.raises(ClipError) as error:
        decode(path)
    assert error.value.reason == "unreadable"


def test_a_video_without_frames_says_so(tmp_path: Path) -> None:
    whole = write_video(tmp_path / "whole.mp4", 20)
    data = whole.read_bytes()
    path = tmp_path / "head.mp4"
    path.write_bytes(data[: data.index(b"mdat") - 4])
    with pytest.raises(ClipError) as error:
        decode(path)
    assert error.value.reason == "no_frames"


def test_unknown_and_missing_decoders_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    assert chosen_decoder() == "pyav"
    monkeypatch.setenv("EGOST_DECODER", "vlc")
    with pytest.raises(SettingError, match=r"'vlc'; expected one of: pyav, torchcodec, decord"):
        chosen_decoder()
