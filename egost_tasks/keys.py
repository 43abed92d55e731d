"""The keys that this process holds: refused in a URL and on a command line, and taken out of what a server says."""

from __future__ import annotations

import base64
import logging
import os
import re
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from urllib.parse import quote, urlsplit

from egost.tasks.errors import EgostError
from egost.tasks.settings import SETTINGS

SERVER_KEY, OTHER_KEY = "EGOST_SERVER_API_KEY", "EGOST_API_KEY"
"""Environment variables with the keys of vLLM servers and of any other server; makers' keys go to the makers alone."""

SHORTEST_KEY = 8
"""Characters. What is shorter is no secret, and would be found in any text."""

SHOWN_AT_MOST = 12
"""So many characters of a key in a row, or half of a key of less than 24, are taken out of a text."""

_SHORTEST_PIECE = 6
_PLACEHOLDERS = frozenset(
    {"changeme", "lm-studio", "no-api-key", "not-needed", "not-required", "placeholder", "sk-no-key-required"}
)
_ESCAPES = (("%", "02x"), ("", "02x"), ("\\u", "04x"))
_URL_SAFE = str.maketrans("+/", "-_")
_KEY_LIKE = re.compile(r"\bsk-[\w-]{8,}|\bAIza[\w-]{30,}|\bhf_\w{20,}")
_NAMED_SECRET = re.compile(
    r"(?<![a-z])(?:api[_-]?key|(?:auth|access|hf|hub)[_-]?token|token|password|passwd|secret)[=:]"
    r"(?!(?:true|false|none)?(?:,|$))",
    re.IGNORECASE,
)
_PASSWORD_IN_A_URL = re.compile(r"://[^/\s]*@")
_IN_A_URL = re.compile(r"[@?#\\]")


def redacted(text: str) -> str:
    """The text with `[key]` for each key that this process holds, and for what looks like one; see `redaction`."""
    return redaction()(text)


def redaction() -> Callable[[str], str]:
    """What `redacted` does with the keys that this process holds now, for many texts: they are looked up once.

    Keys are the values of the settings that are secret, and of all variables whose names end in `_API_KEY`. A value is
    none where it is shorter than `SHORTEST_KEY`, has fewer than five different characters (`xxxxxxxx`), or is one of
    the placeholders that servers document (`not-needed`). A piece of a key counts as the key from `SHOWN_AT_MOST`
    characters on. It is found as it is, backward, in upper or lower case, and in the escapes of URLs and JSON, in
    hexadecimal and in base64, wherever it begins. A shorter piece stays: common words must stay whole.
    """
    begins, pieces = _pieces(_keys())
    shortest = len(next(iter(begins), ""))

    def without_keys(text: str) -> str:
        # Nearly all texts pass here, after one look.
        if not begins.isdisjoint(text[i : i + shortest] for i in range(len(text) - shortest + 1)):
            for length, of_length in pieces.items():
                text = _without(text, length, of_length)
        return _KEY_LIKE.sub("[key]", text)

    return without_keys


def log_without_keys(logger: str) -> None:
    """Have a library's log redacted: httpx logs each request with the words of the status, which are a server's."""
    logging.getLogger(logger).addFilter(_without_keys)


def _without_keys(record: logging.LogRecord) -> bool:
    record.msg, record.args = redacted(record.getMessage()), ()
    return True


def read_key(name: str, error: type[EgostError]) -> str | None:
    """The key in an environment variable; None where there is none. Raises `error` where it cannot be sent."""
    key = os.environ.get(name, "").strip()
    if not (key.isascii() and key.isprintable()):
        raise error(
            f"The key in {name} holds characters that no key has (only printable ASCII can be sent): copy it again, "
            "without quotes or line breaks."
        )
    return key or None


def holds_key(text: str) -> bool:
    """Whether a text holds a whole key of this process, or what looks like one."""
    return bool(_KEY_LIKE.search(text)) or any(
        form in text for key in _keys() for form, _ in _forms(key, len(key))
    )


def check_arguments(arguments: Iterable[str], error: type[EgostError]) -> None:
    """Raise `error` where an argument for another program holds a key or a password, and repeat neither."""
    patterns = (_PASSWORD_IN_A_URL, _NAMED_SECRET)
    if any(holds_key(given) or any(found.search(given) for found in patterns) for given in arguments):
        raise error(
            "A key or password on a command line can be read by everyone on the machine, and is recorded. Leave it "
            "out: keys are settings (docs/settings.md)."
        )


def may_hold_secret(text: str) -> bool:
    """Whether a text that names a server has a user name, password, query or key in it: not to be repeated."""
    return bool(_IN_A_URL.search(text)) or holds_key(text)


def check_url(url: str, where: str, key_name: str, error: type[EgostError]) -> None:
    """Raise `error` for a text that is no URL of a server, or that may hold a secret: no secret is repeated.

    A URL is recorded in the results and stands on command lines, which all users of a machine can read.
    where: the option or setting that holds it; key_name: the setting for the key.
    """
    if may_hold_secret(url):
        raise error(
            f"The URL in {where} carries a user name, password or query, or a key. It would be recorded in the "
            f"results: put the key into {key_name} instead."
        )
    try:
        parts = urlsplit(url)
        is_url = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_url = False
    if not is_url or re.search(r"\s", url):
        raise error(f"'{url[:200]}' in {where} is no URL of a server; expected http(s)://HOST[:PORT]/PATH.")


def _keys() -> tuple[str, ...]:
    secret = {setting.name for setting in SETTINGS if setting.secret}
    found = (
        value.strip() for name, value in os.environ.items() if name in secret or name.endswith("_API_KEY")
    )
    return tuple(
        sorted({key for key in found if len(key) >= SHORTEST_KEY and len(set(key)) > 4} - _PLACEHOLDERS)
    )


@lru_cache(maxsize=4)
def _pieces(keys: tuple[str, ...]) -> tuple[frozenset[str], dict[int, set[str]]]:
    """How each piece begins that may not be in a text, all beginnings of one length; and the pieces by their length."""
    pieces: dict[int, set[str]] = {}
    for key in keys:
        for form, length in _forms(key, max(_SHORTEST_PIECE, min(SHOWN_AT_MOST, len(key) // 2))):
            found = (form[i : i + length] for i in range(len(form) - length + 1))
            pieces.setdefault(length, set()).update(found)
    shortest = min(pieces, default=0)
    begins = frozenset(piece[:shortest] for of_length in pieces.values() for piece in of_length)
    return begins, pieces


def _forms(key: str, n: int) -> Iterator[tuple[str, int]]:
    """Each way to write a key, and how many characters of it show n of the key."""
    codes = [ord(character) for character in key]
    written = [
        key,
        key[::-1],
        quote(key, safe=""),
        *("".join(f"{escape}{code:{width}}" for code in codes) for escape, width in _ESCAPES),
    ]
    for form in dict.fromkeys(way for text in written for way in (text, text.lower(), text.upper())):
        yield form, n * len(form) // len(key)
    for before in range(3):
        # What stands before the key shifts it within base64; its first and last letters depend on its neighbours.
        encoded = base64.b64encode(b"." * before + key.encode()).decode()
        inner = encoded[-(-before * 8 // 6) : (before + len(key.encode())) * 8 // 6]
        for form in {inner, inner.translate(_URL_SAFE)}:
            yield form, n * 4 // 3 - 1


def _without(text: str, length: int, pieces: set[str]) -> str:
    """The text with `[key]` for each run of pieces."""
    kept: list[str] = []
    end = -1
    for start in range(len(text) - length + 1):
        if text[start : start + length] in pieces:
            if start > end:
                kept += [text[max(end, 0) : start], "[key]"]
            end = start + length
    return "".join([*kept, text[max(end, 0) :]])
