"""Where an API is reached, and with which key."""

from __future__ import annotations

from urllib.parse import urlsplit

from egost.model_adapters.engine import AdapterError

OTHER_KEY = "EGOST_API_KEY"
"""Environment variable with the key of a server that is none of the makers': their own keys go to no other."""


def check_url(url: str, key_name: str) -> None:
    """Raises AdapterError for what is no URL of a server, or one that carries a secret: the URL is recorded."""
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError as error:
        raise AdapterError(
            "the URL in --model_args cannot be read; expected http(s)://HOST[:PORT]/PATH."
        ) from error
    if "@" in url or "?" in url or "#" in url:
        raise AdapterError(
            "the URL in --model_args carries a user name, password or query. It would be recorded in the results: "
            f"put the key into {key_name} instead."
        )
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise AdapterError(f"'{url}' is no URL of a server; expected http(s)://HOST[:PORT]/PATH.")
