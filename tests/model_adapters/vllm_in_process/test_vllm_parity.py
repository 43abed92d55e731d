"""The real vLLM and transformers on one checkpoint: same pixels, same prompts, same answers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from broken_clips import ReversedClip, ShortClip, broken
from family_checkpoints import family_checkpoint
from taught_checkpoint import taught_checkpoint
from video_files import write_video

from egost.model_adapters.checkpoints import checkpoint_identity
from egost.model_adapters.engine import Ask, GenerationArguments
from egost.model_adapters.parity.parity import EXPLAINED_GAP, Trace, compare
from egost.model_adapters.vllm_engine import VllmEngine, VllmSettings
from egost.tasks.clips.clips import Clip, get_clip
from egost.tasks.clips.protocols import parse_protocol
from egost.tasks.release.release import Release

SETTINGS = VllmSettings(dtype="float32", enforce_eager=True, max_num_seqs=2, max_model_len=1024)
ROOM = GenerationArguments(max_new_tokens=24)


@pytest.fixture(scope="module")
def checkpoint(shared_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    mini = Release("mini", (shared_cache / "mini",), "local")
    return taught_checkpoint(tmp_path_factory.mktemp("checkpoints"), mini, steps=60)


@pytest.fixture(scope="module")
def questions(asks: Callable[..., list[Ask]]) -> list[Ask]:
    return asks(ROOM)[::3]


@pytest.fixture(scope="module")
def in_vllm(checkpoint: Path, questions: list[Ask]) -> Iterator[list[Trace]]:
    from egost.model_adapters.parity.tracing import TracingVllm

    with closing(TracingVllm(VllmEngine(checkpoint_identity(checkpoint), SETTINGS))) as engine:
        yield list(engine.trace(questions))


def in_transformers(checkpoint: Path, asks: list[Ask], max_pixels: int | None = None) -> list[Trace]:
    from egost.model_adapters.parity.tracing import TracingTransformers
    from egost.model_adapters.transformers_engine import TransformersEngine

    loaded = TransformersEngine(str(checkpoint), device="cpu", max_pixels=max_pixels)
    with closing(TracingTransformers(loaded)) as engine:
        return list(engine.trace(asks))


def test_every_answer_is_identical_or_explained(
    checkpoint: Path, questions: list[Ask], in_vllm: list[Trace]
) -> None:
    pairs = list(zip(in_transformers(checkpoint, questions), in_vllm, strict=True))
    assert len(pairs) >= 4
    for hf, vllm in pairs:
        found = compare(hf, vllm, rounding_known=True)
        assert found.faults == ()
        assert hf.grid == vllm.grid and hf.grid is not None and hf.grid[0] == 4
        assert found.video_difference is not None and found.video_difference < 1e-3
        assert found.first_token.tokens >= 18 and found.first_token.largest < EXPLAINED_GAP / 10
        if found.parting is None:
            assert hf.text == vllm.text and len(hf.steps) == len(vllm.steps), "the end token is in both"
    ended = [hf for hf, _ in pairs if len(hf.steps) < ROOM.max_new_tokens]
    assert ended, "no reply ended by itself: nothing was shown of the end token"
    assert len({hf.frames_sha256 for hf, _ in pairs}) > 1


@pytest.mark.parametrize("kind", [ReversedClip, ShortClip])
def test_other_frames_are_caught(
    kind: type[Clip], checkpoint: Path, questions: list[Ask], in_vllm: list[Trace]
) -> None:
    [other] = in_transformers(checkpoint, broken(questions[:1], kind))
    faults = compare(other, in_vllm[0], rounding_known=True).faults
    named = {fault.partition(":")[0] for fault in faults}
    assert {"other frames", "other pixels in the vision encoder"} <= named
    assert "other grid" not in named and "other prompt" not in named


def test_other_limits_of_pixels_are_caught(
    checkpoint: Path, questions: list[Ask], in_vllm: list[Trace]
) -> None:
    [other] = in_transformers(checkpoint, questions[:1], max_pixels=84 * 84)
    named = {f.partition(":")[0] for f in compare(other, in_vllm[0], rounding_known=True).faults}
    assert {"other grid", "other number of video tokens", "other prompt"} <= named


def test_qwen2_5_vl_agrees_also_where_time_reaches_further_than_space_and_with_16_frames(
    questions: list[Ask], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """2 s a patch and 2 positions a second: 13 positions, more than small frames have patches on a side."""
    from egost.model_adapters.parity.tracing import TracingVllm

    monkeypatch.setenv("EGOST_PROTOCOL", "uniform16")
    checkpoint = family_checkpoint("qwen2_5_vl", tmp_path / "qwen2_5_vl")
    source = write_video(tmp_path / "wide.mp4", 24, size=(13 * 28, 112))
    wide = get_clip(source, parse_protocol("uniform8"), tmp_path / "cache")
    many = get_clip(source, parse_protocol("uniform16"), tmp_path / "cache")
    short = replace(questions[0], arguments=GenerationArguments(max_new_tokens=4))
    asks = [short, replace(short, clip=wide), replace(short, clip=many)]
    with closing(TracingVllm(VllmEngine(checkpoint_identity(checkpoint), SETTINGS))) as engine:
        in_vllm = list(engine.trace(asks))
    small, large, sixteen = (
        compare(hf, vllm, rounding_known=True)
        for hf, vllm in zip(in_transformers(checkpoint, asks), in_vllm, strict=True)
    )
    assert small.seconds == large.seconds == sixteen.seconds == (2.0, 2.0)
    # 8 pairs of frames of 13 x 4 patches.
    assert sixteen.faults == () and sixteen.video_tokens == (8 * 13 * 4,) * 2
    assert large.reach[0] == (13, 4, 13) and large.faults == ()
    assert small.reach[0] is not None and small.reach[0][0] == 13 > max(small.reach[0][1:])
    assert small.faults == () and small.first_token.largest < EXPLAINED_GAP / 10
