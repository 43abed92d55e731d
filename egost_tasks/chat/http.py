"""The one way to a server: what it says comes in within a limit and without keys, and keys go to nobody else.

http = Http("http://127.0.0.1:8000", timeout_s=600.0)
response = await http.send("POST", "/v1/chat/completions", [body])
"""

from __future__ import annotations

import json
import math
import os
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
import certifi

from egost.tasks.chat.calls import Fault, Faulted
from egost.tasks.errors import SettingError, one_line
from egost.tasks.json_text import encodable, parse_json
from egost.tasks.keys import redacted, redaction

MOST_REPLY_BYTES = 32 << 20
"""Bytes of one reply that are read. 64 completions of 2,048 tokens with their probabilities take about 26 MB."""

_CONNECT_S = 10.0
_IDLE_S = 5.0
_PIECE = 1 << 20
_LONGEST_SHOWN = 400
_WHAT_A_MODEL_SAYS = ("content", "text")
_YEAR_S = 365 * 86_400.0


@dataclass(frozen=True, slots=True)
class Response:
    """What a server replied, without keys. kind: of its body (`application/json`). wait_s: see `retry_after`."""

    status: int
    kind: str
    wait_s: float | None
    body: bytes

    @property
    def text(self) -> str:
        """The body, which is taken for UTF-8 whatever it says of itself."""
        return self.body.decode(errors="replace")

    @property
    def error(self) -> dict[str, Any]:
        """The object with which the interfaces say what is wrong; empty where the body is none."""
        try:
            content = parse_json(self.body)
        except ValueError:
            return {}
        error = content.get("error", content) if isinstance(content, dict) else None
        return error if isinstance(error, dict) else {}

    @property
    def message(self) -> str:
        """What is wrong, for people; the body where it does not say that."""
        return str(self.error.get("message") or self.text)


class Http:
    """A client of one server, for use within one event loop. As many connections as requests are under way.

    The body and the headers of a reply are read whole, up to `MOST_REPLY_BYTES`, and handed on as `redacted` leaves
    them. Texts of JSON are `encodable`, but for what a model says: who takes that counts what is replaced. A reply that
    leads elsewhere is not followed, since the key and the question would go along. A proxy of the environment leads to
    the world, so a server on this machine is asked without one.

    url: of the server. timeout_s: for one whole reply; a connection is there after `_CONNECT_S`. headers: of each
    request. Raises SettingError for a proxy of another kind than HTTP.
    """

    def __init__(self, url: str, timeout_s: float, headers: Mapping[str, str] | None = None) -> None:
        self._url, self._timeout_s = _plain(url), timeout_s
        # What is packed small may be huge when it is unpacked.
        self._headers = {**(headers or {}), "Accept-Encoding": "identity"}
        self._proxy = _proxy(url)
        self._session: aiohttp.ClientSession | None = None

    async def send(
        self, method: str, path: str, pieces: Sequence[bytes] = (), timeout_s: float | None = None
    ) -> Response:
        """The reply to a request. pieces: of its body, which is JSON. timeout_s: less than the client's.

        Raises Faulted: `timeout` or `connection` where none came, `broken_body` where it is too long or packed,
        `refused` where it leads elsewhere.
        """
        length = sum(map(len, pieces))
        limit = aiohttp.ClientTimeout(timeout_s or self._timeout_s, sock_connect=_CONNECT_S)
        try:
            async with self._open().request(
                method,
                self._url + path,
                data=_sliced(pieces) if length > _PIECE else b"".join(pieces) or None,
                headers={"Content-Type": "application/json", "Content-Length": str(length)} if pieces else {},
                timeout=limit,
                allow_redirects=False,
                proxy=self._proxy,
            ) as reply:
                return _response(reply, await _body(reply))
        except aiohttp.ConnectionTimeoutError:
            fault = _no_reply("connection", f"{self._url} takes no connection")
        except TimeoutError:
            fault = _no_reply("timeout", f"{self._url} gave no reply within {limit.total:g} s")
        except (aiohttp.ClientError, OSError) as error:
            # It repeats what breaks the protocol, and as a whole also the password of a proxy.
            said = error.message if isinstance(error, aiohttp.ClientResponseError) else str(error)
            why = shown(redacted(said)) or type(error).__name__
            fault = _no_reply("connection", f"the line to {self._url} broke ({why})")
        # Outside of the handler, since the exception holds the request with its key.
        raise Faulted(fault)

    async def close(self) -> None:
        """Close the connections."""
        if self._session:
            await self._session.close()

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            # Here, in the event loop.
            secured = self._url.lower().startswith("https")
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    limit=0, keepalive_timeout=_IDLE_S, ssl=_certificates() if secured else True
                ),
                headers=self._headers,
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
            )
        return self._session


def _proxy(url: str) -> str | None:
    parts, proxies = urlsplit(url), getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    if not proxy or is_this_machine(url) or proxy_bypass(parts.netloc):
        return None
    kind, is_url, _ = proxy.partition("://")
    if is_url and kind.lower() not in ("http", "https"):
        raise SettingError(
            f"The environment names a proxy for {parts.scheme}://{parts.hostname} that speaks {kind}; egost takes one "
            "that speaks HTTP. Name such a one, or the host in NO_PROXY."
        )
    return proxy if is_url else f"http://{proxy}"


def _certificates() -> ssl.SSLContext:
    file, folder = os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR")
    return ssl.create_default_context(
        cafile=file or (None if folder else certifi.where()), capath=folder or None
    )


async def _sliced(pieces: Sequence[bytes]) -> AsyncIterator[memoryview]:
    """Pieces in slices, of which the event loop sends one at a time."""
    for piece in pieces:
        for start in range(0, len(piece), _PIECE):
            yield memoryview(piece)[start : start + _PIECE]


async def _body(reply: aiohttp.ClientResponse) -> bytes:
    packed = reply.headers.get("Content-Encoding", "identity")
    if packed.strip().lower() != "identity":
        raise _unread(f"it is packed ({shown(redacted(packed))}), although it was asked for as it is")
    body = bytearray()
    async for part in reply.content.iter_any():
        body += part
        if len(body) > MOST_REPLY_BYTES:
            raise _unread(f"it is longer than {MOST_REPLY_BYTES:,} bytes")
    return bytes(body)


def _unread(why: str) -> Faulted:
    return Faulted(Fault("unscored", "broken_body", f"the body of the reply was not read: {why}"))


def _no_reply(reason: str, why: str) -> Fault:
    return Fault("again", reason, why, alive=False)


def _response(reply: aiohttp.ClientResponse, body: bytes) -> Response:
    without_keys = redaction()
    if reply.status in (301, 302, 303, 307, 308) and (there := reply.headers.get("Location")):
        here = reply.url.origin()
        why = (
            f"{here} leads on to {shown(without_keys(there))}, and keys go nowhere else. Name that URL if it is the "
            "right one."
        )
        raise Faulted(Fault("stop", "refused", why))
    kind = without_keys(reply.headers.get("Content-Type", "no type").partition(";")[0])
    return Response(reply.status, kind, retry_after(reply.headers), _cleaned(body, without_keys))


def _cleaned(body: bytes, without_keys: Callable[[str], str]) -> bytes:
    # Where a JSON text escapes nothing, its texts stand in it as they are.
    if (
        body.isascii()
        and b"\\" not in body
        and b"\0" not in body
        and without_keys(text := body.decode()) == text
    ):
        return body
    try:
        content = parse_json(body, halves=True)
    except ValueError:
        # As bytes, so that what is no UTF-8 stays so. UTF-16 and 32 hide texts between zeros.
        return without_keys(body.replace(b"\0", b"").decode("latin-1")).encode("latin-1")

    def clean(value: Any, name: str = "") -> Any:
        if isinstance(value, str):
            return without_keys(value if name in _WHAT_A_MODEL_SAYS else encodable(value))
        if isinstance(value, list):
            return [clean(part) for part in value]
        if isinstance(value, dict):
            return {clean(name): clean(part, name) for name, part in value.items()}
        return value

    return json.dumps(clean(content)).encode()


def shown(text: object) -> str:
    """The beginning of what a server said, as one line for a message."""
    return one_line(" ".join(str(text)[:_LONGEST_SHOWN].split()))


def is_this_machine(url: str) -> bool:
    """Whether a URL leads to a loopback address."""
    host = _host(url)
    if host == "localhost" or host.endswith(".localhost"):
        return True
    address = _address(host)
    if isinstance(address, IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    return address is not None and (address.is_loopback or address.is_unspecified)


def _host(url: str) -> str:
    return (urlsplit(url).hostname or "").rstrip(".")


def _address(host: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(host)
    except ValueError:
        try:
            # The short forms that a system takes, such as 127.1.
            return IPv4Address(socket.inet_aton(host))
        except OSError:
            return None


def _plain(url: str) -> str:
    """The URL with an IPv4 address in its long form, since aiohttp takes no other."""
    parts, address = urlsplit(url), _address(_host(url))
    if not isinstance(address, IPv4Address):
        return url
    return parts._replace(netloc=f"{address}:{parts.port}" if parts.port else str(address)).geturl()


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that the headers of a reply ask to wait (`Retry-After` and its kin), None where they do not.

    A date counts from the server's own, where it gives one. Never negative, and at most `_YEAR_S`.
    """
    try:
        if milliseconds := headers.get("retry-after-ms"):
            seconds = float(milliseconds) / 1000
        else:
            seconds = _seconds(headers["retry-after"], headers.get("date"))
    except (KeyError, ValueError, TypeError, OverflowError):
        return None
    return None if math.isnan(seconds) else min(max(0.0, seconds), _YEAR_S)


def _seconds(said: str, date: str | None) -> float:
    try:
        return float(said)
    except ValueError:
        now = parsedate_to_datetime(date) if date else datetime.now(UTC)
        return (parsedate_to_datetime(said) - now).total_seconds()
