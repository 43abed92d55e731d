"""GRPO with video on a real tiny Qwen2-VL: it sees the clip, encodes it once, and survives what goes wrong."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from video_runs import World, logged, make_trainer

from egost.training import TrainingError
from egost.training.video_inputs import check_video_model

if TYPE_CHECKING:
    import torch


def weights(trainer: Any) -> dict[str, torch.Tensor]:
    return {name: weight.detach().clone() for name, weight in trainer.model.named_parameters()}


def moved(trainer: Any, before: dict[str, torch.Tensor]) -> bool:
    import torch

    return any(not torch.equal(weight, before[name]) for name, weight in trainer.model.named_parameters())


def clips_encoded(model: Any) -> list[int]:
    """A list that grows by the number of clips with each run of the model's vision tower."""
    runs: list[int] = []
    model.model.visual.register_forward_hook(
        lambda _m, _a, kwargs, _o: runs.append(len(kwargs["grid_thw"])), with_kwargs=True
    )
    return runs


def sampled(trainer: Any) -> dict[str, Any]:
    """The generation batch of the trainer's first step."""
    trainer.model.train()
    trainer.current_gradient_accumulation_steps = 1
    return trainer._generate_and_score_completions(next(iter(trainer.get_train_dataloader())))


def test_log_probabilities_are_computed_with_the_video(world: World, tmp_path: Path) -> None:
    import torch
    from transformers import Qwen2VLForConditionalGeneration

    trainer = make_trainer(world, tmp_path)
    batch = sampled(trainer)
    ids = torch.cat([batch["prompt_ids"], batch["completion_ids"]], 1)
    mask = torch.cat([batch["prompt_mask"], batch["completion_mask"]], 1)
    keep = batch["completion_ids"].shape[1]

    def scored() -> tuple[torch.Tensor, torch.Tensor]:
        with torch.no_grad():
            logps, entropy, _ = trainer._get_per_token_logps_and_entropies(
                trainer.model, ids, mask, keep, compute_entropy=True
            )
        return logps, entropy

    logps, entropy = scored()
    shown = world.shown[0]
    plain = Qwen2VLForConditionalGeneration.from_pretrained(world.checkpoint)
    for i in range(len(ids)):
        length = int(mask[i].sum())
        with torch.no_grad():
            logits = plain(
                input_ids=ids[i : i + 1, :length],
                mm_token_type_ids=2 * (ids[i : i + 1, :length] == plain.config.video_token_id).long(),
                pixel_values_videos=shown.pixel_values_videos,
                video_grid_thw=shown.video_grid_thw,
            ).logits[0, -(length - len(shown.prompt_ids)) - 1 : -1]
        tokens = ids[i, len(shown.prompt_ids) : length]
        expected = logits.log_softmax(-1).gather(1, tokens[:, None])[:, 0]
        torch.testing.assert_close(logps[i, : len(tokens)], expected, rtol=1e-4, atol=1e-5)

    trainer.shown = {0: world.shown[1]}
    trainer.encoder.forget()
    other, other_entropy = scored()
    assert (other - logps).abs().max() > 1e-4
    assert (other_entropy - entropy).abs().max() > 1e-5


@pytest.mark.parametrize("checkpointing", [False, True])
def test_one_encoding_gives_the_loss_and_gradients_of_the_plain_repeat(
    world: World, tmp_path: Path, checkpointing: bool
) -> None:
    import torch

    trainer = make_trainer(
        world, tmp_path, rows=(0, 1), per_device_train_batch_size=8, gradient_checkpointing=checkpointing
    )
    batch = sampled(trainer)
    batch["advantages"] = torch.linspace(-1, 1, 8)
    runs = clips_encoded(trainer.model)
    found = {}
    for once in (True, False):
        trainer.encode_once = once
        trainer.model.zero_grad()
        loss = trainer.compute_loss(trainer.model, batch)
        loss.backward()
        gradients = {n: w.grad.clone() for n, w in trainer.model.named_parameters() if w.grad is not None}
        found[once] = loss.detach(), gradients
    assert runs == [2, 8], "two clips against one for each of the eight completions"
    torch.testing.assert_close(found[True][0], found[False][0], rtol=1e-5, atol=1e-7)
    assert found[True][1].keys() == found[False][1].keys()
    assert any(".visual." in name for name in found[True][1])
    for name, gradient in found[True][1].items():
        torch.testing.assert_close(gradient, found[False][1][name], rtol=1e-3, atol=1e-6, msg=name)


def test_each_model_encodes_the_clip_once_a_pass(world: World, tmp_path: Path) -> None:
    trainer = make_trainer(world, tmp_path)
    policy, reference = clips_encoded(trainer.model), clips_encoded(trainer.ref_model)
    trainer.train()
    assert policy == [1, 1], "the rollout, and the loss, which trains the tower"
    assert reference == [1]


def test_under_lora_the_reference_is_the_adapter_switched_off(world: World, tmp_path: Path) -> None:
    from peft import LoraConfig

    config = LoraConfig(r=4, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
    trainer = make_trainer(world, tmp_path, peft_config=config, max_steps=2)
    assert trainer.ref_model is None
    runs = clips_encoded(trainer.model.get_base_model())
    trainer.train()
    assert runs == [1, 1], "a frozen tower serves rollout, reference and loss of a step at once"
    assert logged(trainer, "kl")[0] == 0
    assert logged(trainer, "kl")[1] > 0


def test_a_group_of_equal_rewards_moves_nothing_and_is_counted(world: World, tmp_path: Path) -> None:
    def same(*, completions: list[str], **_: Any) -> list[float | None]:
        return [1.0] * len(completions)

    for temperature in (None, 1.0):
        trainer = make_trainer(world, tmp_path, same, beta=0.0, softmax_temperature=temperature)
        before = weights(trainer)
        trainer.train()
        assert not moved(trainer, before)
        assert logged(trainer, "groups/all_equal") == [1.0]
        assert logged(trainer, "grad_norm") == [0.0]


def test_a_reward_that_cannot_be_had_is_left_out_of_its_group(world: World, tmp_path: Path) -> None:
    def some(*, completions: list[str], **_: Any) -> list[float | None]:
        return [1.0, None, float("inf"), 0.0]

    def watched(*, completions: list[str], **_: Any) -> list[float | None]:
        return [0.0] * 4

    trainer = make_trainer(world, tmp_path, [some, watched], reward_weights=[1.0, 0.0])
    batch = sampled(trainer)
    # (1 - 0.5) / (0.7071 + 1e-4) for two rewards, 1 and 0; the other two move nothing.
    assert batch["advantages"].tolist() == pytest.approx([0.70701, 0, 0, -0.70701], abs=1e-4)
    metrics = trainer._metrics["train"]
    assert metrics["completions/unscored"] == [2]
    assert metrics["rewards/not_finite"] == [1]


def test_a_group_without_any_reward_is_survived(world: World, tmp_path: Path) -> None:
    def nothing(*, completions: list[str], **_: Any) -> list[float | None]:
        return [None, float("nan"), None, None]

    trainer = make_trainer(world, tmp_path, nothing, beta=0.0)
    before = weights(trainer)
    trainer.train()
    assert not moved(trainer, before)
    assert logged(trainer, "completions/unscored") == [4.0]


def test_a_loss_that_is_not_finite_leaves_the_step_out(world: World, tmp_path: Path) -> None:
    import torch

    trainer = make_trainer(world, tmp_path, max_steps=1)
    with torch.no_grad():
        trainer.ref_model.lm_head.weight[0] = torch.nan
    before = weights(trainer)
    trainer.train()
    assert not moved(trainer, before)
    assert logged(trainer, "loss/not_finite") == [1.0]
    assert logged(trainer, "steps/left_out") == [1.0]


def test_after_a_step_that_was_left_out_training_goes_on(world: World, tmp_path: Path) -> None:
    import torch

    trainer = make_trainer(world, tmp_path, max_steps=2)
    head = trainer.model.lm_head.weight
    handle = head.register_hook(lambda gradient: gradient * torch.nan)
    before = weights(trainer)
    seen: list[bool] = []

    def first_step_is_over(*_: Any) -> None:
        seen.append(moved(trainer, before))
        handle.remove()

    trainer.create_optimizer()
    trainer.optimizer.register_step_post_hook(first_step_is_over)
    trainer.train()
    assert seen == [False, True]
    assert logged(trainer, "steps/left_out") == [1.0, 0.0]


def test_an_empty_completion_is_counted_and_survived(world: World, tmp_path: Path) -> None:
    trainer = make_trainer(world, tmp_path)
    end = trainer._tokenizer.eos_token_id
    every = range(trainer.model.config.text_config.vocab_size)
    trainer.generation_config.suppress_tokens = [token for token in every if token != end]
    trainer.train()
    assert logged(trainer, "completions/empty") == [4.0]
    assert all(weight.isfinite().all() for weight in trainer.model.parameters())


def test_special_tokens_are_never_sampled(world: World, tmp_path: Path) -> None:
    import torch

    trainer = make_trainer(world, tmp_path)
    pad = trainer.model.config.video_token_id
    with torch.no_grad():
        # The policy wants nothing but <|video_pad|>: both rows of the head point one way, its own further.
        hidden = torch.randn(trainer.model.lm_head.weight.shape[1])
        trainer.model.lm_head.weight.mul_(0.01)
        trainer.model.lm_head.weight[pad] = hidden * 1e3
        trainer.model.lm_head.weight[pad - 1] = -hidden * 1e3
    batch = sampled(trainer)
    special = [t for t in trainer._tokenizer.all_special_ids if t not in trainer.eos_token_ids]
    assert pad in special
    assert not torch.isin(batch["completion_ids"], torch.tensor(special)).any()


def test_equation_2_takes_the_place_of_the_advantage(world: World, tmp_path: Path) -> None:
    def ranked(*, completions: list[str], **_: Any) -> list[float | None]:
        return [1.0, 0.0, 0.0, 0.0]

    trainer = make_trainer(world, tmp_path, ranked, softmax_temperature=1.0)
    # mean 0.25, deviation 0.5: normalised 1.4997, -0.4999 (x3); 4 e^1.4997 / (e^1.4997 + 3 e^-0.4999) = 2.8448.
    expected = [2.8448, 0.3851, 0.3851, 0.3851]
    assert sampled(trainer)["advantages"].tolist() == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("setting", ["use_vllm", "use_transformers_continuous_batching"])
def test_rollouts_without_the_video_are_refused(world: World, tmp_path: Path, setting: str) -> None:
    with pytest.raises(TrainingError, match=setting):
        make_trainer(world, tmp_path, **{setting: True})


def test_a_model_without_video_is_refused() -> None:
    import torch

    with pytest.raises(TrainingError, match="Linear is no model"):
        check_video_model(torch.nn.Linear(1, 1))
