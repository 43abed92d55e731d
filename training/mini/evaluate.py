"""What an embedded checkpoint is worth on walks that it never saw: a table with intervals and controls.

    python -m egost.training.mini.evaluate --checkpoint runs/mini-base/checkpoint --out scores.json

The questions are a mini release of the split `test`, whose maps no training data shares; replies are generated
greedily and scored by the benchmark's own functions. Controls: `blind` leaves the film out, `other` shows the film
of another clip. With `--notes` the true route, told the other way round, stands as the model's own reasoning before
its answer: what it would reach if it saw and retold everything rightly.
"""

from __future__ import annotations

import json
import os
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
import typer
from rich.console import Console
from rich.table import Table
from scipy.stats import binomtest

from egost.tasks.cache import write_whole
from egost.tasks.clips.clips import get_clip
from egost.tasks.clips.protocols import parse_protocol
from egost.tasks.judging.judge import get_judge
from egost.tasks.mini_world import ClipTruth, read_truths, write_mini_release
from egost.tasks.mini_world.wording import tell_route
from egost.tasks.prompts import load_prompt
from egost.tasks.release.release import Release
from egost.tasks.sample import TASK_KINDS, WAYS, Sample, TaskKind
from egost.tasks.scoring.scores import Response, score_choice, score_route
from egost.training.mini.vocabulary import SYSTEM

Control = Literal["seen", "blind", "other"]
CONTROLS: tuple[Control, ...] = ("seen", "blind", "other")

SEED = 977
"""Seed of the walks that it is evaluated on."""

_BATCH = 32


@dataclass(frozen=True)
class Figure:
    """One cell: `n` questions of a task and way; `percent` right (a route: its score by the offline rubric).

    low, high: 95 % interval in percent, Wilson's for choices, the normal one for routes. invalid: choices
    without a readable letter. chance: percent that a guess among the options would get; None for a route.
    """

    control: Control
    task: str
    n: int
    percent: float
    low: float
    high: float
    invalid: int
    chance: float | None


class Asker:
    """A checkpoint that answers questions about the clips of one mini release.

    prompt: how the questions are asked. choice_tokens: most tokens of a reply to a multiple-choice question.
    """

    def __init__(
        self, checkpoint: Path, release: Release, prompt: str = "direct", choice_tokens: int = 4
    ) -> None:
        from transformers import AutoProcessor, Qwen2VLForConditionalGeneration

        self.processor = AutoProcessor.from_pretrained(checkpoint)
        self.processor.tokenizer.padding_side = "left"
        self.model = Qwen2VLForConditionalGeneration.from_pretrained(checkpoint).float().eval()
        self._release, self._prompt = release, load_prompt(prompt)
        self._choice_tokens = choice_tokens

    def replies(
        self, samples: Sequence[Sample], control: Control, begun: Sequence[str] | None = None
    ) -> list[str]:
        """What the model says, in the samples' order; `begun`: how each reply is made to begin."""
        clips = sorted({sample.clip for sample in samples})
        # The clip that stands half-way round from a sample's own is never its own.
        shown = {clip: clips[(k + len(clips) // 2) % len(clips)] for k, clip in enumerate(clips)}
        first = {sample.clip: sample for sample in samples}
        texts = []
        for k in range(0, len(samples), _BATCH):
            batch = samples[k : k + _BATCH]
            seen = [first[shown[s.clip]] if control == "other" else s for s in batch]
            films = None if control == "blind" else [self.film(sample) for sample in seen]
            heads = begun[k : k + _BATCH] if begun else [""] * len(batch)
            asked = [self.chat(s, films is not None) + head for s, head in zip(batch, heads, strict=True)]
            texts += self._generate(asked, films, self._choice_tokens if batch[0].options else 120)
        return texts

    def chat(self, sample: Sample, film: bool) -> str:
        """The whole prompt, with a placeholder for the film where there is one."""
        content = [{"type": "text", "text": self._prompt.render(sample)}]
        messages = [
            {"role": "system", "content": SYSTEM},
            {"role": "user", "content": [{"type": "video"}, *content] if film else content},
        ]
        chat: str = self.processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        return chat

    def film(self, sample: Sample) -> torch.Tensor:
        """The canonical 8 frames of a sample's clip, uint8, shape (8, 3, height, width)."""
        frames = get_clip(self._release.clip_path(sample), parse_protocol("uniform8")).frames()
        return torch.from_numpy(frames).permute(0, 3, 1, 2)

    def _generate(self, asked: list[str], films: list[torch.Tensor] | None, tokens: int) -> list[str]:
        inputs: Any = self.processor(text=asked, videos=films, padding=True, return_tensors="pt")
        with torch.inference_mode():
            out = self.model.generate(**inputs, max_new_tokens=tokens, do_sample=False)
        new = out[:, inputs["input_ids"].shape[1] :]
        texts: list[str] = self.processor.batch_decode(new, skip_special_tokens=True)
        return texts


def open_walks(clips: int, seed: int = SEED) -> tuple[Release, dict[str, ClipTruth]]:
    """A mini release of so many test walks, rendered into the cache when it is not there, and the truth of each."""
    from egost.tasks.cache import cache_root

    root = write_mini_release(
        cache_root() / f"mini-test-{seed}-{clips}", clips=clips, seed=seed, split="test"
    )
    return Release("mini", (root,), f"test seed {seed}"), read_truths(root)


def thoughts(samples: Sequence[Sample], truths: dict[str, ClipTruth]) -> list[str]:
    """For each choice the true route, told the other way round than it asks, as reasoning that has just ended."""
    rng = np.random.default_rng(0)
    return [
        f"<think>{tell_route(rng, truths[s.clip], 'reverse' if s.way == 'forward' else 'forward')}</think> <answer>"
        for s in samples
    ]


def figures(
    asker: Asker,
    release: Release,
    control: Control,
    kinds: Sequence[TaskKind],
    begun: dict[str, str] | None = None,
) -> Iterator[Figure]:
    """One figure for each task and way; `begun`: how the reply to a sample is made to begin, by its id."""
    for kind in kinds:
        for way in WAYS:
            samples = release.samples(kind, way)
            heads = [begun[sample.id] for sample in samples] if begun else None
            replies = asker.replies(samples, control, heads)
            if heads and samples[0].options:
                replies = [f"{head}{reply}" for head, reply in zip(heads, replies, strict=True)]
            yield _figure(control, f"{kind}_{way}", samples, replies)


def _figure(control: Control, task: str, samples: Sequence[Sample], replies: Sequence[str]) -> Figure:
    responses = [Response(reply) for reply in replies]
    if not samples[0].options:
        scores = score_route(samples, responses, get_judge("offline"))
        percents = np.array([score.percent for score in scores if score.percent is not None])
        half = 1.96 * percents.std(ddof=1) / len(percents) ** 0.5
        mean = float(percents.mean())
        return Figure(control, task, len(percents), mean, mean - half, mean + half, 0, None)
    scores = [score_choice(sample, response) for sample, response in zip(samples, responses, strict=True)]
    right = sum(score.percent == 100.0 for score in scores)
    invalid = sum(score.choice is None or score.choice.letter is None for score in scores)
    interval = binomtest(right, len(scores)).proportion_ci(method="wilson")
    chance = 100 * float(np.mean([1 / len(sample.options) for sample in samples]))
    return Figure(
        control,
        task,
        len(scores),
        100 * right / len(scores),
        100 * interval.low,
        100 * interval.high,
        invalid,
        chance,
    )


def table(found: Sequence[Figure], title: str) -> Table:
    """The figures for people: a row for each task, a column for each control."""
    shown = Table("task", "n", "chance", *dict.fromkeys(f.control for f in found), title=title)
    rows: dict[str, list[Figure]] = defaultdict(list)
    for figure in found:
        rows[figure.task].append(figure)
    for task, cells in rows.items():
        chance = "" if cells[0].chance is None else f"{cells[0].chance:.1f}"
        told = [f"{c.percent:.1f} ({c.low:.1f} to {c.high:.1f})" for c in cells]
        shown.add_row(task, str(cells[0].n), chance, *told)
    return shown


def main(
    checkpoint: Annotated[Path, typer.Option(help="Folder of the checkpoint.")],
    out: Annotated[Path, typer.Option(help="JSON file for the figures.")],
    clips: Annotated[
        int, typer.Option(help="Test walks; 640 give at least 256 questions a task and way.")
    ] = 640,
    prompt: str = "direct",
    notes: Annotated[bool, typer.Option(help="Choices only, with the true route as reasoning.")] = False,
    control: Annotated[list[str] | None, typer.Option(help="seen, blind or other; by default all.")] = None,
) -> None:
    """Measure a checkpoint on test walks."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    release, truths = open_walks(clips)
    asker = Asker(checkpoint, release, "think" if notes else prompt)
    kinds: list[TaskKind] = [kind for kind in TASK_KINDS if not (notes and kind == "route")]
    begun = None
    if notes:
        choices = [sample for sample in release.index.samples if sample.options]
        begun = dict(zip([sample.id for sample in choices], thoughts(choices, truths), strict=True))
    console = Console(stderr=True)
    found: list[Figure] = []
    for name in CONTROLS:
        if control and name not in control:
            continue
        started = time.monotonic()
        for figure in figures(asker, release, name, kinds, begun):
            found.append(figure)
            seconds = time.monotonic() - started
            console.print(f"{name} {figure.task}: {figure.percent:.1f} of {figure.n}, {seconds:.0f} s")
    write_whole(out, (json.dumps([asdict(figure) for figure in found], indent=1) + "\n").encode())
    told = "the true route as its reasoning" if notes else f"prompt {prompt}"
    Console().print(table(found, f"{checkpoint.name}, {told}"))


if __name__ == "__main__":
    typer.run(main)
