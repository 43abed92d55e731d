"""One run of fine-tuning with video, from one YAML: `egost train sft CONFIG [--flag value ...]`.

    egost train sft training/configs/st_r1_7b_cot_sft.yaml --rows rows.jsonl
    accelerate launch --config_file training/configs/accelerate/zero2.yaml -m egost.training.sft \\
      --config training/configs/st_r1_7b_cot_sft.yaml --rows rows.jsonl

The YAML holds fields of `SftRecipe`, of TRL's SFTConfig and of its ModelConfig; flags override it. The run's folder
gets `log.csv`, checkpoints, `egost_training.json`, and at the end `final/`. The same command again goes on from the
last whole checkpoint.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from egost.tasks.clips.clips import Clip
from egost.tasks.clips.protocols import parse_protocol
from egost.tasks.errors import EgostError
from egost.tasks.prompts import load_prompt
from egost.tasks.release.release import Release, open_release
from egost.training.recipe import RecipeError, RowsRecipe, model_settings, read_recipe
from egost.training.rows.row_clips import row_clips
from egost.training.rows.training_rows import TrainingRow, read_training_rows
from egost.training.runs.checkpoint_manifest import CheckpointManifest
from egost.training.trl_version import check_trl
from egost.training.video.answer_mask import TaughtSample, answer_ids, batch
from egost.training.video.video_inputs import PixelLimits, VideoRenderer, load_processor

LOG_COLUMNS = {
    "epoch": "epoch",
    "loss": "loss",
    "token_accuracy": "mean_token_accuracy",
    "entropy": "entropy",
    "learning_rate": "learning_rate",
    "grad_norm": "grad_norm",
    "tokens": "num_tokens",
    "steps_left_out": "steps/left_out",
}
"""Columns of `log.csv`, each a mean over the steps since the last line; tokens is the sum since the start."""


@dataclass
class SftRecipe(RowsRecipe):
    """What a run of fine-tuning needs beside TRL's own settings."""

    chain_of_thought: bool = field(
        default=True,
        metadata={"help": "Teach the rows' reasoning before the answer, or else the answer alone (Table 3)."},
    )


@dataclass(frozen=True)
class SftData:
    """The rows of a run with their clips, and how they are shown."""

    release: Release
    rows: tuple[TrainingRow, ...]
    clips: tuple[Clip, ...]
    renderer: VideoRenderer

    def taught(self, row: int) -> TaughtSample:
        shown = self.renderer.render(self.rows[row].sample, self.clips[row])
        return TaughtSample(shown, self.answer_ids(row))

    def answer_ids(self, row: int) -> tuple[int, ...]:
        return answer_ids(self.rows[row].solution, self.renderer.processor.tokenizer)

    def prompt_lengths(self) -> list[int]:
        """Tokens of each row's prompt with its video."""
        return [
            self.renderer.prompt_length(row.sample, clip)
            for row, clip in zip(self.rows, self.clips, strict=True)
        ]

    def collate(self, examples: Sequence[dict[str, int]]) -> dict[str, Any]:
        """The batch of some rows of the trainer's data set; frames are read when their turn comes."""
        samples = [self.taught(example["row"]) for example in examples]
        return batch(samples, self.renderer.processor.tokenizer.pad_token_id)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what the flags (by default the command line's) ask for. Raises EgostError for what a user has to mend."""
    check_trl()
    recipe, args, model = parse(sys.argv[1:] if arguments is None else arguments)
    data = load_data(recipe, model.model_name_or_path)
    check_lengths(data, args.max_length)
    if recipe.dry_run:
        from egost.training.sft_plan import print_plan

        print_plan(recipe, args, model, data)
        return
    train(recipe, args, model, data)


def parse(arguments: Sequence[str]) -> tuple[SftRecipe, Any, Any]:
    """The recipe, TRL's SFTConfig and its ModelConfig that flags and `--config` name. Raises RecipeError."""
    from trl import ModelConfig, SFTConfig

    recipe, args, model = read_recipe((SftRecipe, SFTConfig, ModelConfig), arguments)
    if args.packing or args.padding_free:
        raise RecipeError(
            "packing or padding_free is set, but rows with a video are not packed: leave both out."
        )
    return recipe, args, model


def load_data(recipe: SftRecipe, checkpoint: str) -> SftData:
    """Rows, clips and processor of a recipe. Raises RecipeError for rows without the reasoning that is to be taught."""
    release = open_release(recipe.world)
    rows = read_training_rows(Path(recipe.rows))
    if not recipe.chain_of_thought:
        rows = tuple(dataclasses.replace(row, think="") for row in rows)
    elif bare := [row.sample.id for row in rows if not row.think]:
        raise RecipeError(
            f"{len(bare)} of {len(rows)} rows of {recipe.rows} hold no reasoning, for example {bare[0]}, but the "
            "recipe teaches it. Build the rows with reasoning, or give --chain_of_thought false --prompt direct."
        )
    pixels = PixelLimits(recipe.smallest_pixels, recipe.largest_pixels)
    return SftData(
        release=release,
        rows=rows,
        renderer=VideoRenderer(load_processor(checkpoint, pixels), load_prompt(recipe.prompt), pixels),
        clips=tuple(row_clips(rows, release, parse_protocol(recipe.protocol))),
    )


def check_lengths(data: SftData, limit: int | None) -> None:
    """Raise RecipeError for a row above the limit: cut short, it would lose a part of its answer."""
    lengths = [prompt + len(data.answer_ids(row)) for row, prompt in enumerate(data.prompt_lengths())]
    if limit is not None and max(lengths) > limit:
        longest = data.rows[lengths.index(max(lengths))].sample.id
        raise RecipeError(
            f"{sum(length > limit for length in lengths)} of {len(lengths)} rows are longer than max_length "
            f"({limit} tokens); the longest, of {longest}, has {max(lengths)}. Raise it, or lower largest_pixels."
        )


def make_trainer(recipe: SftRecipe, args: Any, model: Any, data: SftData, record: CheckpointManifest) -> Any:
    """The trainer of a recipe, ready to train. Raises VideoModelError for a model of another family."""
    from datasets import Dataset
    from trl import SFTTrainer, get_peft_config, get_quantization_config

    from egost.training.runs.complete_checkpoints import WholeCheckpoints
    from egost.training.runs.csv_log import CsvLog
    from egost.training.runs.non_finite_steps import NonFiniteSteps
    from egost.training.video.clip_encoder import check_video_model

    args.model_init_kwargs = model_settings(args, model)
    # The collator makes of a row's number what the model takes; TRL would tokenise texts, and drop the number.
    args.dataset_kwargs = {"skip_prepare_dataset": True}
    args.remove_unused_columns = False
    keep, args.save_total_limit = args.save_total_limit, None
    trainer = SFTTrainer(
        model=model.model_name_or_path,
        args=args,
        data_collator=data.collate,
        train_dataset=Dataset.from_list([{"row": place} for place in range(len(data.rows))]),
        processing_class=data.renderer.processor,
        quantization_config=get_quantization_config(model),
        peft_config=get_peft_config(model),
        callbacks=[CsvLog(LOG_COLUMNS), WholeCheckpoints(keep, record.write)],
    )
    plain = trainer.accelerator.unwrap_model(trainer.model)
    check_video_model(plain.get_base_model() if hasattr(plain, "get_base_model") else plain)
    # TRL makes new lists of metrics whenever it logs.
    trainer.add_callback(NonFiniteSteps(lambda bad: trainer._metrics["train"]["steps/left_out"].append(bad)))
    return trainer


def train(recipe: SftRecipe, args: Any, model: Any, data: SftData) -> None:
    """Train, going on where a run of the same recipe was cut off, and write `final/`."""
    from egost.training.runs.resumable_run import check_same_run, run_manifest, train_whole

    record = run_manifest("sft", recipe, args, model, data.rows, data.release)
    check_same_run(Path(args.output_dir), record)
    train_whole(make_trainer(recipe, args, model, data, record), record)


if __name__ == "__main__":
    try:
        main()
    except EgostError as error:
        raise SystemExit(f"egost: {error}") from error
