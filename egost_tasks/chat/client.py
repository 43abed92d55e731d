"""The client of the chat-completions interface: makes one call, and says what a failed one means."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

from egost.tasks.chat.calls import Fault, Faulted, Wording
from egost.tasks.chat.endpoint import Endpoint, find_key
from egost.tasks.chat.http import Http, Response, shown
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
        self._endpoint, self._role = endpoint, role
        key, self._path = find_key(endpoint) or "no-key", "/chat/completions"
        headers = {"Authorization": f"Bearer {key}"}
        if endpoint.kind == "azure":
            version = os.environ.get("OPENAI_API_VERSION") or AZURE_API_VERSION
            deployment = f"/openai/deployments/{quote(endpoint.model, safe='')}"
            self._path = f"{deployment}{self._path}?{urlencode({'api-version': version})}"
            headers = {"api-key": key}
        self._http = Http(endpoint.url, timeout_s, headers)

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
        body = {"model": self._endpoint.model, "messages": messages, **parameters}
        response = await self._http.send("POST", self._path, [json.dumps(body).encode()])
        if response.status >= 300:
            raise Faulted(_fault_of(response, self._endpoint, parameters, self._role.chosen_by))
        return read_completion(response.body)

    async def close(self) -> None:
        """Close the connections."""
        await self._http.close()


def _fault_of(response: Response, endpoint: Endpoint, sent: Mapping[str, Any], chosen_by: str) -> Fault:
    """What a status means, of a call with some parameters."""
    status, error, message = response.status, response.error, response.message
    said = f"HTTP {status}: {shown(message)}"
    if status == 429 and error.get("code") == "insufficient_quota":
        return Fault("stop", "refused", f"{said}. The account of {endpoint.key_name} has no credit left.")
    if status == 429:
        return Fault("again", "rate_limited", said, wait_s=response.wait_s)
    if status >= 500 or status in (408, 409):
        return Fault("again", "server_error", said, wait_s=response.wait_s, alive=status < 500)
    if status in (400, 413, 422):
        if error.get("code") in _TOO_LONG_CODES or status == 413 or _TOO_LONG.search(message):
            return Fault("unscored", "too_long", said)
        if error.get("code") in _FILTERED_CODES:
            return Fault("unscored", "content_filter", said)
        if parameter := _refused_parameter(f"{error.get('param') or ''} {message}", sent):
            return Fault("without", "parameter", said, parameter=parameter)
    if status == 400:
        return Fault("unscored", "bad_request", said)
    return Fault("stop", "refused", f"{said}. {_remedy(status, endpoint, chosen_by)}")


def _refused_parameter(named: str, sent: Mapping[str, Any]) -> str | None:
    for parameter in _OPTIONAL:
        words = _SPOKEN_AS.get(parameter, (parameter,))
        if parameter in sent and any(re.search(rf"\b{word}\b", named, re.IGNORECASE) for word in words):
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
