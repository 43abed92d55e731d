"""Reverse thinking: reasons about a question in one way by the route of the other way.

A forward question is thought through from the end of the walk to its start, a reverse one from the start to the end,
before it is answered (paper, section 4 and Figure 5). The wording is this project's own; the route comes from the
release's own description of the other way. The reasoning leads to the answer by its content and never names a letter.
"""

from __future__ import annotations

import hashlib
import random
import re
from collections.abc import Sequence

from egost.tasks.judging.route_text import Turn, read_route
from egost.tasks.sample import LETTERS, Sample, Way

OTHER_WAY: dict[Way, Way] = {"forward": "reverse", "reverse": "forward"}

OPENINGS: dict[Way, tuple[str, ...]] = {
    "forward": (
        "I think of the way back first, from the end of the walk to its start.",
        "Let me go through this walk in reverse, from where it ends to where it begins.",
        "Before I answer, I retrace the walk from its last moment to its first.",
    ),
    "reverse": (
        "I think of the way there first, from the start of the walk to its end.",
        "Let me go through this walk as it was filmed, from where it begins to where it ends.",
        "Before I answer, I follow the walk from its first moment to its last.",
    ),
}
TURNED: dict[str, tuple[str, ...]] = {
    "direction": (
        "For the way that is asked about, the order is turned round, and left and right change places.",
        "The question asks about the opposite way: last comes first, and every left is a right.",
    ),
    "landmark": (
        "For the way that is asked about, the same places come in the opposite order.",
        "The question asks about the opposite way, which meets these places from last to first.",
    ),
    "action": (
        "For the way that is asked about, the same actions come in the opposite order.",
        "The question asks about the opposite way, on which these actions come from last to first.",
    ),
    "route": (
        "The way that is asked about is this one turned round: opposite order, left and right exchanged.",
        "Now the opposite way: I begin where this one ends, and every left becomes a right.",
    ),
}
TURNS_TOLD = (
    "Its turns: {}. Turned round: {}.",
    "There I turn {}; the opposite way, that is {}.",
)
PLACES = (
    "That way, in order: {}. Turned round: {}.",
    "There it is {}; the opposite way, that is {}.",
)
_ENDINGS = (
    "So what happens, in order: {}",
    "That gives: {}",
    "It follows that the right sequence is: {}",
)

THOUGHTS = (
    *(text for texts in (*OPENINGS.values(), *TURNED.values()) for text in texts),
    *(
        part.strip()
        for text in (*TURNS_TOLD, *PLACES, *_ENDINGS)
        for part in text.split("{}")
        if len(part.strip()) > 1
    ),
)
"""The fixed sentences, and fixed parts of sentences, of all reasoning."""

_MIRROR: dict[Turn, Turn] = {"left": "right", "right": "left", "around": "around", "up": "down", "down": "up"}
_BETWEEN = re.compile(r",? (?:and |after that |then )+|[,;] (?:after that |then )?|\s*(?:->|→)\s*")
_SIDE = re.compile(r"\b(left|right|around)\b", re.IGNORECASE)
_POINT = re.compile(
    r"\b(?P<before>(?i:at|to|from|reach|towards?|leave|until|and|of|is)) (?:the )?(?:point )?(?P<letter>[AB])\b"
    r"(?= (?:and|to|at|where|you|then|is)\b|[,.;:!?)]|$)"
    r"|\b(?P<name>(?:[Tt]he )?[Pp]oint) (?P<named>[AB])\b"
)
_POINTS = {"A": "the beginning", "B": "the end"}


def think(sample: Sample, other: Sample, seed: int) -> str:
    """The reasoning that leads to a sample's answer by the route of the other way.

    sample: a question with its answer. other: the route sample of the same clip and the opposite way.
    seed: which of several wordings; the same sample and seed always give the same text.
    Raises ValueError where `other` is no such route.
    """
    if other.task != "route" or other.clip != sample.clip or other.way != OTHER_WAY[sample.way]:
        raise ValueError(f"{other.id} is not the other way's route of {sample.id}")
    digest = hashlib.sha256(f"{seed} {sample.id}".encode()).digest()
    draw = random.Random(digest)
    parts = [draw.choice(OPENINGS[sample.way]), without_point_names(other.answer)]
    if sample.task == "route":
        return " ".join([*parts, draw.choice(TURNED["route"])])
    right = sample.options[sample.letters.index(sample.answer)]
    parts.append(draw.choice(TURNED[sample.task]))
    there = read_route(other.answer).turns
    turned = tuple(_MIRROR[turn] for turn in reversed(there))
    # People's annotations of the two ways do not always agree; then the route alone is retold.
    if sample.task == "direction" and turned and turned == _sides(right):
        parts.append(_both_ways(draw.choice(TURNS_TOLD), there, turned))
    elif (places := _places(right)) and _are_in_order(places[::-1], other.answer):
        parts.append(_both_ways(draw.choice(PLACES), places[::-1], places))
    return " ".join([*parts, _sentence(draw.choice(_ENDINGS).format(right))])


def without_point_names(route: str) -> str:
    """A route description with its points A and B called the beginning and the end, since letters name options."""

    def renamed(m: re.Match[str]) -> str:
        if m["letter"]:
            return f"{m['before']} {_POINTS[m['letter']]}"
        point = _POINTS[m["named"]]
        return point.capitalize() if m["name"][0].isupper() else point

    return _POINT.sub(renamed, route).strip()


_LABEL = re.compile(
    r"\b(?:option|choice|answer|alternative|letter)s?\b(?: number)?(?: is| would be| must be| =)?\W{0,3}"
    r"(?:[a-j]|\d{1,2})\b(?=\s*(?:$|[.,;:)\]\"'!?]))"
    r"|\b(?:first|second|third|fourth|fifth|last|next|previous)(?: \w+)? (?:option|choice|alternative)\b"
    r"|[(\[][a-j][)\]]",
    re.IGNORECASE,
)


def names_an_option(text: str, options: int) -> str | None:
    """The first place where a text names an option by its letter or number, or None.

    options: how many the question has. A capital by itself counts (`B`, `(C)`, `D.`), but for `A` before a
    small word and `I`, which are words of English; so does `option 2` or `the second option`.
    """
    if found := _LABEL.search(text):
        return found.group()
    for letter in re.finditer(r"(?<![\w'-])[A-J](?![\w'-])", text):
        if letter.group() not in LETTERS[: max(options, 1)] or letter.group() == "I":
            continue
        if letter.group() == "A" and re.match(r" [a-z0-9]", text[letter.end() :]):
            continue
        return text[max(0, letter.start() - 12) : letter.end() + 3]
    return None


def _sides(option: str) -> tuple[str, ...]:
    return tuple(side.lower() for side in _SIDE.findall(option))


def _places(option: str) -> tuple[str, ...]:
    """What an option names, one after the other, where it says where one ends."""
    named = tuple(part.removeprefix("the ").strip() for part in _BETWEEN.split(option.rstrip(".")))
    return named if len(named) > 1 else ()


def _are_in_order(places: Sequence[str], route: str) -> bool:
    """Whether a route names all of them, word by word and in this order."""
    at = 0
    for place in places:
        found = re.search(rf"\b{re.escape(place)}\b", route[at:], re.IGNORECASE)
        if not found:
            return False
        at += found.end()
    return True


def _both_ways(form: str, there: Sequence[str], back: Sequence[str]) -> str:
    return form.format(", then ".join(there), ", then ".join(back))


def _sentence(text: str) -> str:
    return text if text.rstrip().endswith((".", "!", "?")) else f"{text.rstrip()}."
