"""What the tests of video training share: two clips of the mini world, rows about them, and small trainers."""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lmms_eval_command import environment
from preloaded import run_preloaded

from egost.model_adapters.tiny_checkpoint import tiny_checkpoint
from egost.tasks.clips.clips import get_clip
from egost.tasks.clips.protocols import parse_protocol
from egost.tasks.mini_world import write_mini_release
from egost.tasks.prompts import load_prompt
from egost.tasks.release.release import Release
from egost.training.rows.training_rows import TrainingRow
from egost.training.video_inputs import PixelLimits, ShownSample, VideoRenderer, load_processor

Reward = Callable[..., list[float | None]]


@dataclass(frozen=True)
class World:
    """A mini release on disk, an untrained checkpoint, and samples about different clips as the model sees them."""

    root: Path
    checkpoint: Path
    rows: tuple[TrainingRow, ...]
    shown: tuple[ShownSample, ...]
    processor: Any


def make_world(folder: Path) -> World:
    """Two clips: rows 0 and 1 ask for the turns of each, row 2 for the first one's route."""
    root = write_mini_release(folder / "mini", clips=2, seed=0, split="train")
    release = Release("mini", (root,), "test")
    checkpoint = tiny_checkpoint(folder / "tiny")
    processor = load_processor(checkpoint, PixelLimits())
    renderer = VideoRenderer(processor, load_prompt("think"), PixelLimits())
    turns = [s for s in release.index.samples if s.task == "direction" and s.way == "forward"]
    routes = [s for s in release.index.samples if s.task == "route" and s.way == "forward"]
    rows, shown = [], []
    for sample in (*turns[:2], routes[0]):
        path = release.clip_path(sample)
        rows.append(TrainingRow(sample, "Back the other way.", hashlib.sha256(path.read_bytes()).hexdigest()))
        shown.append(
            renderer.render(sample, get_clip(path, parse_protocol("uniform8"), cache=folder / "cache"))
        )
    return World(root, checkpoint, tuple(rows), tuple(shown), processor)


def even_share(*, completion_ids: Sequence[Sequence[int]], **_: Any) -> list[float | None]:
    """A reward that differs between completions of an untrained model: the share of even token ids."""
    return [sum(token % 2 == 0 for token in ids) / len(ids) for ids in completion_ids]


def make_trainer(
    world: World,
    output: Path,
    reward: Reward | list[Reward] = even_share,
    *,
    rows: Sequence[int] = (0,),
    peft_config: Any = None,
    softmax_temperature: float | None = None,
    checkpoint: Path | None = None,
    callbacks: Sequence[Any] = (),
    vllm: Any = None,
    **settings: Any,
) -> Any:
    """A GRPO trainer of groups of 4 short completions, float32, one group a step."""
    from datasets import Dataset
    from trl import GRPOConfig

    from egost.training.video_grpo import VideoGRPOTrainer

    args = GRPOConfig(
        **{
            "output_dir": str(output),
            "num_generations": 4,
            "per_device_train_batch_size": 4,
            "max_completion_length": 6,
            "learning_rate": 1e-3,
            "lr_scheduler_type": "constant",
            "loss_type": "grpo",
            "beta": 0.1,
            "max_steps": 1,
            "logging_steps": 1,
            "save_strategy": "no",
            "report_to": "none",
            "bf16": False,
            "use_cpu": True,
            "gradient_checkpointing": False,
            "disable_tqdm": True,
            "seed": 1,
            "shuffle_dataset": False,
            **settings,
        }
    )
    return VideoGRPOTrainer(
        model=str(checkpoint or world.checkpoint),
        args=args,
        show=world.shown.__getitem__,
        softmax_temperature=softmax_temperature,
        vllm=vllm,
        reward_funcs=reward,
        train_dataset=Dataset.from_list([{"prompt": world.rows[i].sample.id, "row": i} for i in rows]),
        processing_class=world.processor,
        peft_config=peft_config,
        callbacks=list(callbacks),
    )


def in_a_process(
    entry: str, kill_at: int, when: str, flags: Sequence[str]
) -> subprocess.CompletedProcess[str]:
    """Train in a preloaded process by sft_process.py or grpo_process.py, which say what the arguments mean."""
    cache, mini = Path(os.environ["EGOST_CACHE"]), os.environ["EGOST_MINI_DATA"]
    env = environment(cache, EGOST_MINI_DATA=mini, PYTHONPATH=str(Path(__file__).parent))
    return run_preloaded(entry, [str(kill_at), when, *flags], Path.cwd(), env, 600)


def logged(trainer: Any, name: str) -> list[float]:
    """A figure of each logged step."""
    return [entry[name] for entry in trainer.state.log_history if name in entry]
