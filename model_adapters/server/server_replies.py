"""What a server with vLLM's interface says: its bodies, field by field, and what is read of them."""

from __future__ import annotations

from dataclasses import dataclass

from egost.model_adapters.engine import SampledGroup
from egost.tasks.chat.calls import Fault, Faulted
from egost.tasks.chat.http import shown
from egost.tasks.chat.reading import (
    ChatBody,
    Count,
    Details,
    Said,
    Usage,
    message_reasoning,
    message_text,
    read_body,
)


@dataclass(frozen=True)
class Completion:
    """One reply as the server gave it; text is None where it gave none. Tokens as in `Reply`."""

    text: str | None
    finish_reason: str
    prompt_tokens: int | None
    completion_tokens: int | None
    video_tokens: int | None
    reasoning: str | None = None
    cached_tokens: int | None = None


class _Card(Said):
    id: str
    root: str | None = None
    parent: str | None = None


class Models(Said):
    """What `/v1/models` says."""

    data: list[_Card]


class Version(Said):
    """What `/version` says."""

    version: str


class Weights(Said):
    """What `/weight_info` says."""

    weight_version: str


class _Token(Said):
    logprob: float


class _Tokens(Said):
    content: list[_Token]


class _Sampled(Said):
    token_ids: list[Count]
    logprobs: _Tokens


class _Group(Said):
    prompt_token_ids: list[Count]
    choices: list[_Sampled]


def read_completion(body: bytes) -> Completion:
    """The reply in a body. Raises Faulted where it holds none: a proxy's page, a cut or an aborted reply."""
    content = read_body(body, ChatBody, "chat completion")
    if len(content.choices) != 1 or (message := content.choices[0].message) is None:
        raise again("broken_body", f"the body of the reply holds no reply, but: {shown(body.decode())}")
    finish_reason, usage = content.choices[0].finish_reason, content.usage or Usage()
    if finish_reason in ("abort", "error"):
        raise again("broken_body", f"the reply was broken off ({finish_reason}): {shown(body.decode())}")
    details = usage.prompt_tokens_details or Details()
    by_kind = details.multimodal_tokens
    # A family without a video input has the 8 frames counted as images.
    video_tokens = None if by_kind is None else (by_kind.get("video") or 0) + (by_kind.get("image") or 0)
    return Completion(
        message_text(message),
        str(finish_reason),
        usage.prompt_tokens,
        usage.completion_tokens,
        video_tokens,
        message_reasoning(message),
        details.cached_tokens,
    )


def read_group(body: bytes) -> SampledGroup:
    """The completions in a body. Raises Faulted as `read_completion`."""
    group = read_body(body, _Group, "completions with their tokens")
    return SampledGroup(
        prompt_ids=tuple(group.prompt_token_ids),
        completion_ids=tuple(tuple(choice.token_ids) for choice in group.choices),
        log_probabilities=tuple(
            tuple(token.logprob for token in choice.logprobs.content) for choice in group.choices
        ),
    )


def again(reason: str, text: str) -> Faulted:
    """The server answers, but not with a reply: it may do so a little later."""
    return Faulted(Fault("again", reason, text))
