"""Where a judge is reached: the forms in which a user names one, and its client.

    gpt-4o                     the snapshot that the paper's judge most likely was
    gpt-4.1-2025-04-14         any other `gpt-...` of api.openai.com
    openai:MODEL@BASE_URL      any server that speaks the chat-completions interface, for example vLLM
    azure:DEPLOYMENT@ENDPOINT  Azure OpenAI

`+compat` behind any of them asks for the reference code's form of reply.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit

from openai import AsyncAzureOpenAI, AsyncOpenAI

from egost_tasks.judge import SERVER_FORMS, JudgeError

PAPER_SNAPSHOT = "gpt-4o-2024-08-06"
"""What `gpt-4o` stood for when the paper was written (March 2025), by public sources; it may be retired."""

OPENAI_URL = "https://api.openai.com/v1"
AZURE_API_VERSION = "2024-10-21"
"""The stable version of Azure's interface from which on it takes a JSON schema."""

_KEY_NAMES = {"openai": "OPENAI_API_KEY", "azure": "AZURE_OPENAI_API_KEY"}
_ELSEWHERE = re.compile(r"(?P<kind>openai|azure):(?P<model>.+?)@(?P<url>https?://.+)")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A model at a server.

    kind: whose interface; model: name of the model, or Azure's deployment; url: the base URL or endpoint.
    compat: whether the reference code's form of reply is asked for.
    """

    kind: Literal["openai", "azure"]
    model: str
    url: str
    compat: bool

    @property
    def label(self) -> str:
        """The name without `+compat`, as it is recorded."""
        if self.kind == "openai" and self.url == OPENAI_URL:
            return self.model
        return f"{self.kind}:{self.model}@{self.url}"

    @property
    def key_name(self) -> str:
        """The environment variable that holds the key."""
        return _KEY_NAMES[self.kind]

    @property
    def needs_key(self) -> bool:
        """Whether there is no use in asking without a key: a server of one's own may want none."""
        return self.kind == "azure" or self.url == OPENAI_URL


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
    found = _ELSEWHERE.fullmatch(name)
    if found is None:
        raise JudgeError(f"No judge {spec!r}. Forms: {SERVER_FORMS}, each also with +compat.")
    url = found["url"].rstrip("/")
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError as error:
        raise JudgeError(f"No judge {spec!r}: {url} is no URL ({error}).") from error
    if parts.username or parts.password or parts.query or parts.fragment:
        raise JudgeError(
            f"The URL of a judge at {parts.hostname} carries a user name, password or query. It would be "
            f"recorded in the results: put the key into {_KEY_NAMES[found['kind']]} instead."
        )
    if found["kind"] == "azure":
        return Endpoint("azure", found["model"], url, compat)
    return Endpoint("openai", found["model"], url, compat)


def find_key(endpoint: Endpoint) -> str | None:
    """The key from the environment; None where the server may want none.

    Raises JudgeError when one is needed and not there.
    """
    if key := os.environ.get(endpoint.key_name, "").strip():
        return key
    if endpoint.needs_key:
        raise JudgeError(
            f"The judge {endpoint.label} needs a key: set {endpoint.key_name}. Without a key, "
            "EGOST_JUDGE=offline scores by rules, and openai:MODEL@BASE_URL names a server of your own."
        )
    return None


def open_client(endpoint: Endpoint, key: str | None, timeout_s: float) -> AsyncOpenAI:
    """A client without retries of its own, since the judge's pacing counts them."""
    if endpoint.kind == "azure":
        return AsyncAzureOpenAI(
            azure_endpoint=endpoint.url,
            azure_deployment=endpoint.model,
            api_version=os.environ.get("OPENAI_API_VERSION") or AZURE_API_VERSION,
            api_key=key,
            timeout=timeout_s,
            max_retries=0,
        )
    return AsyncOpenAI(base_url=endpoint.url, api_key=key or "no-key", timeout=timeout_s, max_retries=0)
