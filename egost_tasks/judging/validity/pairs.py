"""A pair of a reference and a prediction that a judge is judged on, with the bounds of its scores."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from egost.tasks.judging.judge import RouteItem
from egost.tasks.judging.validity.bounds import Facts, Implied, implied_bounds
from egost.tasks.sample import Way

Origin = Literal["written", "held_out", "mini_world"]
"""Where a pair comes from: written by hand, the part of these that no judge of ours is tuned on, or rendered walks."""

QUESTIONS: dict[Way, str] = {
    "forward": "Describe the route that the camera wearer takes in this video, from its start A to its end B.",
    "reverse": "You are at the end B of the route in this video. Describe the way from B back to its start A.",
}


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
