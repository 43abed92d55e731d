"""A local server that sends what a test makes of a good reply, byte by byte, and the clients of egost that ask it."""

from __future__ import annotations

import json
import traceback
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from judge_server import spoken
from scripted_server import Scripted, ScriptedHandler, serve

from egost.model_adapters.api.gemini_engine import open_gemini
from egost.model_adapters.api.openai_engine import open_openai
from egost.model_adapters.engine import Ask, GenerationArguments
from egost.model_adapters.server.server_engine import ServerEngine
from egost.tasks.chat.calls import Pacing
from egost.tasks.chat.endpoint import parse_endpoint
from egost.tasks.errors import EgostError
from egost.tasks.judging.judge import RouteItem
from egost.tasks.judging.openai_judge import OpenAIJudge

QUICK = Pacing(concurrency=4, timeout_s=5.0, tries=2, asks=1, first_wait_s=0.01, longest_wait_s=0.02)
GOOD = "say it well"
BAD = "say it badly"
"""What the two questions hold that a client asks; the second one is met with `WireServer.wire`."""


@dataclass
class WireServer(Scripted):
    """wire: makes the bytes of a response from the body of a good one, for bad questions or for all (`always`).

    models: what `/v1/models` says, None for one that is called `tiny`. heard: path and headers of all requests.
    """

    wire: Callable[[dict[str, Any]], bytes] = lambda good: http(good)
    always: bool = False
    models: Any = None
    heard: list[str] = field(default_factory=list)


class _Handler(ScriptedHandler):
    of: WireServer

    def do_GET(self) -> None:
        self.of.heard.append(f"{self.path} {self.headers}")
        if self.path == "/v1/models":
            names = ("tiny", "egost?family=qwen2_vl&revision=abc&dtype=float32")
            good = {"data": [{"id": name, "root": "some/tiny"} for name in names]}
            self.reply(good if self.of.models is None else self.of.models)
        elif self.path == "/version":
            self.reply({"version": "0.32.0"})
        elif self.path == "/health":
            self.raw(b"")
        else:
            self.error(404, "Not Found")

    def do_POST(self) -> None:
        self.of.heard.append(f"{self.path} {self.headers}")
        asked = json.dumps(self.body())
        good = good_body(self.path, "score" if "<candidate-" in asked else "say")
        self.wfile.write(self.of.wire(good) if self.of.always or BAD in asked else http(good))
        self.close_connection = True


@contextmanager
def serve_wire(**settings: Any) -> Iterator[WireServer]:
    """Run a `WireServer` on a free port of this machine while the context lasts."""
    with serve(WireServer(**settings), _Handler) as server:
        yield server


def good_body(path: str, kind: str) -> dict[str, Any]:
    """A good reply in the interface of a path."""
    text = spoken((1, 2, 3)) if kind == "score" else "B."
    if path.endswith(":generateContent"):
        candidate = {"content": {"role": "model", "parts": [{"text": text}]}, "finishReason": "STOP"}
        usage = {"promptTokenCount": 9, "candidatesTokenCount": 2}
        return {"candidates": [candidate], "usageMetadata": usage, "modelVersion": "m-1"}
    message = {"role": "assistant", "content": text, "refusal": None, "reasoning_content": ""}
    return {
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 9, "completion_tokens": 2},
        "model": "m-1",
        "system_fingerprint": "fp_1",
    }


def http(
    body: Any,
    status: int = 200,
    reason: str = "OK",
    headers: tuple[str, ...] = (),
    kind: str = "application/json",
) -> bytes:
    """The bytes of a response. body: bytes as they are, anything else as JSON."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = (f"HTTP/1.1 {status} {reason}", f"Content-Type: {kind}", f"Content-Length: {len(data)}", *headers)
    return "\r\n".join((*lines, "Connection: close", "", "")).encode() + data


Seen = tuple[list[Any], str]
"""The outcomes of two questions, the good one first, and all that was recorded or said of them."""


def by_server(url: str, folder: Path) -> Seen:
    """Ask as `egost_server`."""
    with closing(ServerEngine([url], first_wait_s=0.01, wait_s=1.0, timeout_s=5.0, concurrency=4)) as engine:
        return _answers(engine)


def by_openai(url: str, folder: Path) -> Seen:
    """Ask as `egost_openai`."""
    engine = open_openai("gpt-4o-2024-08-06", base_url=f"{url}/v1")
    engine.pacing = QUICK
    return _answers(engine)


def by_gemini(url: str, folder: Path) -> Seen:
    """Ask as `egost_gemini`."""
    engine = open_gemini("gemini-2.0-flash", base_url=url)
    engine.pacing = QUICK
    return _answers(engine)


def _answers(engine: Any) -> Seen:
    arguments = GenerationArguments(max_new_tokens=256)
    asks = [Ask(f"mini/{i}", prompt, None, arguments) for i, prompt in enumerate((GOOD, BAD))]
    found = dict(engine.answer(asks))
    return [found[0], found[1]], repr((engine.identity, found))


def by_judge(url: str, folder: Path) -> Seen:
    """Ask as the judge does, which is also how writers ask."""
    judge = OpenAIJudge(parse_endpoint(f"openai:m@{url}/v1"), pacing=QUICK, folder=folder)
    items = [RouteItem(f"mini/{text}", "Which way?", "Turn left.", text, "forward") for text in (GOOD, BAD)]
    with closing(judge):
        found = judge(items)
        return found, repr((found, judge.usage, judge.name))


CLIENTS: dict[str, Callable[[str, Path], Seen]] = {
    "server": by_server,
    "openai": by_openai,
    "gemini": by_gemini,
    "judge": by_judge,
}


def all_said(client: str, url: str, folder: Path) -> str:
    """All that is recorded, said or raised, and what is on disk."""
    try:
        said = CLIENTS[client](url, folder)[1]
    except EgostError as error:
        said = "".join(traceback.format_exception(error))
    return said + "".join(path.read_bytes().decode("latin-1") for path in folder.rglob("*") if path.is_file())
