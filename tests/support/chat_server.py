"""A local server that speaks vLLM's chat-completions interface, looks at every pixel, and misbehaves by script.

with serve_chat(script=lambda ask: "ok") as server:
    engine = ServerEngine([server.url])
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import numpy as np
from PIL import Image
from scripted_server import Running, Scripted, ScriptedHandler

from egost.tasks.clips.lossless import Frames, pixels_sha256, read_lossless


@dataclass(frozen=True)
class ChatAsk:
    """One request. frames: what arrived, None without a video; number: how often the same was asked before."""

    body: dict[str, Any]
    headers: dict[str, str]
    text: str
    frames: Frames | None
    by_file: bool
    number: int

    @property
    def images(self) -> bool:
        """Whether the frames came as images of their own."""
        return any("image_url" in part for part in self.body["messages"][-1]["content"])

    @property
    def by_copy(self) -> bool:
        """Whether the bytes of the clip's file came."""
        return any(
            "data:video/mp4" in str(part.get("video_url")) for part in self.body["messages"][-1]["content"]
        )

    @property
    def probe(self) -> bool:
        return self.text == "?"


@dataclass
class ChatServer(Scripted):
    """Its requests are `ChatAsk`; probes of the adapter go by the script, too.

    keeps: the most frames that are kept of a file, by its path or its bytes, and of pixels inline. tells: whether token
    counts are told.
    parent: what each model is an adapter (LoRA) of, None where it is a model of its own.
    weights: what it says to new weights, as `STATUS BODY`; None where it takes none. taken: folders that it was given;
    holds: the name of the weights.
    """

    names: tuple[str, ...] = ("tiny", "egost?family=qwen2_vl&revision=abc&dtype=float32")
    root: str = "some/tiny"
    parent: str | None = None
    version: str | None = "0.32.0"
    takes_files: bool = True
    keeps: tuple[int, int] = (8, 8)
    tells: bool = True
    weights: str | None = None
    taken: list[str] = field(default_factory=list)
    holds: str = "default"
    healthy: bool = True
    key: str | None = None

    @property
    def questions(self) -> list[ChatAsk]:
        """The requests that were no probes."""
        return [ask for ask, _ in self.asks if not ask.probe]


def what_it_says(text: str, frames: Frames | None) -> str:
    """The reply of the server's model: it depends on each pixel and on the question."""
    seen = "nothing" if frames is None else pixels_sha256(frames)[:12]
    return f"{seen} {hashlib.sha256(text.encode()).hexdigest()[:8]}"


class _Handler(ScriptedHandler):
    of: ChatServer

    def do_GET(self) -> None:
        server = self.of
        if self.path == "/health":
            self.raw(b"", status=200 if server.healthy else 503)
        elif server.key and self.headers.get("Authorization") != f"Bearer {server.key}":
            self.error(401, "Unauthorized")
        elif self.path == "/v1/models":
            common = {"root": server.root, "parent": server.parent, "max_model_len": 4096}
            cards = [{"id": name, **common} for name in server.names]
            self.reply({"object": "list", "data": cards})
        elif self.path == "/weight_info":
            self.reply({"weight_version": server.holds})
        elif self.path == "/version" and server.version:
            self.reply({"version": server.version})
        else:
            self.error(404, "Not Found")

    def do_POST(self) -> None:
        body = self.body()
        if self.path == "/v1/chat/completions":
            self.answer(body)
        else:
            self.take_weights(body)

    def take_weights(self, body: Any) -> None:
        if self.of.weights is None:
            self.error(404, "Not Found")
            return
        if self.path == "/update_weight_version":
            self.of.holds = body["new_version"]
        elif body:
            assert (self.path, body["method"]) == ("/collective_rpc", "reload_weights")
            self.of.taken.append(body["kwargs"]["weights_path"])
        status, _, said = self.of.weights.partition(" ")
        self.raw(said.encode(), status=int(status))

    def answer(self, body: dict[str, Any]) -> None:
        server = self.of
        if body["model"] not in server.names:
            return self.error(404, f"The model `{body['model']}` does not exist.")
        content = body["messages"][-1]["content"]
        [text] = [part["text"] for part in content if "text" in part]
        media = [part for part in content if "text" not in part]
        url = media[0]["video_url"]["url"] if media and "video_url" in media[0] else None
        by_file = bool(url and url.startswith("file:"))
        if by_file and not server.takes_files:
            return self.error(500, "Cannot load local files without `--allowed-local-media-path`.")
        images = [part["image_url"]["url"] for part in media if "image_url" in part]

        def ask(number: int) -> ChatAsk:
            frames = sent_frames(url) if url else sent_images(images) if images else None
            if frames is not None:
                frames = frames[: server.keeps[0 if url and "video/jpeg" not in url else 1]]
            return ChatAsk(body, dict(self.headers.items()), text, frames, by_file, number)

        return self.meet(json.dumps(body["messages"]), ask)

    def act_as_interface(self, ask: ChatAsk, word: str, value: str, good: dict[str, Any]) -> bool:
        if word in ("say", "fill"):
            good["choices"][0]["message"]["content"] = json.loads(value)
            good["choices"][0]["finish_reason"] = "stop" if word == "say" else "length"
        elif word == "finish":
            good["choices"][0]["finish_reason"] = value
        elif word == "think":
            # As a reasoning parser does where the thinking alone has filled all tokens.
            message = {"role": "assistant", "content": None, "reasoning_content": "The first turn may be"}
            good["choices"][0] |= {"message": message, "finish_reason": "length"}
            good["usage"]["completion_tokens"] = int(value)
        elif word == "lose":
            # As if the loader had not decoded the last frames.
            good["usage"]["prompt_tokens_details"]["multimodal_tokens"]["video"] -= int(value)
        else:
            return False
        self.reply(good)
        return True

    def good(self, ask: ChatAsk) -> dict[str, Any]:
        kind = "image" if ask.images else "video"
        seen = 0
        if ask.frames is not None:
            groups = len(ask.frames) if ask.images else -(-len(ask.frames) // 2)
            seen = groups * (ask.frames.shape[1] // 28) * (ask.frames.shape[2] // 28)
        usage: dict[str, Any] = {"prompt_tokens": seen + 10, "completion_tokens": 2}
        if self.of.tells:
            usage["prompt_tokens_details"] = {"multimodal_tokens": {kind: seen} if seen else None}
        message = {"role": "assistant", "content": what_it_says(ask.text, ask.frames)}
        choice: dict[str, Any] = {"index": 0, "message": message, "finish_reason": "stop"}
        if not ask.body.get("return_token_ids"):
            return {"choices": [choice], "usage": usage}
        seed = ask.body["seed"]
        choices = [
            {
                **choice,
                "token_ids": [seed, place],
                "logprobs": {"content": [{"logprob": -1.0}, {"logprob": -0.5}]},
            }
            for place in range(ask.body["n"])
        ]
        return {"choices": choices, "usage": usage, "prompt_token_ids": [1, 2, seen]}

    def error(
        self, status: int, message: str, headers: dict[str, str] | None = None, code: Any = None
    ) -> None:
        super().error(status, message, headers, status if code is None else code)


def sent_frames(url: str) -> Frames:
    """The frames that a video's URL holds or names."""
    if url.startswith("file:"):
        return read_lossless(Path(unquote(urlsplit(url).path)))
    head, _, data = url.partition(",")
    if head == "data:video/mp4;base64":
        with tempfile.NamedTemporaryFile(suffix=".mp4") as file:
            file.write(base64.b64decode(data))
            file.flush()
            return read_lossless(Path(file.name))
    assert head == "data:video/jpeg;base64"
    return np.stack([picture(png) for png in data.split(",")])


def sent_images(urls: list[str]) -> Frames:
    """The frames that came as images, each with a URL of its own."""
    return np.stack([picture(url.removeprefix("data:image/png;base64,")) for url in urls])


def picture(base64_png: str) -> Frames:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(base64_png))))


@contextmanager
def run_chat(**settings: Any) -> Iterator[Running]:
    """Run a `ChatServer` on a free port of this machine, which can be killed, while the context lasts."""
    running = Running(ChatServer(**settings), _Handler)
    running.start()
    try:
        yield running
    finally:
        running.kill()


@contextmanager
def serve_chat(**settings: Any) -> Iterator[ChatServer]:
    with run_chat(**settings) as running:
        yield running.server
