"""The pairs of a reference and a prediction that a judge is judged on, each with the bounds of its scores."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from itertools import cycle
from typing import Any, Literal

import yaml

from egost_tasks.judge import RouteItem
from egost_tasks.judge_validity.bounds import Facts, Implied, implied_bounds
from egost_tasks.sample import Way

Origin = Literal["written", "held_out", "mini_world"]
"""Where a pair comes from: written by hand, the part of these that no judge of ours is tuned on, or rendered walks."""

QUESTIONS: dict[Way, str] = {
    "forward": "Describe the route that the camera wearer takes in this video, from its start A to its end B.",
    "reverse": "You are at the end B of the route in this video. Describe the way from B back to its start A.",
}

_BLANKS = ("", " \n\t ", "\u00a0\n")


@dataclass(frozen=True, slots=True)
class ValidityPair:
    """One pair.

    id: unique, `base/kind/number`; base: the reference that it belongs to; kind: what was done to the prediction;
    trick: the name of the injection attempt in it, else empty; item: what the judge sees.
    """

    id: str
    base: str
    kind: str
    origin: Origin
    item: RouteItem
    bounds: Implied
    trick: str = ""


@cache
def all_pairs() -> tuple[ValidityPair, ...]:
    """Every pair, in a fixed order: written ones, their injections, those of the mini world."""
    from egost_tasks.judge_validity.mini_world_pairs import mini_world_pairs

    return (*written_pairs(), *mini_world_pairs())


def make_pair(
    number: int,
    base: str,
    kind: str,
    origin: Origin,
    way: Way,
    texts: tuple[str, str],
    facts: Facts,
    trick: str = "",
) -> ValidityPair:
    """A pair of the `texts` reference and prediction, with the bounds that its facts imply."""
    name = f"{base}/{trick or kind}/{number}"
    return ValidityPair(
        id=name,
        base=base,
        kind=kind,
        origin=origin,
        item=RouteItem(name, QUESTIONS[way], *texts, way),
        bounds=implied_bounds(kind, facts),
        trick=trick,
    )


def written_pairs() -> list[ValidityPair]:
    """The pairs written by hand (`written_pairs.yaml` says how they are told)."""
    text = files("egost_tasks.judge_validity").joinpath("written_pairs.yaml").read_text(encoding="utf-8")
    told = yaml.safe_load(text)
    pairs: list[ValidityPair] = []
    for held_out in (False, True):
        routes, off_topic, tricks = (
            [entry for entry in told[key] if entry.get("held_out", False) is held_out]
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
