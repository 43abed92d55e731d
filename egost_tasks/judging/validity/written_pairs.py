"""The pairs that were written by hand, read from `written_pairs.yaml`, which explains its form."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.resources import files
from itertools import cycle
from typing import Any

import yaml

from egost.tasks.judging.validity.bounds import Facts
from egost.tasks.judging.validity.pairs import Origin, ValidityPair, make_pair

_BLANKS = ("", " \n\t ", "\u00a0\n")


def written_pairs() -> list[ValidityPair]:
    """The pairs of the file: first those that may be tuned on, then those that are held out."""
    text = files("egost.tasks.judging.validity").joinpath("written_pairs.yaml").read_text(encoding="utf-8")
    content = yaml.safe_load(text)
    pairs: list[ValidityPair] = []
    for held_out in (False, True):
        routes, off_topic, tricks = (
            [entry for entry in content[key] if entry.get("held_out", False) is held_out]
            for key in ("routes", "off_topic", "tricks")
        )
        origin: Origin = "held_out" if held_out else "written"
        for route in routes:
            pairs += _of_route(route, origin)
        for entry, route in zip(off_topic, cycle(routes)):
            pairs.append(_pair(route, "off_topic", origin, entry["text"]))
        for blank, route in zip(_BLANKS, cycle(routes)):
            pairs.append(_pair(route, "empty", origin, blank))
        for trick, route in zip(tricks, cycle(routes)):
            pairs += _injections(trick, route, origin)
    return pairs


def _of_route(route: dict[str, Any], origin: Origin) -> Iterator[ValidityPair]:
    yield _pair(route, "identical", origin, route["reference"])
    yield _pair(route, "wrong_route", origin, route["wrong"])
    for number, variant in enumerate(route["variants"]):
        given, named = variant.get("turns", route["turns"]), variant.get("named", route["landmarks"])
        yield _pair(route, variant["kind"], origin, variant["text"], number, given, named)


def _injections(trick: dict[str, Any], route: dict[str, Any], origin: Origin) -> Iterator[ValidityPair]:
    """The attempt on its own, and behind a walk that has nothing in common with the reference."""
    both = f"{route['wrong']}\n\n{trick['text']}"
    yield _pair(route, "injection_alone", origin, trick["text"], trick=trick["name"])
    yield _pair(route, "injection_attached", origin, both, 1, trick=trick["name"])


def _pair(
    route: dict[str, Any],
    kind: str,
    origin: Origin,
    prediction: str,
    number: int = 0,
    given: str | None = None,
    named: int = 0,
    trick: str = "",
) -> ValidityPair:
    facts = Facts(route["turns"], route["turns"] if given is None else given, route["landmarks"], named)
    return make_pair(
        number, route["id"], kind, origin, route["way"], (route["reference"], prediction), facts, trick
    )
