"""Small films that clips and construction share."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from ffmpeg_files import N_FRAMES, made, pattern
from field_coded import write_field_coded
from video_files import muxed, write_audio, write_video

ISO = ("mp4", "mov", "3gp")


@pytest.fixture(scope="session")
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


@pytest.fixture(scope="session")
def copies(parts: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], Path]:
    """Gives a part in another container, by its name and suffix; made once, with tags, not to be changed."""
    folder = tmp_path_factory.mktemp("copies")
    tags = dict.fromkeys(("title", "comment", "artist"), "CAFE-BAR")

    @cache
    def copied(part: str, suffix: str) -> Path:
        target = folder / f"{part}.{suffix}"
        if part == "fields":  # They have no times of their own.
            return made(target, "-r", "50", "-i", str(parts[part]), "-c", "copy", "-movflags", "faststart")
        if suffix == "avi":  # A muxer alone would give it ticks of 1/600 s.
            return made(
                target, "-i", str(parts[part]), "-c", "copy", "-r", "25", "-metadata", "title=CAFE-BAR"
            )
        return muxed(
            target, parts[part], tags=tags, options={"movflags": "faststart"} if suffix in ISO else {}
        )

    return copied
