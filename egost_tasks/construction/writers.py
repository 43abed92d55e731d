"""What a writer of wrong options is asked for and returns, and the writer that needs no model.

    [written] = OfflineWriter(seed=0)([request])

A writer only names the items of each option. The texts of all options, also of the right one, are made by one function
(`questions.option_texts`). If people wrote the right options and a model the wrong ones, text alone would tell which is
which.

The offline writer makes wrong options such that no option looks more right than another. As in the mini world
(`mini_world.option_sets`), the same set of options could have come about if another member had been the truth. The
replacement of a landmark or action is drawn from other clips, each name as often as it occurs there, so that a common
name is common among right and wrong options alike.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations, product
from typing import Protocol

import numpy as np

from egost.tasks.construction.annotations import MIRROR, Annotation
from egost.tasks.construction.checks import may_mean, normal_words
from egost.tasks.construction.drafts import Items, truth_of
from egost.tasks.mini_world.option_sets import MOST_OPTIONS, flipped_options, random_block, swapped
from egost.tasks.mini_world.steps import TURNS
from egost.tasks.sample import TaskKind, Way

OFFLINE = "offline-1"
"""Name and version of the offline writer: the version rises whenever the same steps would give other options."""

_MOST_AROUND = 4
_FEW_NAMES = 4


@dataclass(frozen=True, slots=True)
class ChoiceRequest:
    """A choice to write about the annotated steps of a clip.

    ways: the ways to ask about; with two, the options of the second are those of the first turned round.
    names: landmarks or actions of other clips, each as often as it occurs; empty for directions.
    """

    annotation: Annotation
    task: TaskKind
    ways: tuple[Way, ...]
    names: tuple[str, ...]

    @property
    def truth(self) -> Items:
        """Items of the right option, for the first way."""
        return truth_of(self.annotation, self.task, self.ways[0])


@dataclass(frozen=True, slots=True)
class Written:
    """The options of a choice, for the first way of its request.

    right: items of the right option. wrong: items of each wrong one. place: index of the right option, None to deal
    the letters so that each is right equally often. snapshot: the model that a server named, else empty.
    """

    right: Items
    wrong: tuple[Items, ...]
    place: int | None = None
    snapshot: str = ""


@dataclass(frozen=True, slots=True)
class Unwritten:
    """Why a request has no options. reason: a short stable word; message: for people."""

    reason: str
    message: str


class Writer(Protocol):
    """Writes the options of many requests; the result has one entry for each, in their order."""

    @property
    def name(self) -> str:
        """Name and version, as the drafts record them."""

    def __call__(self, requests: Sequence[ChoiceRequest]) -> list[Written | Unwritten]: ...


class OfflineWriter:
    """Writes by rule from the steps; the same requests and seed give the same options."""

    name = OFFLINE

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def __call__(self, requests: Sequence[ChoiceRequest]) -> list[Written | Unwritten]:
        return [self._write(request) for request in requests]

    def _write(self, request: ChoiceRequest) -> Written | Unwritten:
        rng = request_rng(self._seed, "options", request.annotation.clip, request.task, request.ways[0])
        wrong = _wrong_options(rng, request.task, request.truth, request.names)
        if not wrong:
            return Unwritten(
                "no_distractor",
                "no rule makes a wrong option; annotate more clips, or name a model with --writer.",
            )
        return Written(request.truth, wrong)


def request_rng(seed: int, *names: str) -> np.random.Generator:
    """A random generator for one purpose and clip, which does not depend on what else is written."""
    digest = hashlib.sha256("\0".join(names).encode()).digest()
    return np.random.default_rng([seed, int.from_bytes(digest[:8], "big")])


def _wrong_options(
    rng: np.random.Generator, task: TaskKind, truth: Items, names: Sequence[str]
) -> tuple[Items, ...]:
    """Up to three wrong options for a true one; none where no rule makes any. names: see `ChoiceRequest`."""
    options = _turn_options(rng, truth) if task == "direction" else _name_options(rng, truth, names)
    return tuple(option for option in options if option != truth)


def _turn_options(rng: np.random.Generator, truth: Items) -> list[Items]:
    options = flipped_options(rng, truth, MIRROR)
    if len(options) == 1 and len(truth) <= _MOST_AROUND:
        # The mirror image of turning around is turning around, so that all sequences of turns compete.
        space: list[Items] = list(product(TURNS, repeat=len(truth)))
        return random_block(rng, space, truth, MOST_OPTIONS)
    return options


def _name_options(rng: np.random.Generator, truth: Items, names: Sequence[str]) -> list[Items]:
    places = list({normal_words(item): place for place, item in enumerate(truth)}.values())
    order = [places[int(k)] for k in rng.permutation(len(places))]
    others = [name for name in names if not any(may_mean(name, item) for item in truth)]
    style = rng.random()
    if len(order) > 2 and (style < 0.3 or not others):
        return _orders(rng, truth, sorted(order[:_FEW_NAMES]))
    if not others:
        return [truth, swapped(truth, *order)] if len(order) == 2 else [truth]
    first = order[0]
    if len(order) == 1:
        return [truth, *(_with(truth, first, name) for name in _drawn(rng, others, MOST_OPTIONS - 1))]
    changed = _with(truth, first, _drawn(rng, others, 1)[0])
    if style < 0.7:
        swap = sorted(order[int(k)] for k in rng.permutation(len(order))[:2])
        return [truth, changed, swapped(truth, *swap), swapped(changed, *swap)]
    second = order[1]
    fresh = [name for name in others if not may_mean(name, changed[first])]
    if not fresh:
        return [truth, changed, swapped(truth, *order[:2]), swapped(changed, *order[:2])]
    name = _drawn(rng, fresh, 1)[0]
    return [truth, changed, _with(truth, second, name), _with(changed, second, name)]


def _orders(rng: np.random.Generator, truth: Items, places: Sequence[int]) -> list[Items]:
    """Orders of the items at places with different names; the set of orders does not depend on which one is true."""
    space = []
    for order in permutations(sorted(truth[place] for place in places)):
        items = list(truth)
        for place, item in zip(places, order, strict=True):
            items[place] = item
        space.append(tuple(items))
    return random_block(rng, space, truth, MOST_OPTIONS)


def _drawn(rng: np.random.Generator, names: Sequence[str], most: int) -> list[str]:
    """Up to so many names of which no two may mean the same, drawn as often as they occur."""
    drawn: list[str] = []
    remaining = list(names)
    while remaining and len(drawn) < most:
        name = remaining[int(rng.integers(len(remaining)))]
        drawn.append(name)
        remaining = [other for other in remaining if not may_mean(other, name)]
    return drawn


def _with(items: Items, place: int, name: str) -> Items:
    return (*items[:place], name, *items[place + 1 :])
