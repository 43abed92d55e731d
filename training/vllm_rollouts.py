"""Rollouts of GRPO by vLLM, in the trainer's process or on a server, with the clip of each prompt.

TRL hands vLLM the tokens and images of a prompt and no video, so what vLLM is asked, and how it gets the weights of
each step, is done here. They go over by a folder in the form of a checkpoint, which every vLLM reads. TRL asks for
them (`sync_weights`) and weights the loss by how far the two programs' probabilities differ, as it does for its own
rollouts by vLLM.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError
from transformers.utils import logging as hf_logging

from egost.model_adapters.engine import Ask
from egost.training import TrainingError
from egost.training.group_sampling import GroupSampler

if TYPE_CHECKING:
    pass

WEIGHTS = "rollout_weights"
"""Folder of a run through which vLLM gets the weights of each step. The run's end deletes it."""


class VllmRollouts:
    """Samples with the weights of the trainer's model; takes the place of a TRL trainer's `vllm_generation`.

    trainer: a `VideoGRPOTrainer`. ask: the prompt and clip of a row.
    """

    def __init__(self, trainer: Any, sampler: GroupSampler, ask: Callable[[int], Ask]) -> None:
        self._trainer, self._sampler, self._ask = trainer, sampler, ask
        self._folder = Path(trainer.args.output_dir).resolve() / WEIGHTS
        self._weights = ""

    def sync_weights(self) -> None:
        """Let vLLM go on with the weights of this step.

        Raises AdapterError where it does not take them, TrainingError where they cannot be written.
        """
        trainer = self._trainer
        model = trainer.accelerator.unwrap_model(trainer.model)
        try:
            with _no_bars():
                if not hasattr(model, "merge_adapter"):
                    # By all processes: where they share the weights, these are gathered. Nothing goes to a hub.
                    trainer.save_model(str(self._folder), _internal_call=True)
                elif trainer.args.should_save:
                    _save_merged(model, self._folder)
                    # vLLM takes the folder for the model from now on, and looks for its processor there.
                    trainer.processing_class.save_pretrained(self._folder)
        except (OSError, SafetensorError) as error:
            raise TrainingError(
                f"the weights for vLLM cannot be written to {self._folder} ({error}). Free some space there; then run "
                "the same command again, to go on from the last whole checkpoint."
            ) from error
        self._weights = f"{self._folder} of step {trainer.state.global_step}"
        if trainer.args.should_save:
            self._sampler.take_weights(self._folder, self._weights)
        trainer.accelerator.wait_for_everyone()

    def sample(self) -> dict[str, Any]:
        """What TRL's `rollout_func` returns: one completion for each row of the batch, in their order.

        Raises TrainingError where vLLM is given another prompt than the trainer's model, or would place it
        otherwise; AdapterError where it samples nothing.
        """
        trainer = self._trainer
        groups = [(row, len(list(same))) for row, same in groupby(trainer.rows)]
        wanted = [(self._ask(row), self._sampling(row, n)) for row, n in groups]
        sampled = self._sampler.sample(wanted, self._weights)
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
        if self._trainer.args.should_save:
            shutil.rmtree(self._folder, ignore_errors=True)

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


@contextmanager
def _no_bars() -> Iterator[None]:
    """Keep transformers' bars out of the run's own, at every step."""
    shown = hf_logging.is_progress_bar_enabled()
    hf_logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            hf_logging.enable_progress_bar()


def _save_merged(model: Any, folder: Path) -> None:
    """Write the base of a PEFT model with its adapter in it, by the names that the base has alone."""
    import torch

    base = model.get_base_model()
    before = {
        name: weight.detach().to("cpu", copy=True)
        for name, weight in base.named_parameters()
        if ".base_layer." in name
    }
    model.merge_adapter()
    try:
        weights = {
            name.replace(".base_layer.", ".").replace(".modules_to_save.default.", "."): weight
            for name, weight in base.state_dict().items()
            if ".lora_" not in name and ".original_module." not in name
        }
        base.save_pretrained(folder, state_dict=weights)
    finally:
        model.unmerge_adapter()
        # Taking the adapter out again rounds, which would add up over the steps.
        with torch.no_grad():
            for name, weight in base.named_parameters():
                if name in before:
                    weight.copy_(before[name])
