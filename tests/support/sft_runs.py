"""What the tests of fine-tuning share: the flags of a small run, and its trainer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from video_runs import World

from egost.training import sft
from egost.training.rows.training_rows import write_training_rows
from egost.training.video_inputs import ShownRows

CONFIGS = Path(sft.__file__).parent / "configs"

Flags = Callable[..., list[str]]


def sft_flags(world: World, folder: Path, **changes: Any) -> list[str]:
    """Flags of a run of 5 steps on three rows, one a step, saved every 2 steps; `changes` replace or add some."""
    rows = folder / "rows.jsonl"
    write_training_rows(rows, world.rows)
    settings = {
        "config": CONFIGS / "mini_cot_sft.yaml",
        "model_name_or_path": world.checkpoint,
        "rows": rows,
        "output_dir": folder / "run",
        "per_device_train_batch_size": 1,
        "learning_rate": 1e-3,
        "max_steps": 5,
        "save_steps": 2,
        "disable_tqdm": "true",
        **changes,
    }
    return [part for name, value in settings.items() for part in (f"--{name}", str(value))]


LORA = [
    *("--use_peft", "--lora_r", "4", "--lora_dropout", "0.1", "--learning_rate", "1e-2"),
    *("--lora_target_modules", "q_proj", "k_proj", "v_proj", "o_proj"),
]


def make(flags: list[str]) -> tuple[Any, ShownRows]:
    """The trainer of a recipe and its data, before the first step."""
    from egost.training.resumable_run import run_manifest

    recipe, args, model = sft.parse(flags)
    data = sft.load_data(recipe, model.model_name_or_path)
    record = run_manifest("sft", recipe, args, model, data)
    return sft.make_trainer(recipe, args, model, data, record), data
