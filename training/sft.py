"""Fine-tuning with video (ST-CoT or answers alone) from one recipe: `egost train sft RECIPE [--flag value ...]`.

    egost train sft st_r1_7b_cot_sft --rows rows.jsonl
    accelerate launch --config_file training/configs/accelerate/zero2.yaml -m egost.training.sft \\
      --config st_r1_7b_cot_sft --rows rows.jsonl

The YAML holds fields of `SftRecipe`, of TRL's SFTConfig and of its ModelConfig; flags override it. The run's folder
gets `log.csv`, checkpoints, `egost_training.json`, and at the end `final/`. The same command again resumes from the
last whole checkpoint.

A row teaches its solution and the end of the turn, and no token of the prompt:

    [prompt with the video's tokens] [solution] [end]
    labels:  -100 ...                 its ids    its id
"""

from __future__ import annotations

import dataclasses
import math
import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.text import Text

from egost.tasks.errors import exits_with_message
from egost.training import TrainingError
from egost.training.checkpoint_manifest import CheckpointManifest
from egost.training.recipe import (
    RowsRecipe,
    check_trl,
    model_settings,
    plan_memory,
    read_recipe,
    resolve_model,
)
from egost.training.rows.training_rows import read_training_rows
from egost.training.video_inputs import ShownRows, ShownSample, check_video_model, open_rows

if TYPE_CHECKING:
    import torch

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

IGNORED = -100
"""The label of a token that is not taught, as torch's cross-entropy and TRL read it."""


@dataclass
class SftRecipe(RowsRecipe):
    """The settings of fine-tuning that TRL does not have."""

    chain_of_thought: bool = field(
        default=True,
        metadata={"help": "Teach the rows' reasoning before the answer, or else the answer alone (Table 3)."},
    )


@dataclass(frozen=True)
class TaughtSample:
    """A sample as the model sees it, and the tokens that it learns to say then, the end token last."""

    shown: ShownSample
    answer_ids: tuple[int, ...]

    @property
    def input_ids(self) -> tuple[int, ...]:
        return self.shown.prompt_ids + self.answer_ids

    @property
    def labels(self) -> tuple[int, ...]:
        """One for each of `input_ids`."""
        return (IGNORED,) * len(self.shown.prompt_ids) + self.answer_ids


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what the flags (by default the command line's) ask for. Raises EgostError for what a user has to fix."""
    check_trl()
    recipe, args, model = parse(sys.argv[1:] if arguments is None else arguments)
    resolve_model(model)
    data = load_data(recipe, model.model_name_or_path)
    if args.max_length is not None:
        lengths = [length + len(answer_ids(data, row)) for row, length in enumerate(data.prompt_lengths())]
        data.check_lengths(lengths, args.max_length, "rows", "max_length")
    if recipe.dry_run:
        print_plan(recipe, args, model, data)
        return
    from egost.training.resumable_run import train_resumably

    train_resumably(
        *("sft", recipe, args, model, data), lambda record: make_trainer(recipe, args, model, data, record)
    )


def parse(arguments: Sequence[str]) -> tuple[SftRecipe, Any, Any]:
    """The recipe, TRL's SFTConfig and its ModelConfig that flags and `--config` name. Raises TrainingError."""
    from trl import ModelConfig, SFTConfig

    recipe, args, model = read_recipe((SftRecipe, SFTConfig, ModelConfig), arguments)
    if args.packing or args.padding_free:
        raise TrainingError(
            "packing or padding_free is set, but rows with a video are not packed: leave both out."
        )
    return recipe, args, model


def load_data(recipe: SftRecipe, checkpoint: str) -> ShownRows:
    """Rows, clips and processor of a recipe. Raises TrainingError for rows without the reasoning that it teaches."""
    rows = read_training_rows(Path(recipe.rows))
    if not recipe.chain_of_thought:
        rows = tuple(dataclasses.replace(row, think="") for row in rows)
    elif bare := [row.sample.id for row in rows if not row.think]:
        raise TrainingError(
            f"{len(bare)} of {len(rows)} rows of {recipe.rows} hold no reasoning, for example {bare[0]}, but the "
            "recipe teaches it. Build the rows with reasoning, or give --chain_of_thought false --prompt direct."
        )
    return open_rows(recipe, rows, checkpoint)


def answer_ids(data: ShownRows, row: int) -> tuple[int, ...]:
    """The tokens of a row's solution and the one that ends a turn.

    They are tokenised apart from the prompt: the model says them one after another behind its opening.
    """
    tokenizer = data.renderer.processor.tokenizer
    ids = tokenizer(data.rows[row].solution, add_special_tokens=False)["input_ids"]
    return (*ids, tokenizer.eos_token_id)


def taught(data: ShownRows, row: int) -> TaughtSample:
    """The row as the model learns it; the frames are read now."""
    return TaughtSample(data.show(row), answer_ids(data, row))


def collate(data: ShownRows, examples: Sequence[dict[str, int]]) -> dict[str, torch.Tensor]:
    """The inputs of a model's `forward` for some rows of the trainer's data set, padded on the right.

    input_ids, attention_mask, mm_token_type_ids, labels: int64 [samples, tokens]. pixel_values_videos: float32
    [patches of all, patch size], the videos one after another. video_grid_thw: int64 [samples, 3].
    second_per_grid_ts, where the model asks for it: float32 [samples].
    """
    import torch

    samples = [taught(data, example["row"]) for example in examples]
    longest = max(len(sample.input_ids) for sample in samples)

    def padded(rows: Sequence[tuple[int, ...]], filling: int) -> torch.Tensor:
        return torch.tensor([row + (filling,) * (longest - len(row)) for row in rows])

    seconds = [s.shown.second_per_grid_ts for s in samples if s.shown.second_per_grid_ts is not None]
    pad = data.renderer.processor.tokenizer.pad_token_id
    return {
        "input_ids": padded([s.input_ids for s in samples], pad),
        "attention_mask": padded([(1,) * len(s.input_ids) for s in samples], 0),
        "mm_token_type_ids": padded(
            [s.shown.mm_token_type_ids + (0,) * len(s.answer_ids) for s in samples], 0
        ),
        "labels": padded([s.labels for s in samples], IGNORED),
        "pixel_values_videos": torch.cat([s.shown.pixel_values_videos for s in samples]),
        "video_grid_thw": torch.cat([s.shown.video_grid_thw for s in samples]),
        **({"second_per_grid_ts": torch.cat(seconds)} if seconds else {}),
    }


def make_trainer(
    recipe: SftRecipe, args: Any, model: Any, data: ShownRows, record: CheckpointManifest
) -> Any:
    """The trainer of a recipe, ready to train. Raises TrainingError for a model of another family."""
    from datasets import Dataset
    from trl import SFTTrainer, get_peft_config, get_quantization_config

    from egost.model_adapters.transformers_engine import place_text_as_trained
    from egost.training.resumable_run import CsvLog, NonFiniteSteps, TokenCount, WholeCheckpoints

    args.model_init_kwargs = model_settings(args, model)
    # The collator turns a row's number into the model's inputs; TRL would tokenise texts, and drop the number.
    args.dataset_kwargs = {"skip_prepare_dataset": True}
    args.remove_unused_columns = False
    keep, args.save_total_limit = args.save_total_limit, None
    trainer = SFTTrainer(
        model=model.model_name_or_path,
        args=args,
        data_collator=partial(collate, data),
        train_dataset=Dataset.from_list([{"row": place} for place in range(len(data.rows))]),
        processing_class=data.renderer.processor,
        quantization_config=get_quantization_config(model),
        peft_config=get_peft_config(model),
        callbacks=[CsvLog(LOG_COLUMNS), WholeCheckpoints(keep, record.write)],
    )
    plain = trainer.accelerator.unwrap_model(trainer.model)
    plain = plain.get_base_model() if hasattr(plain, "get_base_model") else plain
    check_video_model(plain)
    place_text_as_trained(plain)
    # TRL makes new lists of metrics whenever it logs.
    trainer.add_callback(TokenCount(trainer))
    trainer.add_callback(NonFiniteSteps(lambda bad: trainer._metrics["train"]["steps/left_out"].append(bad)))
    return trainer


def print_plan(recipe: SftRecipe, args: Any, model: Any, data: ShownRows) -> None:
    """Print what the run would do: steps, tokens, memory, and the first row with its labels. No weight is loaded."""

    console = Console(soft_wrap=True)
    prompts = data.prompt_lengths()
    answers = [len(answer_ids(data, row)) for row in range(len(data.rows))]
    first = taught(data, 0)
    videos = [
        prompt - len(data.renderer.processor.tokenizer(data.renderer.text(row.sample))["input_ids"]) + 1
        for prompt, row in zip(prompts, data.rows, strict=True)
    ]
    longest = max(prompt + answer for prompt, answer in zip(prompts, answers, strict=True))
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    lines = [
        f"rows: {len(data.rows)} of {recipe.world} ({data.release.revision}), "
        f"{'reasoning and answer' if recipe.chain_of_thought else 'the answer alone'}",
        f"optimizer steps: {_optimizer_steps(args, len(data.rows), processes)} of "
        f"{args.per_device_train_batch_size} x {args.gradient_accumulation_steps} rows on {processes} process(es)",
        f"prompt tokens, video included: {_mean_and_most(prompts)}",
        f"  of which video: {_mean_and_most(videos)}",
        f"taught tokens: {_mean_and_most(answers)}",
        f"tokens an epoch: {sum(prompts) + sum(answers):,}, of which {sum(answers):,} are taught",
        *plan_memory(
            *(model, args, longest, args.per_device_train_batch_size),
            patches=args.per_device_train_batch_size * int(first.shown.video_grid_thw.prod()),
        ).lines("sft"),
        "",
        f"first row: {data.rows[0].sample.id}, {len(first.input_ids)} tokens; the taught ones are between >>> and <<<",
    ]
    for line in lines:
        console.print(line, markup=False, highlight=False)
    console.print(_masked_text(first, data.renderer.processor))


def _masked_text(sample: TaughtSample, processor: Any) -> Text:
    """The row's tokens decoded; the video's are counted, and those with a label are green, between >>> and <<<."""
    tokenizer = processor.tokenizer
    video = tokenizer.convert_tokens_to_ids(processor.video_token)
    text = Text()
    for labelled, ids in _runs(zip(sample.input_ids, sample.labels, strict=True), video):
        if ids[0] == video:
            text.append(f"{processor.video_token} x {len(ids)}", "blue")
        elif labelled:
            text.append(f">>>{tokenizer.decode(ids)}<<<", "bold green")
        else:
            text.append(tokenizer.decode(ids), "dim")
    return text


def _optimizer_steps(args: Any, rows: int, processes: int) -> int:
    """Optimizer steps of the run, as the trainer counts them: the last batch of an epoch may be smaller."""
    if args.max_steps > 0:
        return int(args.max_steps)
    batches = math.ceil(rows / (args.per_device_train_batch_size * processes))
    steps: int = math.ceil(batches / args.gradient_accumulation_steps)
    return math.ceil(steps * float(args.num_train_epochs))


def _runs(pairs: Iterable[tuple[int, int]], video: int) -> list[tuple[bool, list[int]]]:
    """Neighbouring tokens with or without a label, those of a video apart: (labelled, their ids)."""
    runs: list[tuple[bool, list[int]]] = []
    for token, label in pairs:
        labelled = label != IGNORED
        if runs and runs[-1][0] == labelled and (runs[-1][1][-1] == video) == (token == video):
            runs[-1][1].append(token)
        else:
            runs.append((labelled, [token]))
    return runs


def _mean_and_most(counts: list[int]) -> str:
    return f"mean {sum(counts) / len(counts):.0f}, most {max(counts)}"


if __name__ == "__main__":
    exits_with_message(main)()
