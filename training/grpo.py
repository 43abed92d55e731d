"""GRPO with video from one recipe: `egost train grpo RECIPE [--flag value ...]`.

    egost train grpo st_r1_7b_grpo --model_name_or_path runs/sft/final --rows rows.jsonl
    accelerate launch --config_file training/configs/accelerate/zero3.yaml -m egost.training.grpo \\
      --config st_r1_7b_grpo ...

The YAML holds fields of `GrpoRecipe`, of TRL's GRPOConfig and of its ModelConfig; flags override it. The run's folder
gets `log.csv`, checkpoints, `egost_training.json`, and at the end `final/`, which `--model qwen2_vl` takes. The same
command again resumes from the last whole checkpoint.
"""

from __future__ import annotations

import dataclasses
import sys
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from egost.model_adapters.checkpoints import checkpoint_identity
from egost.model_adapters.engine import Ask, GenerationArguments
from egost.model_adapters.vllm_engine import VllmEngine, VllmSettings
from egost.tasks.errors import exits_with_message
from egost.tasks.judging.choose import chosen_judge
from egost.training import TrainingError
from egost.training.checkpoint_manifest import CheckpointManifest
from egost.training.group_sampling import EngineSampler, GroupSampler, ServerSampler
from egost.training.recipe import (
    RowsRecipe,
    check_trl,
    model_settings,
    plan_memory,
    read_recipe,
    resolve_model,
)
from egost.training.rewards import Accuracy, Rewards
from egost.training.rows.training_rows import read_training_rows
from egost.training.video_inputs import ShownRows, open_rows

LOG_COLUMNS = {
    "epoch": "epoch",
    "loss": "loss",
    "reward": "reward",
    "reward_std": "reward_std",
    "completion_length": "completions/mean_length",
    "clipped_ratio": "completions/clipped_ratio",
    "kl": "kl",
    "entropy": "entropy",
    "sampling_gap": "sampling/sampling_logp_difference/mean",
    "learning_rate": "learning_rate",
    "grad_norm": "grad_norm",
    "groups_all_equal": "groups/all_equal",
    "completions_invalid": "completions/invalid",
    "completions_empty": "completions/empty",
    "completions_unscored": "completions/unscored",
    "judge_failed": "completions/judge_failed",
    "loss_not_finite": "loss/not_finite",
    "steps_left_out": "steps/left_out",
    "step_time": "step_time",
}
"""Columns of `log.csv`; counts are means over the steps since the last line. sampling_gap: how far vLLM's
log-probabilities, where it samples, are from the trainer's."""


@dataclass
class GrpoRecipe(RowsRecipe):
    """The settings of GRPO that TRL does not have."""

    max_prompt_length: int = field(
        default=4096, metadata={"help": "Most tokens of a prompt with its video; a longer one is an error."}
    )
    format_weight: float = field(
        default=0.0, metadata={"help": "Weight of the reward for <think>...</think> <answer>...</answer>."}
    )
    accuracy: Accuracy = field(
        default="strict",
        metadata={"help": "How a choice is read: strict as the evaluation, or as_released."},
    )
    advantage: Literal["normalised", "softmax"] = field(
        default="normalised", metadata={"help": "GRPO's advantage, or equation 2's softmax weights."}
    )
    softmax_temperature: float = field(default=1.0, metadata={"help": "Temperature of the softmax weights."})


@dataclass(frozen=True)
class GrpoData:
    """The rows of a run as the model sees them, and their rewards."""

    shown: ShownRows
    rewards: Rewards

    def ask(self, row: int) -> Ask:
        """The row's prompt and clip, as vLLM is asked."""
        sample = self.shown.rows[row].sample
        text = self.shown.renderer.prompt.render(sample)
        name = f"{self.shown.release.world}/{sample.id}"
        return Ask(name, text, self.shown.clips[row], GenerationArguments(0))


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what the flags (by default the command line's) ask for. Raises EgostError for what a user has to fix."""
    check_trl()
    recipe, args, model = parse(sys.argv[1:] if arguments is None else arguments)
    resolve_model(model)
    data = load_data(recipe, model.model_name_or_path)
    lengths = data.shown.prompt_lengths()
    data.shown.check_lengths(lengths, recipe.max_prompt_length, "prompts", "max_prompt_length")
    if recipe.dry_run:
        print(plan(recipe, args, model, data))
        return
    train(recipe, args, model, data)


def parse(arguments: Sequence[str]) -> tuple[GrpoRecipe, Any, Any]:
    """The recipe, TRL's GRPOConfig and its ModelConfig that flags and `--config` name. Raises TrainingError."""
    # The warning is about vLLM rollouts that TRL makes itself; these are ours.
    warnings.filterwarnings("ignore", message="TRL currently supports vLLM")
    from trl import GRPOConfig, ModelConfig

    recipe, args, model = read_recipe((GrpoRecipe, GRPOConfig, ModelConfig), arguments)
    if recipe.softmax_temperature <= 0:
        raise TrainingError(f"softmax_temperature is {recipe.softmax_temperature}; expected more than 0.")
    args.reward_weights = [1.0, recipe.format_weight, 1.0]
    if args.use_vllm:
        check_vllm(recipe, args, model)
    return recipe, args, model


def load_data(recipe: GrpoRecipe, checkpoint: str) -> GrpoData:
    """Rows, clips, processor and rewards of a recipe; the judge is made only where a row is a route."""
    rows = read_training_rows(Path(recipe.rows))
    routes = any(row.sample.task == "route" for row in rows)
    # A judge that cannot be had is an error before any clip is decoded.
    rewards = Rewards(rows, chosen_judge(recipe.world) if routes else None, recipe.accuracy)
    return GrpoData(open_rows(recipe, rows, checkpoint), rewards)


def make_trainer(
    recipe: GrpoRecipe, args: Any, model: Any, data: GrpoData, record: CheckpointManifest
) -> Any:
    """The trainer of a recipe, ready to train."""
    from datasets import Dataset
    from trl import get_peft_config, get_quantization_config

    from egost.training.resumable_run import CsvLog, CutWarning, WholeCheckpoints
    from egost.training.video_grpo import VideoGRPOTrainer

    args.model_init_kwargs = model_settings(args, model)
    keep, args.save_total_limit = args.save_total_limit, None
    vllm = (vllm_sampler(recipe, args, model), data.ask) if args.use_vllm else None
    args.use_vllm = False
    return VideoGRPOTrainer(
        model=model.model_name_or_path,
        args=args,
        show=data.shown.show,
        softmax_temperature=recipe.softmax_temperature if recipe.advantage == "softmax" else None,
        vllm=vllm,
        reward_funcs=[data.rewards.accuracy, data.rewards.format, data.rewards.route],
        train_dataset=Dataset.from_list(
            [{"prompt": row.sample.id, "row": place} for place, row in enumerate(data.shown.rows)]
        ),
        processing_class=data.shown.renderer.processor,
        quantization_config=get_quantization_config(model),
        peft_config=get_peft_config(model),
        callbacks=[CsvLog(LOG_COLUMNS), CutWarning(), WholeCheckpoints(keep, record.write)],
    )


_NOT_WITH_VIDEO = (
    "vllm_enable_sleep_mode",
    "vllm_structured_outputs_regex",
    "vllm_tensor_parallel_size",
    "vllm_model_impl",
    "generation_kwargs",
)
"""TRL's settings of vLLM rollouts that ours do not support."""


def check_vllm(recipe: GrpoRecipe, args: Any, model: Any) -> None:
    """Raise TrainingError for settings under which vLLM cannot sample."""
    fewest = RowsRecipe.smallest_pixels
    fields = {field.name: field.default for field in dataclasses.fields(args)}
    if unknown := [name for name in _NOT_WITH_VIDEO if getattr(args, name) != fields[name]]:
        raise TrainingError(
            f"use_vllm is set, and {', '.join(unknown)} cannot be honoured with video. Leave it out."
        )
    if model.load_in_4bit or model.load_in_8bit:
        raise TrainingError(
            "use_vllm is set, and the model is loaded in 4 or 8 bits, which vLLM cannot be handed at each step. Give "
            "--load_in_4bit false --load_in_8bit false, or leave use_vllm out."
        )
    if recipe.smallest_pixels != fewest:
        raise TrainingError(
            f"use_vllm is set, and smallest_pixels is {recipe.smallest_pixels}: vLLM knows {fewest} only. Leave it out."
        )
    by_token = ("token_truncate", "token_mask")
    corrected = args.vllm_importance_sampling_correction
    # TRL does not check this, since its own use_vllm is off.
    if args.loss_type == "vespo" and corrected and args.vllm_importance_sampling_mode not in by_token:
        raise TrainingError(
            f"loss_type is vespo, and vllm_importance_sampling_mode is {args.vllm_importance_sampling_mode}; expected "
            f"one of {', '.join(by_token)}."
        )
    if args.vllm_mode == "colocate" and args.world_size > 1:
        raise TrainingError(
            f"use_vllm is set, vllm_mode is colocate, and there are {args.world_size} processes: vLLM samples in the "
            "process of a single one. Start `egost serve MODEL --rollouts`, and give --vllm_mode server."
        )


def vllm_server(args: Any) -> str:
    """URL of the server that TRL's arguments name."""
    return args.vllm_server_base_url or f"http://{args.vllm_server_host}:{args.vllm_server_port}"


def vllm_sampler(recipe: GrpoRecipe, args: Any, model: Any) -> GroupSampler:
    """vLLM as TRL's arguments ask for it. Raises AdapterError where it is not installed, or no such server is up."""
    if args.vllm_mode == "server":
        return ServerSampler(
            vllm_server(args), recipe.largest_pixels, args.vllm_server_timeout, args.vllm_group_port
        )
    name = model.model_name_or_path
    checkpoint = checkpoint_identity(name, None if Path(name).is_dir() else model.model_revision)
    settings = VllmSettings(
        dtype=model.dtype or "float32",
        max_pixels=recipe.largest_pixels,
        max_model_len=args.vllm_max_model_length or recipe.max_prompt_length + args.max_completion_length,
        gpu_memory_utilization=None if args.use_cpu else args.vllm_gpu_memory_utilization,
    )
    return EngineSampler(VllmEngine(checkpoint, settings, load_bar=False))


def train(recipe: GrpoRecipe, args: Any, model: Any, data: GrpoData) -> None:
    """Train, or resume a run of the same recipe, and write `final/`."""
    from egost.training.resumable_run import train_resumably

    train_resumably(
        *("grpo", recipe, args, model, data.shown),
        lambda record: make_trainer(recipe, args, model, data, record),
    )


def plan(recipe: GrpoRecipe, args: Any, model: Any, data: GrpoData) -> str:
    """What the run would do: steps, tokens, memory, and the first prompt as the model sees it. No weight is loaded."""
    lengths = data.shown.prompt_lengths()
    first, row = data.shown.show(0), data.shown.rows[0]
    video_tokens = sum(kind == 2 for kind in first.mm_token_type_ids)
    per_step = args.generation_batch_size // args.num_generations
    longest = max(lengths) + args.max_completion_length
    return "\n".join(
        [
            f"rows: {len(lengths)} of {recipe.world} ({data.shown.release.revision})",
            f"optimizer steps: {_optimizer_steps(args, len(lengths))} ({per_step} prompts x {args.num_generations} "
            f"completions sampled at a time)",
            f"sampled by: {_sampled_by(args)}",
            f"prompt tokens: {min(lengths)} to {max(lengths)}, mean {sum(lengths) / len(lengths):.0f} "
            f"(limit {recipe.max_prompt_length}); a completion at most {args.max_completion_length}",
            f"tokens an epoch, at most: "
            f"{sum(n + args.max_completion_length for n in lengths) * args.num_generations:,}",
            *plan_memory(
                *(model, args, longest, args.per_device_train_batch_size),
                patches=int(first.video_grid_thw.prod())
                * max(1, args.per_device_train_batch_size // args.num_generations),
                reference=bool(args.beta) and not model.use_peft,
            ).lines("grpo"),
            "",
            f"first row: {row.sample.id}, video of {video_tokens} tokens, grid {first.video_grid_thw[0].tolist()}",
            first.text,
            f"--- its own solution earns {_earned(data)} ---",
            row.solution,
        ]
    )


def _sampled_by(args: Any) -> str:
    if not args.use_vllm:
        return "transformers"
    if args.vllm_mode == "server":
        return f"vLLM at {vllm_server(args)}"
    return f"vLLM in this process, with {args.vllm_gpu_memory_utilization:.0%} of its GPU's memory"


def _optimizer_steps(args: Any, rows: int) -> int:
    """Optimizer steps of the run, as TRL's sampler makes them: groups that do not fill a batch are left out."""
    if args.max_steps > 0:
        return int(args.max_steps)
    batches = rows // (args.generation_batch_size // args.num_generations)
    micro_steps = batches * args.steps_per_generation * args.num_iterations
    per_epoch = -(-micro_steps // args.gradient_accumulation_steps)
    return int(per_epoch * args.num_train_epochs)


def _earned(data: GrpoData) -> str:
    row = data.shown.rows[0]
    reward = data.rewards.route if row.sample.task == "route" else data.rewards.accuracy
    [earned] = reward(completions=[row.solution], row=[0], log_metric=lambda _name, _value: None)
    return "no reward: it could not be scored" if earned is None else f"{earned:.2f}"


if __name__ == "__main__":
    exits_with_message(main)()
