"""One run of GRPO with video, from one YAML: `egost train grpo CONFIG [--flag value ...]`.

    egost train grpo training/configs/st_r1_7b_grpo.yaml --model_name_or_path runs/sft/final --rows rows.jsonl
    accelerate launch -m egost.training.grpo --config training/configs/st_r1_7b_grpo.yaml ...

The YAML holds fields of `GrpoRecipe`, of TRL's GRPOConfig and of its ModelConfig; flags override it. The run's folder
gets `log.csv`, checkpoints, `egost_training.json`, and at the end `final/`, which `--model qwen2_vl` takes. The same
command again goes on from the last whole checkpoint.
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
from egost.model_adapters.vllm.group_sampling import EngineSampler, GroupSampler, ServerSampler
from egost.model_adapters.vllm.vllm_engine import VllmEngine, VllmSettings
from egost.tasks.clips.clips import Clip
from egost.tasks.clips.protocols import parse_protocol
from egost.tasks.errors import EgostError
from egost.tasks.judging.judge import chosen_judge
from egost.tasks.prompts import load_prompt
from egost.tasks.release.release import Release, open_release
from egost.training.recipe import RecipeError, RowsRecipe, model_settings, read_recipe
from egost.training.rewards import Rewards
from egost.training.rows.row_clips import row_clips
from egost.training.rows.training_rows import TrainingRow, read_training_rows
from egost.training.runs.checkpoint_manifest import CheckpointManifest
from egost.training.trl_version import check_trl
from egost.training.video.video_inputs import PixelLimits, ShownSample, VideoRenderer, load_processor

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
    """What a run of GRPO needs beside TRL's own settings."""

    max_prompt_length: int = field(
        default=4096, metadata={"help": "Most tokens of a prompt with its video; a longer one is an error."}
    )
    format_weight: float = field(
        default=0.0, metadata={"help": "Weight of the reward for <think>...</think> <answer>...</answer>."}
    )
    advantage: Literal["normalised", "softmax"] = field(
        default="normalised", metadata={"help": "GRPO's advantage, or equation 2's softmax weights."}
    )
    softmax_temperature: float = field(default=1.0, metadata={"help": "Temperature of the softmax weights."})


@dataclass(frozen=True)
class GrpoData:
    """The rows of a run with their clips, and how they are shown and rewarded."""

    release: Release
    rows: tuple[TrainingRow, ...]
    clips: tuple[Clip, ...]
    renderer: VideoRenderer
    rewards: Rewards

    def show(self, row: int) -> ShownSample:
        return self.renderer.render(self.rows[row].sample, self.clips[row])

    def ask(self, row: int) -> Ask:
        """The row's prompt and clip, as vLLM is asked."""
        sample = self.rows[row].sample
        text = self.renderer.prompt.render(sample)
        return Ask(f"{self.release.world}/{sample.id}", text, self.clips[row], GenerationArguments(0))

    def prompt_lengths(self) -> list[int]:
        """Tokens of each row's prompt with its video."""
        return [
            self.renderer.prompt_length(row.sample, clip)
            for row, clip in zip(self.rows, self.clips, strict=True)
        ]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what the flags (by default the command line's) ask for. Raises EgostError for what a user has to mend."""
    check_trl()
    recipe, args, model = parse(sys.argv[1:] if arguments is None else arguments)
    data = load_data(recipe, model.model_name_or_path)
    check_prompt_lengths(data, recipe.max_prompt_length)
    if recipe.dry_run:
        from egost.training.grpo_plan import plan

        print(plan(recipe, args, model, data))
        return
    train(recipe, args, model, data)


def parse(arguments: Sequence[str]) -> tuple[GrpoRecipe, Any, Any]:
    """The recipe, TRL's GRPOConfig and its ModelConfig that flags and `--config` name. Raises RecipeError."""
    # Said of rollouts that TRL would make by vLLM itself, which these are not.
    warnings.filterwarnings("ignore", message="TRL currently supports vLLM")
    from trl import GRPOConfig, ModelConfig

    recipe, args, model = read_recipe((GrpoRecipe, GRPOConfig, ModelConfig), arguments)
    if recipe.softmax_temperature <= 0:
        raise RecipeError(f"softmax_temperature is {recipe.softmax_temperature}; expected more than 0.")
    args.reward_weights = [1.0, recipe.format_weight, 1.0]
    if args.use_vllm:
        check_vllm(recipe, args, model)
    return recipe, args, model


def load_data(recipe: GrpoRecipe, checkpoint: str) -> GrpoData:
    """Rows, clips, processor and rewards of a recipe; the judge is made only where a row is a route."""
    release = open_release(recipe.world)
    rows = read_training_rows(Path(recipe.rows))
    pixels = PixelLimits(recipe.smallest_pixels, recipe.largest_pixels)
    routes = any(row.sample.task == "route" for row in rows)
    return GrpoData(
        release=release,
        rows=rows,
        renderer=VideoRenderer(load_processor(checkpoint, pixels), load_prompt(recipe.prompt), pixels),
        rewards=Rewards(rows, chosen_judge(recipe.world) if routes else None),
        clips=tuple(row_clips(rows, release, parse_protocol(recipe.protocol))),
    )


def check_prompt_lengths(data: GrpoData, limit: int) -> None:
    """Raise RecipeError for a prompt above the limit: cut short, it would lose a part of its video."""
    lengths = data.prompt_lengths()
    if max(lengths) > limit:
        longest = data.rows[lengths.index(max(lengths))].sample.id
        raise RecipeError(
            f"{sum(length > limit for length in lengths)} of {len(lengths)} prompts are longer than max_prompt_length "
            f"({limit} tokens); the longest, of {longest}, has {max(lengths)}. Raise it, or lower largest_pixels."
        )


def make_trainer(
    recipe: GrpoRecipe, args: Any, model: Any, data: GrpoData, record: CheckpointManifest
) -> Any:
    """The trainer of a recipe, ready to train."""
    from datasets import Dataset
    from trl import get_peft_config, get_quantization_config

    from egost.training.runs.complete_checkpoints import WholeCheckpoints
    from egost.training.runs.csv_log import CsvLog
    from egost.training.video_grpo import VideoGRPOTrainer

    args.model_init_kwargs = model_settings(args, model)
    keep, args.save_total_limit = args.save_total_limit, None
    vllm = (vllm_sampler(recipe, args, model), data.ask) if args.use_vllm else None
    args.use_vllm = False
    return VideoGRPOTrainer(
        model=model.model_name_or_path,
        args=args,
        show=data.show,
        softmax_temperature=recipe.softmax_temperature if recipe.advantage == "softmax" else None,
        vllm=vllm,
        reward_funcs=[data.rewards.accuracy, data.rewards.format, data.rewards.route],
        train_dataset=Dataset.from_list(
            [{"prompt": row.sample.id, "row": place} for place, row in enumerate(data.rows)]
        ),
        processing_class=data.renderer.processor,
        quantization_config=get_quantization_config(model),
        peft_config=get_peft_config(model),
        callbacks=[CsvLog(LOG_COLUMNS), WholeCheckpoints(keep, record.write)],
    )


_NOT_WITH_VIDEO = (
    "vllm_enable_sleep_mode",
    "vllm_structured_outputs_regex",
    "vllm_tensor_parallel_size",
    "vllm_model_impl",
    "generation_kwargs",
)
"""TRL's settings of rollouts by vLLM that these do not know."""


def check_vllm(recipe: GrpoRecipe, args: Any, model: Any) -> None:
    """Raise RecipeError for settings under which vLLM cannot sample."""
    fewest = RowsRecipe.smallest_pixels
    fields = {field.name: field.default for field in dataclasses.fields(args)}
    if unknown := [name for name in _NOT_WITH_VIDEO if getattr(args, name) != fields[name]]:
        raise RecipeError(
            f"use_vllm is set, and {', '.join(unknown)} cannot be honoured with video. Leave it out."
        )
    if model.load_in_4bit or model.load_in_8bit:
        raise RecipeError(
            "use_vllm is set, and the model is loaded in 4 or 8 bits, which vLLM cannot be handed at each step. Give "
            "--load_in_4bit false --load_in_8bit false, or leave use_vllm out."
        )
    if recipe.smallest_pixels != fewest:
        raise RecipeError(
            f"use_vllm is set, and smallest_pixels is {recipe.smallest_pixels}: vLLM knows {fewest} only. Leave it out."
        )
    by_token = ("token_truncate", "token_mask")
    corrected = args.vllm_importance_sampling_correction
    # TRL would say so itself, were it told of vLLM.
    if args.loss_type == "vespo" and corrected and args.vllm_importance_sampling_mode not in by_token:
        raise RecipeError(
            f"loss_type is vespo, and vllm_importance_sampling_mode is {args.vllm_importance_sampling_mode}; expected "
            f"one of {', '.join(by_token)}."
        )
    if args.vllm_mode == "colocate" and args.world_size > 1:
        raise RecipeError(
            f"use_vllm is set, vllm_mode is colocate, and there are {args.world_size} processes: vLLM samples in the "
            "process of a single one. Start `egost serve MODEL --rollouts`, and give --vllm_mode server."
        )


def vllm_server(args: Any) -> str:
    """URL of the server that TRL's arguments name."""
    return args.vllm_server_base_url or f"http://{args.vllm_server_host}:{args.vllm_server_port}"


def vllm_sampler(recipe: GrpoRecipe, args: Any, model: Any) -> GroupSampler:
    """vLLM as TRL's arguments ask for it. Raises AdapterError where it is not installed, or no such server is up."""
    if args.vllm_mode == "server":
        return ServerSampler(vllm_server(args), recipe.largest_pixels, args.vllm_server_timeout)
    name = model.model_name_or_path
    checkpoint = checkpoint_identity(name, None if Path(name).is_dir() else model.model_revision)
    settings = VllmSettings(
        dtype=model.dtype or "float32",
        max_pixels=recipe.largest_pixels,
        max_model_len=args.vllm_max_model_length or recipe.max_prompt_length + args.max_completion_length,
        gpu_memory_utilization=None if args.use_cpu else args.vllm_gpu_memory_utilization,
        load_bar=False,
    )
    return EngineSampler(VllmEngine(checkpoint, settings))


def train(recipe: GrpoRecipe, args: Any, model: Any, data: GrpoData) -> None:
    """Train, going on where a run of the same recipe was cut off, and write `final/`."""
    from egost.training.runs.resumable_run import check_same_run, run_manifest, train_whole

    record = run_manifest("grpo", recipe, args, model, data.rows, data.release)
    check_same_run(Path(args.output_dir), record)
    train_whole(make_trainer(recipe, args, model, data, record), record)


if __name__ == "__main__":
    try:
        main()
    except EgostError as error:
        raise SystemExit(f"egost: {error}") from error
