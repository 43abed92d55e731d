"""Each member of a set of options would have got the same set, had it been the truth."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from egost.tasks.mini_world.option_sets import action_options, landmark_options, turn_options, turn_words
from egost.tasks.mini_world.steps import ACTIONS, COLOURS, LANDMARKS, Landmark, Turn

Options = Callable[[np.random.Generator, Any], list[Any]]


def test_turn_words_leave_out_turning_around_twice() -> None:
    assert turn_words(1, around=True) == [("left",), ("right",), ("around",)]
    assert len(turn_words(2, around=True)) == 8
    assert len(turn_words(3, around=True)) == 22
    assert len(turn_words(3, around=False)) == 8


@pytest.mark.parametrize(("turns", "around"), [(1, False), (2, False), (2, True), (3, True)])
def test_turn_sets_are_blocks(turns: int, around: bool) -> None:
    for truth in turn_words(turns, around=around):
        for seed in range(60):
            options = turn_options(np.random.default_rng(seed), truth, around=around)
            assert truth in options
            assert 2 <= len(set(options)) == len(options) <= 4
            for other in options:
                again = turn_options(np.random.default_rng(seed), other, around=around)
                assert set(again) == set(options), (truth, other, seed)


def test_turning_around_competes_with_other_turns() -> None:
    truth: tuple[Turn, ...] = ("left", "around")
    seen = {o for seed in range(80) for o in turn_options(np.random.default_rng(seed), truth, around=True)}
    assert seen == set(turn_words(2, around=True))


def random_panels(rng: np.random.Generator, number: int) -> tuple[Landmark, ...]:
    colours = rng.permutation(len(COLOURS))[:number]
    return tuple(LANDMARKS[int(c) * 4 + int(rng.integers(4))] for c in colours)


@pytest.mark.parametrize("number", [2, 3, 4])
def test_the_truth_stands_anywhere_among_the_sorted_panel_sequences(number: int) -> None:
    draw = landmark_options
    check_rank(lambda rng: random_panels(rng, number), draw)


@pytest.mark.parametrize("number", [2, 3])
def test_the_truth_stands_anywhere_among_the_sorted_action_sequences(number: int) -> None:
    check_rank(
        lambda rng: tuple(ACTIONS[int(k)] for k in rng.permutation(len(ACTIONS))[:number]), action_options
    )


def check_rank(truths: Callable[[np.random.Generator], Any], options_of: Options) -> None:
    """Sorted, the options have the truth on each place equally often, and as often nearest to the others."""
    rng = np.random.default_rng(0)
    ranks: dict[int, list[int]] = {2: [], 3: [], 4: []}
    nearness: list[float] = []
    for _ in range(4000):
        truth = truths(rng)
        options = sorted(options_of(rng, truth))
        assert len(set(options)) == len(options)
        assert all(len(set(option)) == len(option) for option in options)
        ranks[len(options)].append(options.index(truth))
        near = [sum(a == b for o in options for a, b in zip(o, option, strict=True)) for option in options]
        nearness.append(near[options.index(truth)] - float(np.mean(near)))
    for size, places in ranks.items():
        counts = np.bincount(places, minlength=size)
        expected = max(len(places) / size, 1)
        assert ((counts - expected) ** 2 / expected).sum() < 16.3 or not places, (size, counts)
    assert abs(np.mean(nearness)) < 4 * np.std(nearness) / np.sqrt(len(nearness)) + 1e-9


def test_colours_differ_within_each_sequence() -> None:
    rng = np.random.default_rng(0)
    for _ in range(500):
        for option in landmark_options(rng, random_panels(rng, 3)):
            assert len({panel.colour for panel in option}) == 3
