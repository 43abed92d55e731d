"""Each family's own way in: the real vLLM takes 8 frames as the family's processor of transformers counts them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from family_checkpoints import family_checkpoint

from egost.model_adapters.checkpoints import checkpoint_identity
from egost.model_adapters.engine import Ask, GenerationArguments, Reply
from egost.model_adapters.families import FAMILIES
from egost.model_adapters.vllm_engine import VllmEngine, VllmSettings

SETTINGS = VllmSettings(
    dtype="float32", enforce_eager=True, max_num_seqs=2, max_model_len=3072, trust_remote_code=True
)


@pytest.mark.parametrize(
    "model_type",
    ["qwen2_5_vl", "qwen3_vl", "qwen3_5", "glm4v", "llava_onevision", "internvl", "internvl_chat"],
)
def test_the_frames_arrive(model_type: str, tmp_path: Path, asks: Callable[..., list[Ask]]) -> None:
    [ask] = asks(GenerationArguments(max_new_tokens=2))[:1]
    assert ask.clip is not None
    # vLLM's linear attention on a CPU knows bfloat16 alone.
    settings = replace(SETTINGS, dtype="bfloat16") if model_type == "qwen3_5" else SETTINGS
    engine = VllmEngine(checkpoint_identity(family_checkpoint(model_type, tmp_path)), settings)
    try:
        [(_, reply)] = engine.answer([ask])
    finally:
        engine.close()
    assert isinstance(reply, Reply), reply
    text = engine.renderer.text(ask.prompt, frames=8)
    if FAMILIES[model_type].frames_as == "images":
        # 8 tiles of 448 x 448, 256 tokens each, and the tokenizer alone for the rest.
        assert text.count("<image>\n") == 8 and reply.video_tokens == 8 * 256
        return
    inputs = engine.renderer.inputs(ask.prompt, ask.clip.frames())
    ids = inputs["input_ids"][0].tolist()
    assert reply.prompt_tokens == len(ids)
    assert reply.video_tokens == engine.renderer.tokens_of_frames(ids) > 0
    if "video_grid_thw" in inputs:
        assert inputs["video_grid_thw"][0, 0] == 4
