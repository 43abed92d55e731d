"""A local server that speaks OpenAI's, Azure's and Gemini's interfaces for closed models, and misbehaves by script.

    with serve_closed(script=lambda ask: "ok") as server:
        engine = open_openai("gpt-4o-2024-08-06", base_url=f"{server.url}/v1")

As a program it answers well, after a while: `python closed_model_server.py --latency 0.2` prints its URL.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from scripted_server import Scripted, ScriptedHandler, serve, serve_as_program

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


class ClosedServer(Scripted):
    """Its requests are `Asked`."""


class _Handler(ScriptedHandler):
    of: ClosedServer

    def do_POST(self) -> None:
        body = self.body()
        images, prompt, order = _content(body)
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.meet(prompt, lambda number: Asked(self.path, headers, body, images, prompt, order, number))

    def good(self, ask: Asked) -> dict[str, Any]:
        return reply(ask, what_it_says(ask.prompt, ask.images))

    def act_as_interface(self, ask: Asked, word: str, value: str, good: dict[str, Any]) -> bool:
        if word == "say":
            self.reply(reply(ask, value))
        elif word == "finish":
            reason, _, text = value.partition(" ")
            self.reply(reply(ask, text, finish=reason))
        elif word == "refusal":
            self.reply(reply(ask, None, refusal="I cannot look at this."))
        elif word == "blocked":
            blocked = {"promptFeedback": {"blockReason": value}, "usageMetadata": {"promptTokenCount": 9}}
            self.reply({**blocked, "modelVersion": ask.snapshot})
        elif word == "thinking":
            parts = [{"text": "hmm", "thought": True}, {"text": what_it_says(ask.prompt, ask.images)}]
            self.reply(reply(ask, parts, thoughts=40))
        elif word == "body":
            self.reply(json.loads(value))
        elif word == "retry-after":
            self.error(429, "slow down", {"Retry-After": value}, "RESOURCE_EXHAUSTED")
        elif word == "retry-info":
            details = [{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": value}]
            self.error(429, "slow down", None, "RESOURCE_EXHAUSTED", details)
        elif word == "per-day":
            violation = {"quotaId": "GenerateRequestsPerDayPerProjectPerModel-FreeTier"}
            self.error(429, "quota", None, "RESOURCE_EXHAUSTED", [{"violations": [violation]}])
        elif word == "code":
            status, code, message = value.split(" ", 2)
            self.error(int(status), message, None, code)
        else:
            return False
        return True

    def error(
        self,
        status: int,
        message: str,
        headers: dict[str, str] | None = None,
        code: Any = "UNKNOWN",
        details: list[Any] | None = None,
    ) -> None:
        if self.path.endswith(":generateContent"):
            error = {"code": status, "message": message, "status": code, "details": details or []}
            self.reply({"error": error}, status=status, headers=headers)
        else:
            super().error(status, message, headers, code)


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
    with serve(ClosedServer(**settings), _Handler) as server:
        yield server


if __name__ == "__main__":
    serve_as_program(serve_closed, __doc__)
