"""How much memory a run will take on one device, estimated from the model's configuration alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from egost.training.recipe import CONFIGS

_GIB = 2**30

_NF4_BYTES = 0.5 + 0.127 / 8
"""Bytes of a weight in 4 bits with double quantisation: 0.127 bits of scales come on top (QLoRA, section 3)."""


@dataclass(frozen=True)
class MemoryPlan:
    """Bytes, on one device that holds everything.

    weights: in the width that they are loaded in, adapters included. gradients: one for each trained weight.
    optimizer: AdamW's two moments for each of them. activations: what the backward pass needs of one micro-batch of
    the longest row. parameters, trained: numbers of weights.
    """

    parameters: int
    trained: int
    weights: float
    gradients: float
    optimizer: float
    activations: float
    checkpointing: bool

    def lines(self, method: str) -> list[str]:
        """The estimate as text, how it was made, and the command for several GPUs. method: `sft` or `grpo`."""
        total = self.weights + self.gradients + self.optimizer + self.activations
        kept = (
            "each layer's input, and one layer whole (gradient checkpointing)"
            if self.checkpointing
            else "all of each layer"
        )
        return [
            f"weights: {self.parameters / 1e6:,.1f} M, of which {self.trained / 1e6:,.2f} M are trained",
            f"memory, on one device: {total / _GIB:.2f} GiB = weights {self.weights / _GIB:.2f} + gradients "
            f"{self.gradients / _GIB:.2f} + AdamW's two moments {self.optimizer / _GIB:.2f} + activations "
            f"{self.activations / _GIB:.2f}",
            f"  counted, not measured; activations of the longest row's micro-batch: {kept}, 8 hidden and 3 "
            "feed-forward vectors a token and layer; caches and fragmentation come on top.",
            f"on several GPUs: accelerate launch --config_file {CONFIGS / 'accelerate' / 'zero2.yaml'} "
            f"-m egost.training.{method} --config ...",
            "  ZeRO-2 divides gradients and moments by the processes; ZeRO-3 (zero3.yaml) and FSDP (fsdp.yaml) the "
            "weights, too.",
        ]


def plan_memory(model: Any, args: Any, tokens: int, sequences: int) -> MemoryPlan:
    """The estimate for TRL's ModelConfig and trainer configuration.

    tokens: of the longest row. sequences: how many of them go through a backward pass at once.
    """
    import torch
    from peft import get_peft_model
    from transformers import AutoConfig, AutoModelForImageTextToText
    from trl import get_peft_config

    config = AutoConfig.from_pretrained(model.model_name_or_path)
    with torch.device("meta"):
        made: Any = AutoModelForImageTextToText.from_config(config)
        # What bitsandbytes makes small are the linear layers, without the head.
        linear = sum(
            module.weight.numel()
            for name, module in made.named_modules()
            if isinstance(module, torch.nn.Linear) and not name.endswith("lm_head")
        )
        parameters = sum(weight.numel() for weight in made.parameters())
        if adapters := get_peft_config(model):
            made = get_peft_model(made, adapters)
        trained = sum(weight.numel() for weight in made.parameters() if weight.requires_grad)
    width = 2 if model.dtype in ("bfloat16", "float16") else 4
    quantised = _NF4_BYTES if model.load_in_4bit else 1.0 if model.load_in_8bit else None
    base = parameters * width if quantised is None else linear * quantised + (parameters - linear) * width
    adapter_weights = trained * width if adapters else 0
    text = config.get_text_config()
    layer = (8 * text.hidden_size + 3 * text.intermediate_size) * width
    per_token = (
        text.num_hidden_layers * text.hidden_size * width + layer
        if args.gradient_checkpointing
        else text.num_hidden_layers * layer
    )
    return MemoryPlan(
        parameters=parameters,
        trained=trained,
        weights=base + adapter_weights,
        gradients=trained * width,
        optimizer=2 * trained * width,
        activations=per_token * tokens * sequences,
        checkpointing=args.gradient_checkpointing,
    )
