"""One decode a clip: what other protocols show is made of its frames, pixel for pixel as decoding would give it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from release_files import choice_entry
from typer.testing import CliRunner
from video_files import write_video

from egost.main import app
from egost.tasks.clips.clips import get_clip
from egost.tasks.clips.decode_process import DecodePool
from egost.tasks.clips.decoders import decode_clip
from egost.tasks.clips.protocols import parse_protocol
from egost.tasks.release.layout import QUESTION_FILES, write_question_files

PROTOCOLS = (
    "uniform8",
    "uniform8+cap602112",
    "uniform8+cap151200",
    "uniform8+cap100352-151200",
    "uniform8+cap65536p32",
    "uniform8+224x224",
    "uniform8+448x448",
    "ref-qwen+cap100352-151200",
    "ref-internvl+448x448",
)


@pytest.fixture
def decodes(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each protocol was decoded."""
    counted: Counter[str] = Counter()
    decode = DecodePool.write_clip

    def counting(self: DecodePool, request: Any) -> None:
        counted[request.protocol] += 1
        decode(self, request)

    monkeypatch.setattr(DecodePool, "write_clip", counting)
    return counted


@pytest.mark.parametrize(
    ("frames", "how"),
    [
        (24, {"size": (722, 406), "preset": "veryfast"}),
        (3, {"size": (162, 98)}),
        (9, {"size": (320, 240), "pix_fmt": "yuv444p"}),
    ],
)
def test_each_protocol_shows_what_decoding_would_give(
    tmp_path: Path, decodes: Counter[str], frames: int, how: dict[str, Any]
) -> None:
    source = write_video(tmp_path / "walk.mp4", frames, **how)
    for name in PROTOCOLS:
        clip, decoded = (
            get_clip(source, parse_protocol(name)),
            decode_clip(source, parse_protocol(name), "pyav"),
        )
        assert np.array_equal(clip.frames(), decoded.frames), name
        assert (clip.manifest.height, clip.manifest.width) == decoded.frames.shape[1:3]
        assert (clip.manifest.indices, clip.manifest.protocol) == (decoded.indices, name)
        clip.check()
    assert decodes == {"uniform8": 1, "ref-qwen": 1, "ref-internvl": 1}


def test_whether_a_clip_is_complete_is_known_of_its_resized_frames_too(
    tmp_path: Path, decodes: Counter[str]
) -> None:
    source, small = write_video(tmp_path / "walk.mp4", 20), parse_protocol("uniform8+56x56")
    first = get_clip(source, small)
    assert first.manifest.complete is None
    assert get_clip(source, small, every_frame=True).manifest.complete is True
    assert decodes == {"uniform8": 2}


def test_build_makes_what_models_will_ask_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, decodes: Counter[str]
) -> None:
    (tmp_path / "part1").mkdir()
    write_video(tmp_path / "part1" / "a.mp4", 10)
    questions = {name: {} for name in QUESTION_FILES} | {
        "Part1_forward_mcq.json": {"0": choice_entry("forward", "a.mp4")}
    }
    write_question_files(tmp_path, questions)
    monkeypatch.setenv("EGOST_DATA", str(tmp_path))
    done = CliRunner().invoke(app, ["clips", "build", "qwen2.5-vl-7b", "internvl2.5-8b", "gpt-4o"])
    assert done.exit_code == 0, done.output
    said = " ".join(done.output.split())
    for name in ("uniform8+cap602112", "uniform8+448x448", "uniform8+224x224"):
        assert f"1 of 1 clips are in the cache ({name})" in said
    assert decodes == {"uniform8": 1}
    for name in ("uniform8+cap602112", "uniform8+448x448", "uniform8+224x224"):
        get_clip(tmp_path / "part1" / "a.mp4", parse_protocol(name))
    assert decodes == {"uniform8": 1}
