"""The whole set of pairs."""

from __future__ import annotations

from functools import cache

from egost.tasks.judging.validity.mini_world_pairs import mini_world_pairs
from egost.tasks.judging.validity.pairs import ValidityPair
from egost.tasks.judging.validity.written_pairs import written_pairs


@cache
def all_pairs() -> tuple[ValidityPair, ...]:
    """Every pair, in a fixed order: written ones, their injections, those of the mini world."""
    return (*written_pairs(), *mini_world_pairs())
