"""A web server for the person at this machine: it listens on 127.0.0.1 and refuses requests of others.

    serve_page("egost.tasks.construction", "annotate", routes, port=0, announce=print)

A page of another site that is open in the same browser can send requests to 127.0.0.1. With a host name that resolves
to 127.0.0.1 it could also read the answers. So each request must name this server in `Host`, and the browser must say
that the request comes from this server's own page. A request that changes something must be JSON, which browsers let
no other site send without asking this server first.

Other users and processes of this machine can connect, too. So each request must carry the token of the page's address,
which is drawn anew at each start and is known only to who sees the terminal: `?token=...`.
"""

from __future__ import annotations

import hmac
import logging
import secrets
import socket
from collections.abc import Awaitable, Callable, Iterable
from importlib.resources import files
from typing import Any

from aiohttp import http_exceptions, web
from jinja2 import Environment, FunctionLoader, StrictUndefined

from egost.tasks.errors import EgostError, SettingError
from egost.tasks.json_text import parse_json

HOST = "127.0.0.1"

MAX_BODY = 1 << 20
"""Most bytes of a request: many times the longest route."""

_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; media-src 'self'; connect-src 'self'; "
        "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
_TOKEN_BYTES = 18
_TYPES = {"html": "text/html", "css": "text/css", "js": "text/javascript"}
_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def serve_page(
    package: str,
    name: str,
    routes: Iterable[web.AbstractRouteDef],
    port: int,
    announce: Callable[[str], None],
) -> None:
    """Serve a page and its routes until the process is interrupted.

    package: whose folder `pages` holds the page's own parts. announce: called with the page's address once the server
    listens. Raises SettingError where the port is taken.
    """
    with local_socket(port) as listening:
        found: int = listening.getsockname()[1]
        token = secrets.token_urlsafe(_TOKEN_BYTES)
        app = guarded_app([*page_routes(package, name, token), *routes], found, token)
        # What is no HTTP, such as the beginning of a TLS connection, is answered with status 400 and is no news.
        logging.getLogger("aiohttp.server").addFilter(_is_news)
        announce(f"http://{HOST}:{found}/?token={token}")
        web.run_app(app, sock=listening, print=None, access_log=None, shutdown_timeout=2)


def local_socket(port: int) -> socket.socket:
    """A socket that listens on 127.0.0.1; port 0 takes any free port. Raises SettingError."""
    try:
        return socket.create_server((HOST, port))
    except (OSError, OverflowError) as error:
        raise SettingError(
            f"port {port} cannot be used ({error}). Name another port with --port, or leave --port out."
        ) from error


def guarded_app(routes: Iterable[web.AbstractRouteDef], port: int, token: str) -> web.Application:
    """An application that checks each request and answers each error as JSON: `{"error": MESSAGE}`.

    A person who opens the page without its token is told so in plain text.
    """
    own = (f"{HOST}:{port}", f"localhost:{port}")

    @web.middleware
    async def guard(request: web.Request, handler: _Handler) -> web.StreamResponse:
        try:
            _refuse_strangers(request, own)
            if not hmac.compare_digest(
                request.query.get("token", "").encode(errors="replace"), token.encode()
            ):
                text = (
                    "open the whole address that egost printed when it started, with ?token=... at its end."
                )
                if request.path == "/":
                    return web.Response(status=403, text=f"This page needs its token: {text}")
                raise web.HTTPForbidden(text=f"the request has no token, or an old one: {text}")
            return await handler(request)
        except web.HTTPException as error:
            return error_reply(error.status, error.text or error.reason)
        except EgostError as error:
            return error_reply(422, str(error))

    async def add_headers(_: web.Request, response: web.StreamResponse) -> None:
        response.headers.update(_HEADERS)
        response.headers.setdefault("Cache-Control", "no-store")

    app = web.Application(middlewares=[guard], client_max_size=MAX_BODY)
    app.on_response_prepare.append(add_headers)
    app.add_routes(routes)
    return app


def _is_news(record: logging.LogRecord) -> bool:
    error = record.exc_info[1] if record.exc_info else None
    return not isinstance(error, http_exceptions.HttpProcessingError)


def _refuse_strangers(request: web.Request, own: tuple[str, ...]) -> None:
    if request.headers.get("Host") not in own:
        raise web.HTTPForbidden(text=f"this server is {own[0]}; the request names another host.")
    origin = request.headers.get("Origin")
    if origin is not None and origin.removeprefix("http://") not in own:
        raise web.HTTPForbidden(text="the request comes from a page of another site.")
    if request.headers.get("Sec-Fetch-Site", "none") not in ("same-origin", "none"):
        raise web.HTTPForbidden(text="the request comes from a page of another site.")
    if request.method not in ("GET", "HEAD") and request.content_type != "application/json":
        raise web.HTTPUnsupportedMediaType(text="expected JSON.")


def error_reply(status: int, message: str, **more: Any) -> web.Response:
    """An error with a message for people, as JSON."""
    return web.json_response({"error": message, **more}, status=status)


async def read_json(request: web.Request) -> dict[str, Any]:
    """The object in a request; anything else is answered with status 400."""
    try:
        content = parse_json(await request.read())
    except (ValueError, web.RequestPayloadError, ConnectionError) as error:
        raise web.HTTPBadRequest(text=f"the request is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise web.HTTPBadRequest(text="the request is not a JSON object.")
    return content


def page_routes(package: str, name: str, token: str) -> list[web.RouteDef]:
    """A page at `/`, with its own style and script and those that all pages share.

    token: carried by the addresses within the page.
    """

    def read(file: str) -> str:
        owner = "egost.tasks" if file.startswith("page.") else package
        return (files(owner) / "pages" / file).read_text(encoding="utf-8")

    def route(path: str, content: str, kind: str) -> web.RouteDef:
        async def reply(_: web.Request) -> web.Response:
            return web.Response(text=content, content_type=_TYPES[kind])

        return web.get(path, reply)

    pages = Environment(
        loader=FunctionLoader(read), autoescape=True, trim_blocks=True, undefined=StrictUndefined
    )
    page = pages.get_template(f"{name}.html").render(name=name, token=token)
    parts = [(f"{part}.{kind}", kind) for part in ("page", name) for kind in ("css", "js")]
    return [route("/", page, "html"), *(route(f"/{file}", read(file), kind) for file, kind in parts)]
