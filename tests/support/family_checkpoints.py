"""Untrained checkpoints of a few hundred thousand weights, one of each model family, made from configs and a seed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from family_checkpoints_today import gemma4, glm4v, internvl, minicpmv4_6, qwen3_5

from egost.model_adapters.tiny_checkpoint import tiny_checkpoint

TEXT: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 32,
    "max_position_embeddings": 4096,
    "tie_word_embeddings": False,
}


def family_checkpoint(model_type: str, folder: Path) -> Path:
    """The folder of a whole checkpoint (weights, tokenizer, processor, chat template) of a family; float32."""
    import torch
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_checkpoint(folder / "tokenizer"))
    torch.manual_seed(0)
    target = folder / model_type
    _WRITERS[model_type](target, tokenizer, tokenizer.convert_tokens_to_ids)
    return target


def _qwen2_5_vl(folder: Path, tokenizer: Any, token: Callable[[str], int]) -> None:
    from transformers import (
        Qwen2_5_VLConfig,
        Qwen2_5_VLForConditionalGeneration,
        Qwen2_5_VLProcessor,
        Qwen2VLImageProcessor,
        Qwen2VLVideoProcessor,
    )

    text = {k: v for k, v in TEXT.items() if k != "head_dim"}
    config = Qwen2_5_VLConfig(
        text_config={
            **text,
            "vocab_size": len(tokenizer),
            "rope_parameters": {"rope_type": "default", "mrope_section": [4, 6, 6], "rope_theta": 10000.0},
            "eos_token_id": token("<|im_end|>"),
        },
        vision_config={
            "depth": 2,
            "hidden_size": 64,
            "intermediate_size": 96,
            "num_heads": 2,
            "out_hidden_size": 64,
            "fullatt_block_indexes": [1],
            "tokens_per_second": 2,
        },
        **_qwen_tokens(token),
    )
    Qwen2_5_VLForConditionalGeneration(config).save_pretrained(folder)
    Qwen2_5_VLProcessor(
        image_processor=Qwen2VLImageProcessor(),
        tokenizer=tokenizer,
        video_processor=Qwen2VLVideoProcessor(),
        chat_template=tokenizer.chat_template,
    ).save_pretrained(folder)


def _qwen3_vl(folder: Path, tokenizer: Any, token: Callable[[str], int]) -> None:
    from transformers import (
        Qwen2VLImageProcessor,
        Qwen3VLConfig,
        Qwen3VLForConditionalGeneration,
        Qwen3VLProcessor,
        Qwen3VLVideoProcessor,
    )

    config = Qwen3VLConfig(
        text_config={
            **TEXT,
            "vocab_size": len(tokenizer),
            "rope_parameters": {"rope_type": "default", "mrope_section": [4, 6, 6], "rope_theta": 10000.0},
            "eos_token_id": token("<|im_end|>"),
        },
        vision_config={
            "depth": 2,
            "hidden_size": 64,
            "intermediate_size": 96,
            "num_heads": 2,
            "out_hidden_size": 64,
            "num_position_embeddings": 256,
            "deepstack_visual_indexes": [0],
        },
        **_qwen_tokens(token),
    )
    Qwen3VLForConditionalGeneration(config).save_pretrained(folder)
    Qwen3VLProcessor(
        image_processor=Qwen2VLImageProcessor(patch_size=16),
        tokenizer=tokenizer,
        video_processor=Qwen3VLVideoProcessor(),
        chat_template=tokenizer.chat_template,
    ).save_pretrained(folder)


def _llava_onevision(folder: Path, tokenizer: Any, token: Callable[[str], int]) -> None:
    from safetensors.torch import load_file, save_file
    from transformers import (
        LlavaOnevisionConfig,
        LlavaOnevisionForConditionalGeneration,
        LlavaOnevisionImageProcessor,
        LlavaOnevisionProcessor,
        LlavaOnevisionVideoProcessor,
    )

    tokenizer.add_special_tokens({"additional_special_tokens": ["<image>", "<video>"]})
    text = {k: v for k, v in TEXT.items() if k != "head_dim"}
    config = LlavaOnevisionConfig(
        text_config={
            **text,
            "model_type": "qwen2",
            "vocab_size": len(tokenizer),
            "eos_token_id": token("<|im_end|>"),
        },
        vision_config={
            "model_type": "siglip_vision_model",
            "hidden_size": 64,
            "intermediate_size": 96,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "image_size": 384,
            "patch_size": 14,
            "vision_use_head": False,
        },
        image_token_index=token("<image>"),
        video_token_index=token("<video>"),
        image_grid_pinpoints=[[384, 384]],
    )
    LlavaOnevisionForConditionalGeneration(config).save_pretrained(folder)
    # vLLM reads the names of the released checkpoints, which transformers 5.19 does not write any more.
    weights = load_file(folder / "model.safetensors")
    renamed = {
        name.replace("vision_tower.", "vision_tower.vision_model."): value for name, value in weights.items()
    }
    save_file(renamed, folder / "model.safetensors", metadata={"format": "pt"})
    LlavaOnevisionProcessor(
        image_processor=LlavaOnevisionImageProcessor(),
        tokenizer=tokenizer,
        video_processor=LlavaOnevisionVideoProcessor(),
        num_image_tokens=729,
        vision_feature_select_strategy="full",
        chat_template=tokenizer.chat_template.replace(
            "<|vision_start|><|video_pad|><|vision_end|>", "<video>"
        ),
    ).save_pretrained(folder)


def _qwen_tokens(token: Callable[[str], int]) -> dict[str, Any]:
    return {
        "image_token_id": token("<|image_pad|>"),
        "video_token_id": token("<|video_pad|>"),
        "vision_start_token_id": token("<|vision_start|>"),
        "vision_end_token_id": token("<|vision_end|>"),
        "tie_word_embeddings": False,
    }


_INTERNVL_CONFIG = """
from transformers import PretrainedConfig, Qwen2Config


class TinyInternVLConfig(PretrainedConfig):
    model_type = "internvl_chat"
    has_no_defaults_at_init = True

    def __init__(self, vision_config=None, llm_config=None, **rest):
        self.vision_config = PretrainedConfig(**(vision_config or {}))
        self.llm_config = Qwen2Config(**(llm_config or {}))
        self.text_config = self.llm_config
        super().__init__(**rest)

    def get_text_config(self, *args, **kwargs):
        return self.llm_config
"""
"""As the real ones do, it brings its own config class: transformers has none for this family."""


def _internvl_chat(folder: Path, tokenizer: Any, token: Callable[[str], int]) -> None:
    import torch
    from safetensors.torch import save_file
    from transformers import Qwen2Config, Qwen2ForCausalLM

    tokenizer.add_special_tokens({"additional_special_tokens": ["<img>", "</img>", "<IMG_CONTEXT>"]})
    text = {k: v for k, v in TEXT.items() if k != "head_dim"} | {
        "vocab_size": len(tokenizer),
        "architectures": ["Qwen2ForCausalLM"],
        "model_type": "qwen2",
        "eos_token_id": token("<|im_end|>"),
    }
    width, patches, merged = 64, (448 // 14) ** 2, 4 * 64
    layer = "vision_model.encoder.layers.0."
    shapes = {
        "vision_model.embeddings.class_embedding": (1, 1, width),
        "vision_model.embeddings.patch_embedding.weight": (width, 3, 14, 14),
        "vision_model.embeddings.patch_embedding.bias": (width,),
        "vision_model.embeddings.position_embedding": (1, patches + 1, width),
        f"{layer}attn.qkv.weight": (3 * width, width),
        f"{layer}attn.qkv.bias": (3 * width,),
        f"{layer}attn.proj.weight": (width, width),
        f"{layer}attn.proj.bias": (width,),
        f"{layer}mlp.fc1.weight": (96, width),
        f"{layer}mlp.fc1.bias": (96,),
        f"{layer}mlp.fc2.weight": (width, 96),
        f"{layer}mlp.fc2.bias": (width,),
        **{f"{layer}norm{i}.{part}": (width,) for i in (1, 2) for part in ("weight", "bias")},
        **{f"{layer}ls{i}": (width,) for i in (1, 2)},
        "mlp1.0.weight": (merged,),
        "mlp1.0.bias": (merged,),
        "mlp1.1.weight": (TEXT["hidden_size"], merged),
        "mlp1.1.bias": (TEXT["hidden_size"],),
        "mlp1.3.weight": (TEXT["hidden_size"], TEXT["hidden_size"]),
        "mlp1.3.bias": (TEXT["hidden_size"],),
    }
    weights = {name: torch.randn(shape) * 0.02 for name, shape in shapes.items()}
    language = Qwen2ForCausalLM(Qwen2Config(**text)).state_dict()
    weights |= {f"language_model.{name}": value.contiguous() for name, value in language.items()}
    folder.mkdir()
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "configuration_tiny.py").write_text(_INTERNVL_CONFIG)
    config = {
        "model_type": "internvl_chat",
        "architectures": ["InternVLChatModel"],
        "auto_map": {"AutoConfig": "configuration_tiny.TinyInternVLConfig"},
        "vision_config": {
            "model_type": "intern_vit_6b",
            "hidden_size": width,
            "intermediate_size": 96,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "image_size": 448,
            "patch_size": 14,
            "num_channels": 3,
            "qkv_bias": True,
            "qk_normalization": False,
            "hidden_act": "gelu",
            "norm_type": "layer_norm",
            "layer_norm_eps": 1e-6,
            "initializer_factor": 0.1,
        },
        "llm_config": text,
        "force_image_size": 448,
        "downsample_ratio": 0.5,
        "select_layer": -1,
        "ps_version": "v2",
        "dynamic_image_size": True,
        "min_dynamic_patch": 1,
        "max_dynamic_patch": 12,
        "use_thumbnail": True,
        "torch_dtype": "float32",
    }
    (folder / "config.json").write_text(json.dumps(config))
    tokenizer.save_pretrained(folder)


_WRITERS = {
    "qwen2_5_vl": _qwen2_5_vl,
    "qwen3_vl": _qwen3_vl,
    "llava_onevision": _llava_onevision,
    "internvl_chat": _internvl_chat,
    "qwen3_5": qwen3_5(TEXT),
    "qwen3_5_moe": qwen3_5(TEXT, moe=True),
    "glm4v": glm4v(TEXT),
    "glm4v_moe": glm4v(TEXT, moe=True),
    "gemma4": gemma4(TEXT),
    "internvl": internvl(TEXT),
    "minicpmv4_6": minicpmv4_6(TEXT),
}
