"""The questions about the walks of a mini release, in the official layout."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from egost.tasks.mini_world.option_sets import action_options, landmark_options, turn_options
from egost.tasks.mini_world.steps import ClipTruth, backwards, way_back
from egost.tasks.mini_world.walks import ACTION_PART
from egost.tasks.mini_world.wording import (
    ask,
    tell_action_options,
    tell_landmark_options,
    tell_route,
    tell_turn_options,
)
from egost.tasks.release import layout
from egost.tasks.sample import LETTERS, WAYS, Sample, TaskKind, Way


class Letters:
    """Deals the right letters, so that in each kind of question each letter is right equally often (within one)."""

    def __init__(self, seed: int) -> None:
        self._rng = np.random.default_rng([seed, 1])
        self._decks: dict[tuple[str, int], list[int]] = defaultdict(list)

    def deal(self, kind: str, options: int) -> int:
        """The place of the right option of the next question of a kind, from 0 on."""
        deck = self._decks[kind, options]
        if not deck:
            deck.extend(int(k) for k in self._rng.permutation(options))
        return deck.pop()


def question_files(truths: Iterable[ClipTruth], seed: int) -> layout.QuestionFiles:
    """Content of each of the 26 files by its name; ids are the clips' numbers in their order, from 0."""
    return layout.question_files(_samples(truths, seed))


def _samples(truths: Iterable[ClipTruth], seed: int) -> Iterator[Sample]:
    letters = Letters(seed)
    for number, truth in enumerate(truths):
        rng = np.random.default_rng([seed, number, 2])
        for way in WAYS:
            question, answer = ask(rng, "route", way), tell_route(rng, truth, way)
            yield _sample(truth, number, "route", way, question, (), answer)
        for task, texts in _choices(rng, truth).items():
            for way in WAYS:
                right = letters.deal(f"{task}_{way}", len(texts[way]))
                options = tuple(texts[way][k] for k in shuffled(rng, len(texts[way]), right))
                yield _sample(truth, number, task, way, ask(rng, task, way), options, LETTERS[right])


def _sample(
    truth: ClipTruth,
    number: int,
    task: TaskKind,
    way: Way,
    question: str,
    options: tuple[str, ...],
    answer: str,
) -> Sample:
    name = layout.sample_id(truth.part, task, way, str(number))
    return Sample(name, task, way, truth.part, truth.clip, question, options, answer)


def _choices(rng: np.random.Generator, truth: ClipTruth) -> dict[TaskKind, dict[Way, list[str]]]:
    """Texts of the options of each question about a clip, the right one first."""
    turns = _true_first(truth.turns, turn_options(rng, truth.turns, around=truth.part != ACTION_PART))
    panels = _true_first(truth.landmarks, landmark_options(rng, truth.landmarks))
    texts: dict[TaskKind, dict[Way, list[str]]] = {
        "direction": {
            "forward": tell_turn_options(rng, turns),
            "reverse": tell_turn_options(rng, [way_back(option) for option in turns]),
        },
        "landmark": {
            "forward": tell_landmark_options(rng, panels),
            "reverse": tell_landmark_options(rng, [backwards(option) for option in panels]),
        },
    }
    if truth.part == ACTION_PART:
        actions = _true_first(truth.actions, action_options(rng, truth.actions))
        texts["action"] = {
            "forward": tell_action_options(rng, actions),
            "reverse": tell_action_options(rng, [backwards(option) for option in actions]),
        }
    return texts


def _true_first(truth: Any, options: list[Any]) -> list[Any]:
    return [truth, *(option for option in options if option != truth)]


def shuffled(rng: np.random.Generator, options: int, right: int) -> list[int]:
    """Which option is in each place; option 0 is the right one, and its place is given."""
    order = [int(k) for k in rng.permutation(np.arange(1, options))]
    order.insert(right, 0)
    return order
