"""When two names, or two options, say the same."""

from __future__ import annotations

import re
from collections.abc import Sequence
from difflib import SequenceMatcher
from itertools import chain

_EMPTY = frozenset(("the", "a", "an", "then", "and", "after", "that", "to", "at", "of"))
_TURNING = frozenset(("turn", "go"))

ALIKE = 0.8
"""Two words are spellings of one from this share of common letters on (`difflib`): `doorway` and `doorways`, never
`left` and `right`. This project's own rule."""


def normal_words(text: str) -> tuple[str, ...]:
    """The words of a text that carry its meaning, in one case, without articles, joining words and punctuation."""
    found = re.findall(r"\w+", text.casefold())
    return tuple(word for word in found if word not in _EMPTY) or tuple(found)


def tells(name: str, other: str) -> bool:
    """Whether one name may stand for the other: one has all words of the other (`sofa`, `grey sofa`)."""
    a, b = set(normal_words(name)), set(normal_words(other))
    return a <= b or b <= a


def same_items(items: Sequence[str], others: Sequence[str]) -> bool:
    """Whether two options name the same in the same order."""
    return [normal_words(item) for item in items] == [normal_words(item) for item in others]


def is_part(items: Sequence[str], whole: Sequence[str]) -> bool:
    """Whether an option names some things of another one, in its order and no others."""
    remaining = iter([normal_words(item) for item in whole])
    return all(any(words == normal_words(item) for words in remaining) for item in items)


def nearly_same(text: str, other: str) -> bool:
    """Whether two options differ in spelling alone."""
    a, b = normal_words(text), normal_words(other)
    return len(a) == len(b) and all(x == y or _spelt_alike(x, y) for x, y in zip(a, b, strict=True))


def reads_as(text: str, items: Sequence[str]) -> bool:
    """Whether the text of an option says its items, one after the other and nothing else."""
    said = [word for word in normal_words(text) if word not in _TURNING]
    meant = [word for word in chain(*map(normal_words, items)) if word not in _TURNING]
    return said == meant


def _spelt_alike(word: str, other: str) -> bool:
    return not word.isdigit() and SequenceMatcher(None, word, other).ratio() >= ALIKE
