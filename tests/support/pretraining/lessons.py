"""What pre-training teaches: conversations about a walk, as text with marked answers.

A lesson is one opening (the walk's film, or nothing) and branches that each go on from it and see nothing of each
other, so that one film is encoded once for all of its questions. There are seven kinds:

- film: the routes there and back, questions without options, and multiple-choice ones, some answered by the letter
  at once and others by the right option's words and then its letter;
- options: some options, of which one is said in words, to be answered by its letter, or the other way round;
- notes: a multiple-choice question and then, in a second message, a route in words or what is met on it, there or
  back; the answer is the option that this makes right, in words, and then its letter;
- retelling: a route in words, which the model repeats, there and back;
- listing: a route in words, and questions without options about it, there and back;
- turning: such a question with its answer, and then the same about the other way;
- wording: a route in words, and what is met on it, listed there and turned round.

No lesson reasons before it answers: `<think>` never occurs in one, and none describes a route and then answers
a question by it. But the sentences that reasoning is worded with occur, each with what it means: those that announce a
way before a route of this way, the others around lists of what is met.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from egost.tasks.mini_world.option_sets import action_options, landmark_options, turn_options, turn_words
from egost.tasks.mini_world.steps import (
    ACTION_WORDS,
    ACTIONS,
    COLOURS,
    LANDMARKS,
    PATTERNS,
    TURNS,
    ClipTruth,
    Landmark,
    Step,
    ask,
    backwards,
    one_of,
    tell_action_options,
    tell_landmark_options,
    tell_route,
    tell_turn_options,
    way_back,
)
from egost.tasks.mini_world.walks import ACTION_PART
from egost.tasks.prompts import load_prompt
from egost.tasks.sample import LETTERS, WAYS, Sample, TaskKind, Way
from egost.training.rows.reverse_thinking import (
    OPENINGS,
    OTHER_WAY,
    PLACES,
    TURNED,
    TURNS_TOLD,
    without_point_names,
)
from egost.training.video_inputs import SYSTEM_PROMPT
from pretraining.vocabulary import IN_WORDS, LEADS

START = f"<|im_start|>system\n{SYSTEM_PROMPT}<|im_end|>\n<|im_start|>user\n"
FILM = f"{START}<|vision_start|><|video_pad|><|vision_end|>"
REPLY = "<|im_end|>\n<|im_start|>assistant\n"
_NEXT = "<|im_end|>\n<|im_start|>user\n"
_WORDED = 0.3
"""Share of answers that open with a sentence that says what follows."""

_TELL: dict[TaskKind, Callable[[np.random.Generator, Sequence[Any]], list[str]]] = {
    "direction": tell_turn_options,
    "landmark": tell_landmark_options,
    "action": tell_action_options,
}


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of text.

    taught: whether the loss counts its tokens. counted: whether its panels and its turns are each numbered, in the
    text's order. agrees: for each item (panel, turn or action) in the text's order,
    which of the options have it in this place, in their order; empty where nobody asks. right: place of the
    right one of the options that it holds, where what came before shows it.
    """

    text: str
    taught: bool = False
    counted: bool = False
    agrees: tuple[tuple[bool, ...], ...] = ()
    right: int | None = None


@dataclass(frozen=True, slots=True)
class Lesson:
    """opening: what all branches begin with. branches: each a row of pieces. film: number of its film, or None."""

    opening: tuple[Piece, ...]
    branches: tuple[tuple[Piece, ...], ...]
    film: int | None = None

    def unasked(self) -> Lesson:
        """The opening alone."""
        return replace(self, branches=())


@dataclass(frozen=True, slots=True)
class ChoiceQuestion:
    """A multiple-choice question.

    items: for each option the panels, turns or actions that it names, in its order. walks: for each option the walk
    that makes it the right one.
    """

    sample: Sample
    items: tuple[tuple[Any, ...], ...]
    walks: tuple[ClipTruth, ...] = ()

    @property
    def right(self) -> int:
        """Place of the right option."""
        return LETTERS.index(self.sample.answer)


def film_lesson(
    rng: np.random.Generator, truth: ClipTruth, film: int, direct: int, in_words: int, listed: int
) -> Lesson:
    """The routes of a film and some of its questions.

    direct, in_words: how many multiple-choice questions are answered in each form. listed: how many have no options.
    """
    branches = [_route_branch(rng, truth, way) for way in WAYS]
    asked = [(task, way) for task in _tasks(truth) for way in WAYS]
    for index in rng.permutation(len(asked))[:listed]:
        task, way = asked[int(index)]
        branches.append((Piece(ask(rng, task, way) + REPLY), _listed(truth, task, way, taught=True)))
    for place, index in enumerate(rng.permutation(len(asked))[: direct + in_words]):
        question = _question(rng, truth, *asked[int(index)])
        if place < direct:
            answer = Piece(f"{question.sample.answer}<|im_end|>", taught=True)
            branches.append((Piece(_asked(question.sample) + REPLY, right=question.right), answer))
        else:
            said = _said_in_words(rng, question, question.right)
            branches.append((Piece(_asked_in_words(question.sample) + REPLY), *said))
    return Lesson((Piece(FILM),), tuple(branches), film)


def options_lesson(rng: np.random.Generator, alike: bool) -> Lesson:
    """Options, each of which is said in words, and one letter whose option is to be said.

    alike: the options compete as in a question; otherwise they are sequences of any items and of any length up to 4.
    """
    task = _some_task(rng)
    if alike:
        question = _question(rng, imagined_walk(rng, task), task, WAYS[int(rng.integers(2))])
    else:
        question = _any_options(rng, task)
    branches = []
    for place, (letter, text) in enumerate(zip(LETTERS, question.sample.options, strict=False)):
        lead = one_of(rng, *LEADS)
        branches.append(_exchange(f"{lead} {text}", letter, _agreement(question, place)))
    place = int(rng.integers(len(question.items)))
    branches.append(_exchange(LETTERS[place], f"{LEADS[0]} {question.sample.options[place]}"))
    return Lesson((Piece(START + _asked_somehow(rng, question.sample)),), tuple(branches))


def notes_lesson(rng: np.random.Generator, routes: int = 2) -> Lesson:
    """A question, and for some of its options what makes it right: the route or what is met on it, there or back."""
    task = _some_task(rng)
    question = _question(rng, imagined_walk(rng, task), task, WAYS[int(rng.integers(2))])
    branches = []
    for place in rng.permutation(len(question.items))[:routes]:
        walk, way = question.walks[int(place)], WAYS[int(rng.integers(2))]
        note = _route(rng, walk, way) if rng.random() < 0.4 else _list(walk, task, way)
        said = _said_in_words(rng, question, int(place))
        branches.append((Piece(_NEXT), Piece(note, counted=True), Piece(REPLY), *said))
    return Lesson((Piece(START + _asked_in_words(question.sample)),), tuple(branches))


def retelling_lesson(rng: np.random.Generator) -> Lesson:
    """A route in words, there or back, and then the requests to repeat it there and back."""
    truth = imagined_walk(rng, _some_task(rng))
    route = _route(rng, truth, WAYS[int(rng.integers(2))])
    branches = [(Piece(_NEXT), *_route_branch(rng, truth, way)) for way in WAYS]
    return Lesson((Piece(START), Piece(route, counted=True)), tuple(branches))


def listing_lesson(rng: np.random.Generator) -> Lesson:
    """A route in words, there or back, and what is met on the way there, and on the way back."""
    truth = imagined_walk(rng, _some_task(rng))
    route = _route(rng, truth, WAYS[int(rng.integers(2))])
    branches = [
        (Piece(f"{_NEXT}{ask(rng, task, way)}{REPLY}"), _listed(truth, task, way, taught=True))
        for task in _tasks(truth)
        for way in WAYS
    ]
    return Lesson((Piece(START), Piece(route, counted=True)), tuple(branches))


def turning_lesson(rng: np.random.Generator) -> Lesson:
    """What is met on one way, and the question what is met on the other."""
    task = _some_task(rng)
    truth = imagined_walk(rng, task)
    way = WAYS[int(rng.integers(2))]
    other = OTHER_WAY[way]
    opening = Piece(START + ask(rng, task, way) + REPLY), _listed(truth, task, way)
    said = Piece(f"{one_of(rng, *TURNED[task])} " if rng.random() < _WORDED else "", taught=True)
    branch = Piece(_NEXT + ask(rng, task, other) + REPLY), said, _listed(truth, task, other, taught=True)
    return Lesson(opening, (branch,))


def wording_lesson(rng: np.random.Generator) -> Lesson:
    """A route in words, and what is met on it, listed there and turned round."""
    truth = imagined_walk(rng, _some_task(rng))
    first = WAYS[int(rng.integers(2))]
    branches = []
    for task in _tasks(truth):
        there, back = (", then ".join(_named_items(truth, task, way)) for way in (first, OTHER_WAY[first]))
        form = one_of(rng, *(TURNS_TOLD if task == "direction" else PLACES))
        said = f"{one_of(rng, *TURNED[task])} {form.format(there, back)}"
        branches.append((Piece(REPLY), Piece(said, taught=True)))
    return Lesson((Piece(START), Piece(_route(rng, truth, first), counted=True)), tuple(branches))


def imagined_walk(rng: np.random.Generator, task: TaskKind) -> ClipTruth:
    """A walk in words that is never filmed: it has no map; with actions where the task asks for them."""
    part = ACTION_PART if task == "action" else 1
    count = int(rng.integers(1, 3)) if task == "action" else int(rng.integers(2, 4))
    words = turn_words(count, around=part != ACTION_PART)
    turns = words[int(rng.integers(len(words)))]
    colours = rng.permutation(len(COLOURS))[: count + 1]
    panels = [Landmark(COLOURS[int(c)], PATTERNS[int(rng.integers(len(PATTERNS)))]) for c in colours]
    steps = [Step("turn", (), 0.0, turn, panel) for turn, panel in zip(turns, panels, strict=False)]
    if part == ACTION_PART:
        for action in rng.permutation(len(ACTIONS))[: 4 - count]:
            steps.insert(
                int(rng.integers(len(steps) + 1)), Step("action", (), 0.0, action=ACTIONS[int(action)])
            )
    start, end = Step("start", (), 0.0), Step("end", (), 0.0, landmark=panels[-1])
    return ClipTruth("", part, 0, 0, "", 0, "", (start, *steps, end))


def _some_task(rng: np.random.Generator) -> TaskKind:
    drawn = rng.random()
    return "direction" if drawn < 0.45 else "landmark" if drawn < 0.9 else "action"


def _any_options(rng: np.random.Generator, task: TaskKind) -> ChoiceQuestion:
    """Different sequences of any items."""
    items: Sequence[Any] = {"direction": TURNS, "landmark": LANDMARKS, "action": ACTIONS}[task]
    length = int(rng.integers(2 if task == "direction" else 1, 5))
    drawn: dict[tuple[Any, ...], None] = {}
    while len(drawn) < 4:
        drawn[tuple(items[int(k)] for k in rng.integers(len(items), size=length))] = None
    way = WAYS[int(rng.integers(2))]
    sample = Sample("", task, way, 1, "", ask(rng, task, way), tuple(_TELL[task](rng, list(drawn))), "A")
    return ChoiceQuestion(sample, tuple(drawn))


def _tasks(truth: ClipTruth) -> tuple[TaskKind, ...]:
    return ("direction", "landmark", "action") if truth.part == ACTION_PART else ("direction", "landmark")


def _route(rng: np.random.Generator, truth: ClipTruth, way: Way) -> str:
    """A route, with or without the names of its points."""
    route = tell_route(rng, truth, way)
    return route if rng.random() < 0.5 else without_point_names(route)


def _route_branch(rng: np.random.Generator, truth: ClipTruth, way: Way) -> tuple[Piece, ...]:
    sample = Sample("", "route", way, truth.part, "", ask(rng, "route", way), (), "")
    # A sentence about the other way's question announces this way.
    said = one_of(rng, *OPENINGS[OTHER_WAY[way]]) + " " if rng.random() < _WORDED else ""
    return (
        Piece(_asked(sample) + REPLY),
        Piece(f"{said}{_route(rng, truth, way)}<|im_end|>", taught=True, counted=True),
    )


def _listed(truth: ClipTruth, task: TaskKind, way: Way, *, taught: bool = False) -> Piece:
    """The answer to a question without options."""
    return Piece(f"{_list(truth, task, way)}<|im_end|>", taught=taught, counted=True)


def _list(truth: ClipTruth, task: TaskKind, way: Way) -> str:
    """What is met on a way, all in one form, so that nothing of it is a matter of taste."""
    return f"{LEADS[-1]} {', then '.join(_named_items(truth, task, way))}."


def _named_items(truth: ClipTruth, task: TaskKind, way: Way) -> tuple[str, ...]:
    items = _items(truth, task)
    if way == "reverse":
        items = _reversed(task, items)
    if task == "action":
        return tuple(ACTION_WORDS[action] for action in items)
    return tuple(map(str, items))


def _items(truth: ClipTruth, task: TaskKind) -> tuple[Any, ...]:
    return {"direction": truth.turns, "landmark": truth.landmarks, "action": truth.actions}[task]


def _reversed(task: TaskKind, items: tuple[Any, ...]) -> tuple[Any, ...]:
    return way_back(items) if task == "direction" else backwards(items)


def _exchange(said: str, reply: str, agrees: tuple[tuple[bool, ...], ...] = ()) -> tuple[Piece, ...]:
    """A further message of the user, and the reply that is taught."""
    return Piece(_NEXT), Piece(said, agrees=agrees), Piece(REPLY), Piece(f"{reply}<|im_end|>", taught=True)


def _said_in_words(rng: np.random.Generator, question: ChoiceQuestion, place: int) -> tuple[Piece, ...]:
    lead = one_of(rng, *LEADS)
    words = f"{lead} {question.sample.options[place]}"
    return (
        Piece(words, taught=True, agrees=_agreement(question, place)),
        Piece(f"{_named(rng, LETTERS[place])}<|im_end|>", taught=True),
    )


def _named(rng: np.random.Generator, letter: str) -> str:
    """The letter behind the words of an answer, bare or in the tag that a question may ask for."""
    return f".\n{letter}" if rng.random() < 0.5 else f". <answer>{letter}</answer>"


def _agreement(question: ChoiceQuestion, place: int) -> tuple[tuple[bool, ...], ...]:
    """For each item of an option, in its order, which options have it in this place."""
    return tuple(
        tuple(option[k] == item for option in question.items) for k, item in enumerate(question.items[place])
    )


def _asked_in_words(sample: Sample) -> str:
    options = "\n".join(f"{letter}. {text}" for letter, text in zip(LETTERS, sample.options, strict=False))
    return f"{sample.question}\n\n{options}\n\n{IN_WORDS}"


def _asked_somehow(rng: np.random.Generator, sample: Sample) -> str:
    return _asked(sample) if rng.random() < 0.5 else _asked_in_words(sample)


def _asked(sample: Sample) -> str:
    return load_prompt("direct").render(sample)


def _question(rng: np.random.Generator, truth: ClipTruth, task: TaskKind, way: Way) -> ChoiceQuestion:
    """A question as a mini release words it, with the walk behind each option."""
    walks, items = _competing(rng, truth, task)
    order = [int(k) for k in rng.permutation(len(walks))]
    walks, items = [walks[k] for k in order], [items[k] for k in order]
    if way == "reverse":
        items = [_reversed(task, item) for item in items]
    letter = LETTERS[walks.index(truth)]
    options = tuple(_TELL[task](rng, items))
    sample = Sample("", task, way, truth.part, "", ask(rng, task, way), options, letter)
    return ChoiceQuestion(sample, tuple(items), tuple(walks))


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
