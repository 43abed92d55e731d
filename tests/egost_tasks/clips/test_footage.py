"""The check of anyone's own videos against ffmpeg, on small files."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest
from ffmpeg_files import pattern
from places import ROOT

from egost.tasks.clips.clips import get_clip
from egost.tasks.clips.protocols import Protocol

H264 = ["-c:v", "libx264", "-threads", "1"]


def test_every_file_of_a_folder_is_held_against_ffmpeg(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "tests" / "benchmarks"))
    footage = importlib.import_module("footage")
    (tmp_path / "deep").mkdir()
    full = pattern(tmp_path / "full.MP4", *H264, "-pix_fmt", "yuv420p", "-color_range", "pc")
    pattern(tmp_path / "deep" / "fields.mkv", *H264, "-flags", "+ilme+ildct", "-pix_fmt", "yuv420p")
    whole = pattern(tmp_path / "cut.avi", "-c:v", "mpeg4").read_bytes()
    (tmp_path / "cut.avi").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "._full.mp4").write_bytes(b"what a Mac knows of a file")

    assert footage.main([str(tmp_path)]) == 0
    rows = [line.split("│")[1:4] for line in capsys.readouterr().out.splitlines() if line.startswith("│")]
    assert {kind.strip(): (int(tried), int(right)) for kind, tried, right in rows} == {
        "all": (3, 3),
        "full range": (1, 1),
        "decoded from the front": (1, 1),
        "refused: truncated": (1, 1),
    }
    full.with_suffix(".mp4").write_bytes(full.read_bytes())
    monkeypatch.setenv("EGOST_DECODE_TIMEOUT", "0.001")
    assert footage.main([str(tmp_path)]) == 1
    assert "full.mp4: refused (timeout), but ffmpeg gives 20 frames" in capsys.readouterr().out
    monkeypatch.delenv("EGOST_DECODE_TIMEOUT")
    clip = get_clip(full, Protocol())
    assert footage.difference(full, clip) == ""
    limited = pattern(tmp_path / "limited.mp4", *H264, "-pix_fmt", "yuv420p")
    assert footage.difference(limited, clip).startswith("pixels differ by up to ")
    shorter = pattern(tmp_path / "shorter.mp4", *H264, "-pix_fmt", "yuv420p", seconds=1)
    assert footage.difference(shorter, clip) == "20 frames, ffmpeg gives 10"
