"""What the processors of today's families make of 8 frames and a question: the whole prompt, looked at."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby
from pathlib import Path

import numpy as np
import pytest
from family_checkpoints import family_checkpoint

from egost.model_adapters.checkpoints import checkpoint_identity
from egost.model_adapters.families import FAMILIES, prompt_renderer


def frames(form: str, values: Iterable[object]) -> str:
    return "".join(form.format(value) for value in values)


QWEN = (
    "<|vision_start|>"
    + frames("<{} seconds><|vision_start|><|video_pad|><|vision_end|>", (0.5, 2.5, 4.5, 6.5))
    + "<|vision_end|>"
)
GLM = (
    "<|begin_of_video|>"
    + frames("<|begin_of_image|><|image|><|end_of_image|>{} seconds", (0.0, 2.0, 4.0, 6.0))
    + "<|end_of_video|>"
)
SEEN = {
    # 112 x 140 pixels: 4 pairs of 4 x 4 patches of 32 pixels.
    "qwen3_5": (QWEN, 4 * 4 * 4),
    "qwen3_5_moe": (QWEN, 4 * 4 * 4),
    # 4 pairs of 4 x 5 patches of 28 pixels.
    "glm4v": (GLM, 4 * 4 * 5),
    "glm4v_moe": (GLM, 4 * 4 * 5),
    # 8 frames of 7 x 9 patches of 48 pixels: the most of that shape within 70.
    "gemma4": (" ".join(f"00:0{second} <|image><|video|><image|>" for second in range(8)), 8 * 7 * 9),
    "internvl": ("\n".join(f"Frame{n}: <img><IMG_CONTEXT></img>" for n in range(1, 9)), 8 * 256),
    "minicpmv4_6": ("<image_id>0</image_id>" + "<image><|video_pad|></image>" * 8, 8 * 7 * 9),
}
THINKS = {
    # What the switch of the chat template makes of the beginning and of the end of a prompt: on, and off.
    "qwen3_5": (("", "<think>\n"), ("", "<think>\n\n</think>\n\n")),
    "qwen3_5_moe": (("", "<think>\n"), ("", "<think>\n\n</think>\n\n")),
    "glm4v": (("", ""), ("", "<think></think>")),
    "glm4v_moe": (("", ""), ("", "<think></think>")),
    "gemma4": (("<|im_start|>system\n<|think|>\n<|im_end|>\n", ""), ("", "")),
}


@pytest.mark.parametrize("model_type", SEEN)
def test_the_prompt_is_as_the_family_was_trained(
    model_type: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    video, tokens = SEEN[model_type]
    checkpoint = checkpoint_identity(family_checkpoint(model_type, tmp_path))
    noise = np.random.default_rng(0).integers(0, 256, (8, 112, 140, 3), dtype=np.uint8)
    for prompt, (begin, end) in zip(
        ("think", "direct"), THINKS.get(model_type, (("", ""),) * 2), strict=True
    ):
        monkeypatch.setenv("EGOST_PROMPT", prompt)
        renderer = prompt_renderer(checkpoint)
        ids = renderer.inputs("Where?", noise)["input_ids"][0].tolist()
        assert renderer.tokens_of_frames(ids) == renderer.video_tokens(112, 140) == tokens
        seen = renderer.frame_tokens
        once = [token for token, run in groupby(ids) for token in ([token] if token in seen else run)]
        assert renderer.processor.tokenizer.decode(once) == (
            f"{begin}<|im_start|>user\n{video}Where?<|im_end|>\n<|im_start|>assistant\n{end}"
        )
        assert renderer.tokens_of_frames(renderer.inputs("Where?", None)["input_ids"][0].tolist()) == 0
    assert FAMILIES[model_type].thinking_switch is (model_type in THINKS), "servers follow the prompt, too"
