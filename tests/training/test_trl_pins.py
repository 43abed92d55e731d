"""What the video trainer relies on inside TRL, pinned: a change there has to be read before it is trained with."""

from __future__ import annotations

import hashlib
import inspect
from importlib import import_module
from operator import attrgetter
from typing import Any

import pytest

PINNED = {
    # Takes rollouts from `rollout_func`, and the row's reward, advantages and reference log-probabilities in one order.
    "_generate_and_score_completions": (
        "trl:GRPOTrainer._generate_and_score_completions",
        "1fa48922792dcd5c",
    ),
    # Calls `rollout_func` with one prompt for each completion, and allows `logprobs` to be None. Where `use_vllm` is
    # set, calls `vllm_generation.sync_weights` first, once a step.
    "_generate": ("trl:GRPOTrainer._generate", "2a27fdf8f5e6f356"),
    # Asks for log-probabilities of the sequences in `inputs`, and nothing else of the model.
    "_compute_loss": ("trl:GRPOTrainer._compute_loss", "80295546bbdbf6f7"),
    # What our own version of it stands for.
    "_get_per_token_logps_and_entropies": (
        "trl:GRPOTrainer._get_per_token_logps_and_entropies",
        "ea73c3909275851d",
    ),
    # Gives the rewards of all processes, NaN for None.
    "_calculate_rewards": ("trl:GRPOTrainer._calculate_rewards", "736ae29b083840b5"),
    # Shuffles and splits every tensor of the batch alike, `rows` among them.
    "_prepare_inputs": ("trl:GRPOTrainer._prepare_inputs", "f824e7fb07147956"),
    "shuffle_sequence_dict": ("trl.trainer.utils:shuffle_sequence_dict", "bab038755e57ed2b"),
    "split_tensor_dict": ("trl.trainer.utils:split_tensor_dict", "b61a5760a03e95db"),
    # Passes other keyword arguments on to the model's backbone.
    "add_fused_lm_head": ("trl.trainer.utils:add_fused_lm_head", "422d009f04b66659"),
    "pad": ("trl.trainer.utils:pad", "5b5cbf5245d686e0"),
    "unwrap_model_for_generation": ("trl.models:unwrap_model_for_generation", "583d1303c5c55405"),
}


@pytest.mark.parametrize("name", PINNED)
def test_what_is_relied_on_has_not_changed(name: str) -> None:
    import trl

    where, pinned = PINNED[name]
    module, _, path = where.partition(":")
    assert trl.__name__ == module.partition(".")[0]
    found = _fingerprint(attrgetter(path)(import_module(module)))
    assert found == pinned, (
        f"TRL's {name} is not the one that training/video_grpo.py was written against. Read what has changed there, "
        f"mend the trainer, run tests/training, and only then pin {found!r}."
    )


def _fingerprint(function: Any) -> str:
    return hashlib.sha256(inspect.getsource(inspect.unwrap(function)).encode()).hexdigest()[:16]
