"""The offline judge of route descriptions: deterministic, no network, no model.

It follows the published rubric (paper, section 5.1 and figure 6) on what `route_text` reads from the reference and
the prediction. Its numbers are not GPT-4o's and must not be compared with the paper's as if they were; therefore its
name, with a version, is in every result. Any change of what it reads or how it counts is a new version.

Three fractions, each from 0 to 1:

direction   1 if the turns are those of the reference, in order; but if they are so on the way back as well (left,
            right is left, right again) and the prediction comes to the landmarks in the opposite order (more pairs of
            them out of order than in it), it tells the way back, where no turn but those around is right: their share
            of n. Else the smaller of two. First,
            1 - d / max(n, m), with d the least number of turns to insert, delete or replace (edit distance)
            between the n turns of the reference and the m of the prediction. Second, t / max(n, m), with t the
            turns that are right where the landmarks place them: those in the heaviest common subsequence of
            turns and landmarks, each weighing 1. So the mirror image of left-right-left is all wrong at its
            landmarks, though two of its turns fit when shifted. Without a turn in the reference, 1 / (1 + m).
landmark    mean over the reference's distinct landmarks of how well the prediction names each (`likeness`),
            one to one. Further landmarks cost nothing. Without a landmark in the reference, 1.
semantic    s / max(n, m), with s the heaviest common subsequence of turns and landmarks in order, n the
            events of the reference, and m those of the prediction without its further landmarks. A turn weighs
            as much as it takes for all turns of the reference together to weigh no less than its landmarks:
            a walk along the right things that turns the wrong way leads elsewhere. Without an event in the
            reference, 1 / (1 + m).

A fraction f becomes a whole number: 5 if f is 1, else 5 f rounded to the nearest (half up) but at most 4, so
that any fault shows.

A prediction in which nobody moves is no route description: 0/0/0, as is one that only goes through all kinds of
turn; sentences about the judging and long lists of bare things tell no walk and are not read. None of this is
asked of a prediction where the reference itself does so.
Further landmarks are free up to a number that no walk needs: of a prediction's landmarks the first `FREE`, and
three more for each of the reference's, are counted.

Limits: what the reader cannot see (see its docstring), this judge cannot either. It knows English only and has
no notion of style. Whoever names many likely objects in sentences of motion still earns landmark points by luck.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations
from typing import NamedTuple

from egost.tasks.judging.judge import BEST, JudgeFailure, Judgement, RouteItem, judge_empty
from egost.tasks.judging.route_text import MIRROR, Event, Landmark, Route, Turn, read_route
from egost.tasks.judging.route_words import COLOURS, PATTERNS

NAME = "offline-rubric-3"

FREE = 10
"""Landmarks that a prediction may name beyond three times those of the reference."""


class OfflineRubric:
    """The judge `offline`; see the module's docstring for how it counts."""

    name = NAME
    usage = None

    def start(self, items: Sequence[RouteItem]) -> None:
        """Nothing: rules take no time that is worth a head start."""

    def __call__(self, items: Sequence[RouteItem]) -> list[Judgement | JudgeFailure]:
        """One verdict for each item. A reference without any text is a failure: there is nothing to score by."""
        return [self._judge(item) for item in items]

    def _judge(self, item: RouteItem) -> Judgement | JudgeFailure:
        if not item.reference.strip():
            return JudgeFailure(item.sample_id, "empty_reference", "", self.name)
        if empty := judge_empty(item, self.name):
            return empty
        reference = read_route(item.reference)
        # What the reference itself does (a bare list, a row of turns) is not held against the prediction.
        guarded = read_route(item.reference, guarded=True) == reference
        prediction = read_route(item.prediction, guarded=guarded)
        scores = score_route(reference, prediction)
        return Judgement(
            item.sample_id,
            direction=whole(scores.direction),
            landmark=whole(scores.landmark),
            semantic=whole(scores.semantic),
            reasons=f"Reference: {_in_words(reference)}. Prediction: {_in_words(prediction)}.",
            judge=self.name,
        )


class Fractions(NamedTuple):
    """How much of each aspect is right, each from 0 to 1."""

    direction: float
    landmark: float
    semantic: float


def score_route(reference: Route, prediction: Route) -> Fractions:
    """The three fractions of a prediction, as the module's docstring defines them."""
    landmarks = reference.landmarks
    named = prediction.landmarks[: FREE + 3 * len(landmarks)]
    pairs = _pair_landmarks(landmarks, named)
    if not prediction.moves and (reference.moves or not pairs):
        return Fractions(0, 0, 0)
    wanted, given = reference.turns, prediction.turns
    known = [p for p in named if any(likeness(p, r) > 0 for r in landmarks)]
    events = [e for e in prediction.events if not isinstance(e, Landmark) or e in known]
    weight = max(1, len(landmarks) / len(wanted)) if wanted else 1
    _, right = _common(reference.events, events, 1)
    total, _ = _common(reference.events, events, weight)
    n = weight * len(wanted) + len(reference.events) - len(wanted)
    m = weight * len(given) + len(known)
    return Fractions(
        direction=_direction(wanted, given, right, way_back=_out_of_order(pairs)),
        landmark=sum(value for value, _, _ in pairs) / len(landmarks) if landmarks else 1,
        semantic=min(1, total / max(n, m)) if n else 1 / (1 + m),
    )


def whole(fraction: float) -> int:
    """A fraction as a whole number from 0 to 5: 5 for all, else to the nearest but at most 4."""
    return BEST if fraction > 1 - 1e-9 else min(BEST - 1, math.floor(BEST * fraction + 0.5))


def likeness(a: Landmark, b: Landmark) -> float:
    """How far two landmarks can be the same thing, 0 to 1.

    0: another head noun, or colours or patterns that exclude each other. 1: the same words. 0.8: one says
    more than the other ("a red panel", "the red striped panel"). 0.6: they share some of what they add.
    0.3: they add different things ("wooden table", "coffee table").
    """
    if a.head != b.head:
        return 0
    for kind in (COLOURS, PATTERNS):
        mine, theirs = a.modifiers & kind, b.modifiers & kind
        if mine and theirs and not mine & theirs:
            return 0
    if a.modifiers == b.modifiers:
        return 1
    if a.modifiers <= b.modifiers or b.modifiers <= a.modifiers:
        return 0.8
    return 0.6 if a.modifiers & b.modifiers else 0.3


def _direction(
    reference: Sequence[Turn], prediction: Sequence[Turn], right_in_place: int, *, way_back: bool
) -> float:
    if not reference:
        return 1 / (1 + len(prediction))
    if reference == prediction:
        if way_back and [MIRROR[turn] for turn in reversed(reference)] == list(reference):
            return reference.count("around") / len(reference)
        return 1
    row = list(range(len(prediction) + 1))
    for i, wanted in enumerate(reference, start=1):
        above, row[0] = row[0], i
        for j, given in enumerate(prediction, start=1):
            above, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, above + (wanted != given))
    most = max(len(reference), len(prediction))
    return min(1 - row[-1] / most, right_in_place / most)


def _pair_landmarks(
    reference: Sequence[Landmark], prediction: Sequence[Landmark]
) -> list[tuple[float, int, int]]:
    """Likeness and places of each pair when every landmark is used at most once, the likest pairs first."""
    likest = sorted(
        ((likeness(r, p), i, j) for i, r in enumerate(reference) for j, p in enumerate(prediction)),
        key=lambda pair: (-pair[0], pair[1], pair[2]),
    )
    pairs = []
    used: tuple[set[int], set[int]] = (set(), set())
    for value, i, j in likest:
        if value > 0 and i not in used[0] and j not in used[1]:
            pairs.append((value, i, j))
            used[0].add(i)
            used[1].add(j)
    return pairs


def _out_of_order(pairs: Sequence[tuple[float, int, int]]) -> bool:
    """Whether more pairs of paired landmarks are in the opposite order than in the same."""
    same = [(i < k) == (j < m) for (_, i, j), (_, k, m) in combinations(pairs, 2)]
    return 2 * sum(same) < len(same)


def _common(reference: Sequence[Event], prediction: Sequence[Event], turn_weight: float) -> tuple[float, int]:
    """Weight of the heaviest common subsequence, and the turns in it: the fewest, where several weigh the same,
    since then as many landmarks as can be hold their places.

    A landmark weighs its likeness, a turn `turn_weight`.
    """
    row = [(0.0, 0)] * (len(prediction) + 1)
    for wanted in reference:
        above = (0.0, 0)
        for j, given in enumerate(prediction, start=1):
            both = (above[0] + _same(wanted, given, turn_weight), above[1] - _same_turn(wanted, given))
            above, row[j] = row[j], max(row[j], row[j - 1], both)
    weight, turns = row[-1]
    return weight, -turns


def _same(a: Event, b: Event, turn_weight: float) -> float:
    if isinstance(a, Landmark) and isinstance(b, Landmark):
        return likeness(a, b)
    return turn_weight * _same_turn(a, b)


def _same_turn(a: Event, b: Event) -> bool:
    return not isinstance(a, Landmark) and a == b


def _in_words(route: Route) -> str:
    return ", ".join(map(str, route.events)) or ("straight on" if route.moves else "no route")
