"""Untrained checkpoints of the families of 2026; see `family_checkpoints`.

Their chat templates are Qwen's, with each family's own place of the video and its own switch for thinking.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

Token = Callable[[str], int]
VISION = {"hidden_size": 64, "intermediate_size": 96}
LINEAR = {
    "layer_types": ["linear_attention", "full_attention"],
    "linear_key_head_dim": 128,
    "linear_value_head_dim": 128,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 2,
}
"""The layers of Qwen3.5's text; vLLM takes them on a CPU with heads of 128."""
QWEN_VIDEO = "<|vision_start|><|video_pad|><|vision_end|>"
ASSISTANT = "<|im_start|>assistant\n"


def named(tokenizer: Any, tokens: Mapping[str, str]) -> Any:
    """The tokenizer, which knows some more tokens by name, `image_token` and the like."""
    from transformers import AutoTokenizer

    folder = Path(tokenizer.name_or_path)
    return AutoTokenizer.from_pretrained(folder, extra_special_tokens=dict(tokens))


def qwen3_5(text: dict[str, Any], moe: bool = False) -> Callable[[Path, Any, Token], None]:
    def write(folder: Path, tokenizer: Any, token: Token) -> None:
        import transformers as hf

        config_class, model_class = (
            (hf.Qwen3_5MoeConfig, hf.Qwen3_5MoeForConditionalGeneration)
            if moe
            else (hf.Qwen3_5Config, hf.Qwen3_5ForConditionalGeneration)
        )
        experts = {
            "num_experts": 4,
            "num_experts_per_tok": 2,
            "moe_intermediate_size": 32,
            "shared_expert_intermediate_size": 32,
        }
        config = config_class(
            text_config={
                **text,
                **LINEAR,
                "vocab_size": len(tokenizer),
                "rope_parameters": {
                    "rope_type": "default",
                    "mrope_section": [2, 1, 1],
                    "mrope_interleaved": True,
                    "partial_rotary_factor": 0.25,
                    "rope_theta": 10000.0,
                },
                "eos_token_id": token("<|im_end|>"),
                **(experts if moe else {}),
            },
            vision_config={
                **VISION,
                "depth": 2,
                "num_heads": 2,
                "out_hidden_size": 64,
                "num_position_embeddings": 256,
            },
            image_token_id=token("<|image_pad|>"),
            video_token_id=token("<|video_pad|>"),
            vision_start_token_id=token("<|vision_start|>"),
            vision_end_token_id=token("<|vision_end|>"),
            tie_word_embeddings=False,
        )
        model_class(config).save_pretrained(folder)
        hf.Qwen3VLProcessor(
            image_processor=hf.Qwen2VLImageProcessor(patch_size=16),
            tokenizer=tokenizer,
            video_processor=hf.Qwen3VLVideoProcessor(),
            chat_template=tokenizer.chat_template.replace(
                ASSISTANT,
                ASSISTANT + "<think>\n{% if enable_thinking is false %}{{ '\n</think>\n\n' }}{% endif %}",
            ),
        ).save_pretrained(folder)

    return write


def glm4v(text: dict[str, Any], moe: bool = False) -> Callable[[Path, Any, Token], None]:
    def write(folder: Path, tokenizer: Any, token: Token) -> None:
        import transformers as hf

        parts = ("begin_of_video", "video", "end_of_video", "begin_of_image", "image", "end_of_image")
        tokenizer.add_special_tokens({"additional_special_tokens": [f"<|{part}|>" for part in parts]})
        experts = {
            "n_routed_experts": 4,
            "num_experts_per_tok": 2,
            "moe_intermediate_size": 32,
            "n_shared_experts": 1,
            "n_group": 1,
            "topk_group": 1,
            "first_k_dense_replace": 1,
            "use_qk_norm": False,
        }
        config_class, model_class = (
            (hf.Glm4vMoeConfig, hf.Glm4vMoeForConditionalGeneration)
            if moe
            else (hf.Glm4vConfig, hf.Glm4vForConditionalGeneration)
        )
        config = config_class(
            text_config={
                **text,
                "vocab_size": len(tokenizer),
                "rope_parameters": {
                    "rope_type": "default",
                    "mrope_section": [4, 2, 2],
                    "partial_rotary_factor": 0.5,
                    "rope_theta": 10000.0,
                },
                "eos_token_id": token("<|im_end|>"),
                "pad_token_id": token("<|endoftext|>"),
                **(experts if moe else {}),
            },
            vision_config={**VISION, "depth": 2, "num_heads": 2, "out_hidden_size": 64},
            image_token_id=token("<|image|>"),
            video_token_id=token("<|video|>"),
            image_start_token_id=token("<|begin_of_image|>"),
            image_end_token_id=token("<|end_of_image|>"),
            video_start_token_id=token("<|begin_of_video|>"),
            video_end_token_id=token("<|end_of_video|>"),
            tie_word_embeddings=False,
        )
        model_class(config).save_pretrained(folder)
        hf.Glm46VProcessor(
            image_processor=hf.Glm46VImageProcessor(),
            tokenizer=tokenizer,
            video_processor=hf.Glm46VVideoProcessor(),
            chat_template=tokenizer.chat_template.replace(
                QWEN_VIDEO, "<|begin_of_video|><|video|><|end_of_video|>"
            ).replace(ASSISTANT, ASSISTANT + "{% if enable_thinking is false %}<think></think>{% endif %}"),
        ).save_pretrained(folder)

    return write


def internvl(text: dict[str, Any]) -> Callable[[Path, Any, Token], None]:
    def write(folder: Path, tokenizer: Any, token: Token) -> None:
        import transformers as hf

        tokenizer = named(
            tokenizer,
            {
                "start_image_token": "<img>",
                "end_image_token": "</img>",
                "context_image_token": "<IMG_CONTEXT>",
                "video_token": "<video>",
            },
        )
        plain = {k: v for k, v in text.items() if k != "head_dim"}
        config = hf.InternVLConfig(
            text_config={
                **plain,
                "model_type": "qwen2",
                "vocab_size": len(tokenizer),
                "eos_token_id": token("<|im_end|>"),
            },
            vision_config={**VISION, "num_hidden_layers": 2, "num_attention_heads": 2},
            image_token_id=tokenizer.convert_tokens_to_ids("<IMG_CONTEXT>"),
            tie_word_embeddings=False,
        )
        hf.InternVLForConditionalGeneration(config).save_pretrained(folder)
        side = {"height": 448, "width": 448}
        hf.InternVLProcessor(
            image_processor=hf.GotOcr2ImageProcessor(size=side),
            tokenizer=tokenizer,
            video_processor=hf.InternVLVideoProcessor(size=side),
            chat_template=tokenizer.chat_template.replace(QWEN_VIDEO, "<video>"),
        ).save_pretrained(folder)

    return write


def gemma4(text: dict[str, Any]) -> Callable[[Path, Any, Token], None]:
    def write(folder: Path, tokenizer: Any, token: Token) -> None:
        import transformers as hf

        tokenizer = named(
            tokenizer,
            {
                "image_token": "<|image|>",
                "boi_token": "<|image>",
                "eoi_token": "<image|>",
                "audio_token": "<|audio|>",
                "boa_token": "<|audio>",
                "eoa_token": "<audio|>",
                "video_token": "<|video|>",
                "soc_token": "<|channel>",
                "eoc_token": "<channel|>",
            },
        )
        place = tokenizer.convert_tokens_to_ids
        config = hf.Gemma4Config(
            text_config={
                **text,
                "vocab_size": len(tokenizer),
                "vocab_size_per_layer_input": len(tokenizer),
                "hidden_size_per_layer_input": 0,
                "global_head_dim": 32,
                "layer_types": ["sliding_attention", "full_attention"],
                "eos_token_id": token("<|im_end|>"),
                "pad_token_id": token("<|endoftext|>"),
            },
            vision_config={
                **VISION,
                "num_hidden_layers": 2,
                "num_attention_heads": 2,
                "num_key_value_heads": 2,
                "head_dim": 32,
                "default_output_length": 280,
            },
            audio_config=None,
            image_token_id=place("<|image|>"),
            video_token_id=place("<|video|>"),
            boi_token_id=place("<|image>"),
            eoi_token_id=place("<image|>"),
            audio_token_id=place("<|audio|>"),
            boa_token_id=place("<|audio>"),
            eoa_token_index=place("<audio|>"),
            tie_word_embeddings=True,
        )
        hf.Gemma4ForConditionalGeneration(config).save_pretrained(folder)
        hf.Gemma4Processor(
            feature_extractor=hf.Gemma4AudioFeatureExtractor(),
            image_processor=hf.Gemma4ImageProcessor(),
            tokenizer=tokenizer,
            video_processor=hf.Gemma4VideoProcessor(),
            chat_template="{% if enable_thinking %}<|im_start|>system\n<|think|>\n<|im_end|>\n{% endif %}"
            + tokenizer.chat_template.replace(QWEN_VIDEO, "<|video|>"),
        ).save_pretrained(folder)

    return write


def minicpmv4_6(text: dict[str, Any]) -> Callable[[Path, Any, Token], None]:
    def write(folder: Path, tokenizer: Any, token: Token) -> None:
        import transformers as hf

        tokenizer = named(
            tokenizer,
            {
                "image_token": "<|image_pad|>",
                "video_token": "<|video_pad|>",
                "image_start_token": "<image>",
                "image_end_token": "</image>",
                "slice_start_token": "<slice>",
                "slice_end_token": "</slice>",
                "image_id_start_token": "<image_id>",
                "image_id_end_token": "</image_id>",
            },
        )
        config = hf.MiniCPMV4_6Config(
            text_config={
                **text,
                **LINEAR,
                "model_type": "qwen3_5_text",
                "vocab_size": len(tokenizer),
                "rope_parameters": {
                    "rope_type": "default",
                    "partial_rotary_factor": 0.25,
                    "rope_theta": 10000.0,
                },
                "eos_token_id": token("<|im_end|>"),
            },
            vision_config={
                **VISION,
                "num_hidden_layers": 2,
                "num_attention_heads": 2,
                "image_size": 448,
                "patch_size": 14,
            },
            insert_layer_id=0,
            image_token_id=token("<|image_pad|>"),
            video_token_id=token("<|video_pad|>"),
        )
        hf.MiniCPMV4_6ForConditionalGeneration(config).save_pretrained(folder)
        hf.MiniCPMV4_6Processor(
            image_processor=hf.MiniCPMV4_6ImageProcessor(),
            video_processor=hf.MiniCPMV4_6VideoProcessor(),
            tokenizer=tokenizer,
            chat_template=tokenizer.chat_template.replace(QWEN_VIDEO, "<|video_pad|>"),
        ).save_pretrained(folder)

    return write
