"""Frames that no other refers to are skipped on the way to the 8: fewer are decoded, and no pixel changes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from video_files import numbers, write_video

from egost.tasks.clips import packets
from egost.tasks.clips.decoders import decode_clip
from egost.tasks.clips.pixels import upright_rgb
from egost.tasks.clips.protocols import Protocol

N_FRAMES = 61

CODECS: dict[str, tuple[str, str, dict[str, str]]] = {
    # name: ending, codec, options. Each begins a key frame twice at least.
    "h264": ("mp4", "libx264", {"bf": "3"}),
    "h264 without pyramid": ("mp4", "libx264", {"bf": "3", "x264-params": "b-pyramid=0"}),
    "h264, five references": ("mp4", "libx264", {"bf": "5", "x264-params": "ref=5:b-pyramid=2:b-adapt=0"}),
    "h264, open groups": ("mp4", "libx264", {"bf": "3", "x264-params": "open-gop=1"}),
    "h264 by refresh": ("mp4", "libx264", {"bf": "0", "x264-params": "intra-refresh=1"}),
    "hevc": (
        "mp4",
        "libx265",
        {"x265-params": "keyint=24:min-keyint=24:bframes=4:open-gop=0:log-level=error"},
    ),
    "hevc, open groups": (
        "mp4",
        "libx265",
        {"x265-params": "keyint=24:bframes=4:open-gop=1:log-level=error"},
    ),
    "vp9": ("webm", "libvpx-vp9", {"auto-alt-ref": "1", "lag-in-frames": "12", "cpu-used": "8"}),
    "av1": ("mp4", "libsvtav1", {"preset": "12", "svtav1-params": "hierarchical-levels=3"}),
    "mpeg4": ("mp4", "mpeg4", {"bf": "2", "qscale": "3"}),
}


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The presentation times of frames that are decoded."""
    times: list[int] = []
    real = packets.decoded_frames

    def noting(*given: Any) -> Iterator[Any]:
        for frame in real(*given):
            times.append(frame.pts)
            yield frame

    monkeypatch.setattr(packets, "decoded_frames", noting)
    return times


@pytest.mark.parametrize("name", CODECS)
def test_the_pixels_are_those_of_decoding_all_frames(name: str, tmp_path: Path, decoded: list[int]) -> None:
    ending, codec, options = CODECS[name]
    path = write_video(tmp_path / f"film.{ending}", N_FRAMES, gop=24, codec=codec, **{"g": "24", **options})
    clip = decode_clip(path, Protocol(), "pyav")
    with av.open(str(path)) as container:
        every = [upright_rgb(frame) for frame in container.decode(video=0)]
    assert clip.n_frames == len(every) == N_FRAMES
    assert np.array_equal(clip.frames, np.stack([every[i] for i in clip.indices]))
    assert numbers(clip.frames) == list(clip.indices)
    assert clip.counted_by == "packets" and 8 <= len(decoded) < N_FRAMES
