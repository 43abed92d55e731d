"""Reads what a server has replied, strictly: a body that is no completion is a fault, and says what is wrong."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from egost.tasks.chat.calls import Fault, Faulted, NoReply
from egost.tasks.chat.http import shown
from egost.tasks.json_text import parse_json, wrong_field

M = TypeVar("M", bound=BaseModel)

MOST_TOKENS = 10**12
"""Of one reply: a count beyond is none."""

Count = Annotated[int, Field(ge=0, le=MOST_TOKENS)]
"""A number of tokens."""


class Said(BaseModel):
    """A part of a server's reply: what is not asked for is left out, and no type is made of another."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False, hide_input_in_errors=True)


class _Part(Said):
    text: str | None = None


class Message(Said):
    """What a model says."""

    content: str | list[_Part] | None = None
    refusal: str | None = None
    reasoning_content: Any = None
    reasoning: Any = None


class _Choice(Said):
    message: Message | None = None
    finish_reason: str | None = None


class Details(Said):
    """Which of a prompt's tokens are of frames, and which the prefix cache had."""

    multimodal_tokens: dict[str, Count | None] | None = None
    cached_tokens: Count | None = None


class Usage(Said):
    """What a server counts."""

    prompt_tokens: Count | None = None
    completion_tokens: Count | None = None
    prompt_tokens_details: Details | None = None


class ChatBody(Said):
    """The body of a chat completion, as far as anybody here needs it."""

    choices: list[_Choice]
    usage: Usage | None = None
    model: str | None = None
    system_fingerprint: str | None = None


@dataclass(frozen=True, slots=True)
class Completion:
    """A chat completion, as far as anybody here needs it.

    text: what the model said, half surrogates included; empty where it said nothing. refusal: its refusal, or empty.
    finish: why it ended (`stop`, `length`, `content_filter`, ...). snapshot: the model that the server says it is.
    tokens_in, tokens_out: 0 where the server does not count. fingerprint: of the server's set-up, or empty.
    reasoning: the thinking that it gave apart from the text; None where it gave none.
    """

    text: str
    refusal: str
    finish: str
    snapshot: str
    tokens_in: int
    tokens_out: int
    fingerprint: str = ""
    reasoning: str | None = None


def read_body(body: bytes, form: type[M], what: str) -> M:
    """The content of an HTTP body. what: its kind, for a message: `chat completion`.

    Raises Faulted (`broken_body`). A body that is no such object at all, as where a proxy speaks for the server, may
    be another one next time; one with a wrong field, or beyond the limits of `parse_json`, is final.
    """
    try:
        content = parse_json(body, halves=True)
    except ValueError as error:
        cut = isinstance(error.__cause__, json.JSONDecodeError)
        raise _broken(what, shown(error), again=cut) from None
    if not isinstance(content, dict):
        raise _broken(what, "it is no JSON object", again=True)
    try:
        return form.model_validate(content)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        another = len(first["loc"]) == 1 and first["type"] == "missing"
        wrong = shown(wrong_field(error))
    raise _broken(what, wrong, again=another)


def _broken(what: str, why: str, *, again: bool) -> Faulted:
    return Faulted(
        Fault(
            "again" if again else "unscored",
            "broken_body",
            f"the body of the reply is no {what}: {why}",
            alive=not again,
        )
    )


def read_completion(body: bytes) -> Completion:
    """The completion of an HTTP body. Raises Faulted (`broken_body`) when it is none."""
    content = read_body(body, ChatBody, "chat completion")
    choice = next(iter(content.choices), _Choice())
    message, usage = choice.message or Message(), content.usage or Usage()
    return Completion(
        text=message_text(message) or "",
        refusal=message.refusal or "",
        finish=choice.finish_reason or "",
        snapshot=content.model or "",
        tokens_in=usage.prompt_tokens or 0,
        tokens_out=usage.completion_tokens or 0,
        fingerprint=content.system_fingerprint or "",
        reasoning=message_reasoning(message),
    )


def message_text(message: Message | None) -> str | None:
    """The text of a message: a string, or the text parts of a list of parts; None where it has neither."""
    content = message.content if message else None
    return "".join(part.text or "" for part in content) if isinstance(content, list) else content


def message_reasoning(message: Message) -> str | None:
    """The thinking that a server gave apart from the text, by either of the names in use; None where there is none."""
    apart = (message.reasoning_content, message.reasoning)
    return next((text for text in apart if isinstance(text, str) and text), None)


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
        found = parse_json(text)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise NoReply("no_object", text)
    return found
