"""A local HTTP server that answers by a script and can fail in every way that a connection can fail.

An interface (judge_server, chat_server, closed_model_server, hub_server) adds its bodies: it subclasses `Scripted` for
its state and `ScriptedHandler` for `do_POST`, `good` and the behaviours that it alone has.
"""

from __future__ import annotations

import argparse
import json
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Scripted:
    """script: names the behaviour for each request (see `ScriptedHandler.act`). latency_s: before each reply.

    asks: all requests so far with the behaviour that each met. most_at_once: the most requests in work at once.
    seen: how often each request came.
    """

    script: Callable[[Any], str] = lambda ask: "ok"
    latency_s: float = 0.0
    url: str = ""
    asks: list[tuple[Any, str]] = field(default_factory=list)
    at_once: int = 0
    most_at_once: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)
    seen: Counter[str] = field(default_factory=Counter)

    @property
    def behaviours(self) -> Counter[str]:
        return Counter(behaviour for _, behaviour in self.asks)


class ScriptedHandler(BaseHTTPRequestHandler):
    """One connection to a scripted server, whose state is `of`."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    of: Any

    def log_message(self, *args: object) -> None:
        pass

    def body(self) -> Any:
        return json.loads(self.rfile.read(int(self.headers["Content-Length"])) or "null")

    def meet(self, key: str, ask: Callable[[int], Any]) -> None:
        """Meet one request as the script says. ask: the request, given how often its key came before."""
        server = self.of
        with server.lock:
            number = server.seen[key]
            server.seen[key] += 1
            server.at_once += 1
            server.most_at_once = max(server.most_at_once, server.at_once)
        try:
            asked = ask(number)
            behaviour = server.script(asked)
            with server.lock:
                server.asks.append((asked, behaviour))
            time.sleep(server.latency_s)
            self.act(asked, behaviour)
        except OSError:
            self.close_connection = True
        finally:
            with server.lock:
                server.at_once -= 1

    def act(self, ask: Any, behaviour: str) -> None:
        """Meet a request with one of the behaviours; a word with a colon carries a value."""
        word, _, value = behaviour.partition(":")
        good = self.good(ask)
        data = json.dumps(good).encode()
        if word == "ok":
            self.raw(data)
        elif word == "error":
            status, _, message = value.partition(" ")
            self.error(int(status), message or "no")
        elif word == "hang":
            time.sleep(float(value))
            self.close_connection = True
        elif word == "drop":
            self.hang_up()
        elif word == "cut":
            self.raw(data, sent=len(data) // 2)
        elif word == "broken-body":
            self.raw(data[: len(data) // 2])
        elif word == "html":
            self.raw(b"<html>welcome</html>", kind="text/html")
        elif word == "trickle":
            self.raw(data, pause_s=float(value))
        elif not self.act_as_interface(ask, word, value, good):
            raise AssertionError(f"the script says {behaviour!r}")

    def good(self, ask: Any) -> dict[str, Any]:
        """The body of the reply to a request that nothing happens to."""
        raise NotImplementedError

    def act_as_interface(self, ask: Any, word: str, value: str, good: dict[str, Any]) -> bool:
        """Meet a request with a behaviour that this interface alone has; False if it has none of this name."""
        return False

    def error(
        self, status: int, message: str, headers: dict[str, str] | None = None, code: Any = None
    ) -> None:
        """An error in OpenAI's form."""
        error = {"message": message, "type": "error", "param": None, "code": code}
        self.reply({"error": error}, status=status, headers=headers)

    def reply(self, content: Any, **how: Any) -> None:
        self.raw(json.dumps(content).encode(), **how)

    def raw(
        self,
        data: bytes,
        *,
        status: int = 200,
        headers: dict[str, str] | None = None,
        kind: str = "application/json",
        sent: int | None = None,
        pause_s: float = 0.0,
    ) -> None:
        """Send bytes. sent: how many of them before the connection is cut; None for all. pause_s: after each 20th."""
        self.send_response(status)
        told = {"Content-Type": kind, "Content-Length": str(len(data)), **(headers or {})}
        for name, value in told.items():
            self.send_header(name, value)
        self.end_headers()
        content = data if self.command != "HEAD" else b""
        content = content[:sent]
        step = max(1, len(content) // 20) if pause_s else max(1, len(content))
        for start in range(0, len(content), step):
            self.wfile.write(content[start : start + step])
            time.sleep(pause_s)
        if sent is not None:
            self.wfile.flush()
            self.hang_up()

    def hang_up(self) -> None:
        self.connection.shutdown(socket.SHUT_RDWR)
        self.close_connection = True


class _Http(ThreadingHTTPServer):
    request_queue_size = 256
    daemon_threads = True
    allow_reuse_address = True

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that was killed is no news."""


class Running:
    """A server of `handler` that can be killed, and started anew at the same port."""

    def __init__(self, server: Any, handler: type[ScriptedHandler], path: str = "") -> None:
        self.server, self._path = server, path
        self._connections = connections = list[socket.socket]()
        self._http: _Http | None = None
        self._port = 0

        class Bound(handler):  # type: ignore[misc, valid-type]
            of = server

            def setup(self) -> None:
                connections.append(self.request)
                super().setup()

        self._handler = Bound

    def start(self) -> None:
        self._http = _Http(("127.0.0.1", self._port), self._handler)
        self._port = self._http.server_port
        self.server.url = f"http://127.0.0.1:{self._port}{self._path}"
        threading.Thread(target=self._http.serve_forever, daemon=True, kwargs={"poll_interval": 0.02}).start()

    def stop(self) -> None:
        """Nothing listens any more; what is under way goes on."""
        if self._http:
            self._http.shutdown()
            self._http.server_close()
            self._http = None

    def kill(self) -> None:
        """As kill -9 does: nothing listens any more, and every open connection breaks."""
        self.stop()
        for connection in self._connections:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self._connections.clear()


@contextmanager
def serve(server: Any, handler: type[ScriptedHandler], path: str = "") -> Iterator[Any]:
    """Run a server on a free port of this machine while the context lasts. path: that its URL ends with."""
    running = Running(server, handler, path)
    running.start()
    try:
        yield server
    finally:
        running.stop()


def serve_as_program(serve: Callable[..., Any], about: str | None) -> None:
    """Serve until this process is killed; print the URL first."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--latency", type=float, default=0.0, help="seconds before each reply")
    with serve(latency_s=parser.parse_args().latency) as running:
        print(running.url, flush=True)
        threading.Event().wait()
