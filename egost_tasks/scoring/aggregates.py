"""From samples to a task's figure: what lmms-eval calls for each metric of a task."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def mean_of_scored(items: Sequence[Any]) -> float:
    """Mean over the samples that have a number; NaN where none has."""
    found = (item.get("score") if isinstance(item, dict) else item for item in items)
    numbers = [number for number in found if number is not None]
    return sum(numbers) / len(numbers) if numbers else float("nan")


def total(items: Sequence[dict[str, float]]) -> float:
    """Sum over all samples."""
    return sum(item["n"] for item in items)


def count_without_reason(items: Sequence[str | None]) -> int:
    """How many samples are scored: no reason says why they could not be."""
    return sum(reason is None for reason in items)


def count_with_reason(items: Sequence[str | None]) -> int:
    """How many samples the reason holds for, for example that they are unscored."""
    return sum(reason is not None for reason in items)
