"""Where a judge is reached: the forms in which a user names one, and its client.

    gpt-4o                     the snapshot that the paper's judge most likely was
    gpt-4.1-2025-04-14         any other `gpt-...` of api.openai.com
    openai:MODEL@BASE_URL      any server that speaks the chat-completions interface, for example vLLM
    azure:DEPLOYMENT@ENDPOINT  Azure OpenAI

The key is taken from OPENAI_API_KEY for api.openai.com alone, from EGOST_JUDGE_KEY for any other server of the
third form, and from AZURE_OPENAI_API_KEY for the fourth.
`+compat` behind any of them asks for the reference code's form of reply.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Literal
from urllib.parse import urlsplit

from openai import AsyncAzureOpenAI, AsyncOpenAI, DefaultAsyncHttpxClient

from egost.tasks.judging.judge import SERVER_FORMS, JudgeError

PAPER_SNAPSHOT = "gpt-4o-2024-08-06"
"""What `gpt-4o` stood for when the paper was written (March 2025), by public sources; it may be retired."""

OPENAI_URL = "https://api.openai.com/v1"
AZURE_API_VERSION = "2024-10-21"
"""The stable version of Azure's interface from which on it takes a JSON schema."""

OPENAI_HOST = "api.openai.com"

AZURE_KEY, JUDGE_KEY = "AZURE_OPENAI_API_KEY", "EGOST_JUDGE_KEY"

_ELSEWHERE = re.compile(r"(?P<kind>openai|azure):(?P<model>.+?)@(?P<url>https?://.+)")
_SECRETS = re.compile(r"://.*[@?#]|@.*:.*@")
"""Where a name can hold a password or key, whether or not the rest of it is a URL."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A model at a server.

    kind: whose interface; model: name of the model, or Azure's deployment; url: the base URL or endpoint.
    compat: whether the reference code's form of reply is asked for.
    other_key: the environment variable with the key of a server that is neither OpenAI's nor Azure's.
    """

    kind: Literal["openai", "azure"]
    model: str
    url: str
    compat: bool
    other_key: str = JUDGE_KEY

    @property
    def label(self) -> str:
        """The name without `+compat`, as it is recorded."""
        if self.kind == "openai" and self.url == OPENAI_URL:
            return self.model
        return f"{self.kind}:{self.model}@{self.url}"

    @property
    def key_name(self) -> str:
        """The environment variable that holds the key: that for OpenAI goes to no other server, nor in the clear."""
        if self.kind == "azure":
            return AZURE_KEY
        return "OPENAI_API_KEY" if self._is_openai else self.other_key

    @property
    def needs_key(self) -> bool:
        """Whether there is no use in asking without a key: a server of one's own may want none."""
        return self.kind == "azure" or self._is_openai

    @property
    def _is_openai(self) -> bool:
        parts = urlsplit(self.url)
        return self.kind == "openai" and parts.scheme == "https" and parts.hostname == OPENAI_HOST


def parse_endpoint(spec: str) -> Endpoint:
    """The endpoint that a user named.

    Raises JudgeError for another form, or for a URL that carries a password or a query: the URL is recorded.
    """
    name = spec.removesuffix("+compat")
    compat = name != spec
    if name == "gpt-4o":
        return Endpoint("openai", PAPER_SNAPSHOT, OPENAI_URL, compat)
    if re.fullmatch(r"gpt-[\w.:-]+", name):
        return Endpoint("openai", name, OPENAI_URL, compat)
    if _SECRETS.search(name):
        # Neither the name nor what a parser says of it may be repeated here.
        own = AZURE_KEY if name.startswith("azure:") else JUDGE_KEY
        raise JudgeError(
            "The URL of a judge carries a user name, password or query. It would be recorded in the results: put "
            f"the key into {own} instead."
        )
    found = _ELSEWHERE.fullmatch(name)
    if found is None:
        raise JudgeError(f"No judge {spec!r}. Forms: {SERVER_FORMS}, each also with +compat.")
    url = found["url"].rstrip("/")
    try:
        _ = urlsplit(url).port
    except ValueError as error:
        raise JudgeError(f"No judge {spec!r}: {url} is no URL ({error}).") from error
    if found["kind"] == "azure":
        return Endpoint("azure", found["model"], url, compat)
    return Endpoint("openai", found["model"], url, compat)


def find_key(endpoint: Endpoint) -> str | None:
    """The key from the environment; None where the server may want none.

    Raises JudgeError when one is needed and not there, or when it cannot be sent in a header.
    """
    if key := os.environ.get(endpoint.key_name, "").strip():
        if not (key.isascii() and key.isprintable()):
            raise JudgeError(
                f"The key in {endpoint.key_name} holds characters that no key has (only printable ASCII can be "
                "sent): copy it again, without quotes or line breaks."
            )
        return key
    if endpoint.needs_key:
        raise JudgeError(
            f"The judge {endpoint.label} needs a key: set {endpoint.key_name}. Without a key, "
            "EGOST_JUDGE=offline scores by rules, and openai:MODEL@BASE_URL names a server of your own."
        )
    return None


def open_client(endpoint: Endpoint, key: str | None, timeout_s: float) -> AsyncOpenAI:
    """A client without retries of its own, since `PacedCalls` counts them."""
    # A proxy of the environment leads to the world, never to a server on this machine.
    direct = DefaultAsyncHttpxClient(trust_env=False) if is_this_machine(endpoint.url) else None
    if endpoint.kind == "azure":
        return AsyncAzureOpenAI(
            azure_endpoint=endpoint.url,
            azure_deployment=endpoint.model,
            api_version=os.environ.get("OPENAI_API_VERSION") or AZURE_API_VERSION,
            api_key=key,
            timeout=timeout_s,
            max_retries=0,
            http_client=direct,
        )
    return AsyncOpenAI(
        base_url=endpoint.url,
        api_key=key or "no-key",
        timeout=timeout_s,
        max_retries=0,
        http_client=direct,
    )


def is_this_machine(url: str) -> bool:
    """Whether a URL leads to a loopback address."""
    host = urlsplit(url).hostname or ""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False
