"""What the tests of GRPO's runs share: the flags of a small one, and the process that can kill itself in its middle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from video_runs import World

from egost.training import grpo
from egost.training.rows.training_rows import write_training_rows

CONFIGS = Path(grpo.__file__).parent / "configs"
PROCESS = Path(__file__).with_name("grpo_process.py")


def grpo_flags(world: World, folder: Path, **changes: Any) -> list[str]:
    """Flags of a run of 5 steps on two rows, saved every 2 steps; `changes` replace or add some."""
    rows = folder / "rows.jsonl"
    write_training_rows(rows, world.rows[:2])
    settings = {
        "config": CONFIGS / "mini_grpo.yaml",
        "model_name_or_path": world.checkpoint,
        "rows": rows,
        "output_dir": folder / "run",
        "num_generations": 4,
        "per_device_train_batch_size": 4,
        "max_completion_length": 6,
        "learning_rate": 1e-3,
        "max_steps": 5,
        "save_steps": 2,
        **changes,
    }
    return [part for name, value in settings.items() for part in (f"--{name}", str(value))]
