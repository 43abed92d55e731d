"""Sets of options of which none looks more right than another.

Text alone must not give an answer away (on the released ST-R1 rows a linear text model finds 93.8 % of them).
The rule that ensures it here: a set of options is one of the blocks into which the possible truths fall,
and the block of a truth is drawn without looking at which of its members is true. As all members of a block
are equally likely to be walked, each is the right one with the same chance, given all that the options say.

The reverse question of a clip has the same block, turned round, since the two sets together must not reveal
more than one of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise, permutations, product
from typing import TypeVar

import numpy as np

from egost.tasks.mini_world.steps import ACTIONS, LANDMARKS, MIRROR, TURNS, Action, Landmark, Turn

_T = TypeVar("_T")

MOST_OPTIONS = 4
"""Most questions of the real data have four options (511 of the 630 ST-R1 rows)."""

_MOST_SIDES = 10
"""Places that may be flipped at once: all their combinations are listed."""


def turn_words(turns: int, *, around: bool) -> list[tuple[Turn, ...]]:
    """All sequences of turns that a walk can have; turning around twice in a row leads nowhere."""
    words = product(TURNS if around else TURNS[:2], repeat=turns)
    return [w for w in words if not any(a == b == "around" for a, b in pairwise(w))]


def turn_options(
    rng: np.random.Generator, truth: tuple[Turn, ...], *, around: bool
) -> list[tuple[Turn, ...]]:
    """Up to four sequences of turns, the true one among them.

    Either left and right are exchanged at some places, or any sequences of the same length compete.
    The truth must be drawn evenly from `turn_words(len(truth), around=around)`.
    """
    if around and rng.random() < 0.6:
        return random_block(rng, turn_words(len(truth), around=True), truth, MOST_OPTIONS)
    return flipped_options(rng, truth, MIRROR)


def flipped_options(
    rng: np.random.Generator, truth: tuple[_T, ...], mirror: Mapping[_T, _T]
) -> list[tuple[_T, ...]]:
    """Up to four sequences, the true one among them, that differ by mirror images at some places.

    mirror: each item's mirror image, which may be itself. All that can be flipped are flipped at random but evenly:
    the sequences are a coset of a random linear code over the places. A truth without such places is returned alone.
    """
    sides = [place for place, item in enumerate(truth) if mirror[item] != item]
    if len(sides) > _MOST_SIDES:
        sides = [int(place) for place in rng.permutation(sides)[:_MOST_SIDES]]
    flips = list(product((False, True), repeat=len(sides)))
    checks = flips[1:]
    while len(flips) > MOST_OPTIONS:
        check = checks[int(rng.integers(len(checks)))]
        flips = [f for f in flips if sum(a and b for a, b in zip(f, check, strict=True)) % 2 == 0]
    options = []
    for flip in flips:
        flipped = {place for place, chosen in zip(sides, flip, strict=True) if chosen}
        options.append(tuple(mirror[item] if k in flipped else item for k, item in enumerate(truth)))
    return options


def landmark_options(rng: np.random.Generator, truth: tuple[Landmark, ...]) -> list[tuple[Landmark, ...]]:
    """Up to four sequences of panels, the true one among them; colours differ within each sequence.

    The truth must be drawn evenly from all sequences of panels with different colours.
    """
    return _sequence_options(rng, truth, LANDMARKS, lambda panel: panel.colour)


def action_options(rng: np.random.Generator, truth: tuple[Action, ...]) -> list[tuple[Action, ...]]:
    """Up to four sequences of different actions, the true one among them.

    The truth must be drawn evenly from all sequences of different actions.
    """
    return _sequence_options(rng, truth, ACTIONS, lambda action: action)


def _sequence_options(
    rng: np.random.Generator, truth: tuple[_T, ...], vocabulary: Sequence[_T], key: Callable[[_T], str]
) -> list[tuple[_T, ...]]:
    style = rng.random()
    if style < 0.3:
        orders = list(permutations(sorted(truth, key=key)))
        return random_block(rng, orders, truth, 3 if rng.random() < 0.3 else MOST_OPTIONS)
    first, second = (int(place) for place in rng.permutation(len(truth))[:2])
    changed = _replaced(rng, truth, first, vocabulary, key, ())
    if style < 0.7:
        swap = sorted(int(place) for place in rng.permutation(len(truth))[:2])
        return [truth, changed, swapped(truth, *swap), swapped(changed, *swap)]
    again = _replaced(rng, truth, second, vocabulary, key, (changed[first],))
    both = tuple(again[k] if k == second else item for k, item in enumerate(changed))
    return [truth, changed, again, both]


def random_block(
    rng: np.random.Generator, space: Sequence[tuple[_T, ...]], truth: tuple[_T, ...], size: int
) -> list[tuple[_T, ...]]:
    """The block of the truth in a random partition of the space; `space` must not depend on the truth."""
    order = [space[int(k)] for k in rng.permutation(len(space))]
    start = order.index(truth) // size * size
    return order[start : start + size]


def _replaced(
    rng: np.random.Generator,
    items: tuple[_T, ...],
    place: int,
    vocabulary: Sequence[_T],
    key: Callable[[_T], str],
    also_taken: tuple[_T, ...],
) -> tuple[_T, ...]:
    """The items with another one at a place, whose key differs from those of all other places."""
    taken = {key(item) for k, item in enumerate(items) if k != place} | {key(item) for item in also_taken}
    choices = [item for item in vocabulary if key(item) not in taken and item != items[place]]
    other = choices[int(rng.integers(len(choices)))]
    return (*items[:place], other, *items[place + 1 :])


def swapped(items: tuple[_T, ...], a: int, b: int) -> tuple[_T, ...]:
    """The items with those at two places exchanged."""
    changed = list(items)
    changed[a], changed[b] = changed[b], changed[a]
    return tuple(changed)
