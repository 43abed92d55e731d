"""What a dry run says of memory: counted against a real trainer's tensors, and by hand for the paper's recipe."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from test_video_grpo import sampled
from video_runs import World, make_trainer

from egost.tasks.clips.protocols import shown_size
from egost.training.recipe import MemoryPlan, plan_memory

GIB = 2**30


def plan(trained: int, *, base: float, reference: float = 0.0, quantised: bool = False) -> MemoryPlan:
    return MemoryPlan(8_291_375_616, trained, base, 2, quantised, reference, 0.0, True)


def test_the_papers_recipe_by_hand() -> None:
    """Qwen2-VL-7B, all 8.291 G weights in bfloat16, with a reference model, on 4 GPUs."""
    weights = 8_291_375_616
    all_weights = plan(weights, base=2 * weights, reference=2 * weights)
    by_hand = {
        "one": (2 + 2 + 2 + 4) * weights,  # weights, reference, gradients, two moments in 16 bits
        "ddp": (2 + 2 + 2 + 2 + 4) * weights,
        "zero2": (2 + 2) * weights + (2 + 4 + 8) * weights / 4,
        "zero3": (2 + 2 + 2 + 4 + 8) * weights / 4,
        "fsdp": (4 + 2 + 4 + 8) * weights / 4,
    }
    for launch, expected in by_hand.items():
        assert all_weights.states(launch) == pytest.approx(expected), launch
    assert all_weights.states("zero3") / GIB == pytest.approx(34.7, abs=0.1)
    said = "\n".join(all_weights.lines("grpo"))
    assert "4 GPUs, zero3.yaml: 34.75" in said
    assert "fits 80 GiB: one GPU, 4 GPUs, zero2.yaml, 4 GPUs, zero3.yaml, 4 GPUs, fsdp.yaml" in said


SEVEN_B = {
    "model_type": "qwen2_vl",
    "architectures": ["Qwen2VLForConditionalGeneration"],
    "hidden_size": 3584,
    "intermediate_size": 18944,
    "num_hidden_layers": 28,
    "num_attention_heads": 28,
    "num_key_value_heads": 4,
    "vocab_size": 152064,
    "max_position_embeddings": 32768,
    "tie_word_embeddings": False,
    "rope_scaling": {"type": "mrope", "mrope_section": [16, 24, 24]},
    "vision_config": {
        "depth": 32,
        "embed_dim": 1280,
        "hidden_size": 3584,
        "in_chans": 3,
        "mlp_ratio": 4,
        "num_heads": 16,
        "patch_size": 14,
        "spatial_merge_size": 2,
        "temporal_patch_size": 2,
    },
}
"""What the config.json of Qwen2-VL-7B-Instruct says of its shape."""


def test_the_papers_recipe_from_the_real_configuration(tmp_path: Path) -> None:
    """8 completions of 1,024 tokens behind 8 frames of at most 151,200 pixels; no network, no weight is made."""
    from egost.training import grpo

    (tmp_path / "config.json").write_text(json.dumps(SEVEN_B))
    recipe, args, model = grpo.parse(
        [
            "--config",
            "st_r1_7b_grpo",
            "--model_name_or_path",
            str(tmp_path),
            "--rows",
            "r",
            "--dry_run",
            "true",
        ]
    )
    # 364 x 392 pixels: 26 x 28 patches in each of 4 pairs of frames, 182 tokens a pair.
    assert shown_size(1920, 1786, least=3136, most=recipe.largest_pixels, patch=28) == (392, 364)
    prompt = 4 * 182 + 272
    counted = plan_memory(
        model, args, prompt + args.max_completion_length, 8, patches=4 * 26 * 28, reference=True
    )
    assert counted.parameters == counted.trained == 8_291_375_616
    # 16 bits a number. Text: 28 layers' inputs of 3,584, and one layer of 10 such and 4 of 18,944. Vision: 32 of 1,280,
    # and one layer of 10 such and 4 of 5,120.
    text = 8 * 2024 * 2 * (28 * 3584 + 10 * 3584 + 4 * 18944)
    vision = 2912 * 2 * (32 * 1280 + 10 * 1280 + 4 * 5120)
    assert counted.activations == text + vision
    said = "\n".join(counted.lines("grpo"))
    # 34.75 of states and 6.80 of activations; all on one GPU: 77.22 and 6.80, which 80 do not hold.
    assert "and 6.80 of activations" in said
    assert "4 GPUs, zero3.yaml: 41.54" in said and "one GPU: 84.02" in said
    assert "fits 80 GiB: 4 GPUs, zero2.yaml, 4 GPUs, zero3.yaml, 4 GPUs, fsdp.yaml" in said
    assert "on one GPU, train adapters instead: --use_peft true" in said


def test_what_fits_nowhere_is_said_with_adapters_as_the_way_out() -> None:
    weights = 72 * 10**9
    large = MemoryPlan(weights, weights, 2 * weights, 2, False, 2 * weights, 0.0, True)
    said = "\n".join(large.lines("grpo"))
    assert "fits 80 GiB: none of them" in said and "train adapters instead: --use_peft true" in said


def test_quantised_weights_are_not_spread() -> None:
    adapters = plan(5_000_000, base=5e9, quantised=True)
    assert "zero3.yaml:" not in "\n".join(adapters.lines("sft"))
    assert adapters.states("one") == 5e9 + 3 * 2 * 5_000_000


@pytest.mark.parametrize("lora", [False, True])
def test_the_plan_is_what_a_step_leaves_in_memory(world: World, tmp_path: Path, lora: bool) -> None:
    """Bytes of weights, gradients and moments of a real trainer behind its first step, tensor by tensor."""
    from peft import LoraConfig
    from trl import ModelConfig

    targets = ["q_proj", "v_proj"]
    adapters = LoraConfig(r=4, target_modules=targets, task_type="CAUSAL_LM") if lora else None
    trainer = make_trainer(world, tmp_path, peft_config=adapters)
    counted: dict[str, int] = {}

    def count(*_: Any) -> None:
        weights = list(trainer.model.parameters())
        counted["gradients"] = sum(w.grad.nbytes for w in weights if w.grad is not None)
        counted["weights"] = sum(w.nbytes for w in weights)

    trainer.create_optimizer()
    trainer.optimizer.register_step_post_hook(count)
    trainer.train()
    moments = sum(
        value.nbytes for state in trainer.optimizer.state.values() for value in state.values() if value.dim()
    )
    kept = ModelConfig(
        model_name_or_path=str(world.checkpoint), use_peft=lora, lora_r=4, lora_target_modules=targets
    )
    planned = plan_memory(kept, trainer.args, tokens=100, sequences=4, patches=320)
    assert planned.states("one") == sum(counted.values()) + moments
    # A trained vision tower keeps something of each patch; one below adapters alone does not.
    more = plan_memory(kept, trainer.args, tokens=100, sequences=4, patches=3200)
    assert (more.activations > planned.activations) is not lora


def test_activations_are_what_a_step_keeps_for_its_backward_pass(world: World, tmp_path: Path) -> None:
    """Bytes of every tensor that autograd saves in a real trainer's loss, weights left out, without checkpointing."""
    import torch
    from trl import ModelConfig

    trainer = make_trainer(world, tmp_path)
    batch = sampled(trainer)
    weights = {weight.untyped_storage().data_ptr() for weight in trainer.model.parameters()}
    kept: dict[int, int] = {}

    def saved(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(saved, lambda tensor: tensor):
        loss = trainer._compute_loss(trainer.model, batch)
    assert loss.requires_grad
    tokens = batch["prompt_ids"].shape[1] + batch["completion_ids"].shape[1]
    patches = int(world.shown[0].video_grid_thw.prod())
    model = ModelConfig(model_name_or_path=str(world.checkpoint))
    planned = plan_memory(model, trainer.args, tokens, 4, patches=patches).activations
    assert sum(kept.values()) == pytest.approx(planned, rel=0.1)
