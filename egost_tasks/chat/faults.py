"""What a failed call means for a judgement, and what to do about it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Literal

import openai

from egost.tasks.chat.endpoint import Endpoint
from egost.tasks.judging.prompt import encodable
from egost.tasks.judging.reading import BrokenBody

OPTIONAL = ("response_format", "seed", "temperature", "max_completion_tokens")
"""Parameters that a server may not know; a judgement can be made without them."""

_SPOKEN_AS = {"response_format": ("response_format", "json_schema", "guided_json")}
_TOO_LONG = re.compile(r"context.{0,10}length|maximum context|too many tokens|string too long", re.IGNORECASE)
_TOO_LONG_CODES = ("context_length_exceeded", "string_above_max_length")
_FILTERED_CODES = ("content_filter", "content_policy_violation")
_KEY_LIKE = re.compile(r"\bsk-[\w-]{8,}|\bAIza[\w-]{30,}")


@dataclass(frozen=True, slots=True)
class Fault:
    """A call that brought no completion.

    action: `again` (worth another try), `without` (again, without `parameter`), `unscored` (this one sample
        cannot be judged) or `stop` (none can).
    reason: a short stable word: `rate_limited`, `timeout`, `connection`, `broken_body`, `server_error`,
        `content_filter`, `too_long`, `parameter`, `bad_request` (for one sample, as long as others are
        judged), `refused`.
    text: what the server said, or for `stop` what a person has to do.
    wait_s: how long the server asks to wait, None where it does not say.
    alive: the server answered, so that the fault is no sign of a dead endpoint.
    """

    action: Literal["again", "without", "unscored", "stop"]
    reason: str
    text: str
    wait_s: float | None = None
    parameter: str = ""
    alive: bool = True


def fault_of(error: Exception, endpoint: Endpoint, sent: frozenset[str], chosen_by: str) -> Fault:
    """What an exception of a call means.

    sent: the optional parameters that the call had. chosen_by: the setting that names another model.
    """
    if isinstance(error, openai.APIStatusError):
        return _fault_of_status(error, endpoint, sent, chosen_by)
    if isinstance(error, (asyncio.TimeoutError, openai.APITimeoutError)):
        return Fault("again", "timeout", "no complete reply in time", alive=False)
    if isinstance(error, BrokenBody):
        return Fault("again", "broken_body", str(error), alive=False)
    return Fault("again", "connection", f"connection failed: {error.__cause__ or error}", alive=False)


def _fault_of_status(
    error: openai.APIStatusError, endpoint: Endpoint, sent: frozenset[str], chosen_by: str
) -> Fault:
    status, said = error.status_code, f"HTTP {error.status_code}: {error.message}"
    if status == 429 and error.code == "insufficient_quota":
        return Fault("stop", "refused", f"{said}. The account of {endpoint.key_name} has no credit left.")
    if status == 429:
        return Fault("again", "rate_limited", said, wait_s=retry_after(error.response.headers))
    if status >= 500 or status in (408, 409):
        return Fault(
            "again", "server_error", said, wait_s=retry_after(error.response.headers), alive=status < 500
        )
    if status in (400, 413, 422):
        if error.code in _TOO_LONG_CODES or status == 413 or _TOO_LONG.search(error.message):
            return Fault("unscored", "too_long", said)
        if error.code in _FILTERED_CODES:
            return Fault("unscored", "content_filter", said)
        if parameter := _refused_parameter(error, sent):
            return Fault("without", "parameter", said, parameter=parameter)
    if status == 400:
        return Fault("unscored", "bad_request", said)
    return Fault("stop", "refused", f"{said}. {remedy(status, endpoint, chosen_by)}")


def _refused_parameter(error: openai.APIStatusError, sent: frozenset[str]) -> str | None:
    named = f"{error.param or ''} {error.message}".lower()
    for parameter in OPTIONAL:
        words = _SPOKEN_AS.get(parameter, (parameter,))
        if parameter in sent and any(re.search(rf"\b{word}\b", named) for word in words):
            return parameter
    return None


def remedy(status: int, endpoint: Endpoint, chosen_by: str) -> str:
    """What a person can do about a status that refuses all requests."""
    if status == 401:
        return f"The key was not accepted: set {endpoint.key_name} to a valid key for {endpoint.url}."
    if status == 403:
        return (
            f"The key in {endpoint.key_name} may not use {endpoint.model}: allow it, or choose another model by "
            f"{chosen_by}."
        )
    if status == 404:
        return (
            f"There is no model {endpoint.model!r} at {endpoint.url}: the URL may lack /v1, and a snapshot may "
            f"be retired. Choose another by {chosen_by}."
        )
    return f"{endpoint.url} does not take the request for {endpoint.model!r}. Choose another by {chosen_by}."


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that the headers of a reply ask to wait (`Retry-After` and its kin), None where they do not."""
    try:
        if milliseconds := headers.get("retry-after-ms"):
            return max(0.0, float(milliseconds) / 1000)
        return max(0.0, float(headers["retry-after"]))
    except (KeyError, ValueError):
        pass
    try:
        until = parsedate_to_datetime(headers["retry-after"])
        now = parsedate_to_datetime(headers["date"])
        return max(0.0, (until - now).total_seconds())
    except (KeyError, ValueError, TypeError):
        return None


def redacted(text: str, key: str | None) -> str:
    """The text, fit to be written down: without the key, and without anything like one of OpenAI's or Google's."""
    text = encodable(text)
    if key and len(key) >= 8:
        text = text.replace(key, "[key]")
    return _KEY_LIKE.sub("[key]", text)
