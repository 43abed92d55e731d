"""What the recipes of fine-tuning and GRPO share: which rows, shown how, and how a YAML with flags is read."""

from __future__ import annotations

import argparse
import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from egost.tasks.errors import EgostError


class RecipeError(EgostError):
    """The recipe cannot be run: a value is missing or wrong, or its folder belongs to another run."""


@dataclass
class RowsRecipe:
    """The rows of a run, and how a model is shown them. TRL's parser sets its fields one by one."""

    rows: str = field(default="", metadata={"help": "JSONL file of training rows."})
    world: Literal["official", "mini"] = field(
        default="official", metadata={"help": "Release that the clips are of."}
    )
    prompt: str = field(default="think", metadata={"help": "How the questions are asked, as EGOST_PROMPT."})
    protocol: str = field(
        default="uniform8", metadata={"help": "Which 8 frames are shown, as EGOST_PROTOCOL."}
    )
    smallest_pixels: int = field(default=3136, metadata={"help": "Fewest pixels of a frame."})
    largest_pixels: int = field(default=602112, metadata={"help": "Most pixels of a frame."})
    dry_run: bool = field(default=False, metadata={"help": "Say what the run would be, and do not train."})


def read_recipe(types: Sequence[type], arguments: Sequence[str]) -> tuple[Any, Any, Any]:
    """One value of each type, from the YAML that `--config` names and the flags, which override it.

    types: a `RowsRecipe` or one with more fields, TRL's configuration of the trainer, and its ModelConfig.
    Raises RecipeError for an unknown key, and for a missing or an impossible value.
    """
    from trl import TrlParser

    given = list(arguments)
    # A plan needs no device, so it must not fail where the one that the recipe is for is missing.
    if {"--dry-run", "--dry_run"} & set(given):
        given += ["--use_cpu", "true"]
    try:
        recipe, args, model = TrlParser(types, exit_on_error=False).parse_args_and_config(given)
    except (OSError, ValueError, TypeError, argparse.ArgumentError) as error:
        raise RecipeError(f"the recipe cannot be read: {error}") from error
    for name, value in (("rows", recipe.rows), ("model_name_or_path", model.model_name_or_path)):
        if not value:
            raise RecipeError(f"the recipe names no {name}. Add it to the YAML, or give --{name}.")
    if not recipe.dry_run:
        _check_quantisation(model)
    return recipe, args, model


def model_settings(args: Any, model: Any) -> dict[str, Any]:
    """What TRL loads the model with, for `model_init_kwargs`."""
    return {
        "revision": model.model_revision,
        "attn_implementation": model.attn_implementation,
        "dtype": model.dtype or "float32",
        **(args.model_init_kwargs or {}),
    }


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
        raise RecipeError(
            f"the recipe loads the model in {4 if model.load_in_4bit else 8} bits, which needs "
            f"{' and '.join(missing)}; not found here. Run it where they are (pip install bitsandbytes), "
            "or give --load_in_4bit false --load_in_8bit false for LoRA on unquantised weights."
        )
