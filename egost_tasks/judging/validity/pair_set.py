"""The pairs that a judge is checked with: some written by hand, some made from rendered walks.

Those by hand are read from `written_pairs.yaml`, which explains its form. Of a rendered walk, the reference tells the
walk and the prediction tells it with one known change.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from importlib.resources import files
from itertools import cycle
from typing import Any

import numpy as np
import yaml

from egost.tasks.judging.validity.pairs import Facts, Origin, ValidityPair, make_pair
from egost.tasks.mini_world.steps import MIRROR, ClipTruth, Landmark, Step, Turn, tell_route, way_back
from egost.tasks.mini_world.walks import plan_clip
from egost.tasks.sample import Way


@cache
def all_pairs() -> tuple[ValidityPair, ...]:
    """Every pair, in a fixed order: written ones, their injections, those of the mini world."""
    return (*written_pairs(), *mini_world_pairs())


_BLANKS = ("", " \n\t ", "\u00a0\n")


def written_pairs() -> list[ValidityPair]:
    """The pairs of the file: first those that may be tuned on, then those that are held out."""
    text = files("egost.tasks.judging.validity").joinpath("written_pairs.yaml").read_text(encoding="utf-8")
    content = yaml.safe_load(text)
    pairs: list[ValidityPair] = []
    for held_out in (False, True):
        routes, off_topic, tricks = (
            [entry for entry in content[key] if entry.get("held_out", False) is held_out]
            for key in ("routes", "off_topic", "tricks")
        )
        origin: Origin = "held_out" if held_out else "written"
        for route in routes:
            pairs += _of_route(route, origin)
        for entry, route in zip(off_topic, cycle(routes)):
            pairs.append(_pair(route, "off_topic", origin, entry["text"]))
        for blank, route in zip(_BLANKS, cycle(routes)):
            pairs.append(_pair(route, "empty", origin, blank))
        for trick, route in zip(tricks, cycle(routes)):
            pairs += _injections(trick, route, origin)
    return pairs


def _of_route(route: dict[str, Any], origin: Origin) -> Iterator[ValidityPair]:
    yield _pair(route, "identical", origin, route["reference"])
    yield _pair(route, "wrong_route", origin, route["wrong"])
    for number, variant in enumerate(route["variants"]):
        given, named = variant.get("turns", route["turns"]), variant.get("named", route["landmarks"])
        yield _pair(route, variant["kind"], origin, variant["text"], number, given, named)


def _injections(trick: dict[str, Any], route: dict[str, Any], origin: Origin) -> Iterator[ValidityPair]:
    """The attempt on its own, and behind a walk that has nothing in common with the reference."""
    both = f"{route['wrong']}\n\n{trick['text']}"
    yield _pair(route, "injection_alone", origin, trick["text"], trick=trick["name"])
    yield _pair(route, "injection_attached", origin, both, 1, trick=trick["name"])


def _pair(
    route: dict[str, Any],
    kind: str,
    origin: Origin,
    prediction: str,
    number: int = 0,
    given: str | None = None,
    named: int = 0,
    trick: str = "",
) -> ValidityPair:
    facts = Facts(route["turns"], route["turns"] if given is None else given, route["landmarks"], named)
    return make_pair(
        number, route["id"], kind, origin, route["way"], (route["reference"], prediction), facts, trick
    )


SEED = 1503
CLIPS = (0, 1, 2, 4, 5, 7)
"""Numbers of the walks: one or two of each part, half of them asked for on the way back."""

_LETTER: dict[Turn, str] = {"left": "L", "right": "R", "around": "A"}
_OTHER: dict[Turn, Turn] = {"left": "right", "right": "left", "around": "left"}


def mini_world_pairs() -> list[ValidityPair]:
    """The pairs of `CLIPS`; the same at each call."""
    pairs: list[ValidityPair] = []
    for place, number in enumerate(CLIPS):
        way: Way = "reverse" if place % 2 else "forward"
        pairs += _of_walk(plan_clip(SEED, "test", number).truth, way, f"mini-{number}-{way}", number)
    return pairs


def _of_walk(truth: ClipTruth, way: Way, base: str, seed: int) -> Iterator[ValidityPair]:
    reference = _tell(truth, way, seed)

    def pair(
        kind: str, prediction: str, changed: ClipTruth = truth, named: int | None = None
    ) -> ValidityPair:
        panels = len(set(truth.landmarks))
        facts = Facts(_turns(truth, way), _turns(changed, way), panels, panels if named is None else named)
        return make_pair(0, base, kind, "mini_world", way, (reference, prediction), facts)

    def retold(kind: str, changed: ClipTruth) -> ValidityPair:
        return pair(kind, _tell(changed, way, seed), changed)

    yield pair("identical", reference)
    yield pair("paraphrase", _retell(truth, way))
    yield pair("much_longer", _tell_at_length(truth, way))
    yield pair("extra_landmark", reference.replace("panel", "panel, which is next to a potted plant,", 1))
    yield pair("landmark_missing", _without(reference, truth), named=len(set(truth.landmarks)) - 1)
    yield retold("extra_turn", _with_extra_turn(truth))
    if any(turn != "around" for turn in truth.turns):
        yield retold("all_turns_mirrored", _mirrored(truth))
    if len(truth.turns) > 1:
        yield retold("one_turn_flipped", _flipped(truth))
        yield retold("steps_swapped", _swapped(truth))
    other: Way = "forward" if way == "reverse" else "reverse"
    facts = Facts(_turns(truth, way), _turns(truth, other), len(truth.landmarks), len(truth.landmarks))
    yield make_pair(0, base, "wrong_way", "mini_world", way, (reference, _tell(truth, other, seed)), facts)


def _tell(truth: ClipTruth, way: Way, seed: int) -> str:
    return tell_route(np.random.default_rng([SEED, seed]), truth, way)


def _turns(truth: ClipTruth, way: Way) -> str:
    turns = truth.turns if way == "forward" else way_back(truth.turns)
    return "".join(_LETTER[turn] for turn in turns)


def _turn_steps(truth: ClipTruth) -> list[int]:
    return [k for k, step in enumerate(truth.steps) if step.kind == "turn"]


def _with_steps(truth: ClipTruth, changed: dict[int, Step]) -> ClipTruth:
    return replace(truth, steps=tuple(changed.get(k, step) for k, step in enumerate(truth.steps)))


def _flipped(truth: ClipTruth) -> ClipTruth:
    at = _turn_steps(truth)[-1]
    step = truth.steps[at]
    assert step.turn is not None
    return _with_steps(truth, {at: replace(step, turn=_OTHER[step.turn])})


def _mirrored(truth: ClipTruth) -> ClipTruth:
    return _with_steps(
        truth, {k: replace(s, turn=MIRROR[s.turn]) for k, s in enumerate(truth.steps) if s.turn}
    )


def _swapped(truth: ClipTruth) -> ClipTruth:
    """The first two turns change places, each with its panel."""
    first, second, *_ = _turn_steps(truth)
    return _with_steps(truth, {first: truth.steps[second], second: truth.steps[first]})


def _with_extra_turn(truth: ClipTruth) -> ClipTruth:
    """A turn more, at a white plain panel or, where the walk has that one, at a cyan dotted one."""
    panel = next(
        p for p in (Landmark("white", "plain"), Landmark("cyan", "dotted")) if p not in truth.landmarks
    )
    at = _turn_steps(truth)[0] + 1
    extra = Step("turn", (), 0.0, turn="left", landmark=panel)
    return replace(truth, steps=(*truth.steps[:at], extra, *truth.steps[at:]))


def _without(text: str, truth: ClipTruth) -> str:
    """The panel of the first turn is not named at its place."""
    panel = truth.steps[_turn_steps(truth)[0]].landmark
    return text.replace(f"the {panel}", "that point")


def _between(truth: ClipTruth, way: Way) -> Iterator[tuple[Landmark, Turn]]:
    """Panels and turns on the way; actions and surroundings are left out, since no aspect asks for them."""
    steps = [step for step in truth.steps if step.landmark and step.turn]
    turns = truth.turns
    if way == "reverse":
        steps.reverse()
        turns = way_back(turns)
    for step, turn in zip(steps, turns, strict=True):
        assert step.landmark is not None
        yield step.landmark, turn


def _retell(truth: ClipTruth, way: Way) -> str:
    said = {"left": "take a left", "right": "take a right", "around": "make a U-turn"}
    parts = [f"once you get to the {p.pattern} {p.colour} panel, {said[t]}" for p, t in _between(truth, way)]
    last = truth.landmarks[-1]
    start, end = (
        f"With the {last.pattern} {last.colour} panel at your back, move forward",
        "then head on to A",
    )
    if way == "forward":
        start, end = "Move forward from A", f"then head on to the {last.pattern} {last.colour} panel"
    return "; ".join([start, *parts, end]) + "."


def _tell_at_length(truth: ClipTruth, way: Way) -> str:
    said = {"left": "turn left", "right": "turn right", "around": "turn around"}
    last = truth.landmarks[-1]
    sentences = [
        "What follows is the whole route, told slowly and one thing after the other.",
        "It begins at A, and there you simply start to walk."
        if way == "forward"
        else f"It begins at B, with the {last} behind you, and from there you simply start to walk.",
    ]
    for panel, turn in _between(truth, way):
        sentences += [
            "Keep walking straight for a while, neither too fast nor too slow.",
            f"Sooner or later you will come up to the {panel}, and you cannot miss it.",
            f"When you have come close to it, {said[turn]}, and that is all that needs to be done there.",
        ]
    sentences.append(
        f"Finally, go straight until you reach the {last}, and there the route ends at B."
        if way == "forward"
        else "Finally, go straight on until you have reached A, and there the route ends."
    )
    return " ".join(sentences)
