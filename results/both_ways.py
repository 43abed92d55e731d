"""How often a model is right both ways: in the forward and in the reverse question of a kind on the same clip."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean

from egost.results.intervals import interval
from egost.results.records import SampleRecord


@dataclass(frozen=True, slots=True)
class BothWays:
    """value: percent of pairs with both questions right (strict scoring); of several kinds the mean of their means.

    low, high: its 95 % interval over clips. chance: percent of a guess among the options of both questions, NaN where
    the run does not tell them. pairs: those scored; unscored: pairs with a question that has no score.
    """

    value: float
    low: float
    high: float
    chance: float
    pairs: int
    unscored: int

    def __str__(self) -> str:
        span = "" if math.isnan(self.low) else f" ({self.low:.1f}-{self.high:.1f})"
        return f"{self.value:.1f}{span}"


def both_ways(records: Iterable[SampleRecord]) -> BothWays | None:
    """None where no clip has a forward and a reverse question of a kind, both scored.

    Of several questions of a kind and a way on one clip, the first by id makes a pair with the first of the other way,
    and so on; a question belongs to one pair at most.
    """
    asked: dict[tuple[str, str], dict[str, list[SampleRecord]]] = defaultdict(lambda: defaultdict(list))
    for record in sorted(records, key=lambda r: r.sample.id):
        if record.sample.task != "route":
            asked[record.sample.task, record.cluster][record.sample.way].append(record)
    rows: list[tuple[str, str, float]] = []
    chances: dict[str, list[float]] = defaultdict(list)
    unscored = 0
    for (kind, clip), ways in asked.items():
        for pair in zip(ways["forward"], ways["reverse"], strict=False):
            scores = [record.percent for record in pair if record.percent is not None]
            if len(scores) < 2:
                unscored += 1
                continue
            rows.append((kind, clip, 100.0 * (min(scores) == 100.0)))
            ways_to_guess = math.prod(len(record.sample.options) for record in pair)
            chances[kind].append(100 / ways_to_guess if ways_to_guess else math.nan)
    if not rows:
        return None
    value, low, high = interval(rows)
    return BothWays(value, low, high, fmean(map(fmean, chances.values())), len(rows), unscored)


def both_ways_by_kind(records: Sequence[SampleRecord]) -> dict[str, BothWays]:
    """By kind, where there are pairs of it, and `all kinds` where there are several."""
    kinds = sorted({record.sample.task for record in records})
    found = {kind: both_ways(r for r in records if r.sample.task == kind) for kind in kinds}
    known = {kind: one for kind, one in found.items() if one}
    every = both_ways(records) if len(known) > 1 else None
    return known | ({"all kinds": every} if every else {})
