"""Attacks: hostile inputs, each with what must come of it, and a count of what came."""

from __future__ import annotations

import os
import random
import re
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import pytest

from egost.tasks.errors import EgostError

T = TypeVar("T")

Outcome = Literal["one clear message", "right result", "traceback", "silent"]

LONGEST_MESSAGE = 2_000
"""Characters. A message that repeats what a stranger wrote cuts it."""

CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
"""What a terminal would act upon: all control characters but a tab and a line feed, and changes of direction."""


@dataclass(frozen=True)
class Attack:
    """A hostile input: who makes it, and a pattern of the message that must come, or None if it must be read."""

    name: str
    make: Callable[..., Any]
    message: str | None = None


def drawn(attacks: Sequence[T], n: int, seed: int = 0) -> list[T]:
    """All attacks where `ATTACK=all` (`make attack`), else a seeded sample of `n` of them, in their order."""
    if os.environ.get("ATTACK") == "all" or len(attacks) <= n:
        return list(attacks)
    return [attacks[i] for i in sorted(random.Random(seed).sample(range(len(attacks)), n))]


def met(
    call: Callable[[], Any], message: str | None, right: Callable[[Any], bool] = lambda _: True
) -> Outcome:
    """What came of a call: the message that was expected, a result that `right` approves, or what must not be.

    An EgostError that no one expected, or one whose message is too long, is a "traceback": a person could not
    act on it. A result where a message was expected is "silent".
    """
    try:
        result = call()
    except (EgostError, SystemExit) as error:
        return "one clear message" if says(str(error), message) else "traceback"
    except BaseException:
        traceback.print_exc()
        return "traceback"
    return "right result" if message is None and right(result) else "silent"


def says(text: str, message: str | None) -> bool:
    """Whether a text is one clear message of what was expected."""
    good = message is not None and re.search(message, text) and not CONTROL.search(text)
    if not (good and len(text) <= LONGEST_MESSAGE and "Traceback (most recent call last)" not in text):
        print(f"expected {message!r}, found {text[:LONGEST_MESSAGE]!r}")
        return False
    return True


def summary(reports: Sequence[pytest.TestReport]) -> list[str]:
    """The table of a run of the tests: for each kind of attack how many were tried and what came of them."""
    counts: dict[str, Counter[str]] = {}
    for report in reports:
        for name, value in report.user_properties:
            if name == "attack":
                kind, outcome = value
                counts.setdefault(kind, Counter())[outcome] += 1
    if not counts:
        return []
    columns = ("one clear message", "right result", "traceback", "silent")
    lines = [f"{'attacks':<24}{'tried':>7}" + "".join(f"{column:>19}" for column in columns)]
    for kind, found in sorted(counts.items()):
        lines.append(f"{kind:<24}{found.total():>7}" + "".join(f"{found[column]:>19}" for column in columns))
    return lines
