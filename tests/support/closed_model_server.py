"""A local server that speaks OpenAI's, Azure's and Gemini's interfaces for closed models, and misbehaves by script.

    with serve_closed(script=lambda ask: "ok") as server:
        engine = OpenAIEngine("gpt-4o-2024-08-06", base_url=f"{server.url}/v1")

As a program it answers well, after a while: `python closed_model_server.py --latency 0.2` prints its URL.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from judge_server import Handler, LocalHttp

TOKENS_IN, TOKENS_OUT = 2100, 5


@dataclass(frozen=True)
class Asked:
    """One request. order: what its content holds, `i` for an image, `t` for a text; number: repetitions before."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any]
    images: tuple[bytes, ...]
    prompt: str
    order: str
    number: int

    @property
    def gemini(self) -> bool:
        return self.path.endswith(":generateContent")

    @property
    def snapshot(self) -> str:
        return self.path.split("/")[-1].split(":")[0] if self.gemini else str(self.body["model"])


def what_it_says(prompt: str, images: tuple[bytes, ...]) -> str:
    """The model's reply: a letter that depends on everything that it was shown."""
    digest = hashlib.sha256(prompt.encode() + b"".join(images)).digest()
    return "ABCD"[digest[0] % 4]


@dataclass
class ClosedServer:
    """script: names the behaviour for each request (see `_Handler.act`).

    asks: all requests so far with the behaviour that each met. most_at_once: the most requests in work at once.
    """

    script: Callable[[Asked], str] = lambda ask: "ok"
    latency_s: float = 0.0
    url: str = ""
    asks: list[tuple[Asked, str]] = field(default_factory=list)
    at_once: int = 0
    most_at_once: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)
    seen: Counter[str] = field(default_factory=Counter)

    @property
    def behaviours(self) -> Counter[str]:
        return Counter(behaviour for _, behaviour in self.asks)


class _Handler(Handler):
    of: ClosedServer

    def do_POST(self) -> None:
        server = self.of
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        images, prompt, order = _content(body)
        with server.lock:
            number = server.seen[prompt]
            server.seen[prompt] += 1
            server.at_once += 1
            server.most_at_once = max(server.most_at_once, server.at_once)
        headers = {name.lower(): value for name, value in self.headers.items()}
        ask = Asked(self.path, headers, body, images, prompt, order, number)
        behaviour = server.script(ask)
        with server.lock:
            server.asks.append((ask, behaviour))
        try:
            time.sleep(server.latency_s)
            self.act(ask, behaviour)
        except OSError:
            self.close_connection = True
        finally:
            with server.lock:
                server.at_once -= 1

    def act(self, ask: Asked, behaviour: str) -> None:
        """Meet a request with one of the behaviours; a word with a colon carries a value."""
        word, _, value = behaviour.partition(":")
        says = what_it_says(ask.prompt, ask.images)
        if word == "ok":
            self.json(reply(ask, says))
        elif word == "say":
            self.json(reply(ask, value))
        elif word == "finish":
            reason, _, text = value.partition(" ")
            self.json(reply(ask, text, finish=reason))
        elif word == "refusal":
            self.json(reply(ask, None, refusal="I cannot look at this."))
        elif word == "blocked":
            blocked = {"promptFeedback": {"blockReason": value}, "usageMetadata": {"promptTokenCount": 9}}
            self.json({**blocked, "modelVersion": ask.snapshot})
        elif word == "thinking":
            parts = [{"text": "hmm", "thought": True}, {"text": says}]
            self.json(reply(ask, parts, thoughts=40))
        elif word == "body":
            self.json(json.loads(value))
        elif word == "retry-after":
            self.error(429, "slow down", "RESOURCE_EXHAUSTED", {"Retry-After": value})
        elif word == "retry-info":
            details = [{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": value}]
            self.error(429, "slow down", "RESOURCE_EXHAUSTED", details=details)
        elif word == "per-day":
            violation = {"quotaId": "GenerateRequestsPerDayPerProjectPerModel-FreeTier"}
            self.error(429, "quota", "RESOURCE_EXHAUSTED", details=[{"violations": [violation]}])
        elif word == "error":
            status, _, message = value.partition(" ")
            self.error(int(status), message or "no", "UNKNOWN")
        elif word == "code":
            status, code, message = value.split(" ", 2)
            self.error(int(status), message, code)
        elif word == "hang":
            time.sleep(float(value))
            self.close_connection = True
        elif word == "drop":
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True
        elif word == "cut":
            self.raw(json.dumps(reply(ask, says)).encode(), part=0.5)
        elif word == "broken-body":
            data = json.dumps(reply(ask, says)).encode()
            self.raw(data[: len(data) // 2])
        elif word == "html":
            self.raw(b"<html>welcome</html>", kind="text/html")
        else:
            raise AssertionError(f"the script says {behaviour!r}")

    def json(self, content: Any) -> None:
        self.raw(json.dumps(content).encode())

    def error(
        self,
        status: int,
        message: str,
        code: str,
        headers: dict[str, str] | None = None,
        details: list[Any] | None = None,
    ) -> None:
        error = {"message": message, "type": "error", "param": None, "code": code}
        if self.path.endswith(":generateContent"):
            error = {"code": status, "message": message, "status": code, "details": details or []}
        self.raw(json.dumps({"error": error}).encode(), status=status, headers=headers)


def _content(body: dict[str, Any]) -> tuple[tuple[bytes, ...], str, str]:
    """Images, text and their order, of a request of either interface."""
    images, texts, order = [], [], ""
    if "contents" in body:
        for part in body["contents"][0]["parts"]:
            if "inlineData" in part:
                # As with the real one, both spellings of a name and both alphabets are the same.
                image = part["inlineData"]
                assert (image.get("mimeType") or image.get("mime_type")) == "image/png"
                data = image["data"].translate(str.maketrans("-_", "+/"))
                images.append(base64.b64decode(data, validate=True))
            else:
                texts.append(part["text"])
            order += "i" if "inlineData" in part else "t"
    else:
        [message] = body["messages"]
        for part in message["content"]:
            if part["type"] == "image_url":
                head, _, data = part["image_url"]["url"].partition(",")
                assert head == "data:image/png;base64"
                images.append(base64.b64decode(data, validate=True))
            else:
                texts.append(part["text"])
            order += part["type"][0]
    return tuple(images), "".join(texts), order


def reply(
    ask: Asked, says: Any, finish: str | None = None, refusal: str | None = None, thoughts: int = 0
) -> dict[str, Any]:
    """The body of a good reply in the interface that was used; says: a text, None, or Gemini's parts."""
    if ask.gemini:
        parts = says if isinstance(says, list) else [{"text": says}] if says else []
        candidate = {"content": {"role": "model", "parts": parts}, "finishReason": finish or "STOP"}
        usage = {
            "promptTokenCount": TOKENS_IN,
            "candidatesTokenCount": TOKENS_OUT,
            "thoughtsTokenCount": thoughts,
            "promptTokensDetails": [{"modality": "IMAGE", "tokenCount": 258 * len(ask.images)}],
        }
        return {"candidates": [candidate], "usageMetadata": usage, "modelVersion": ask.snapshot}
    message = {"role": "assistant", "content": says, "refusal": refusal}
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": ask.snapshot,
        "system_fingerprint": "fp_1",
        "choices": [{"index": 0, "message": message, "finish_reason": finish or "stop"}],
        "usage": {"prompt_tokens": TOKENS_IN, "completion_tokens": TOKENS_OUT},
    }


@contextmanager
def serve_closed(**settings: Any) -> Iterator[ClosedServer]:
    """Run a `ClosedServer` on a free port of this machine while the context lasts."""
    server = ClosedServer(**settings)
    http = LocalHttp(("127.0.0.1", 0), type("Bound", (_Handler,), {"of": server}))
    server.url = f"http://127.0.0.1:{http.server_port}"
    threading.Thread(target=http.serve_forever, daemon=True, kwargs={"poll_interval": 0.02}).start()
    try:
        yield server
    finally:
        http.shutdown()
        http.server_close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--latency", type=float, default=0.0, help="seconds before each reply")
    with serve_closed(latency_s=parser.parse_args().latency) as running:
        print(running.url, flush=True)
        threading.Event().wait()
