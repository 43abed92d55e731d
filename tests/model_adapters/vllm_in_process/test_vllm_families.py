"""Each family's own way in: the real vLLM takes 8 frames as the family's processor of transformers counts them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from family_checkpoints import family_checkpoint

from egost.model_adapters.checkpoints import checkpoint_identity
from egost.model_adapters.engine import Ask, GenerationArguments, Reply
from egost.model_adapters.families import FAMILIES
from egost.model_adapters.parity.parity import compare
from egost.model_adapters.vllm_engine import VllmEngine, VllmSettings

SETTINGS = VllmSettings(
    dtype="float32", enforce_eager=True, max_num_seqs=2, max_model_len=3072, trust_remote_code=True
)

LINEAR = ("qwen3_5", "qwen3_5_moe", "minicpmv4_6")
"""vLLM's linear attention on a CPU knows bfloat16 alone, where engines may part by rounding."""

COMPARED = ("qwen3_5_moe", "glm4v_moe", "gemma4", "minicpmv4_6")
"""Families whose prompt, pixels and first tokens are held against transformers', too."""


@pytest.mark.parametrize(
    "model_type",
    [
        *("qwen2_5_vl", "qwen3_vl", "qwen3_5", "qwen3_5_moe", "glm4v", "glm4v_moe", "gemma4", "minicpmv4_6"),
        *("llava_onevision", "internvl", "internvl_chat"),
    ],
)
def test_the_frames_arrive(
    model_type: str, tmp_path: Path, asks: Callable[..., list[Ask]], monkeypatch: pytest.MonkeyPatch
) -> None:
    from egost.model_adapters.parity.tracing import TracingTransformers, TracingVllm
    from egost.model_adapters.transformers_engine import TransformersEngine

    family = FAMILIES[model_type]
    monkeypatch.setenv("EGOST_PROMPT", "think")
    [ask] = asks(GenerationArguments(max_new_tokens=2))[:1]
    dtype = "bfloat16" if model_type in LINEAR else "float32"
    checkpoint = family_checkpoint(model_type, tmp_path)
    engine = VllmEngine(checkpoint_identity(checkpoint), replace(SETTINGS, dtype=dtype))
    with closing(engine):
        [(_, reply)] = engine.answer([ask])
        assert isinstance(reply, Reply), reply
        assert engine.renderer.thinking is (True if family.thinking_switch else None)
        assert engine.sampling(ask.arguments).skip_special_tokens is not family.special_marks
        if family.frames_as == "images":
            # 8 tiles of 448 x 448, 256 tokens each, and the tokenizer alone for the rest.
            assert engine.renderer.text(ask.prompt, frames=8).count("<image>\n") == 8
            assert reply.video_tokens == 8 * 256
            return
        assert ask.clip is not None
        inputs = engine.renderer.inputs(ask.prompt, ask.clip.frames())
        ids = inputs["input_ids"][0].tolist()
        assert reply.prompt_tokens == len(ids)
        assert reply.video_tokens == engine.renderer.tokens_of_frames(ids) > 0
        if "video_grid_thw" in inputs:
            assert inputs["video_grid_thw"][0, 0] == 4
        if model_type not in COMPARED:
            return
        [in_vllm] = TracingVllm(engine).trace([ask])
    with closing(TransformersEngine(str(checkpoint), dtype=dtype, device="cpu")) as loaded:
        [in_transformers] = TracingTransformers(loaded).trace([ask])
    found = compare(in_transformers, in_vllm, rounding_known=dtype == "float32")
    assert found.prompt_differs_at is None and found.video_tokens == (reply.video_tokens,) * 2
    rounded = {"another answer"} if model_type in LINEAR else set()
    assert {fault.partition(":")[0] for fault in found.faults} <= rounded, found
