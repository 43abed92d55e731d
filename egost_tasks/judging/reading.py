"""Reads what a server and its model have replied, strictly: a reply that is not scores is no score."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from egost.tasks.judging.judge import BEST
from egost.tasks.judging.prompt import ReplyForm, encodable

ASPECTS = ("direction", "landmark", "semantic")
COMPAT_KEYS = ("direction", "landmark", "semantic and logic")

_FENCE = re.compile(r"```[a-zA-Z]*\s*\n(.*?)\n?\s*```", re.DOTALL)
_DICTIONARY = re.compile(r"\{[^{}]*\}")
_PAIR = re.compile(r"""\s*(?P<quote>['"])(?P<key>[^'"]*)(?P=quote)\s*:\s*(?P<value>-?\d{1,9})\s*""")


class BrokenBody(ValueError):
    """The body of a reply is no chat completion: cut off, or not from the server that was meant."""


@dataclass(frozen=True, slots=True)
class Completion:
    """A chat completion, as far as a judge needs it.

    text: what the model said; empty where it said nothing. refusal: its refusal, or empty.
    finish: why it ended (`stop`, `length`, `content_filter`, ...). snapshot: the model that the server says it is.
    tokens_in, tokens_out: 0 where the server does not count. fingerprint: of the server's set-up, or empty.
    """

    text: str
    refusal: str
    finish: str
    snapshot: str
    tokens_in: int
    tokens_out: int
    fingerprint: str = ""


@dataclass(frozen=True, slots=True)
class Scores:
    """Three whole numbers from 0 to 5 and what the judge based them on."""

    direction: int
    landmark: int
    semantic: int
    reasons: str


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A reply without scores. reason: a short stable word; text: what the judge said."""

    reason: str
    text: str


def read_completion(body: str, clean: Callable[[str], str]) -> Completion:
    """The completion of an HTTP body. clean: what every text of it passes through.

    Raises BrokenBody when it is no completion.
    """
    try:
        content = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise BrokenBody("the body of the reply is no JSON") from error
    if not isinstance(content, dict) or not isinstance(content.get("choices"), list):
        raise BrokenBody("the body of the reply is no chat completion")
    choice = _dict(next(iter(content["choices"]), None))
    message = _dict(choice.get("message"))
    usage = _dict(content.get("usage"))
    return Completion(
        text=clean(_text(message.get("content"))),
        refusal=clean(_text(message.get("refusal"))),
        finish=_text(choice.get("finish_reason")),
        snapshot=clean(_text(content.get("model"))),
        tokens_in=_count(usage.get("prompt_tokens")),
        tokens_out=_count(usage.get("completion_tokens")),
        fingerprint=clean(_text(content.get("system_fingerprint"))),
    )


def read_scores(completion: Completion, form: ReplyForm) -> Scores | Unreadable:
    """The scores that a completion holds in the form that its prompt asked for.

    An Unreadable's reason is `refusal`, `content_filter`, `truncated`, `empty_reply`, `no_object` (not one
    object in the right form) or `bad_scores` (a score is missing, or no whole number from 0 to 5).
    """
    text = completion.text.strip()
    if completion.refusal:
        return Unreadable("refusal", completion.refusal)
    if completion.finish == "content_filter":
        return Unreadable("content_filter", text)
    if completion.finish == "length":
        return Unreadable("truncated", text)
    if not text:
        return Unreadable("empty_reply", "")
    try:
        found = _json_object(text) if form == "json" else _dictionary(text)
    except (ValueError, RecursionError):
        return Unreadable("no_object", text)
    keys = ASPECTS if form == "json" else COMPAT_KEYS
    scores = [score for key in keys if (score := _whole(found.get(key))) is not None]
    if len(scores) != len(keys):
        return Unreadable("bad_scores", text)
    said = ((aspect, found.get(f"{aspect}_reason")) for aspect in ASPECTS)
    reasons = "; ".join(f"{aspect}: {why.strip()}" for aspect, why in said if isinstance(why, str))
    return Scores(scores[0], scores[1], scores[2], encodable(reasons))


def _whole(value: object) -> int | None:
    return value if type(value) is int and 0 <= value <= BEST else None


def _json_object(text: str) -> dict[str, Any]:
    fenced = _FENCE.fullmatch(text)
    found = json.loads(fenced[1] if fenced else text, object_pairs_hook=_without_doubles)
    if not isinstance(found, dict):
        raise ValueError("not an object")  # noqa: TRY004 - one kind of error for every other form
    return found


def _dictionary(text: str) -> dict[str, Any]:
    """The one flat dictionary of a reply, with keys in either kind of quotes and whole numbers."""
    [body] = _DICTIONARY.findall(text)
    pairs = [_PAIR.fullmatch(part) for part in body[1:-1].rstrip(" ,\n").split(",")]
    if None in pairs:
        raise ValueError("not a dictionary of whole numbers")
    return _without_doubles([(pair["key"], int(pair["value"])) for pair in pairs if pair])


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice")
    return found


def _dict(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(value: object) -> str:
    return encodable(value) if isinstance(value, str) else ""


def _count(value: object) -> int:
    return value if type(value) is int and value > 0 else 0
