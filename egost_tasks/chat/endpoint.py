"""Where a language model is reached: the forms in which a user names one, and its key.

    gpt-4o                     the snapshot that the paper's judge most likely was
    gpt-4.1-2025-04-14         any other `gpt-...` of api.openai.com
    openai:MODEL@BASE_URL      any server that speaks the chat-completions interface, for example vLLM
    azure:DEPLOYMENT@ENDPOINT  Azure OpenAI

The key is taken from OPENAI_API_KEY for api.openai.com alone, from EGOST_JUDGE_KEY for any other server of the
third form, and from AZURE_OPENAI_API_KEY for the fourth.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit

from egost.tasks.errors import SettingError, say_once
from egost.tasks.keys import check_url, may_hold_secret, read_key

SERVER_FORMS = "gpt-4o, gpt-SNAPSHOT, openai:MODEL@BASE_URL, azure:DEPLOYMENT@ENDPOINT"
"""How a user names a model behind a server."""

PAPER_SNAPSHOT = "gpt-4o-2024-08-06"
"""What `gpt-4o` meant when the paper was written (March 2025), by public sources; it may be retired."""

OPENAI_URL = "https://api.openai.com/v1"

OPENAI_HOST = "api.openai.com"

AZURE_KEY, JUDGE_KEY = "AZURE_OPENAI_API_KEY", "EGOST_JUDGE_KEY"

_ELSEWHERE = re.compile(r"(?P<kind>openai|azure):(?P<model>.+?)@(?P<url>https?://.+)")
_PASSWORD = re.compile("@.*:")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A model at a server.

    kind: whose interface; model: name of the model, or Azure's deployment; url: the base URL or endpoint.
    other_key: the environment variable with the key of a server that is neither OpenAI's nor Azure's.
    """

    kind: Literal["openai", "azure"]
    model: str
    url: str
    other_key: str = JUDGE_KEY

    @property
    def label(self) -> str:
        """The name as it is recorded."""
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


def parse_endpoint(name: str) -> Endpoint:
    """The endpoint that a user named.

    Raises SettingError for another form, or for a URL that carries a password or a query: the URL is recorded.
    """
    if name == "gpt-4o":
        return Endpoint("openai", PAPER_SNAPSHOT, OPENAI_URL)
    if re.fullmatch(r"gpt-[\w.:-]+", name):
        return Endpoint("openai", name, OPENAI_URL)
    found = _ELSEWHERE.fullmatch(name)
    if found and not _PASSWORD.search(found["model"]):
        url = found["url"].rstrip("/")
    else:
        found, url = None, name.partition("@")[2] or name
    if found or may_hold_secret(url):
        own = AZURE_KEY if name.startswith("azure:") else JUDGE_KEY
        check_url(url, "the name of a model", own, SettingError)
    if found is None:
        raise SettingError(f"No model {name!r}. Forms: {SERVER_FORMS}.")
    return Endpoint("azure" if found["kind"] == "azure" else "openai", found["model"], url)


def find_key(endpoint: Endpoint) -> str | None:
    """The key from the environment; None where the server may want none.

    Logs a warning where `OPENAI_BASE_URL` names another server than OpenAI's, which is asked all the same.

    Raises SettingError when one is needed and not there, or when it cannot be sent in a header.
    """
    elsewhere = os.environ.get("OPENAI_BASE_URL", "").strip()
    if endpoint._is_openai and elsewhere and not re.match(rf"https?://{OPENAI_HOST}(/|$)", elsewhere):
        say_once(
            "WARNING",
            f"OPENAI_BASE_URL is not read: {endpoint.label} is asked at {OPENAI_HOST}. For your server write "
            f"EGOST_JUDGE=openai:{endpoint.model}@{'URL' if may_hold_secret(elsewhere) else elsewhere} (so for --judge "
            "and writers; base_url=URL in --model_args of egost_openai).",
        )
    key = read_key(endpoint.key_name, SettingError)
    if key is None and endpoint.needs_key:
        raise SettingError(
            f"{endpoint.label} needs a key: set {endpoint.key_name}. A server of your own is named by "
            "openai:MODEL@BASE_URL."
        )
    return key
