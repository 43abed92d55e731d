"""One decode a clip: what other protocols show is made of its frames, pixel for pixel as decoding would give it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from release_files import choice_entry
from typer.testing import CliRunner
from video_files import numbers, write_video

from egost.main import app
from egost.tasks.clips.clips import get_clip
from egost.tasks.clips.decode_process import DecodePool
from egost.tasks.clips.decoders import decode_clip, decode_clips
from egost.tasks.clips.lossless import lossless_sha256
from egost.tasks.clips.protocols import parse_protocol
from egost.tasks.errors import CacheError
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


def test_one_decode_serves_all_numbers_of_frames_and_sizes(
    tmp_path: Path, decodes: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write_video(tmp_path / "walk.mp4", 40, size=(320, 240))
    monkeypatch.setenv("EGOST_FRAME_COUNTS", "1, 2,5,8,64")
    counts = [parse_protocol(f"uniform{count}+cap40000") for count in (5, 1, 2, 8, 64)]
    sizes = [parse_protocol(name) for name in ("uniform5", "ref-qwen+56x56")]
    get_clip(source, counts[0], also=sizes)
    assert decodes == {"uniform5": 1}
    monkeypatch.delenv("EGOST_FRAME_COUNTS")
    for protocol in (*counts, *sizes):
        clip, decoded = get_clip(source, protocol), decode_clip(source, protocol, "pyav")
        assert np.array_equal(clip.frames(), decoded.frames), protocol.name
        found = clip.manifest
        assert (found.indices, found.timestamps, found.protocol) == (
            decoded.indices,
            decoded.timestamps,
            protocol.name,
        )
        assert (found.counted_by, found.complete, found.duration) == (
            decoded.counted_by,
            decoded.complete,
            decoded.duration,
        )
    assert decodes == {"uniform5": 1}
    # What is there is not made again, and other numbers are as ever.
    monkeypatch.setenv("EGOST_FRAME_COUNTS", "5,3")
    get_clip(source, parse_protocol("uniform3+cap40000"))
    assert decodes == {"uniform5": 1, "uniform3": 1}


def test_other_numbers_of_frames_take_nothing_from_the_one_that_is_asked_for(
    tmp_path: Path, decodes: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write_video(tmp_path / "walk.mp4", 40, size=(320, 240))
    # 40 frames of 225 KiB are more than a third of what the child may hold; it makes the asked one alone.
    with_others = [parse_protocol("uniform1"), parse_protocol("uniform40"), parse_protocol("uniform1+56x56")]
    clip_of = decode_clips(source, with_others, "pyav", most_bytes=39 * 320 * 240 * 3)
    assert clip_of(with_others[0]).indices == (0,)
    assert clip_of(with_others[2]).frames.shape == (1, 56, 56, 3)
    with pytest.raises(KeyError):
        clip_of(with_others[1])
    whole = decode_clips(source, with_others, "pyav", most_bytes=40 * 320 * 240 * 3)
    assert whole(with_others[1]).indices == tuple(range(40))
    # A frame that no decoder gives is lost for who asks for it alone.
    holed = write_video(tmp_path / "holed.mp4", 100, gop=1)
    with av.open(str(holed)) as container:
        [*_, last] = [packet.pos for packet in container.demux(video=0) if packet.size]
    data = holed.read_bytes()
    holed.write_bytes(data[:last] + b"\xff" * (len(data) - last))
    monkeypatch.setenv("EGOST_FRAME_COUNTS", "1,2")
    first = get_clip(holed, with_others[0])
    assert (first.manifest.counted_by, numbers(first.frames())) == ("packets", [0])
    both = get_clip(holed, parse_protocol("uniform2"))
    assert (both.manifest.counted_by, numbers(both.frames())) == ("decoding", [0, 98])
    assert decodes == {"uniform1": 1, "uniform2": 1}


def test_a_process_that_comes_later_compares_bytes_not_pixels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = get_clip(write_video(tmp_path / "walk.mp4", 9), parse_protocol("uniform8+56x56"))
    read: list[Path] = []
    monkeypatch.setattr(
        "egost.tasks.clips.clips.lossless_sha256", lambda path: read.append(path) or lossless_sha256(path)
    )

    def in_another_process() -> None:
        monkeypatch.setattr("egost.tasks.clips.clips._sound", {})
        clip.check()

    in_another_process()
    assert not read
    seen = clip.path.with_name("seen.json")
    for damage in ("[]", "", '{"file": "0", "pixels": "0"}'):
        seen.write_text(damage)
        in_another_process()
    assert len(read) == 3, "then the pixels are read, and it is written anew"
    in_another_process()
    assert len(read) == 3
    # The bytes are another clip's, and so is what was seen of them.
    other = get_clip(write_video(tmp_path / "other.mp4", 20), parse_protocol("uniform8+56x56"))
    for name in ("clip.mp4", "seen.json"):
        clip.path.with_name(name).write_bytes(other.path.with_name(name).read_bytes())
    with pytest.raises(CacheError, match="was changed after it was written"):
        in_another_process()


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
