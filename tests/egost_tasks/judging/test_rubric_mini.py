"""The rubric on the rendered world's own texts: what it reads is the exact truth that the texts were made from."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from egost.tasks.judging.choose import get_judge
from egost.tasks.judging.judge import Judgement, RouteItem
from egost.tasks.judging.route_text import Landmark, read_route
from egost.tasks.mini_world.steps import ClipTruth, tell_route, way_back
from egost.tasks.mini_world.walks import plan_clip
from egost.tasks.sample import WAYS, Way

TRUTHS = [plan_clip(5, "train", number).truth for number in range(60)]


def told(truth: ClipTruth, way: Way, seed: int) -> str:
    return tell_route(np.random.default_rng(seed), truth, way)


def percents(pairs: list[tuple[str, str]]) -> list[float]:
    items = [RouteItem(str(i), "Describe the route.", a, b, "forward") for i, (a, b) in enumerate(pairs)]
    verdicts = get_judge("offline")(items)
    return [verdict.percent for verdict in verdicts if isinstance(verdict, Judgement)]


@pytest.mark.parametrize("way", WAYS)
def test_turns_and_panels_are_read_exactly(way: Way) -> None:
    for seed, truth in enumerate(TRUTHS):
        route = read_route(told(truth, way, seed))
        panels = [e.modifiers for e in route.events if isinstance(e, Landmark) and e.head == "panel"]
        wanted = [frozenset({panel.colour, panel.pattern}) for panel in truth.landmarks]
        assert route.turns == (truth.turns if way == "forward" else way_back(truth.turns))
        assert panels == (wanted if way == "forward" else wanted[::-1])


@pytest.mark.parametrize("way", WAYS)
def test_another_wording_of_the_same_walk_gets_full_marks(way: Way) -> None:
    pairs = [(told(truth, way, seed), told(truth, way, seed + 1000)) for seed, truth in enumerate(TRUTHS)]
    assert len({a == b for a, b in pairs}) == 2
    assert percents(pairs) == [100.0] * len(pairs)


@pytest.mark.parametrize("way", WAYS)
def test_leaving_out_what_is_no_landmark_costs_nothing(way: Way) -> None:
    """Turns and panels alone get full marks, but for a door that is opened: that is a thing on the way."""
    pairs = []
    for seed, truth in enumerate(TRUTHS):
        if "door" not in truth.actions:
            turns = way_back(truth.turns) if way == "reverse" else truth.turns
            panels = [step.landmark for step in truth.steps if step.landmark]
            told_turns = [(panel, turn) for panel, turn in zip(panels[:-1], truth.turns, strict=True)]
            if way == "reverse":
                told_turns = list(zip(panels[-2::-1], turns, strict=True))
            start = f"Start at the {panels[-1]}. " if way == "reverse" else ""
            end = "Walk on." if way == "reverse" else f"Walk to the {panels[-1]}."
            middle = " ".join(f"At the {panel} turn {turn}." for panel, turn in told_turns)
            pairs.append((told(truth, way, seed), f"{start}{middle} {end}"))
    assert len(pairs) > 40
    assert percents(pairs) == [100.0] * len(pairs)


def test_the_other_way_and_another_walk_get_far_less() -> None:
    reverse = percents(
        [(told(truth, "reverse", i), told(truth, "forward", i)) for i, truth in enumerate(TRUTHS)]
    )
    another = percents([(told(a, "forward", 0), told(b, "forward", 0)) for a, b in pairwise(TRUTHS)])
    assert np.mean(reverse) < 60
    assert np.mean(another) < 45
