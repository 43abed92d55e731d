"""Forward and reverse on the same clip: whoever knows the way knows it in both directions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from egost_tasks.sample import TaskKind
from results.records import SampleRecord


@dataclass(frozen=True)
class Consistency:
    """How often the forward and the reverse question of a kind about one clip are both right.

    both, forward, reverse, neither: pairs that are right in both, in one of them alone, in neither.
    by_chance: expected share of pairs right in both, 0 to 1, if the two had nothing to do with each other.
    """

    kind: TaskKind
    both: int
    forward: int
    reverse: int
    neither: int

    @property
    def pairs(self) -> int:
        return self.both + self.forward + self.reverse + self.neither

    @property
    def by_chance(self) -> float:
        return (self.both + self.forward) * (self.both + self.reverse) / self.pairs**2


def consistency(records: Sequence[SampleRecord]) -> list[Consistency]:
    """By kind of multiple-choice task, over the clips that have one scored question each way.

    A clip with several questions of a kind and way cannot be paired and is left out, as are kinds without pairs.
    """
    right: dict[tuple[TaskKind, str], dict[str, list[bool]]] = {}
    for record in records:
        if record.sample.task != "route" and record.percent is not None:
            ways = right.setdefault((record.sample.task, record.cluster), {"forward": [], "reverse": []})
            ways[record.sample.way].append(record.percent == 100)
    pairs = Counter(
        (kind, ways["forward"][0], ways["reverse"][0])
        for (kind, _), ways in right.items()
        if len(ways["forward"]) == len(ways["reverse"]) == 1
    )
    kinds = sorted({kind for kind, _, _ in pairs})
    return [
        Consistency(
            kind,
            pairs[kind, True, True],
            pairs[kind, True, False],
            pairs[kind, False, True],
            pairs[kind, False, False],
        )
        for kind in kinds
    ]
