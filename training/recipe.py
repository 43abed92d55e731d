"""Recipes: the fields that fine-tuning and GRPO share, and how a YAML with flags becomes settings.

A recipe is a YAML file, or the name of one that ships in `configs/` (`st_r1_7b_grpo`). `plan_memory` estimates how much
memory its run takes on one device, from the model's configuration alone.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

import yaml
from packaging.version import Version

from egost.model_adapters.model_names import weights_named
from egost.tasks.errors import install_command
from egost.training import TrainingError

CONFIGS = Path(__file__).parent / "configs"
"""The recipes that ship, and in `accelerate/` the settings of `accelerate launch` for several GPUs."""

TESTED_TRL = "1.16"
"""The series of TRL whose private methods our trainers were written against."""


@dataclass
class RowsRecipe:
    """The rows of a run, and how the model sees them. TRL's parser sets the fields one by one."""

    rows: str = field(default="", metadata={"help": "JSONL file of training rows."})
    world: Literal["official", "mini"] = field(
        default="official", metadata={"help": "Release that the clips are from."}
    )
    prompt: str = field(default="think", metadata={"help": "Prompt of the questions, as EGOST_PROMPT."})
    protocol: str = field(
        default="uniform8", metadata={"help": "Which frames the model sees, as EGOST_PROTOCOL."}
    )
    smallest_pixels: int = field(default=3136, metadata={"help": "Fewest pixels of a frame."})
    largest_pixels: int = field(default=602112, metadata={"help": "Most pixels of a frame."})
    dry_run: bool = field(default=False, metadata={"help": "Print what the run would do, and do not train."})


def check_trl() -> None:
    """Raise TrainingError unless the installed TRL is of the series that was tested."""
    try:
        found = Version(version("trl"))
    except PackageNotFoundError as error:
        raise TrainingError(f"TRL is not installed. Install it: {install_command('train')}") from error
    if f"{found.major}.{found.minor}" != TESTED_TRL:
        raise TrainingError(
            f"TRL {found} is installed; training relies on how TRL {TESTED_TRL} works inside. Install it: "
            f"pip install 'trl=={TESTED_TRL}.*'"
        )


def read_recipe(types: Sequence[type], arguments: Sequence[str]) -> tuple[Any, Any, Any]:
    """One value of each type, from the YAML that `--config` names and the flags, which override it.

    types: `RowsRecipe` or a class with more fields, TRL's configuration of the trainer, and its ModelConfig.
    `--config` takes a path or the name of a shipped recipe; a file that exists wins.
    Raises TrainingError for an unknown recipe or key, and for a missing or an impossible value.
    """
    from trl import TrlParser

    # Transformers would fail half way through its arguments, and leave a broken state behind.
    if _asked_for("DEEPSPEED") and importlib.util.find_spec("deepspeed") is None:
        raise TrainingError(
            f"DeepSpeed was asked for, and is not installed: {install_command('train-gpu')}. Or launch without it."
        )
    given = _with_config_paths(arguments)
    # A plan needs no GPU, so it must not fail where there is none.
    if {"--dry-run", "--dry_run"} & set(given):
        given += ["--use_cpu", "true"]
    try:
        recipe, args, model = TrlParser(types, exit_on_error=False).parse_args_and_config(given)
    except (OSError, ValueError, TypeError, AttributeError, argparse.ArgumentError) as error:
        raise TrainingError(f"the recipe cannot be read: {error}") from error
    except (yaml.YAMLError, RecursionError) as error:
        raise TrainingError(f"the recipe cannot be read: it is no YAML ({error})") from error
    for name, value in (("rows", recipe.rows), ("model_name_or_path", model.model_name_or_path)):
        if not value:
            raise TrainingError(f"the recipe names no {name}. Add it to the YAML, or give --{name}.")
    if not recipe.dry_run:
        _check_quantisation(model)
        _check_launch(args)
    return recipe, args, model


def resolve_model(model: Any) -> None:
    """Let `model_name_or_path` be any name that `egost run` takes, for example `mini-base` or `qwen2-vl-7b`.

    A short name of `egost models` brings its pinned revision along. Raises AdapterError for an unknown name.
    """
    source, pinned = weights_named(model.model_name_or_path)
    if pinned and source != model.model_name_or_path:
        model.model_revision = pinned
    model.model_name_or_path = source


def config_path(named: str) -> Path:
    """The file of a recipe: a path, or the name of a shipped one with or without `.yaml`.

    Raises TrainingError where it is neither.
    """
    path = Path(named).expanduser()
    if path.is_file():
        return path
    shipped = {file.stem: file for file in sorted(CONFIGS.glob("*.yaml"))}
    if path.parent == Path() and path.name.removesuffix(".yaml") in shipped:
        return shipped[path.name.removesuffix(".yaml")]
    raise TrainingError(
        f"the recipe cannot be read: {named} is no file, and no recipe of that name ships. Give a YAML file or one of "
        f"{', '.join(shipped)}."
    )


def model_settings(args: Any, model: Any) -> dict[str, Any]:
    """The arguments with which TRL loads the model, for `model_init_kwargs`."""
    return {
        "revision": model.model_revision,
        "attn_implementation": model.attn_implementation,
        "dtype": model.dtype or "float32",
        **(args.model_init_kwargs or {}),
    }


def _with_config_paths(arguments: Sequence[str]) -> list[str]:
    """The arguments with each `--config` naming a file, so that TRL's parser finds it."""
    given: list[str] = []
    for argument in arguments:
        if given and given[-1] == "--config":
            given.append(str(config_path(argument)))
        elif argument.startswith("--config="):
            given += ["--config", str(config_path(argument.partition("=")[2]))]
        else:
            given.append(argument)
    return given


def _check_quantisation(model: Any) -> None:
    if not (model.load_in_4bit or model.load_in_8bit):
        return
    import torch

    missing = [
        what
        for what, there in (
            ("a CUDA GPU", torch.cuda.is_available()),
            ("the package bitsandbytes", importlib.util.find_spec("bitsandbytes") is not None),
        )
        if not there
    ]
    if missing:
        raise TrainingError(
            f"the recipe loads the model in {4 if model.load_in_4bit else 8} bits, which needs "
            f"{' and '.join(missing)}; not found here. Run it where they are ({install_command('train-gpu')}), "
            "or give --load_in_4bit false --load_in_8bit false for LoRA on unquantised weights."
        )


def _asked_for(name: str) -> bool:
    """Whether `accelerate launch` was told to use FSDP, DEEPSPEED or the CPU."""
    return os.environ.get(f"ACCELERATE_USE_{name}", "false").lower() in ("true", "1")


def _check_launch(args: Any) -> None:
    """Raise TrainingError where accelerate would leave out, unsaid, weights or work that it was asked to spread."""
    if args.device.type == "cpu" and (_asked_for("FSDP") or args.fsdp_plugin_args is not None):
        raise TrainingError(
            "FSDP was asked for, and accelerate has none on a CPU: each process would train a copy of the whole model. "
            "Launch where there are GPUs, or without fsdp.yaml."
        )
    if _asked_for("DEEPSPEED") and (args.use_cpu or _asked_for("CPU")):
        raise TrainingError(
            "DeepSpeed was asked for together with use_cpu, under which accelerate does not know of it. Give --use_cpu "
            "false; on a machine without a GPU --bf16 false --ddp_backend gloo, too."
        )
    if (launched := int(os.environ.get("WORLD_SIZE", "1"))) > args.world_size:
        raise TrainingError(
            f"{launched} processes were launched, and this one found {args.world_size}: without a GPU accelerate lets "
            f"each train alone. Give {'--ddp_backend gloo' if _asked_for('DEEPSPEED') else '--use_cpu true'}."
        )


_GIB = 2**30

_NF4_BYTES = 0.5 + 0.127 / 8
"""Bytes of a weight in 4 bits with double quantisation: 0.127 bits of scales come on top (QLoRA, section 3)."""

GPUS = 4
"""The paper's number of GPUs (appendix A.1), and that of the shipped launch configurations."""

GPU_GIB = 80


@dataclass(frozen=True)
class MemoryPlan:
    """What a run keeps, and the bytes of it on each device by the way that it is launched.

    parameters, trained: numbers of weights. base: bytes of the weights that are loaded, adapters included. width: bytes
    of a number in the width that they are loaded in. quantised: whether they are in 4 or 8 bits. reference: bytes of
    the reference model. activations: what the backward pass needs of one micro-batch of the longest row.
    """

    parameters: int
    trained: int
    base: float
    width: int
    quantised: bool
    reference: float
    activations: float
    checkpointing: bool

    def states(self, launch: str, gpus: int = GPUS) -> float:
        """Bytes of weights, gradients, AdamW's moments and the reference on one device.

        launch: `one`, `ddp`, `zero2`, `zero3` or `fsdp`. DeepSpeed keeps a 32-bit copy of every trained 16-bit weight
        and both moments in 32 bits, 12 bytes a weight; accelerate trains the weights in 32 bits under FSDP.
        """
        trained, width = self.trained, self.width
        plain = self.base + self.reference
        if launch == "one":
            return plain + 3 * trained * width
        if launch == "ddp":  # its buckets hold the gradients once more
            return plain + 4 * trained * width
        if launch == "zero2":
            return plain + trained * (width + 12) / gpus
        if launch == "zero3":
            return (plain + trained * (width + 12)) / gpus
        return (plain + trained * (4 - width) + trained * 12) / gpus

    def lines(self, method: str) -> list[str]:
        """The estimate as text, how it was made, and the command for several GPUs. method: `sft` or `grpo`."""
        kept = (
            "each layer's input, and one layer whole (gradient checkpointing)"
            if self.checkpointing
            else "all of each layer"
        )
        launches = {
            "one": "one GPU",
            "ddp": f"{GPUS} GPUs, plain accelerate launch",
            "zero2": f"{GPUS} GPUs, zero2.yaml",
            **(
                {}
                if self.quantised
                else {"zero3": f"{GPUS} GPUs, zero3.yaml", "fsdp": f"{GPUS} GPUs, fsdp.yaml"}
            ),
        }
        needed = {name: (self.states(name) + self.activations) / _GIB for name in launches}
        fitting = [label for name, label in launches.items() if needed[name] <= GPU_GIB]
        return [
            f"weights: {self.parameters / 1e6:,.1f} M, of which {self.trained / 1e6:,.2f} M are trained",
            "memory on each GPU, in GiB: weights, gradients, AdamW's moments, the reference model, and "
            f"{self.activations / _GIB:.2f} of activations",
            *(f"  {label}: {needed[name]:.2f}" for name, label in launches.items()),
            f"  fits {GPU_GIB} GiB: {', '.join(fitting) or 'none of them'}",
            *(
                [
                    "  on one GPU, train adapters instead: --use_peft true --lora_r 8 "
                    "--lora_target_modules q_proj k_proj v_proj o_proj"
                ]
                if needed["one"] > GPU_GIB and self.trained == self.parameters
                else []
            ),
            f"  counted, not measured; activations of the longest row's micro-batch: {kept}, 10 hidden and 4 "
            "feed-forward vectors a token and layer; logits, caches and fragmentation come on top.",
            f"on several GPUs: accelerate launch --config_file {CONFIGS / 'accelerate' / 'zero2.yaml'} "
            f"-m egost.training.{method} --config ... (zero3.yaml, fsdp.yaml beside it; DeepSpeed: "
            f"{install_command('train-gpu')})",
        ]


def plan_memory(
    model: Any, args: Any, tokens: int, sequences: int, *, patches: int, reference: bool = False
) -> MemoryPlan:
    """The estimate for TRL's ModelConfig and trainer configuration.

    tokens: of the longest row. sequences: how many of them go through a backward pass at once. patches: of their videos
    before merging, which count where the vision tower is trained. reference: whether a second model is kept.
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
        learnt = [(name, weight.numel()) for name, weight in made.named_parameters() if weight.requires_grad]
    trained = sum(count for _, count in learnt)
    width = 2 if model.dtype in ("bfloat16", "float16") else 4
    quantised = _NF4_BYTES if model.load_in_4bit else 1.0 if model.load_in_8bit else None
    base = parameters * width if quantised is None else linear * quantised + (parameters - linear) * width

    def kept(layers: int, hidden: int, feed_forward: int, count: int) -> int:
        """Bytes that the backward pass needs of `count` tokens in one stack of layers."""
        layer = (10 * hidden + 4 * feed_forward) * width
        return count * (layers * hidden * width + layer if args.gradient_checkpointing else layers * layer)

    text, vision = config.get_text_config(), config.vision_config
    activations = kept(text.num_hidden_layers, text.hidden_size, text.intermediate_size, tokens * sequences)
    if any(".visual." in name for name, _ in learnt):
        side = getattr(vision, "embed_dim", vision.hidden_size)
        wide = getattr(vision, "intermediate_size", None) or int(side * vision.mlp_ratio)
        activations += kept(vision.depth, side, wide, patches)
    return MemoryPlan(
        parameters=parameters,
        trained=trained,
        base=base + (trained * width if adapters else 0),
        width=width,
        quantised=quantised is not None,
        reference=parameters * width if reference else 0,
        activations=activations,
        checkpointing=args.gradient_checkpointing,
    )
