"""`VideoGRPOTrainer`: TRL's GRPOTrainer, which has no video input, with the clip of each row shown to the model.

TRL still samples prompts, computes advantages and losses, keeps the reference model, logs and writes checkpoints. We
add a rollout through its `rollout_func`, and overrides, most of which pass on which row a completion belongs to:

    _generate_and_score_completions   remembers the rows of the batch, and takes equation 2's weights where asked for
    _compute_loss                     remembers the rows of the micro-batch
    _get_per_token_logps_and_entropies   gives the model the video; without it, log-probabilities would be blind
    _calculate_rewards                counts what has no reward
    _get_train_sampler                orders the rows of an epoch by its number, so that a killed run goes on exactly
    use_vllm, vllm_generation         where vLLM samples: TRL hands weights to the latter, and corrects the loss

TRL calls these by convention, not by contract, so the version is checked and a test pins what is relied on.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from transformers import GenerationConfig, PreTrainedModel
from trl import GRPOConfig, GRPOTrainer
from trl.models import unwrap_model_for_generation
from trl.trainer.utils import pad

from egost.model_adapters.engine import Ask
from egost.model_adapters.transformers_engine import place_text_as_trained
from egost.training import TrainingError
from egost.training.group_sampling import GroupSampler
from egost.training.recipe import check_trl
from egost.training.resumable_run import NonFiniteSteps
from egost.training.video_inputs import ClipEncoder, ShownSample, check_video_model
from egost.training.vllm_rollouts import VllmRollouts

NORMALISING_EPSILON = 1e-4
"""Added to a group's standard deviation, as in GRPO's normalised advantage in the released code."""


def normalised_rewards(rewards: torch.Tensor) -> torch.Tensor:
    """(r - mean) / (std + 1e-4) within each group; the standard deviation has n - 1 below.

    rewards: float [groups, completions]; NaN where a completion has no reward, which stays NaN and counts in
    neither mean nor deviation. A group with fewer than two rewards has deviation 0.
    """
    known = ~rewards.isnan()
    count = known.sum(1, keepdim=True)
    mean = rewards.nanmean(1, keepdim=True)
    squares = torch.where(known, (rewards - mean) ** 2, 0.0).sum(1, keepdim=True)
    deviation = (squares / (count - 1).clamp(min=1)).sqrt()
    return (rewards - mean) / (deviation + NORMALISING_EPSILON)


def softmax_weights(rewards: torch.Tensor, temperature: float) -> torch.Tensor:
    """Equation 2's weights w_k = exp(r_k / t) / sum_j exp(r_j / t) over normalised rewards, times the group's size.

    rewards, returned: float [groups, completions]. The trainer's loss is a mean over the group; times its size, the
    mean is equation 2's sum. A completion without a reward (NaN) has weight 0, and so have all of a group
    whose rewards are all equal: it prefers nothing, and equal weights would only push up what was sampled.
    """
    size = rewards.shape[1]
    weights = torch.softmax(normalised_rewards(rewards).nan_to_num(nan=-torch.inf) / temperature, dim=1)
    return torch.where(all_equal(rewards).unsqueeze(1), 0.0, weights * size)


def all_equal(rewards: torch.Tensor) -> torch.Tensor:
    """Bool [groups]: the groups whose rewards, as far as there are any, are all the same."""
    known = ~rewards.isnan()
    highest = torch.where(known, rewards, -torch.inf).amax(1)
    lowest = torch.where(known, rewards, torch.inf).amin(1)
    return highest - lowest <= 0


class VideoGRPOTrainer(GRPOTrainer):  # type: ignore[misc]
    """GRPO on rows that have a clip.

    The data set has a column `row`, the place of each row, and a column `prompt` with any text that names the row
    in logs; what the model really sees comes from `show`.

    show: the sample and clip of a row as the model sees them. softmax_temperature: uses equation 2's weights at
    this temperature instead of GRPO's normalised advantage; None keeps the latter. vllm: the sampler that replaces
    transformers, and the prompt and clip of a row as it is asked.

    rows: places of the completions' rows in the batch at hand; shown: what the model sees of each of them.
    suppressed: ids of tokens that are never sampled.

    Raises TrainingError, TrainingError for rollouts that would have no video or that the model's weights cannot
    be handed to, TrainingError for a model without a video input of the Qwen2-VL kind.
    """

    def __init__(
        self,
        *,
        args: GRPOConfig,
        show: Callable[[int], ShownSample],
        softmax_temperature: float | None = None,
        vllm: tuple[GroupSampler, Callable[[int], Ask]] | None = None,
        **trainer: Any,
    ) -> None:
        check_trl()
        check_rollouts(args)
        self.show = show
        self.softmax_temperature = softmax_temperature
        self.encoder = ClipEncoder()
        self.rows: list[int] = []
        self.shown: dict[int, ShownSample] = {}
        self._rewards = torch.empty(0)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="You are using 'rollout_func'")
            super().__init__(args=args, rollout_func=_rollout, **trainer)
        for model in filter(None, (self.model, self.ref_model)):
            check_video_model(self._plain(model))
            place_text_as_trained(self._plain(model))
        # FSDP shards the weights around the tower, which are whole only inside the model's own forward pass.
        self.encode_once = not self.is_fsdp_enabled
        # A sampled <|video_pad|> would announce a piece of a video that does not exist.
        self.suppressed = special_tokens(self._tokenizer, keep=self.eos_token_ids)
        self.generation_kwargs["suppress_tokens"] = self.suppressed
        self.generation_config = GenerationConfig(**self.generation_kwargs, disable_compile=True)
        if vllm:
            self._check_weights_can_be_handed_over()
            # Not through the arguments: TRL's constructor would start a vLLM of its own, which has no video.
            self.use_vllm, self.vllm_generation, self._last_loaded_step = True, VllmRollouts(self, *vllm), -1
        # TRL makes new lists of metrics whenever it logs.
        self.add_callback(NonFiniteSteps(lambda bad: self._metrics["train"]["steps/left_out"].append(bad)))

    def _get_train_sampler(self, dataset: Any = None) -> Any:
        sampler = super()._get_train_sampler(dataset)
        if sampler.shuffle:
            # TRL's order depends on how many epochs this process has begun, which a resumed one forgets.
            sampler.set_epoch = lambda epoch: sampler.generator.manual_seed(self.args.seed + epoch)
        return sampler

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        self.rows = [example["row"] for example in inputs]
        self.shown = {row: self.show(row) for row in dict.fromkeys(self.rows)}
        self.encoder.forget()
        output: dict[str, Any] = super()._generate_and_score_completions(inputs)
        output["rows"] = torch.tensor(self.rows, device=output["completion_ids"].device)
        if self.softmax_temperature is not None:
            weights = softmax_weights(self._rewards, self.softmax_temperature).flatten()
            first = self.accelerator.process_index * len(inputs)
            output["advantages"] = weights[first : first + len(inputs)]
        return output

    def _compute_loss(self, model: Any, inputs: dict[str, Any]) -> torch.Tensor:
        self.rows = inputs["rows"].tolist()
        loss: torch.Tensor = super()._compute_loss(model, inputs)
        mode = "train" if self.model.training else "eval"
        bad = not torch.isfinite(loss).item()
        self._metrics[mode]["loss/not_finite"].append(float(bad))
        if bad and self.is_deepspeed_enabled:
            raise TrainingError(
                f"the loss is {loss.item()} at step {self.state.global_step}, rows {sorted(set(self.rows))}. "
                "DeepSpeed would write it into the weights before it can be left out. Run the same command again "
                "to go on from the last whole checkpoint; lower the learning rate if it comes back."
            )
        return loss

    def _get_per_token_logps_and_entropies(
        self,
        model: Any,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        logits_to_keep: int,
        batch_size: int | None = None,
        compute_entropy: bool = False,
        **_: Any,
    ) -> tuple[torch.Tensor, torch.Tensor | None, None]:
        """Log-probabilities, and entropies where asked for, of the last `logits_to_keep` tokens, with the video.

        input_ids, attention_mask: int64 [sequences, tokens], prompts padded on the left, completions on the right.
        """
        log_probabilities, entropies = [], []
        size = batch_size or len(input_ids)
        for first in range(0, len(input_ids), size):
            ids, mask = input_ids[first : first + size], attention_mask[first : first + size]
            shown = [self.shown[row] for row in self.rows[first : first + size]]
            # Only the completion is scored.
            labels = ids.masked_fill(mask == 0, -100)
            labels[:, :-logits_to_keep] = -100
            with self.accelerator.autocast():
                output = model(
                    input_ids=ids,
                    attention_mask=mask,
                    labels=labels,
                    fused_lm_head=True,
                    **self._video(model, shown, ids),
                )
            log_probabilities.append(output.log_probs[:, -logits_to_keep:])
            if compute_entropy:
                entropies.append(output.entropy[:, -logits_to_keep:])
        return torch.cat(log_probabilities), torch.cat(entropies) if compute_entropy else None, None

    def _calculate_rewards(
        self,
        inputs: list[dict[str, Any]],
        prompts: list[str],
        completions: list[str],
        completion_ids_list: list[list[int]],
    ) -> torch.Tensor:
        """TRL's rewards of all processes [completions, functions]; NaN in a whole row without one that counts."""
        rewards: torch.Tensor = super()._calculate_rewards(inputs, prompts, completions, completion_ids_list)
        mode = "train" if self.model.training else "eval"
        metrics = self._metrics[mode]
        metrics["rewards/not_finite"].append(rewards.isinf().sum().item())
        rewards = rewards.masked_fill(rewards.isinf(), torch.nan)
        # A function of weight 0 is only watched: it must not make a 0 of a reward that could not be had.
        weights = self.reward_weights.to(rewards.device)
        unscored = rewards[:, weights != 0].isnan().all(1)
        rewards[unscored] = torch.nan
        total = (rewards * weights).nansum(1).masked_fill(unscored, torch.nan)
        self._rewards = total.view(-1, self.num_generations if mode == "train" else self.num_generations_eval)
        metrics["completions/unscored"].append(unscored.sum().item())
        metrics["groups/all_equal"].append(all_equal(self._rewards).sum().item())
        empty = torch.tensor(sum(not text.strip() for text in completions), device=rewards.device)
        metrics["completions/empty"].append(self.accelerator.gather(empty).sum().item())
        return rewards

    def end(self) -> None:
        """As transformers' Trainer; vLLM is stopped too."""
        if self.use_vllm:
            self.vllm_generation.close()
        super().end()

    def _video(self, model: Any, shown: Sequence[ShownSample], ids: torch.Tensor) -> dict[str, Any]:
        """The arguments that show each sequence its video; ids: int64 [sequences, tokens], prompts first."""
        plain = self._plain(model)
        video: dict[str, Any] = {
            "video_grid_thw": torch.cat([sample.video_grid_thw for sample in shown]).to(ids.device),
            # 2 marks the tokens of a video. No completion holds one: special tokens are never sampled.
            "mm_token_type_ids": 2 * (ids == plain.config.video_token_id).long(),
        }
        if self.encode_once:
            video["mm_encoder_outputs"] = self.encoder.encode(plain, shown)
        else:
            video["pixel_values_videos"] = torch.cat([s.pixel_values_videos for s in shown]).to(ids.device)
        seconds = [s.second_per_grid_ts for s in shown if s.second_per_grid_ts is not None]
        if seconds:
            video["second_per_grid_ts"] = torch.cat(seconds).to(ids.device)
        return video

    def _check_weights_can_be_handed_over(self) -> None:
        if self._plain(self.model).config.model_type == "qwen3_vl":
            raise TrainingError(
                "use_vllm is set, and the model is a Qwen3-VL, of which vLLM 0.32 and transformers do not give the "
                "same log-probabilities (0.08 apart on random weights). Leave use_vllm out: transformers samples then."
            )
        plugin = self.accelerator.state.deepspeed_plugin if self.is_deepspeed_enabled else None
        spread = self.is_fsdp_enabled or (plugin is not None and plugin.zero_stage == 3)
        if spread and hasattr(self.accelerator.unwrap_model(self.model), "merge_adapter"):
            raise TrainingError(
                "use_vllm is set, and an adapter is trained whose base is spread over processes (ZeRO-3, FSDP): it "
                "cannot be merged for vLLM. Launch with zero2.yaml, train all weights, or leave use_vllm out."
            )

    def _plain(self, model: Any) -> PreTrainedModel:
        """The transformers model inside accelerate's and peft's wrappers."""
        unwrapped = self.accelerator.unwrap_model(model)
        return unwrapped.get_base_model() if hasattr(unwrapped, "get_base_model") else unwrapped


def _rollout(prompts: list[str], trainer: VideoGRPOTrainer) -> dict[str, Any]:
    """TRL's `rollout_func`: one completion for each prompt of the batch, sampled by transformers or by vLLM.

    Returns lists of token ids of prompts and completions; a completion ends with its first end token, if it has one.
    """
    if trainer.use_vllm:
        return trainer.vllm_generation.sample()
    shown = [trainer.shown[row] for row in trainer.rows]
    prompt_ids = [list(sample.prompt_ids) for sample in shown]
    device = trainer.accelerator.device
    tensors = [torch.tensor(ids) for ids in prompt_ids]
    ids = pad(tensors, padding_value=trainer._tokenizer.pad_token_id, padding_side="left").to(device)
    mask = pad([torch.ones_like(t) for t in tensors], padding_value=0, padding_side="left").to(device)
    with (
        unwrap_model_for_generation(
            trainer.model_wrapped,
            trainer.accelerator,
            gather_deepspeed3_params=trainer.args.ds3_gather_for_generation,
            generation_kwargs=trainer.generation_kwargs,
            gradient_checkpointing_kwargs=trainer.args.gradient_checkpointing_kwargs,
        ) as model,
        torch.no_grad(),
        trainer._dist.summon_full_params(trainer.model_wrapped, recurse=False),
    ):
        video = trainer._video(model, shown, ids)
        whole = model.generate(
            input_ids=ids, attention_mask=mask, generation_config=trainer.generation_config, **video
        )
    ends = set(trainer.eos_token_ids)
    completion_ids = [_up_to_end(tokens, ends) for tokens in whole[:, ids.shape[1] :].tolist()]
    return {"prompt_ids": prompt_ids, "completion_ids": completion_ids, "logprobs": None}


def _up_to_end(tokens: list[int], ends: set[int]) -> list[int]:
    end = next((i for i, token in enumerate(tokens) if token in ends), len(tokens))
    return tokens[: end + 1]


def special_tokens(tokenizer: Any, keep: Sequence[int]) -> list[int]:
    """Ids of the tokenizer's special tokens (placeholders, turns), without those in `keep`."""
    added = tokenizer.added_tokens_decoder
    return sorted(i for i, token in added.items() if token.special and i not in keep)


def check_rollouts(args: GRPOConfig) -> None:
    """Raise TrainingError for a way of sampling that has no video."""
    if args.use_vllm:
        raise TrainingError(
            "use_vllm is set in the arguments of TRL, which hands vLLM the prompt's tokens and images only: the "
            "completions would be written without seeing the clip. Give the trainer vllm=(sampler, ask) instead."
        )
    if args.use_transformers_continuous_batching:
        raise TrainingError(
            "use_transformers_continuous_batching is set, but it takes no video. Leave it out."
        )
