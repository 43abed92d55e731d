"""What pre-training teaches: conversations about a walk, as text with marked answers.

A lesson is one opening (the walk's film, or nothing) and branches that each go on from it and see nothing of each
other, so that one film is encoded once for all of its questions. There are three kinds:

- film: the routes there and back, and each multiple-choice question, answered at once;
- notes: a multiple-choice question and then, in a second message, a route in words, there or back; a branch
  for each option, whose route makes it the right one. The letter follows from reading alone;
- retelling: a route in words, which is to be told again, there and back.

No lesson reasons before it answers: `<think>` never stands in one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from egost_tasks.mini_world.option_sets import action_options, landmark_options, turn_options
from egost_tasks.mini_world.steps import ClipTruth, backwards, way_back
from egost_tasks.mini_world.walks import ACTION_PART
from egost_tasks.mini_world.wording import (
    ask,
    tell_action_options,
    tell_landmark_options,
    tell_route,
    tell_turn_options,
)
from egost_tasks.prompts import load_prompt
from egost_tasks.sample import LETTERS, WAYS, Sample, TaskKind, Way
from training.mini.vocabulary import SYSTEM

START = f"<|im_start|>system\n{SYSTEM}<|im_end|>\n<|im_start|>user\n"
FILM = f"{START}<|vision_start|><|video_pad|><|vision_end|>"
REPLY = "<|im_end|>\n<|im_start|>assistant\n"
_ITEMS: dict[TaskKind, str] = {"direction": "turns", "landmark": "landmarks", "action": "actions"}
_NEXT = "<|im_end|>\n<|im_start|>user\n"


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of text.

    taught: whether the loss counts its tokens. agrees: for each item of the asked kind (panel, turn or action) in the
    text's order, which of the options agree with it, in their order; empty where nobody asks.
    """

    text: str
    taught: bool = False
    agrees: tuple[tuple[bool, ...], ...] = ()


@dataclass(frozen=True, slots=True)
class Lesson:
    """opening: what all branches begin with. branches: each a row of pieces. film: number of its film, or None.

    asked: the task whose items `Piece.agrees` is about.
    """

    opening: tuple[Piece, ...]
    branches: tuple[tuple[Piece, ...], ...]
    film: int | None = None
    asked: TaskKind | None = None

    def unasked(self) -> Lesson:
        """The opening alone."""
        return replace(self, branches=())


@dataclass(frozen=True, slots=True)
class ChoiceQuestion:
    """A multiple-choice question; `walks` holds for each option, in their order, the walk that makes it right."""

    sample: Sample
    walks: tuple[ClipTruth, ...]


def film_lesson(rng: np.random.Generator, truth: ClipTruth, film: int, notes: int) -> Lesson:
    """All questions about a film; `notes`: how many of the choices are also asked with the route in words."""
    branches = [_route_branch(rng, truth, way) for way in WAYS]
    questions = [_question(rng, truth, task, way) for task in _tasks(truth) for way in WAYS]
    branches += [
        (Piece(_asked(q.sample) + REPLY), Piece(f"{q.sample.answer}<|im_end|>", taught=True))
        for q in questions
    ]
    for index in rng.permutation(len(questions))[:notes]:
        sample = questions[int(index)].sample
        route = tell_route(rng, truth, _other(sample.way))
        branches.append((Piece(_asked(sample)), *_exchange(route, sample.answer)))
    return Lesson((Piece(FILM),), tuple(branches), film)


def notes_lesson(rng: np.random.Generator, truth: ClipTruth, task: TaskKind) -> Lesson:
    """A question without a film, and for each option what makes it the right one: mostly a route in words.

    The rest are easier: an option's own text asks for its letter, or its letter for its text.
    """
    asked_way = WAYS[int(rng.integers(2))]
    question = _question(rng, truth, task, asked_way)
    branches = []
    for letter, text, walk in zip(LETTERS, question.sample.options, question.walks, strict=False):
        kind = rng.random()
        if kind < 0.1:
            branches.append(_exchange(letter, f"{letter}. {text}"))
        elif kind < 0.3:
            branches.append(_exchange(f"It is: {text}", letter))
        else:
            told_way = asked_way if rng.random() < 0.4 else _other(asked_way)
            agrees = _agreement(question, walk, told_way)
            branches.append(_exchange(tell_route(rng, walk, told_way), letter, agrees))
    return Lesson((Piece(START + _asked(question.sample)),), tuple(branches), asked=task)


def retelling_lesson(rng: np.random.Generator, truth: ClipTruth) -> Lesson:
    """A route in words, there or back, and then the request to tell it there, and to tell it back."""
    told = tell_route(rng, truth, WAYS[int(rng.integers(2))])
    branches = [(Piece(_NEXT), *_route_branch(rng, truth, way)) for way in WAYS]
    return Lesson((Piece(START + told),), tuple(branches))


def _tasks(truth: ClipTruth) -> tuple[TaskKind, ...]:
    return ("direction", "landmark", "action") if truth.part == ACTION_PART else ("direction", "landmark")


def _route_branch(rng: np.random.Generator, truth: ClipTruth, way: Way) -> tuple[Piece, ...]:
    sample = Sample("", "route", way, truth.part, "", ask(rng, "route", way), (), "")
    return (
        Piece(_asked(sample) + REPLY),
        Piece(f"{tell_route(rng, truth, way)}<|im_end|>", taught=True),
    )


def _exchange(said: str, reply: str, agrees: tuple[tuple[bool, ...], ...] = ()) -> tuple[Piece, ...]:
    """A further message of the user, and the reply that is taught."""
    return Piece(_NEXT), Piece(said, agrees=agrees), Piece(REPLY), Piece(f"{reply}<|im_end|>", taught=True)


def _agreement(question: ChoiceQuestion, walk: ClipTruth, told: Way) -> tuple[tuple[bool, ...], ...]:
    """For each item of a walk, in the order in which its route is told, which options have it in its place."""
    field = _ITEMS[question.sample.task]
    options = [getattr(option, field) for option in question.walks]
    rows = [
        tuple(option[place] == item for option in options) for place, item in enumerate(getattr(walk, field))
    ]
    return tuple(rows if told == "forward" else rows[::-1])


def _asked(sample: Sample) -> str:
    return load_prompt("direct").render(sample)


def _other(way: Way) -> Way:
    return "reverse" if way == "forward" else "forward"


def _question(rng: np.random.Generator, truth: ClipTruth, task: TaskKind, way: Way) -> ChoiceQuestion:
    """A question as a mini release words it, with the walk behind each option."""
    walks, items = _competing(rng, truth, task)
    order = [int(k) for k in rng.permutation(len(walks))]
    walks, items = [walks[k] for k in order], [items[k] for k in order]
    if way == "reverse":
        items = [way_back(item) if task == "direction" else backwards(item) for item in items]
    tell: Any = {
        "direction": tell_turn_options,
        "landmark": tell_landmark_options,
        "action": tell_action_options,
    }[task]
    letter = LETTERS[walks.index(truth)]
    sample = Sample("", task, way, truth.part, "", ask(rng, task, way), tuple(tell(rng, items)), letter)
    return ChoiceQuestion(sample, tuple(walks))


def _competing(
    rng: np.random.Generator, truth: ClipTruth, task: TaskKind
) -> tuple[list[ClipTruth], list[tuple[Any, ...]]]:
    items: list[tuple[Any, ...]]
    if task == "direction":
        items = [*turn_options(rng, truth.turns, around=truth.part != ACTION_PART)]
        return [_changed(truth, "turn", item) for item in items], items
    if task == "landmark":
        items = [*landmark_options(rng, truth.landmarks)]
        return [_changed(truth, "landmark", item) for item in items], items
    items = [*action_options(rng, truth.actions)]
    return [_changed(truth, "action", item) for item in items], items


def _changed(truth: ClipTruth, field: str, items: Sequence[Any]) -> ClipTruth:
    """The walk with other turns, panels or actions in the places of its own."""
    left = list(items)
    steps = tuple(
        replace(step, **{field: left.pop(0)}) if getattr(step, field) else step for step in truth.steps
    )
    return replace(truth, steps=steps)
