"""Wrong options by rule: of the options of a question, none is to look more right than another.

As in the mini world (`mini_world.option_sets`), a set of options is one that would have come about in the same way had
another of its members been the truth. What takes the place of a landmark or action is drawn from those of other clips
as often as these name it, so that a common name is common among right and wrong options alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations, product

import numpy as np

from egost.tasks.construction.annotations import MIRROR
from egost.tasks.construction.drafts import Items
from egost.tasks.construction.option_checks import may_mean, normal_words
from egost.tasks.mini_world.option_sets import MOST_OPTIONS, flipped_options, random_block, swapped
from egost.tasks.mini_world.steps import TURNS
from egost.tasks.sample import TaskKind

_MOST_AROUND = 4
_FEW_NAMES = 4


def wrong_options(
    rng: np.random.Generator, task: TaskKind, truth: Items, names: Sequence[str]
) -> tuple[Items, ...]:
    """Up to three wrong options for a true one, in the terms of its way; none where no rule makes any.

    names: landmarks or actions of other clips, each as often as it occurs.
    """
    options = _turn_options(rng, truth) if task == "direction" else _name_options(rng, truth, names)
    return tuple(option for option in options if option != truth)


def _turn_options(rng: np.random.Generator, truth: Items) -> list[Items]:
    mirror: dict[str, str] = dict(MIRROR.items())
    options = flipped_options(rng, truth, mirror)
    if len(options) == 1 and len(truth) <= _MOST_AROUND:
        # Turning around is its own mirror image: any turns compete.
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
    """Orders of the items at some places, whose names differ; the space does not depend on which one is true."""
    space = []
    for order in permutations(sorted(truth[place] for place in places)):
        items = list(truth)
        for place, item in zip(places, order, strict=True):
            items[place] = item
        space.append(tuple(items))
    return random_block(rng, space, truth, MOST_OPTIONS)


def _drawn(rng: np.random.Generator, names: Sequence[str], most: int) -> list[str]:
    """Up to so many names of which none may stand for another, drawn as often as they occur."""
    drawn: list[str] = []
    remaining = list(names)
    while remaining and len(drawn) < most:
        name = remaining[int(rng.integers(len(remaining)))]
        drawn.append(name)
        remaining = [other for other in remaining if not may_mean(other, name)]
    return drawn


def _with(items: Items, place: int, name: str) -> Items:
    return (*items[:place], name, *items[place + 1 :])
