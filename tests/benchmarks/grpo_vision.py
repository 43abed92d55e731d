"""How much one encoding of a clip saves in a GRPO step of 8 completions, against the plain repeat.

    python tests/benchmarks/grpo_vision.py [ROUNDS]

The plain repeat hands the model the clip's pixels once for each completion, as the released training code does: in the
rollout, for the reference and in the loss. Times are of one optimizer step, with forward and backward pass, in CPU
seconds of one thread, which other programs on the machine change little; the vision share is what the vision tower
takes of it, measured around its forward pass and its backward pass.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))
from video_runs import World, make_trainer, make_world

GROUP = 8
NAMES = {False: "plain repeat", True: "encoded once"}


class Stopwatch:
    """Seconds that a model's vision tower takes, forward and backward: of CPU, or by what `read` reads."""

    def __init__(self, *models: Any, read: Callable[[], float] = time.process_time) -> None:
        self.read, self.seconds = read, 0.0
        self.started: float | None = None
        for model in models:
            tower = model.model.visual
            tower.register_forward_pre_hook(self.start)
            tower.register_forward_hook(self.seen)
            tower.patch_embed.register_full_backward_hook(self.stop)

    def start(self, *_: Any) -> None:
        self.started = self.read()

    def stop(self, *_: Any) -> None:
        if self.started is not None:
            self.seconds += self.read() - self.started
            self.started = None

    def seen(self, _tower: Any, _pixels: Any, output: Any) -> None:
        self.stop()
        # Not by a hook on the tower: those of a backward pass do not see into its kind of output.
        if output.pooler_output.requires_grad:
            output.pooler_output.register_hook(self.start)


def step(world: World, output: Path, once: bool) -> tuple[float, float]:
    """CPU seconds of one whole step, and of the vision towers within it."""
    trainer = make_trainer(
        world, output, num_generations=GROUP, per_device_train_batch_size=GROUP, max_completion_length=16
    )
    trainer.encode_once = once
    watch = Stopwatch(trainer.model, trainer.ref_model)
    began = time.process_time()
    trainer.train()
    return time.process_time() - began, watch.seconds


def main(rounds: int) -> None:
    torch.set_num_threads(1)
    times: dict[bool, list[tuple[float, float]]] = {True: [], False: []}
    with tempfile.TemporaryDirectory() as folder:
        world = make_world(Path(folder))
        for i in range(rounds + 1):
            for once in (True, False):
                taken = step(world, Path(folder, "run"), once)
                print(f"  round {i}, {NAMES[once]}: {taken[0]:.2f} s, vision {taken[1]:.2f} s", flush=True)
                if i:  # the first round warms up
                    times[once].append(taken)
    whole = {once: statistics.median(t for t, _ in taken) for once, taken in times.items()}
    vision = {once: statistics.median(v for _, v in taken) for once, taken in times.items()}
    print(f"GRPO step, {GROUP} completions on one clip, tiny Qwen2-VL, CPU, median of {rounds}:")
    for once, name in NAMES.items():
        print(f"  {name}: {whole[once]:.2f} s, of which vision {vision[once]:.2f} s")
    print(
        f"  vision: {vision[False] / vision[True]:.1f} x less time; whole step: {whole[False] / whole[True]:.2f} x"
    )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 3)
