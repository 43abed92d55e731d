"""The one way to a server: what it says comes in within a limit and without keys, and keys go to nobody else.

client = Http("http://127.0.0.1:8000", timeout=600.0)     # an httpx.AsyncClient, for the makers' packages as well
"""

from __future__ import annotations

import json
import math
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies

import httpx

from egost.tasks.chat.calls import Fault, Faulted
from egost.tasks.errors import one_line
from egost.tasks.json_text import encodable, parse_json
from egost.tasks.keys import log_without_keys, redacted, redaction

MOST_REPLY_BYTES = 32 << 20
"""Bytes of one reply that are read. 64 completions of 2,048 tokens with their probabilities take about 26 MB."""

_LONGEST_SHOWN = 400
_WHAT_A_MODEL_SAYS = ("content", "text")
_YEAR_S = 365 * 86_400.0


log_without_keys("httpx")


_LIMITS = httpx.Limits(max_connections=None, max_keepalive_connections=None)


class _Lines(httpx.AsyncBaseTransport):
    """Pools of one connection each, since httpx looks at all connections of a pool for each request."""

    def __init__(self, trust_env: bool) -> None:
        self.lines: list[httpx.AsyncHTTPTransport] = []
        self.free: list[httpx.AsyncHTTPTransport] = []
        self._context = httpx.create_ssl_context(trust_env=trust_env)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        response: httpx.Response = await request.extensions["line"].handle_async_request(request)
        return response

    async def aclose(self) -> None:
        for line in self.lines:
            await line.aclose()

    @contextmanager
    def line(self, request: httpx.Request) -> Iterator[None]:
        """Give a request, until its reply is read, the line that was free last; a new one where none is."""
        if not self.free:
            self.free.append(httpx.AsyncHTTPTransport(verify=self._context, limits=_LIMITS))
            self.lines += self.free
        line = self.free.pop()
        request.extensions = {**request.extensions, "line": line}
        try:
            yield
        finally:
            self.free.append(line)


class Http(httpx.AsyncClient):
    """A client of one server.

    The body, the headers and the words of the status of a reply are read whole, up to `MOST_REPLY_BYTES`, and handed on
    as `redacted` leaves them. Texts of JSON are `encodable`, but for what a model says: who takes that counts what is
    replaced. A reply that leads elsewhere is not followed, since the key and the question would go along. A proxy of
    the environment leads to the world, so a server on this machine is asked without one.

    url: of the server. timeout: seconds, see httpx. `send` raises Faulted for a reply that is too long, packed or that
    leads elsewhere.
    """

    def __init__(
        self, url: str, timeout: httpx.Timeout | float, headers: Mapping[str, str] | None = None
    ) -> None:
        trust_env = not is_this_machine(url)
        # With a transport of its own, httpx knows no proxy.
        self._lines = None if trust_env and getproxies() else _Lines(trust_env)
        super().__init__(
            base_url=url,
            timeout=timeout,
            trust_env=trust_env,
            limits=_LIMITS,
            transport=self._lines,
            # What is packed small may be huge when it is unpacked.
            headers={**(headers or {}), "Accept-Encoding": "identity"},
        )

    async def send(self, request: httpx.Request, **how: Any) -> httpx.Response:
        try:
            with self._lines.line(request) if self._lines else nullcontext():
                response = await super().send(request, **{**how, "stream": True, "follow_redirects": False})
                try:
                    body = await _body(response)
                finally:
                    await response.aclose()
        except httpx.HTTPError as error:
            # It repeats what breaks the protocol.
            error.args = (redacted(str(error)),)
            raise
        without_keys = redaction()
        headers = {name: without_keys(value) for name, value in response.headers.items()}
        if response.has_redirect_location:
            there, here = shown(headers["location"]), f"{request.url.scheme}://{request.url.netloc.decode()}"
            why = (
                f"{here} leads on to {there}, and keys go nowhere else. Name that URL if it is the right one."
            )
            raise Faulted(Fault("stop", "refused", why))
        for name in ("content-length", "transfer-encoding"):
            headers.pop(name, None)
        # Bodies are UTF-8, whatever they say of themselves.
        headers["content-type"] = headers.get("content-type", "no type").partition(";")[0]
        return httpx.Response(
            response.status_code,
            headers=headers,
            content=_cleaned(body, without_keys),
            request=request,
            extensions={"reason_phrase": without_keys(response.reason_phrase).encode("ascii", "replace")},
        )


async def _body(response: httpx.Response) -> bytes:
    packed = response.headers.get("content-encoding", "identity")
    if packed.strip().lower() != "identity":
        raise _unread(f"it is packed ({shown(redacted(packed))}), although it was asked for as it is")
    body = bytearray()
    async for part in response.aiter_raw():
        body += part
        if len(body) > MOST_REPLY_BYTES:
            raise _unread(f"it is longer than {MOST_REPLY_BYTES:,} bytes")
    return bytes(body)


def _unread(why: str) -> Faulted:
    return Faulted(Fault("unscored", "broken_body", f"the body of the reply was not read: {why}"))


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
    host = (urlsplit(url).hostname or "").rstrip(".")
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        address = ip_address(host)
    except ValueError:
        try:
            # The short forms that a system takes, such as 127.1.
            address = IPv4Address(socket.inet_aton(host))
        except OSError:
            return False
    if isinstance(address, IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    return address.is_loopback or address.is_unspecified


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
