"""A local server that speaks the chat-completions interface, and misbehaves by script.

    with serve_judge(script=lambda ask: "ok") as server:
        judge = OpenAIJudge(parse_endpoint(f"openai:judge-model@{server.url}"))

As a program it answers well, after a while: `python judge_server.py --latency 0.2` prints its URL.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

SNAPSHOT = "judge-model-2026-01-01"
Triple = tuple[int, int, int]

_TEXTS = re.compile(r"<(question|reference|candidate)-(\w{16})>\n(.*?)\n</\1-\2>", re.DOTALL)


@dataclass(frozen=True)
class Ask:
    """One request. number: how many times the same messages were asked for before."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any]
    question: str
    reference: str
    prediction: str
    number: int


def true_scores(ask: Ask) -> Triple:
    """What the server's model thinks of a prediction: a function of the texts alone."""
    return scores_of(ask.reference, ask.prediction)


def scores_of(reference: str, prediction: str) -> Triple:
    digest = hashlib.sha256(f"{reference}|{prediction}".encode()).digest()
    return digest[0] % 6, digest[1] % 6, digest[2] % 6


@dataclass
class JudgeServer:
    """script: names the behaviour for each request (see `Handler.act`). scores: the model's honest opinion.

    asks: all requests so far with the behaviour that each met. most_at_once: the most requests in work at once.
    """

    script: Callable[[Ask], str] = lambda ask: "ok"
    scores: Callable[[Ask], Triple] = true_scores
    latency_s: float = 0.0
    url: str = ""
    asks: list[tuple[Ask, str]] = field(default_factory=list)
    at_once: int = 0
    most_at_once: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)
    seen: Counter[str] = field(default_factory=Counter)

    @property
    def behaviours(self) -> Counter[str]:
        return Counter(behaviour for _, behaviour in self.asks)


def completion(content: str | None, **changes: Any) -> dict[str, Any]:
    message = {"role": "assistant", "content": content, "refusal": changes.pop("refusal", None)}
    choice = {"index": 0, "message": message, "finish_reason": changes.pop("finish", "stop")}
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": SNAPSHOT,
        "choices": [choice],
        "usage": {"prompt_tokens": 900, "completion_tokens": 100, "total_tokens": 1000},
        **changes,
    }


def spoken(triple: Any, compat: bool = False) -> str:
    """The model's reply with these scores, in the form that its prompt asked for."""
    direction, landmark, semantic = triple
    if compat:
        return str({"direction": direction, "landmark": landmark, "semantic and logic": semantic})
    return json.dumps(
        {
            "direction_reason": "The turns were compared.",
            "direction": direction,
            "landmark_reason": "The landmarks were compared.",
            "landmark": landmark,
            "semantic_reason": "The order was compared.",
            "semantic": semantic,
        }
    )


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    of: JudgeServer

    def log_message(self, *args: object) -> None:
        pass

    def do_POST(self) -> None:
        server = self.of
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        user = body["messages"][-1]["content"]
        texts = {name: text for name, _, text in _TEXTS.findall(user)}
        with server.lock:
            number = server.seen[user]
            server.seen[user] += 1
            server.at_once += 1
            server.most_at_once = max(server.most_at_once, server.at_once)
        ask = Ask(
            self.path,
            {name.lower(): value for name, value in self.headers.items()},
            body,
            texts.get("question", ""),
            texts.get("reference", ""),
            texts.get("candidate", ""),
            number,
        )
        behaviour = server.script(ask)
        with server.lock:
            server.asks.append((ask, behaviour))
        try:
            if server.latency_s:
                time.sleep(server.latency_s)
            self.act(ask, behaviour)
        except OSError:
            self.close_connection = True
        finally:
            with server.lock:
                server.at_once -= 1

    def act(self, ask: Ask, behaviour: str) -> None:
        """Meet a request with one of the behaviours; a word with a colon carries a value."""
        word, _, value = behaviour.partition(":")
        compat = "semantic and logic" in ask.body["messages"][0]["content"]
        right = self.of.scores(ask)
        good = completion(spoken(right, compat))
        if word == "ok":
            self.reply(good)
        elif word == "say":
            self.reply(completion(value))
        elif word == "score":
            self.reply(completion(spoken((json.loads(value), right[1], right[2]), compat)))
        elif word == "finish":
            self.reply(completion(spoken(right, compat)[:30], finish=value))
        elif word == "refusal":
            self.reply(completion(None, refusal="I cannot grade this."))
        elif word == "no-choice":
            self.reply({**good, "choices": []})
        elif word == "empty-choice":
            self.reply({**good, "choices": [{}]})
        elif word == "retry-after":
            self.error(429, "slow down", {"Retry-After": value})
        elif word == "busy":
            self.error(503, "busy", {"Retry-After": value}, None)
        elif word == "error":
            status, _, message = value.partition(" ")
            self.error(int(status), message or "no", {})
        elif word == "code":
            status, code = value.split(" ")
            self.error(int(status), "no", {}, code)
        elif word == "hang":
            time.sleep(float(value))
            self.close_connection = True
        elif word == "cut":
            self.raw(json.dumps(good).encode(), part=0.5)
        elif word == "drop":
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True
        elif word == "broken-body":
            data = json.dumps(good).encode()
            self.raw(data[: len(data) // 2])
        elif word == "html":
            self.raw(b"<html>welcome</html>", kind="text/html")
        elif word == "trickle":
            self.raw(json.dumps(good).encode(), pause_s=float(value))
        elif word == "no-parameter" and value in ask.body:
            self.error(400, f"Unsupported parameter: '{value}'", {})
        elif word == "no-parameter":
            self.reply(good)
        else:
            raise AssertionError(f"the script says {behaviour!r}")

    def reply(self, content: dict[str, Any]) -> None:
        self.raw(json.dumps(content).encode())

    def error(self, status: int, message: str, headers: dict[str, str], code: str | None = None) -> None:
        body = {"error": {"message": message, "type": "error", "param": None, "code": code}}
        self.raw(json.dumps(body).encode(), status=status, headers=headers)

    def raw(
        self,
        data: bytes,
        *,
        status: int = 200,
        headers: dict[str, str] | None = None,
        kind: str = "application/json",
        part: float = 1.0,
        pause_s: float = 0.0,
    ) -> None:
        self.send_response(status)
        for name, value in {
            "Content-Type": kind,
            "Content-Length": str(len(data)),
            **(headers or {}),
        }.items():
            self.send_header(name, value)
        self.end_headers()
        sent = data[: int(len(data) * part)]
        step = max(1, len(sent) // 20) if pause_s else len(sent)
        for start in range(0, len(sent), step):
            self.wfile.write(sent[start : start + step])
            time.sleep(pause_s)
        if part < 1:
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True


class LocalHttp(ThreadingHTTPServer):
    request_queue_size = 256
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that was killed is no news."""


@contextmanager
def serve_judge(**settings: Any) -> Iterator[JudgeServer]:
    """Run a `JudgeServer` on a free port of this machine while the context lasts."""
    server = JudgeServer(**settings)
    http = LocalHttp(("127.0.0.1", 0), type("Bound", (Handler,), {"of": server}))
    server.url = f"http://127.0.0.1:{http.server_port}/v1"
    threading.Thread(target=http.serve_forever, daemon=True, kwargs={"poll_interval": 0.02}).start()
    try:
        yield server
    finally:
        http.shutdown()
        http.server_close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--latency", type=float, default=0.0, help="seconds before each reply")
    with serve_judge(latency_s=parser.parse_args().latency) as running:
        print(running.url, flush=True)
        threading.Event().wait()
