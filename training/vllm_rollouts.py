"""Rollouts of GRPO by vLLM, in the trainer's process or on a server, with the clip of each prompt.

TRL hands vLLM the tokens and images of a prompt and no video, so what vLLM is asked, and how it gets the weights of
each step, is done here. They go over by a folder in the form of a checkpoint, which every vLLM reads. TRL asks for
them (`sync_weights`) and weights the loss by how far the two programs' probabilities differ, as it does for its own
rollouts by vLLM.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from itertools import groupby
from typing import Any

from egost.model_adapters.engine import Ask
from egost.training import TrainingError
from egost.training.group_sampling import GroupSampler
from egost.training.handed_weights import TrainedWeights


class VllmRollouts:
    """Samples with the weights of the trainer's model; takes the place of a TRL trainer's `vllm_generation`.

    trainer: a `VideoGRPOTrainer`. ask: the prompt and clip of a row.
    """

    def __init__(self, trainer: Any, sampler: GroupSampler, ask: Callable[[int], Ask]) -> None:
        self._trainer, self._sampler, self._ask = trainer, sampler, ask
        self._weights, self._name = TrainedWeights(trainer), ""

    def sync_weights(self) -> None:
        """Let vLLM go on with the weights of this step; by all processes. The seconds are logged as TRL logs its own.

        Raises AdapterError where it does not take them, TrainingError where they cannot be written.
        """
        trainer, began = self._trainer, time.perf_counter()
        self._name = f"{trainer.args.output_dir} at step {trainer.state.global_step}"
        self._sampler.take_weights(self._weights, self._name)
        trainer.accelerator.wait_for_everyone()
        trainer._metrics["train"]["vllm/weights_time"].append(time.perf_counter() - began)

    def sample(self) -> dict[str, Any]:
        """What TRL's `rollout_func` returns: one completion for each row of the batch, in their order.

        Raises TrainingError where vLLM is given another prompt than the trainer's model, or would place it
        otherwise; AdapterError where it samples nothing.
        """
        trainer = self._trainer
        groups = [(row, len(list(same))) for row, same in groupby(trainer.rows)]
        wanted = [(self._ask(row), self._sampling(row, n)) for row, n in groups]
        sampled = self._sampler.sample(wanted, self._name)
        prompts: list[list[int]] = []
        for (row, n), group in zip(groups, sampled, strict=True):
            expected = trainer.shown[row].prompt_ids
            if group.prompt_ids != tuple(expected):
                raise TrainingError(
                    f"vLLM makes another prompt of {self._ask(row).sample} ({len(group.prompt_ids)} tokens) than the "
                    f"trainer ({len(expected)}): its completions would be about something else. Use the versions "
                    "that requirements-vllm.lock names, or leave use_vllm out and give another --output_dir."
                )
            prompts += [list(expected)] * n
        return {
            "prompt_ids": prompts,
            "completion_ids": [list(ids) for group in sampled for ids in group.completion_ids],
            "logprobs": [list(of) for group in sampled for of in group.log_probabilities],
        }

    def close(self) -> None:
        """Stop what samples, and delete the weights that it was handed."""
        self._sampler.close()
        if self._weights.main:
            shutil.rmtree(self._weights.folder, ignore_errors=True)

    def _sampling(self, row: int, n: int) -> dict[str, Any]:
        trainer, args = self._trainer, self._trainer.args
        return {
            "n": n,
            "max_tokens": args.max_completion_length,
            "temperature": args.temperature,
            "top_p": args.top_p,
            "top_k": args.top_k or 0,
            "min_p": args.min_p or 0.0,
            "repetition_penalty": args.repetition_penalty,
            "stop_token_ids": list(trainer.eos_token_ids),
            "logit_bias": dict.fromkeys(trainer.suppressed, -100.0),
            # So that a run that goes on samples what the unbroken one would have.
            "seed": hash((args.seed, trainer.state.global_step, trainer.accelerator.process_index, row))
            % 2**31,
        }
