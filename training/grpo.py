"""One run of GRPO with video, from one YAML: `egost train grpo CONFIG [--flag value ...]`.

    egost train grpo training/configs/st_r1_7b_grpo.yaml --model_name_or_path runs/sft/final --rows rows.jsonl
    accelerate launch -m training.grpo --config training/configs/st_r1_7b_grpo.yaml ...

The YAML holds fields of `GrpoRecipe`, of TRL's GRPOConfig and of its ModelConfig; flags override it. The run's folder
gets `log.csv`, checkpoints, `egost_training.json`, and at the end `final/`, which `--model qwen2_vl` takes. The same
command again goes on from the last whole checkpoint.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from egost_tasks.cache import write_whole
from egost_tasks.clips import Clip
from egost_tasks.errors import EgostError
from egost_tasks.frames import parse_protocol
from egost_tasks.judge import chosen_judge
from egost_tasks.prompts import load_prompt
from egost_tasks.release import Release, open_release
from training.rewards import Rewards
from training.row_clips import row_clips
from training.training_rows import TrainingRow, read_training_rows
from training.trl_version import check_trl
from training.video_inputs import PixelLimits, ShownSample, VideoRenderer, load_processor

MANIFEST = "egost_training.json"
FINAL = "final"

LOG_COLUMNS = {
    "epoch": "epoch",
    "loss": "loss",
    "reward": "reward",
    "reward_std": "reward_std",
    "completion_length": "completions/mean_length",
    "clipped_ratio": "completions/clipped_ratio",
    "kl": "kl",
    "entropy": "entropy",
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
"""Columns of `log.csv`; counts are means over the steps since the last line."""


class RecipeError(EgostError):
    """The recipe cannot be run: a value is missing or wrong, or its folder belongs to another run."""


@dataclass
class GrpoRecipe:
    """What a run of GRPO needs beside TRL's own settings."""

    rows: str = field(default="", metadata={"help": "JSONL file of training rows."})
    world: Literal["official", "mini"] = field(
        default="official", metadata={"help": "Release that the clips are of."}
    )
    prompt: str = field(default="think", metadata={"help": "How the questions are asked, as EGOST_PROMPT."})
    protocol: str = field(
        default="uniform8", metadata={"help": "Which 8 frames are shown, as EGOST_PROTOCOL."}
    )
    smallest_pixels: int = field(default=3136, metadata={"help": "Fewest pixels of a frame."})
    largest_pixels: int = field(default=602112, metadata={"help": "Most pixels of a frame."})
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
    dry_run: bool = field(default=False, metadata={"help": "Say what the run would be, and do not train."})


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
        from training.grpo_plan import plan

        print(plan(recipe, args, model, data))
        return
    train(recipe, args, model, data)


def parse(arguments: Sequence[str]) -> tuple[GrpoRecipe, Any, Any]:
    """The recipe, TRL's GRPOConfig and its ModelConfig that flags and `--config` name.

    Raises RecipeError for an unknown or missing value; the parser itself exits with 2 for a malformed flag.
    """
    from trl import GRPOConfig, ModelConfig, TrlParser

    try:
        recipe, args, model = TrlParser((GrpoRecipe, GRPOConfig, ModelConfig)).parse_args_and_config(
            list(arguments)
        )
    except (OSError, ValueError) as error:
        raise RecipeError(f"the recipe cannot be read: {error}") from error
    for name, value in (("rows", recipe.rows), ("model_name_or_path", model.model_name_or_path)):
        if not value:
            raise RecipeError(f"the recipe names no {name}. Add it to the YAML, or give --{name}.")
    if recipe.softmax_temperature <= 0:
        raise RecipeError(f"softmax_temperature is {recipe.softmax_temperature}; expected more than 0.")
    args.reward_weights = [1.0, recipe.format_weight, 1.0]
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


def make_trainer(recipe: GrpoRecipe, args: Any, model: Any, data: GrpoData) -> Any:
    """The trainer of a recipe, ready to train."""
    from datasets import Dataset
    from trl import get_peft_config, get_quantization_config

    from training.csv_log import CsvLog
    from training.video_grpo import VideoGRPOTrainer
    from training.whole_checkpoints import WholeCheckpoints

    args.model_init_kwargs = {
        "revision": model.model_revision,
        "attn_implementation": model.attn_implementation,
        "dtype": model.dtype or "float32",
        **(args.model_init_kwargs or {}),
    }
    keep, args.save_total_limit = args.save_total_limit, None
    record = manifest(recipe, args, model, data)
    return VideoGRPOTrainer(
        model=model.model_name_or_path,
        args=args,
        show=data.show,
        softmax_temperature=recipe.softmax_temperature if recipe.advantage == "softmax" else None,
        reward_funcs=[data.rewards.accuracy, data.rewards.format, data.rewards.route],
        train_dataset=Dataset.from_list(
            [{"prompt": row.sample.id, "row": place} for place, row in enumerate(data.rows)]
        ),
        processing_class=data.renderer.processor,
        quantization_config=get_quantization_config(model),
        peft_config=get_peft_config(model),
        callbacks=[
            CsvLog(LOG_COLUMNS),
            WholeCheckpoints(keep, lambda folder: write_manifest(folder, record)),
        ],
    )


def train(recipe: GrpoRecipe, args: Any, model: Any, data: GrpoData) -> None:
    """Train, going on where a run of the same recipe was cut off, and write `final/`."""
    from training.whole_checkpoints import remove_unfinished, whole_checkpoints

    output = Path(args.output_dir)
    record = manifest(recipe, args, model, data)
    check_same_run(output, record)
    trainer = make_trainer(recipe, args, model, data)
    with args.main_process_first(desc="looking for checkpoints"):
        if args.should_save:
            for broken in remove_unfinished(output):
                print(f"{broken} was being written when its run ended; it is removed.")
            write_manifest(output, record)
    last = whole_checkpoints(output)[-1:]
    if last:
        print(f"Going on from {last[0]}.")
    trainer.train(resume_from_checkpoint=str(last[0]) if last else None)
    save_final(trainer, output / FINAL, record)
    print(f"Trained: {output / FINAL}. Figures: {output / 'log.csv'}")
    trainer.end()


def manifest(recipe: GrpoRecipe, args: Any, model: Any, data: GrpoData) -> dict[str, Any]:
    """What a checkpoint of this run was made of: its rows, its base, and every setting that changes the result."""
    settings = {name: value for name, value in args.to_dict().items() if name not in _WITHOUT_EFFECT}
    return {
        "method": "grpo",
        "base": model.model_name_or_path,
        "world": recipe.world,
        "release_revision": data.release.revision,
        "recipe": {
            **dataclasses.asdict(recipe),
            "model": {name: value for name, value in dataclasses.asdict(model).items() if value is not None},
            "grpo": settings,
        },
        "rows": [{"sample": row.sample.id, "clip_sha256": row.clip_sha256} for row in data.rows],
    }


_WITHOUT_EFFECT = {
    "output_dir",
    "logging_dir",
    "run_name",
    "report_to",
    "disable_tqdm",
    "logging_steps",
    "save_steps",
    "save_strategy",
    "save_total_limit",
    "model_init_kwargs",
    "resume_from_checkpoint",
    "local_rank",
    "push_to_hub",
    "hub_token",
    "hub_model_id",
}
"""Settings that say where and how often things are written, or hold a secret; a run may go on with others."""


def write_manifest(folder: Path, record: dict[str, Any]) -> None:
    """Write `egost_training.json` into a checkpoint's or a run's folder. Raises OSError."""
    write_whole(folder / MANIFEST, json.dumps(record, indent=1, default=str).encode())


def check_same_run(output: Path, record: dict[str, Any]) -> None:
    """Raise RecipeError where the folder holds a run of other rows or settings, which must not be mixed."""
    path = output / MANIFEST
    if not path.is_file():
        return
    found = json.loads(path.read_text(encoding="utf-8"))
    asked = json.loads(json.dumps(record, default=str))
    if found != asked:
        differing = sorted(_differences(found, asked))
        raise RecipeError(
            f"{output} holds another run: {', '.join(differing[:6])} differ. Give another --output_dir, or delete that "
            "folder to begin anew."
        )


def _differences(found: Any, asked: Any, at: str = "") -> set[str]:
    if isinstance(found, dict) and isinstance(asked, dict):
        names = found.keys() | asked.keys()
        return set().union(*(_differences(found.get(n), asked.get(n), f"{at}.{n}".strip(".")) for n in names))
    return set() if found == asked else {at}


def save_final(trainer: Any, target: Path, record: dict[str, Any]) -> None:
    """Write the trained model with its processor and manifest, whole or not at all; adapters are merged into it.

    Adapters of a model that was loaded in 4 or 8 bits, or whose weights are spread over processes, cannot be merged
    here; they are written as they are, for `egost train merge` to put into the unquantised base.
    """
    plain = trainer.accelerator.unwrap_model(trainer.model)
    merges = hasattr(plain, "merge_and_unload") and not (
        getattr(plain, "is_loaded_in_4bit", False)
        or getattr(plain, "is_loaded_in_8bit", False)
        or trainer.is_deepspeed_enabled
        or trainer.is_fsdp_enabled
    )
    beside = target.with_name(target.name + ".part")
    if trainer.args.should_save:
        shutil.rmtree(beside, ignore_errors=True)
    trainer.accelerator.wait_for_everyone()
    if not merges:
        # Spread weights are gathered here, by all processes.
        trainer.save_model(str(beside))
    elif trainer.args.should_save:
        plain.merge_and_unload().save_pretrained(beside)
        trainer.processing_class.save_pretrained(beside)
    trainer.accelerator.wait_for_everyone()
    if trainer.args.should_save:
        write_manifest(beside, record)
        shutil.rmtree(target, ignore_errors=True)
        beside.rename(target)


if __name__ == "__main__":
    try:
        main()
    except EgostError as error:
        raise SystemExit(f"egost: {error}") from error
