"""Clips are cut out of real videos of all kinds, all in one form; what cannot be cut is named."""

from __future__ import annotations

import json
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from video_files import cut as cut_off
from video_files import frame_number, numbers, read_film, rotate, write_audio, write_video

from egost.tasks.construction.cutting import (
    MAX_SIDE,
    CutFailure,
    build_clips,
    clip_size,
    cut_clip,
    lengths,
    steady_rate,
    write_length_plot,
)
from egost.tasks.construction.spec import Cut, read_spec
from egost.tasks.construction.workfolder import ClipRow, WorkFolder
from egost.tasks.errors import ConstructionError


def made(tmp_path: Path, video: Path, start: float = 0.0, end: float | None = None) -> tuple[ClipRow, Any]:
    row = cut_clip(tmp_path, Cut("clip.mp4", video, video.name, start, end, "sun3d", "indoor_single", ""))
    assert isinstance(row, ClipRow), row
    frames = read_film(tmp_path / "clip.mp4")
    assert frames.shape == (row.frames, row.height, row.width, 3)
    return row, frames


def test_a_cut_takes_the_frames_of_its_time(tmp_path: Path) -> None:
    video = write_video(tmp_path / "long.mp4", 100, gop=30)
    row, frames = made(tmp_path, video, 1.0, 2.6)
    assert numbers(frames) == list(range(25, 65))
    assert (row.rate, row.duration_s, row.start_s, row.end_s) == ("25", 1.6, 1.0, 2.6)


def test_a_whole_video_keeps_its_frames(tmp_path: Path) -> None:
    row, frames = made(tmp_path, write_video(tmp_path / "whole.mkv", 40, rate=15))
    assert numbers(frames) == list(range(40)) and row.rate == "15"


@pytest.mark.parametrize("clockwise", [90, 180, 270])
def test_a_rotated_video_stands_upright(tmp_path: Path, clockwise: int) -> None:
    video = rotate(write_video(tmp_path / "turned.mp4", 6), clockwise)
    row, frames = made(tmp_path, video)
    assert (row.width, row.height) == ((128, 96) if clockwise == 180 else (96, 128))
    stored = [np.rot90(frame, clockwise // 90) for frame in frames]
    assert [frame_number(np.ascontiguousarray(frame)) for frame in stored] == list(range(6))
    with av.open(str(tmp_path / "clip.mp4")) as container:
        assert next(container.decode(video=0)).rotation == 0


def test_a_variable_rate_becomes_a_steady_one(tmp_path: Path) -> None:
    times = [0, 40, 80, 500, 540, 1200, 1240, 1300]
    video = write_video(tmp_path / "variable.mkv", 8, times_ms=times)
    row, frames = made(tmp_path, video, 0.0, 1.3)
    rate = Fraction(row.rate)
    ticks = [1000 * k / rate for k in range(row.frames)]
    shown = [max(k for k, at in enumerate(times) if at <= tick + 250 / rate) for tick in ticks]
    assert numbers(frames) == shown
    with av.open(str(tmp_path / "clip.mp4")) as container:
        stamps = [packet.pts for packet in container.demux(video=0) if packet.size]
    assert len(set(np.diff(sorted(stamps)))) == 1


def test_a_video_with_sound_becomes_silent_and_sound_alone_is_no_clip(tmp_path: Path) -> None:
    sound = write_audio(tmp_path / "sound.mp4")
    failure = cut_clip(tmp_path, Cut("clip.mp4", sound, "sound.mp4", 0, None, "x", "indoor_single", ""))
    assert isinstance(failure, CutFailure) and failure.reason == "no_video"
    both = tmp_path / "both.mp4"
    with av.open(str(both), "w") as out, av.open(str(sound)) as heard:
        seen = out.add_stream("libx264", rate=25)
        seen.width, seen.height, seen.pix_fmt = 128, 96, "yuv420p"
        copied = out.add_stream_from_template(heard.streams.audio[0])
        for _ in range(25):
            out.mux(seen.encode(av.VideoFrame(128, 96, "yuv420p")))
        out.mux(seen.encode())
        for packet in heard.demux(audio=0):
            if packet.size:
                packet.stream = copied
                out.mux(packet)
    made(tmp_path, both)
    with av.open(str(tmp_path / "clip.mp4")) as container:
        assert [stream.type for stream in container.streams] == ["video"]
        assert container.streams.video[0].codec_context.name == "h264"
        assert container.streams.video[0].codec_context.pix_fmt == "yuv420p"


def test_sizes_and_rates_have_limits(tmp_path: Path) -> None:
    assert clip_size(1920, 1080, None) == (1280, 720)
    assert clip_size(1080, 1920, Fraction(1)) == (720, 1280)
    assert clip_size(135, 97, None) == (134, 96)
    assert clip_size(720, 576, Fraction(16, 15)) == (768, 576)
    assert steady_rate(Fraction(60000, 1001)) == Fraction(30000, 1001)
    assert steady_rate(Fraction(120)) == 30 and steady_rate(Fraction(25)) == 25 and steady_rate(None) == 30
    video = write_video(tmp_path / "odd.mkv", 6, size=(MAX_SIDE + 3, 97), rate=60, pix_fmt="yuv444p")
    row, _ = made(tmp_path, video)
    assert (row.width, row.height, row.rate, row.frames) == (1280, 96, "30", 3)


def test_what_cannot_be_cut_is_named(tmp_path: Path) -> None:
    video = write_video(tmp_path / "short.mp4", 25)
    beyond = cut_clip(tmp_path, Cut("c.mp4", video, "short.mp4", 0.2, 9.0, "x", "indoor_single", ""))
    after = cut_clip(tmp_path, Cut("c.mp4", video, "short.mp4", 5.0, None, "x", "indoor_single", ""))
    broken = cut_off(video, 0.1)
    torn = cut_clip(tmp_path, Cut("c.mp4", broken, "cut.mp4", 0.0, None, "x", "indoor_single", ""))
    failures = (beyond, after, torn)
    assert [isinstance(f, CutFailure) and f.reason for f in failures] == [
        "beyond_end",
        "no_frames",
        "truncated",
    ]
    assert not (tmp_path / "c.mp4").exists() and not list(tmp_path.glob(".*.part"))


def write_spec(folder: Path, *rows: str, header: str = "file,start,end,source,scene,licence") -> Path:
    (folder / "spec.csv").write_text("\n".join([header, *rows]) + "\n")
    return folder / "spec.csv"


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (["a.mp4,0,9,s,indoor_single,", "b.mp4,0,9,s,indoor_single,"], "missing_file: .*b.mp4"),
        (["a.mp4,9,2,s,indoor_single,"], "reversed_times: it ends at 2 s and starts at 9 s"),
        (
            ["a.mp4,0,9,s,indoor_single,", "a.mp4,8.5,12,s,indoor_single,"],
            "overlapping_times: of a.mp4.* 0 s to 9 s, another starts at 8.5",
        ),
        (["a.mp4,,,s,indoor_single,", "a.mp4,5,9,s,indoor_single,"], "overlapping_times"),
        (["a.mp4,soon,9,s,indoor_single,"], "its start is 'soon'"),
        (["a.mp4,0,9,s,kitchen,"], "the scene is 'kitchen'"),
        (["a.mp4,0,9,,indoor_single,"], "no source"),
        (["sub/a.mp4,0,9,s,indoor_single,", "a.mp4,0,9,s,indoor_single,"], "same_name: 2 clips would be s_a.mp4"),
    ],
)  # fmt: skip
def test_a_list_that_makes_no_sense_is_refused_before_anything_is_cut(
    tmp_path: Path, rows: list[str], said: str
) -> None:
    write_video(tmp_path / "a.mp4", 5)
    (tmp_path / "sub").mkdir()
    write_video(tmp_path / "sub" / "a.mp4", 5)
    with pytest.raises(ConstructionError, match=said):
        read_spec(write_spec(tmp_path, *rows))


def test_times_may_be_clock_times_and_lists_json(tmp_path: Path) -> None:
    write_video(tmp_path / "sun3d_4.mp4", 5)
    row = {
        "file": "sun3d_4.mp4",
        "start": "1:02:03.5",
        "end": 4000,
        "source": "sun3d",
        "scene": "indoor_single",
    }
    (tmp_path / "spec.json").write_text(json.dumps([row]))
    [cut] = read_spec(tmp_path / "spec.json")
    assert (cut.clip, cut.start_s, cut.end_s) == ("sun3d_4_3723.5s.mp4", 3723.5, 4000.0)


def test_a_list_is_cut_once(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", 50)
    write_video(tmp_path / "b.mp4", 20)
    spec = write_spec(
        tmp_path,
        "a.mp4,0,1,huji,outdoor_open,CC",
        "a.mp4,1,9,huji,outdoor_open,CC",
        "b.mp4,,,own,indoor_multi,",
    )
    folder = WorkFolder(tmp_path / "out")
    rows, failures = build_clips(folder, spec, workers=1, progress=False)
    assert [row.clip for row in rows] == ["huji_a.mp4", "own_b.mp4"]
    assert [(f.clip, f.reason) for f in failures] == [("huji_a_1s.mp4", "beyond_end")]
    assert list(folder.clips().values()) == rows
    times = {path: path.stat().st_mtime_ns for path in folder.clip_folder.iterdir()}
    again, _ = build_clips(folder, spec, workers=1, progress=False)
    assert again == rows
    assert {path: path.stat().st_mtime_ns for path in folder.clip_folder.iterdir()} == times
    assert [(x.source, x.clips, x.total) for x in lengths(rows)] == [
        ("huji", 1, 1.0),
        ("own", 1, 0.8),
        ("all", 2, 1.8),
    ]
    spec.write_text(spec.read_text().replace(",1,huji", ",1.4,huji").replace("a.mp4,1,9", "a.mp4,1.4,2"))
    changed, _ = build_clips(folder, spec, workers=1, progress=False)
    assert [row.frames for row in changed] == [35, 15, 20]
    write_length_plot(changed, tmp_path / "one.png")
    write_length_plot(changed, tmp_path / "two.png")
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()


def test_a_changed_row_is_told_apart(tmp_path: Path) -> None:
    video = write_video(tmp_path / "a.mp4", 10)
    asked = Cut("c.mp4", video, "a.mp4", 0.0, None, "x", "indoor_single", "")
    row = cut_clip(tmp_path, asked)
    longer = cut_clip(tmp_path, replace(asked, end_s=0.2))
    assert isinstance(row, ClipRow) and isinstance(longer, ClipRow)
    assert row.made_from != longer.made_from and row.sha256 != longer.sha256
