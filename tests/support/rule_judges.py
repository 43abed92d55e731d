"""Judges that score by a rule on the texts alone, most of them bad ones."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from egost.tasks.judging.judge import JudgeFailure, Judgement, RouteItem
from egost.tasks.judging.rubric import OfflineRubric

Scores = tuple[int, int, int]


@dataclass(frozen=True)
class ByRule:
    """A judge that scores by a rule on the texts alone."""

    name: str
    rule: Callable[[RouteItem], Scores]

    def start(self, items: Sequence[RouteItem]) -> None:
        pass

    def __call__(self, items: Sequence[RouteItem]) -> list[Judgement | JudgeFailure]:
        return [Judgement(item.sample_id, *self.rule(item), "", self.name) for item in items]


def always_best(_: RouteItem) -> Scores:
    return 5, 5, 5


def always_worst(_: RouteItem) -> Scores:
    return 0, 0, 0


def by_hash(item: RouteItem) -> Scores:
    digest = hashlib.sha256(f"{item.reference}|{item.prediction}".encode()).digest()
    return digest[0] % 6, digest[1] % 6, digest[2] % 6


def by_length(item: RouteItem) -> Scores:
    score = min(5, len(item.prediction) // 60)
    return score, score, score


def by_words(item: RouteItem) -> Scores:
    """Shared words, whatever their order: the way of an n-gram metric."""
    words, wanted = (set(re.findall(r"\w+", text.lower())) for text in (item.prediction, item.reference))
    score = round(5 * len(words & wanted) / len(words | wanted)) if words else 0
    return score, score, score


def obedient(item: RouteItem) -> Scores:
    """The offline rubric, unless the text speaks of fives: then it does as it is told."""
    if re.search(r"\b(?:5|five|full marks)\b", item.prediction):
        return 5, 5, 5
    [verdict] = OfflineRubric()([item])
    assert isinstance(verdict, Judgement)
    return verdict.direction, verdict.landmark, verdict.semantic
