"""What a run of fine-tuning would do, said beforehand: steps, tokens, memory, and the first row with its label mask."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.text import Text

from egost.training.runs.memory_plan import plan_memory
from egost.training.video.answer_mask import IGNORED, TaughtSample

if TYPE_CHECKING:
    from egost.training.sft import SftData, SftRecipe


def print_plan(recipe: SftRecipe, args: Any, model: Any, data: SftData) -> None:
    """Print the plan. Nothing is trained and no weight is loaded."""
    console = Console()
    prompts = data.prompt_lengths()
    answers = [len(data.answer_ids(row)) for row in range(len(data.rows))]
    first = data.taught(0)
    videos = [
        prompt - len(data.renderer.processor.tokenizer(data.renderer.text(row.sample))["input_ids"]) + 1
        for prompt, row in zip(prompts, data.rows, strict=True)
    ]
    longest = max(prompt + answer for prompt, answer in zip(prompts, answers, strict=True))
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    lines = [
        f"rows: {len(data.rows)} of {recipe.world} ({data.release.revision}), "
        f"{'reasoning and answer' if recipe.chain_of_thought else 'the answer alone'}",
        f"optimizer steps: {optimizer_steps(args, len(data.rows), processes)} of "
        f"{args.per_device_train_batch_size} x {args.gradient_accumulation_steps} rows on {processes} process(es)",
        f"prompt tokens, video included: {_mean_and_most(prompts)}",
        f"  of which video: {_mean_and_most(videos)}",
        f"taught tokens: {_mean_and_most(answers)}",
        f"tokens an epoch: {sum(prompts) + sum(answers):,}, of which {sum(answers):,} are taught",
        *plan_memory(model, args, longest, args.per_device_train_batch_size).lines(),
        "",
        f"first row: {data.rows[0].sample.id}, {len(first.input_ids)} tokens; taught is what stands in >>> <<<",
    ]
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    console.print(masked_text(first, data.renderer.processor), soft_wrap=True)


def masked_text(taught: TaughtSample, processor: Any) -> Text:
    """The row's tokens decoded; the video's are counted, and those with a label stand in green, between >>> and <<<."""
    tokenizer = processor.tokenizer
    video = tokenizer.convert_tokens_to_ids(processor.video_token)
    text = Text()
    for labelled, ids in _runs(zip(taught.input_ids, taught.labels, strict=True), video):
        if ids[0] == video:
            text.append(f"{processor.video_token} x {len(ids)}", "blue")
        elif labelled:
            text.append(f">>>{tokenizer.decode(ids)}<<<", "bold green")
        else:
            text.append(tokenizer.decode(ids), "dim")
    return text


def optimizer_steps(args: Any, rows: int, processes: int) -> int:
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
