"""The client of the chat-completions interface: makes one call, and says what a failed one means."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import openai
from openai import AsyncAzureOpenAI, AsyncOpenAI

from egost.tasks.chat.calls import Fault, Faulted, Wording
from egost.tasks.chat.endpoint import Endpoint, find_key
from egost.tasks.chat.http import Http, retry_after, shown
from egost.tasks.chat.reading import Completion, read_completion
from egost.tasks.errors import EgostError

Message = Mapping[str, Any]
"""One message of a chat, as the interface has it: `role` and `content`."""

AZURE_API_VERSION = "2024-10-21"
"""The stable version of Azure's interface from which on it takes a JSON schema."""

_OPTIONAL = ("response_format", "seed", "temperature", "max_completion_tokens")
"""Parameters that a server may not know; a question can be asked without them."""

_SPOKEN_AS = {"response_format": ("response_format", "json_schema", "guided_json")}
_TOO_LONG = re.compile(r"context.{0,10}length|maximum context|too many tokens|string too long", re.IGNORECASE)
_TOO_LONG_CODES = ("context_length_exceeded", "string_above_max_length")
_FILTERED_CODES = ("content_filter", "content_policy_violation")


@dataclass(frozen=True, slots=True)
class Role:
    """What a server is asked to be, for messages.

    who: `The judge`. kept: what is not lost when it stops, a sentence. chosen_by: the setting that names another one.
    stopped: the kind of error that ends the calls.
    """

    who: str
    kept: str
    chosen_by: str
    stopped: type[EgostError]


class ChatClient:
    """Calls one endpoint in a role, once at a time; `Calls` paces and repeats. For use within one event loop.

    timeout_s: for one whole call, from its start to the last byte of its reply.
    Raises SettingError where the key is missing or cannot be sent.
    """

    def __init__(self, endpoint: Endpoint, role: Role, timeout_s: float) -> None:
        self._endpoint, self._role, self._timeout_s = endpoint, role, timeout_s
        self._client = _open_client(endpoint, find_key(endpoint), timeout_s)
        # Here, since the package imports its interfaces when they are first named, and no call may wait for that.
        self._create: Any = self._client.chat.completions.with_raw_response.create

    @property
    def wording(self) -> Wording:
        """What messages about these calls say."""
        endpoint, role = self._endpoint, self._role
        return Wording(
            url=endpoint.url,
            who=f"{role.who} {endpoint.label}",
            kept=role.kept,
            remedy=_remedy(400, endpoint, role.chosen_by),
            stopped=role.stopped,
        )

    async def call(self, messages: Sequence[Message], parameters: Mapping[str, Any]) -> Completion:
        """The completion of a chat. parameters: of the interface, beyond model and messages.

        Raises Faulted; its action is `without` where the server does not know a parameter.
        """
        try:
            return await asyncio.wait_for(self._send(messages, parameters), self._timeout_s)
        except (TimeoutError, openai.APIError) as error:
            # The exception holds the request with its key: it ends here.
            fault = _fault_of(error, self._endpoint, parameters, self._role.chosen_by)
        raise Faulted(fault)

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    async def _send(self, messages: Sequence[Message], parameters: Mapping[str, Any]) -> Completion:
        # The body is read here and not by the client, which takes any body for a completion.
        reply = await self._create(model=self._endpoint.model, messages=messages, **parameters)
        return read_completion(reply.content)


def _open_client(endpoint: Endpoint, key: str | None, timeout_s: float) -> AsyncOpenAI:
    """A client without retries of its own, since `Calls` counts them."""
    common: Any = {
        "api_key": key or "no-key",
        "timeout": timeout_s,
        "max_retries": 0,
        "http_client": Http(endpoint.url, timeout_s),
    }
    if endpoint.kind == "azure":
        return AsyncAzureOpenAI(
            azure_endpoint=endpoint.url,
            azure_deployment=endpoint.model,
            api_version=os.environ.get("OPENAI_API_VERSION") or AZURE_API_VERSION,
            **common,
        )
    return AsyncOpenAI(base_url=endpoint.url, **common)


def _fault_of(error: Exception, endpoint: Endpoint, sent: Mapping[str, Any], chosen_by: str) -> Fault:
    """What an exception of a call with some parameters means."""
    if isinstance(error, openai.APIStatusError):
        return _fault_of_status(error, endpoint, sent, chosen_by)
    if isinstance(error.__cause__, Faulted):
        return error.__cause__.fault
    if isinstance(error, (TimeoutError, openai.APITimeoutError)):
        return Fault("again", "timeout", "no complete reply in time", alive=False)
    why = shown(error.__cause__ or error)
    return Fault("again", "connection", f"connection failed: {why}", alive=False)


def _fault_of_status(
    error: openai.APIStatusError, endpoint: Endpoint, sent: Mapping[str, Any], chosen_by: str
) -> Fault:
    status, said = error.status_code, f"HTTP {error.status_code}: {shown(error.message)}"
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
    return Fault("stop", "refused", f"{said}. {_remedy(status, endpoint, chosen_by)}")


def _refused_parameter(error: openai.APIStatusError, sent: Mapping[str, Any]) -> str | None:
    named = f"{error.param or ''} {error.message}".lower()
    for parameter in _OPTIONAL:
        words = _SPOKEN_AS.get(parameter, (parameter,))
        if parameter in sent and any(re.search(rf"\b{word}\b", named) for word in words):
            return parameter
    return None


def _remedy(status: int, endpoint: Endpoint, chosen_by: str) -> str:
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
