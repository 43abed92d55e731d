"""What the Gemini interface has replied: a text, a block, or an error and what to do about it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx

from egost.model_adapters.api.api_engine import Called, bare_failure
from egost.model_adapters.engine import Failure, Reply
from egost.tasks.chat.calls import Fault
from egost.tasks.chat.client import retry_after

if TYPE_CHECKING:
    from google.genai import errors, types

EMPTY_BODY = Fault("again", "broken_body", "the body of the reply holds no candidate", alive=False)

_BLOCKED = (
    "SAFETY",
    "RECITATION",
    "BLOCKLIST",
    "PROHIBITED_CONTENT",
    "SPII",
    "IMAGE_SAFETY",
    "IMAGE_PROHIBITED_CONTENT",
    "IMAGE_RECITATION",
)
"""Finish reasons with which a filter took the reply, or the rest of it, away."""

_FINISHED = {"STOP": "stop", "MAX_TOKENS": "length"}
_TOO_LONG = re.compile(r"exceeds the maximum number of tokens|payload size exceeds", re.IGNORECASE)
_SECONDS = re.compile(r"(\d+(?:\.\d+)?)s")


@dataclass(frozen=True)
class Place:
    """Who is asked where: model, base URL, and the environment variable that holds the key."""

    model: str
    url: str
    key_name: str


def gemini_fault(error: Exception, place: Place) -> Fault:
    """What an exception of a call means."""
    from google.genai import errors

    if isinstance(error, errors.APIError):
        return _fault_of_status(error, place)
    if isinstance(error, (asyncio.TimeoutError, httpx.TimeoutException)):
        return Fault("again", "timeout", "no complete reply in time", alive=False)
    if isinstance(error, httpx.HTTPError):
        return Fault(
            "again", "connection", f"connection failed: {error or type(error).__name__}", alive=False
        )
    # Neither the client's JSON errors nor pydantic's say more than this, and they repeat the body.
    return Fault("again", "broken_body", "the body of the reply is no reply of Gemini's", alive=False)


def read_reply(response: types.GenerateContentResponse, clean: Callable[[str], str]) -> Called | None:
    """What a response brought; None where it holds neither a candidate nor a reason why not.

    clean: what its texts pass through.
    """
    candidate = next(iter(response.candidates or ()), None)
    feedback = response.prompt_feedback
    if candidate is None and not (feedback and feedback.block_reason):
        return None
    usage = response.usage_metadata
    tokens_in = (usage and usage.prompt_token_count) or 0
    tokens_out = ((usage and usage.candidates_token_count) or 0) + (
        (usage and usage.thoughts_token_count) or 0
    )
    snapshot = clean(response.model_version or "")
    outcome: Reply | Failure | None
    if candidate is None:
        outcome = Failure("refused", f"the prompt was blocked: {_blocked(feedback)}")
    else:
        finish = candidate.finish_reason.value if candidate.finish_reason else ""
        parts = (candidate.content and candidate.content.parts) or ()
        text = clean("".join(part.text for part in parts if part.text and not part.thought))
        refusal = f"the reply was blocked: {finish} {candidate.finish_message or ''}".strip()
        outcome = bare_failure(text, _FINISHED.get(finish, finish), refusal if finish in _BLOCKED else "")
        if outcome is None:
            outcome = Reply(
                text=text,
                finish_reason=_FINISHED.get(finish, finish.lower()),
                prompt_tokens=tokens_in or None,
                completion_tokens=tokens_out or None,
                video_tokens=_image_tokens(usage),
                snapshot=snapshot or None,
            )
    return Called(outcome, snapshot, tokens_in, tokens_out)


def _blocked(feedback: types.GenerateContentResponsePromptFeedback | None) -> str:
    if feedback is None or feedback.block_reason is None:
        return "no reason given"
    return f"{feedback.block_reason.value} {feedback.block_reason_message or ''}".strip()


def _image_tokens(usage: types.GenerateContentResponseUsageMetadata | None) -> int | None:
    counts = [
        detail.token_count or 0
        for detail in (usage and usage.prompt_tokens_details) or ()
        if detail.modality and detail.modality.value == "IMAGE"
    ]
    return sum(counts) if counts else None


def _fault_of_status(error: errors.APIError, place: Place) -> Fault:
    status, message = error.code, str(error.message or "")
    said = f"HTTP {status} {error.status or ''}: {message}"
    details = str(error.details)
    if status == 401 or "API_KEY_INVALID" in details or "API key not valid" in message:
        return Fault(
            "stop",
            "refused",
            f"{said}. The key was not accepted: set {place.key_name} to a valid key for {place.url}.",
        )
    if status == 403:
        remedy = f"The key in {place.key_name} may not use {place.model}: allow it, or choose another model."
        return Fault("stop", "refused", f"{said}. {remedy}")
    if status == 404:
        remedy = f"There is no model '{place.model}' at {place.url}; it may be retired. Choose another by model= in "
        return Fault("stop", "refused", f"{said}. {remedy}--model_args.")
    if status == 429 and ("PerDay" in details or "limit: 0" in message):
        return Fault(
            "stop", "refused", f"{said}. The quota of {place.key_name} is used up: wait or raise it."
        )
    if status == 429:
        return Fault("again", "rate_limited", said, wait_s=_wait_s(error))
    if status >= 500 or status in (408, 409, 499):
        return Fault("again", "server_error", said, wait_s=_wait_s(error), alive=status < 500)
    if status == 413 or _TOO_LONG.search(message):
        return Fault("unscored", "too_long", said)
    if status == 400 and error.status != "FAILED_PRECONDITION":
        return Fault("unscored", "bad_request", said)
    return Fault("stop", "refused", f"{said}. {place.url} does not take the request for '{place.model}'.")


def _wait_s(error: errors.APIError) -> float | None:
    """How long the API asks to wait: by its headers, or by the `RetryInfo` in the body of its error."""
    if (headers := getattr(error.response, "headers", None)) and (wait := retry_after(headers)) is not None:
        return wait
    for detail in _error_details(error.details):
        delay = _SECONDS.fullmatch(str(detail.get("retryDelay", "")))
        if delay:
            return float(delay[1])
    return None


def _error_details(content: Any) -> list[dict[str, Any]]:
    inner = content.get("error", content) if isinstance(content, dict) else {}
    listed = inner.get("details") if isinstance(inner, dict) else None
    return [detail for detail in listed if isinstance(detail, dict)] if isinstance(listed, list) else []
