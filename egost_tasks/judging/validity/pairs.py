"""Pairs of a reference and a prediction, with the bounds that the published rubric implies for its scores.

The rubric (paper, section 5.1 and figure 6) gives each aspect a whole number from 0 to 5: a change of direction that
the reference does not have lowers `direction`; further landmarks cost nothing and a missing one lowers `landmark`;
`semantic` is about order and meaning of the whole. It states no formula, so these are bounds that any sound reading
of it stays in, and not the figures of any one judge. Where only a part is right, half of the bounds' width is for
strictness and half for leniency, and full marks are out of bounds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple

from egost.tasks.judging.judge import BEST, RouteItem
from egost.tasks.sample import Way


class Bounds(NamedTuple):
    """Least and greatest score, both allowed."""

    low: int
    high: int


class Implied(NamedTuple):
    """The bounds of the three aspects."""

    direction: Bounds
    landmark: Bounds
    semantic: Bounds


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of a prediction, compared with its reference.

    wanted, given: turns of the reference and of the prediction, one letter each (L, R, A, U, D), in order.
    landmarks: number of landmarks that the reference names; named: how many of them the prediction names.
    """

    wanted: str
    given: str
    landmarks: int
    named: int


FULL = Bounds(BEST, BEST)
NEARLY_FULL = Bounds(4, BEST)
NOTHING = Bounds(0, 0)
NEXT_TO_NOTHING = Bounds(0, 1)
SOME_TURNS_WRONG = Bounds(0, 4)

NO_ROUTE = ("off_topic", "wrong_route", "injection_alone", "injection_attached")
"""Kinds of which nothing agrees with the reference; one point is left for a judge that is lenient with any text."""

SEMANTIC: dict[str, Bounds] = {
    "paraphrase": NEARLY_FULL,
    "extra_landmark": NEARLY_FULL,
    "much_longer": Bounds(3, BEST),
    "different_language": Bounds(3, BEST),
    "landmark_missing": Bounds(2, BEST),
    "one_turn_flipped": Bounds(1, 4),
    "extra_turn": Bounds(1, 4),
    "steps_swapped": Bounds(0, 4),
    "all_turns_mirrored": Bounds(0, 3),
    "wrong_way": Bounds(0, 3),
}
"""Order and meaning of the whole: kept; kept in other words; incomplete; false in one step; false throughout.

Wordiness, and a language that nobody asked for, may cost a point of style and no more: the rubric speaks of what is
said and not of the language it is said in. A judge that cannot read a language scores such pairs too low and
fails them.
"""


def implied_bounds(kind: str, facts: Facts) -> Implied:
    """The bounds of a pair.

    Raises KeyError for a kind that has none.
    """
    if kind == "identical":
        return Implied(FULL, FULL, FULL)
    if kind == "empty":
        return Implied(NOTHING, NOTHING, NOTHING)
    if kind in NO_ROUTE:
        return Implied(NEXT_TO_NOTHING, NEXT_TO_NOTHING, NEXT_TO_NOTHING)
    turns = max(len(facts.wanted), len(facts.given))
    direction = _partly(_in_order(facts.wanted, facts.given), turns) if facts.wanted else _below(turns)
    if kind == "wrong_way" and facts.wanted == facts.given:
        # Left-right is left-right again: the turns alone say all is right, their landmarks say that nothing is.
        direction = Bounds(0, BEST)
    landmark = _partly(facts.named, facts.landmarks)
    if kind == "extra_landmark":
        landmark = FULL
    semantic = SEMANTIC[kind]
    if kind == "all_turns_mirrored":
        all_wrong = not set(facts.wanted) - set("LR")
        # Mirrored or not, a turn round and stairs stay what they are: then only some of the turns are wrong.
        direction, semantic = (NEXT_TO_NOTHING, semantic) if all_wrong else (direction, SOME_TURNS_WRONG)
    return Implied(direction, landmark, semantic)


def _partly(right: int, total: int) -> Bounds:
    if right == total:
        return NEARLY_FULL
    if right == 0:
        return Bounds(0, 2) if total == 1 else NEXT_TO_NOTHING
    share = BEST * right / total
    return Bounds(max(0, math.floor(share) - 2), min(BEST - 1, math.ceil(share) + 1))


def _below(extra_turns: int) -> Bounds:
    """A reference that goes straight: each turn is one too many, and the rubric does not say by how much."""
    return Bounds(0, BEST - 1) if extra_turns else NEARLY_FULL


def _in_order(wanted: str, given: str) -> int:
    """Length of the longest common subsequence: the turns that are right in some sound reading of the order."""
    row = [0] * (len(given) + 1)
    for w in wanted:
        above = 0
        for j, g in enumerate(given, start=1):
            above, row[j] = row[j], max(row[j], row[j - 1], above + (w == g))
    return row[-1]


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
