"""A process that trains by the real recipe and, where asked to, kills itself in the middle.

    python grpo_process.py KILL_AT KILL_WHEN [--flag value ...]      KILL_WHEN: step, save or never

Its reward is the share of even token ids, since an untrained model's answers are all wrong alike. Each process writes
`advantages-RANK.json` into the run's folder: the tokens of its last batch's completions, and their advantages.
"""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from transformers import TrainerCallback
from video_runs import even_share

from egost.training import grpo
from egost.training.rewards import Rewards


class EvenShare(Rewards):
    accuracy = staticmethod(even_share)  # type: ignore[assignment]


class Kill(TrainerCallback):  # type: ignore[misc]
    def __init__(self, step: int, when: str) -> None:
        self.step, self.when = step, when

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if self.when == "step" and state.global_step == self.step:
            os.kill(os.getpid(), signal.SIGKILL)

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if self.when == "save" and state.global_step == self.step:
            os.kill(os.getpid(), signal.SIGKILL)


def main() -> None:
    step, when, *flags = sys.argv[1:]
    recipe, args, model = grpo.parse(flags)
    data = grpo.load_data(recipe, model.model_name_or_path)
    make_trainer = grpo.make_trainer

    def with_kill(*arguments: Any) -> Any:
        trainer = make_trainer(*arguments)
        trainer.callback_handler.callbacks.insert(0, Kill(int(step), when))
        generate = trainer._generate_and_score_completions

        def written(inputs: list[dict[str, Any]]) -> dict[str, Any]:
            batch: dict[str, Any] = generate(inputs)
            said = [
                ids[mask.bool()].tolist()
                for ids, mask in zip(batch["completion_ids"], batch["completion_mask"], strict=True)
            ]
            file = Path(args.output_dir) / f"advantages-{trainer.accelerator.process_index}.json"
            file.write_text(json.dumps({"completions": said, "advantages": batch["advantages"].tolist()}))
            return batch

        trainer._generate_and_score_completions = written
        return trainer

    grpo.make_trainer = with_kill
    grpo.train(recipe, args, model, dataclasses.replace(data, rewards=EvenShare(data.shown.rows, None)))


if __name__ == "__main__":
    main()
