"""The lessons of each step of pre-training, as they follow from a recipe."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from pretraining.films import film, plan
from pretraining.lessons import (
    Lesson,
    film_lesson,
    listing_lesson,
    notes_lesson,
    options_lesson,
    retelling_lesson,
    turning_lesson,
    wording_lesson,
)
from pretraining.model import Film
from pretraining.packing import Row, collate, echo, pack, token_grid
from pretraining.perception import frame_labels, frame_order

Stage = Literal["text", "sight", "both"]

_FURTHER: tuple[Callable[[np.random.Generator], Lesson], ...] = (
    notes_lesson,
    listing_lesson,
    notes_lesson,
    turning_lesson,
    retelling_lesson,
    wording_lesson,
)
"""The other lessons in text, in turn with those about options."""


@dataclass(frozen=True)
class Recipe:
    """All that the weights follow from.

    text, sight, both: steps of each stage. echoes: steps of which every other one is repeated tokens. texts, films:
    lessons without and with film in a step; in the last stage there are texts_beside. pool: films that exist.
    direct, in_words, listed: questions of a film that are answered by the letter at once, in words before it, and
    those without options.
    rate: highest learning rate. warm_up, fall: steps in which it rises and, at the end, falls.
    naming: weight of the heads' loss in the last stage. wording: weight of the words that name nothing, of which
    many are drawn and cannot be known.
    """

    seed: int = 0
    text: int = 700
    sight: int = 150
    both: int = 3200
    echoes: int = 200
    texts: int = 40
    texts_beside: int = 24
    films: int = 4
    pool: int = 5800
    direct: int = 1
    in_words: int = 2
    listed: int = 2
    rate: float = 2e-3
    warm_up: int = 50
    fall: int = 600
    naming: float = 0.3
    wording: float = 0.25
    weight_decay: float = 0.01
    gradient_norm: float = 1.0

    @property
    def steps(self) -> int:
        return self.text + self.sight + self.both

    def stage(self, step: int) -> Stage:
        """The stage that a step, counted from 0, belongs to."""
        if step < self.text:
            return "text"
        return "sight" if step < self.text + self.sight else "both"

    def rate_at(self, step: int) -> float:
        """Learning rate of a step: up in a line, level, and down in a line over the last steps.

        Level rather than a cosine, so that the stages can be made longer while a run goes on.
        """
        rising, falling = (step + 1) / self.warm_up, (self.steps - step) / self.fall
        return self.rate * max(0.02, min(1.0, rising, falling))


@dataclass(frozen=True)
class Batch:
    """The lessons of a step: rows of text, sorted by length, and rows with their films."""

    texts: list[dict[str, torch.Tensor]]
    film_rows: dict[str, torch.Tensor] | None
    films: list[Film]
    labels: torch.Tensor | None
    order: torch.Tensor | None


class Lessons:
    """Makes the batch of a step; the same for the same recipe and step."""

    def __init__(self, recipe: Recipe, tokenizer: Any, folder: Path) -> None:
        self._recipe, self._tokenizer, self._folder = recipe, tokenizer, folder
        self._pad = tokenizer.pad_token_id
        self._video = tokenizer.convert_tokens_to_ids("<|video_pad|>")
        letters = tokenizer.convert_tokens_to_ids([*"ABCD"])
        self._echoed = np.setdiff1d(np.arange(len(tokenizer)), letters)

    def batch(self, step: int) -> Batch:
        recipe, stage = self._recipe, self._recipe.stage(step)
        rng = np.random.default_rng([recipe.seed, step])
        if step < recipe.echoes and step % 2:
            return Batch([echo(rng, self._echoed, 2 * recipe.texts)], None, [], None, None)
        count = {"text": recipe.texts, "sight": 0, "both": recipe.texts_beside}[stage]
        texts = self._texts(rng, step, count) if count else []
        if stage == "text":
            return Batch(texts, None, [], None, None)
        count = recipe.films * (3 if stage == "sight" else 1)
        numbers = [int(n) for n in rng.choice(recipe.pool, count, replace=False)]
        films = [film(self._folder, number) for number in numbers]
        truths = [plan(number).truth for number in numbers]
        lessons = [
            film_lesson(rng, truth, number, recipe.direct, recipe.in_words, recipe.listed)
            for truth, number in zip(truths, numbers, strict=True)
        ]
        rows = [
            pack(
                self._tokenizer,
                lesson if stage == "both" else lesson.unasked(),
                token_grid(frames),
                self._video,
            )
            for lesson, frames in zip(lessons, films, strict=True)
        ]
        labels = torch.from_numpy(np.concatenate([frame_labels(truth) for truth in truths]))
        order = torch.from_numpy(np.concatenate([frame_order(truth) for truth in truths]))
        return Batch(texts, collate(rows, self._pad), films, labels, order)

    def _texts(self, rng: np.random.Generator, step: int, count: int) -> list[dict[str, torch.Tensor]]:
        """Batches of rows of like lengths.

        Options that are unlike are the more frequent ones at first: there a single item gives the letter.
        """
        alike = min(0.9, 0.3 + step / self._recipe.text)
        every = 2 if self._recipe.stage(step) == "text" else 6
        rows: list[Row] = []
        for k in range(count):
            if k % every == 0:
                lesson = options_lesson(rng, bool(rng.random() < alike))
            else:
                lesson = _FURTHER[(k - k // every - 1) % len(_FURTHER)](rng)
            rows.append(pack(self._tokenizer, lesson, None, self._video))
        rows.sort(key=lambda row: len(row.tokens))
        part = -(-len(rows) // (3 if count > 20 else 2))
        return [collate(rows[k : k + part], self._pad) for k in range(0, len(rows), part)]


def batches_ahead(lessons: Lessons, start: int, end: int) -> Iterator[Batch]:
    """The batches from `start` up to `end`, the next one made while the last one is learnt."""
    with ThreadPoolExecutor(1) as pool:
        coming = [pool.submit(lessons.batch, step) for step in range(start, min(start + 2, end))]
        for step in range(start, end):
            if step + 2 < end:
                coming.append(pool.submit(lessons.batch, step + 2))
            yield coming.pop(0).result()
