"""The checkpoint `tiny`: an untrained Qwen2-VL of under 3 M parameters, made from a config and a seed.

It is a whole checkpoint folder (weights, tokenizer, image and video processor, chat template) that
`--model qwen2_vl --model_args pretrained=FOLDER` loads as it would load the 7 B model, without a network.
Its responses are noise: it shows that the path works, not what a model can do.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from egost.tasks.cache import cache_root, only_writer, whole_folder
from egost.tasks.errors import CacheError
from egost.tasks.prompts import load_prompt

TINY_VERSION = 1
"""Raised whenever the same seed would give other weights or another vocabulary."""

ROTARY_BASE = 10000.0

_VOCABULARY = 2048
CORPUS_PROMPTS = ("direct", "think")
"""Prompts that the vocabulary is learnt on. A further prompt that is shipped must not change the checkpoint."""
_CORPUS_WALKS = 200
SPECIAL = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|vision_pad|>",
    "<|image_pad|>",
    "<|video_pad|>",
)
_CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}"
    "{% else %}{% for part in message['content'] %}"
    "{% if part['type'] == 'video' %}<|vision_start|><|video_pad|><|vision_end|>"
    "{% elif part['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% else %}{{ part['text'] }}{% endif %}{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def tiny_checkpoint(folder: Path | None = None, seed: int = 0) -> Path:
    """The folder of the tiny checkpoint, which is made at first use; float32, about 2 M parameters.

    folder: where to write it; by default in the cache folder. A folder that exists is whole. Raises CacheError where it
    cannot be written.
    """
    from safetensors import SafetensorError

    target = folder or cache_root() / "checkpoints" / f"tiny-qwen2-vl-v{TINY_VERSION}-seed{seed}"
    with only_writer(target):
        if not (target / "config.json").is_file():
            _check_free(target)
            with whole_folder(target, SafetensorError) as part:
                _write(part, seed)
    return target


def _check_free(folder: Path) -> None:
    if folder.is_dir() and any(folder.iterdir()):
        raise CacheError(
            f"the tiny checkpoint cannot be written to {folder}: it holds other files. Name a new folder."
        )


def _write(folder: Path, seed: int) -> None:
    tokenizer = byte_level_tokenizer(mini_corpus(_CORPUS_WALKS), _VOCABULARY)
    small_model(tokenizer, seed).save_pretrained(folder)
    small_processor(tokenizer).save_pretrained(folder)
    (folder / "egost_tiny.json").write_text(json.dumps({"version": TINY_VERSION, "seed": seed}))


def small_model(
    tokenizer: Any,
    seed: int,
    *,
    initializer_range: float | None = None,
    prepare: Callable[[Any], None] | None = None,
) -> Any:
    """An untrained `Qwen2VLForConditionalGeneration` in float32 with fewer, thinner layers, under 3 M parameters.

    initializer_range: standard deviation of the random weights; None is transformers' own. prepare: changes the
    weights, while the random numbers still follow from the seed.
    """
    import torch
    from transformers import Qwen2VLConfig, Qwen2VLForConditionalGeneration

    token = {name: tokenizer.convert_tokens_to_ids(name) for name in SPECIAL}
    spread = {} if initializer_range is None else {"initializer_range": initializer_range}
    config = Qwen2VLConfig(
        text_config={
            "hidden_size": 128,
            "intermediate_size": 320,
            "num_hidden_layers": 4,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "vocab_size": len(tokenizer),
            "max_position_embeddings": 8192,
            "rope_parameters": {
                "rope_type": "default",
                "mrope_section": [4, 6, 6],
                "rope_theta": ROTARY_BASE,
            },
            "tie_word_embeddings": False,
            **spread,
            "bos_token_id": token["<|endoftext|>"],
            "eos_token_id": token["<|im_end|>"],
            "pad_token_id": token["<|endoftext|>"],
        },
        vision_config={
            "depth": 3,
            "embed_dim": 96,
            "hidden_size": 128,
            "num_heads": 4,
            "mlp_ratio": 2,
            **spread,
        },
        image_token_id=token["<|image_pad|>"],
        video_token_id=token["<|video_pad|>"],
        vision_start_token_id=token["<|vision_start|>"],
        vision_end_token_id=token["<|vision_end|>"],
        tie_word_embeddings=False,
        **spread,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = Qwen2VLForConditionalGeneration(config)
        if prepare:
            prepare(model)
    model.generation_config.eos_token_id = [token["<|im_end|>"], token["<|endoftext|>"]]
    model.generation_config.pad_token_id = token["<|endoftext|>"]
    return model


def small_processor(tokenizer: Any) -> Any:
    """The `Qwen2VLProcessor` that goes with the model."""
    from transformers import Qwen2VLImageProcessor, Qwen2VLProcessor, Qwen2VLVideoProcessor

    return Qwen2VLProcessor(
        image_processor=Qwen2VLImageProcessor(min_pixels=3136, max_pixels=602112),
        tokenizer=tokenizer,
        video_processor=Qwen2VLVideoProcessor(min_pixels=3136, max_pixels=602112),
        chat_template=_CHAT_TEMPLATE,
    )


def byte_level_tokenizer(corpus: Sequence[str], size: int, **settings: Any) -> Any:
    """A `Qwen2Tokenizer` with a byte-level vocabulary learnt on a corpus; the same each time.

    size: of the vocabulary, without the special tokens. settings: further ones of the tokenizer.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import Qwen2Tokenizer

    # Only the vocabulary is learnt here; the class that splits text is Qwen2's own.
    learner = Tokenizer(models.BPE())
    learner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    learner.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size, initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()), show_progress=False
    )
    learner.train_from_iterator(corpus, trainer)
    learned = json.loads(learner.to_str())["model"]
    special = {token: len(learned["vocab"]) + i for i, token in enumerate(SPECIAL)}
    return Qwen2Tokenizer(
        vocab={**learned["vocab"], **special},
        merges=[tuple(pair) for pair in learned["merges"]],
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        unk_token="<|endoftext|>",
        additional_special_tokens=list(SPECIAL[1:]),
        **settings,
    )


def mini_corpus(walks: int) -> list[str]:
    """The texts that a vocabulary is learnt on: prompts, and questions and routes of so many walks."""
    from egost.tasks.mini_world.release_writer import question_files
    from egost.tasks.mini_world.walks import plan_clip

    truths = [plan_clip(0, "train", number).truth for number in range(walks)]
    prompts = [load_prompt(name) for name in CORPUS_PROMPTS]
    return [
        *(text for prompt in prompts for text in (prompt.choice, prompt.route)),
        *(json.dumps(content) for content in question_files(truths, 0).values()),
    ]
