"""Reads what a server has replied, strictly: a body that is no completion is a fault, and no key gets through."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from egost.tasks.chat.calls import Fault, Faulted, NoReply

_KEY_LIKE = re.compile(r"\bsk-[\w-]{8,}|\bAIza[\w-]{30,}")


@dataclass(frozen=True, slots=True)
class Completion:
    """A chat completion, as far as anybody here needs it.

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


def read_completion(body: str, clean: Callable[[str], str]) -> Completion:
    """The completion of an HTTP body. clean: what every text of it passes through.

    Raises Faulted (`broken_body`) when it is no completion.
    """
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict) or not isinstance(content.get("choices"), list):
        what = "no JSON" if content is None else "no chat completion"
        raise Faulted(Fault("again", "broken_body", f"the body of the reply is {what}", alive=False))
    choice = _dict(next(iter(content["choices"]), None))
    message = _dict(choice.get("message"))
    usage = _dict(content.get("usage"))
    return Completion(
        text=clean(message_text(message.get("content")) or ""),
        refusal=clean(_text(message.get("refusal"))),
        finish=_text(choice.get("finish_reason")),
        snapshot=clean(_text(content.get("model"))),
        tokens_in=_count(usage.get("prompt_tokens")),
        tokens_out=_count(usage.get("completion_tokens")),
        fingerprint=clean(_text(content.get("system_fingerprint"))),
    )


def message_text(content: object) -> str | None:
    """The text of a message: a string, or the text parts of a list of parts; None where it has neither."""
    if isinstance(content, list):
        parts = [part.get("text") for part in content if isinstance(part, dict)]
        return encodable("".join(part for part in parts if isinstance(part, str)))
    return encodable(content) if isinstance(content, str) else None


def whole_text(completion: Completion) -> str:
    """What a completion says. Raises NoReply (`refusal`, `content_filter`, `truncated`) where that is not all of it."""
    if completion.refusal:
        raise NoReply("refusal", completion.refusal)
    if completion.finish == "content_filter":
        raise NoReply("content_filter", completion.text)
    if completion.finish == "length":
        raise NoReply("truncated", completion.text)
    return completion.text


def json_object(completion: Completion) -> dict[str, Any]:
    """The JSON object that a completion is. Raises NoReply, also with `no_object`."""
    text = whole_text(completion)
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise NoReply("no_object", text)
    return found


def encodable(text: str) -> str:
    """The text with `?` for half a surrogate pair, which a tokenizer can leave at an end and which has no UTF-8."""
    return text.encode("utf-8", "replace").decode("utf-8")


def redacted(text: str, key: str | None) -> str:
    """The text, fit to be written down: without the key, and without anything like one of OpenAI's or Google's."""
    text = encodable(text)
    if key and len(key) >= 8:
        text = text.replace(key, "[key]")
    return _KEY_LIKE.sub("[key]", text)


def _dict(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(value: object) -> str:
    return encodable(value) if isinstance(value, str) else ""


def _count(value: object) -> int:
    return value if type(value) is int and value > 0 else 0
