"""How far two annotators of the same clips agree: Cohen's kappa (Cohen, 1960) over their steps, matched by time."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations

from sklearn.metrics import cohen_kappa_score

from egost.tasks.construction.annotations import Annotation, Step, Steps
from egost.tasks.construction.option_checks import may_mean

TOLERANCE_S = 2.0
"""Two steps can be the same one when their times differ by this many seconds or less. This project's own rule."""

_MISSING = "missing"


@dataclass(frozen=True, slots=True)
class Agreement:
    """Agreement of two annotators on the forward routes of the clips that both annotated.

    kappa: Cohen's, of the directions of their steps; a step that only one of them has counts as a category of its own.
        None where all steps are of one category, since chance agreement is 1 then.
    same_direction: share of the steps with the same direction, 0 to 1. same_landmark: among the steps that both have
        and to which at least one gives a landmark, the share whose landmarks may mean the same; None without any.
    """

    annotators: tuple[str, str]
    clips: int
    steps: int
    kappa: float | None
    same_direction: float
    same_landmark: float | None


def agreements(annotations: Iterable[Annotation]) -> list[Agreement]:
    """The agreement of each pair of annotators who share a clip."""
    by_clip: dict[str, list[Annotation]] = defaultdict(list)
    for annotation in annotations:
        by_clip[annotation.clip].append(annotation)
    shared: dict[tuple[str, str], list[tuple[Annotation, Annotation]]] = defaultdict(list)
    for found in by_clip.values():
        for a, b in combinations(sorted(found, key=lambda annotation: annotation.annotator), 2):
            shared[a.annotator, b.annotator].append((a, b))
    return [_agreement(pair, clips) for pair, clips in sorted(shared.items())]


def matched(first: Steps, second: Steps) -> list[tuple[Step | None, Step | None]]:
    """The steps of two routes in pairs, in their order; None where one of them has no step at that time.

    The matching keeps the order, has as many pairs within `TOLERANCE_S` as possible and, among those, the nearest.
    """
    best: dict[tuple[int, int], tuple[int, float]] = {}
    for i in range(len(first), -1, -1):
        for j in range(len(second), -1, -1):
            options = [(0, 0.0)]
            if i < len(first):
                options.append(best[i + 1, j])
            if j < len(second):
                options.append(best[i, j + 1])
            if i < len(first) and j < len(second):
                apart = abs(first[i].time_s - second[j].time_s)
                if apart <= TOLERANCE_S:
                    count, nearness = best[i + 1, j + 1]
                    options.append((count + 1, nearness - apart))
            best[i, j] = max(options)
    pairs: list[tuple[Step | None, Step | None]] = []
    i = j = 0
    while i < len(first) or j < len(second):
        if i < len(first) and best[i, j] == best[i + 1, j]:
            pairs.append((first[i], None))
            i += 1
        elif j < len(second) and best[i, j] == best[i, j + 1]:
            pairs.append((None, second[j]))
            j += 1
        else:
            pairs.append((first[i], second[j]))
            i, j = i + 1, j + 1
    return pairs


def _agreement(annotators: tuple[str, str], clips: Sequence[tuple[Annotation, Annotation]]) -> Agreement:
    pairs = [pair for a, b in clips for pair in matched(a.forward, b.forward)]
    said = [tuple(_MISSING if step is None else step.direction for step in pair) for pair in pairs]
    ours, theirs = [pair[0] for pair in said], [pair[1] for pair in said]
    named = [(a.landmark, b.landmark) for a, b in pairs if a and b and (a.landmark or b.landmark)]
    alike = [bool(a and b) and may_mean(a, b) for a, b in named]
    constant = len(set(ours) | set(theirs)) == 1
    return Agreement(
        annotators,
        len(clips),
        len(pairs),
        None if constant else float(cohen_kappa_score(ours, theirs)),
        sum(a == b for a, b in said) / len(said),
        sum(alike) / len(alike) if alike else None,
    )
