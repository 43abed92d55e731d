"""The server that `rehearsal.py` asks: a model and a judge that reply at once, or after a while, and count."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_TOKENS_OF_A_FRAME = 128
_SCORES = {
    f"{aspect}{what}": value
    for aspect in ("direction", "landmark", "semantic")
    for what, value in (("_reason", "As it is."), ("", 3))
}


async def _reply(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, seen: dict[str, Any], latency_s: float
) -> None:
    """Serve one connection: vLLM's chat completions, and those of a judge."""
    try:
        while head := (await reader.readuntil(b"\r\n\r\n")).decode("latin-1"):
            length = re.search(r"content-length: (\d+)", head, re.IGNORECASE)
            body = await reader.readexactly(int(length[1]) if length else 0)
            if b'"max_' in body:
                await asyncio.sleep(latency_s)
            content = json.dumps(_answer(head.split(" ", 2)[1], body, seen)).encode()
            writer.write(
                b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s"
                % (len(content), content)
            )
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()


def _answer(path: str, body: bytes, seen: dict[str, Any]) -> Any:
    if path == "/seen":
        said = dict(seen)
        seen.update(requests=0, bytes=0, clips_before=None)
        return said
    if path == "/version":
        return {"version": "0.32.0"}
    if path.endswith("/models"):
        names = ("rehearsed", "egost?family=qwen2_vl&revision=1")
        return {"data": [{"id": name, "root": "some/rehearsed"} for name in names]}
    if path == "/health":
        return {}
    if b'"text":"?"' not in body.replace(b'"text": "?"', b'"text":"?"')[-200:]:
        if seen["clips_before"] is None:
            manifests = Path(seen["cache"]).glob("clips/??/*/manifest.json")
            seen["clips_before"] = len({json.loads(m.read_text())["source_sha256"] for m in manifests})
        seen["requests"] += 1
        seen["bytes"] += len(body)
    start = body.find(b"video/jpeg;base64,")
    frames = 8 if start < 0 else body.count(b",", start, body.find(b'"', start))
    details = {"multimodal_tokens": {"video": frames * _TOKENS_OF_A_FRAME}}
    usage = {"prompt_tokens": 1100, "completion_tokens": 2, "prompt_tokens_details": details}
    says = json.dumps(_SCORES) if b"direction_reason" in body else "A."
    message = {"role": "assistant", "content": says}
    return {
        "model": "gpt-4o-2024-08-06",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": usage,
    }


async def _serve(cache: str, latency_s: float) -> None:
    seen = {"requests": 0, "bytes": 0, "clips_before": None, "cache": cache}
    server = await asyncio.start_server(
        lambda *line: _reply(*line, seen, latency_s), "127.0.0.1", 0, limit=1 << 26
    )
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    await server.serve_forever()


@contextmanager
def serving(cache: Path, latency_s: float = 0.0) -> Iterator[str]:
    """The URL of a server in a process of its own.

    cache: whose clips it counts when the first question comes. latency_s: before each reply.
    """
    server = subprocess.Popen(
        [sys.executable, __file__, str(cache), str(latency_s)], stdout=subprocess.PIPE, text=True
    )
    assert server.stdout is not None
    try:
        yield server.stdout.readline().strip()
    finally:
        server.kill()
        server.wait()


def seen(url: str) -> dict[str, Any]:
    """Questions and bytes of their bodies since it was asked last, and clips in the cache before the first one."""
    with urllib.request.urlopen(f"{url}/seen") as response:
        found: dict[str, Any] = json.load(response)
    return {name: found[name] for name in ("requests", "bytes", "clips_before")}


if __name__ == "__main__":
    asyncio.run(_serve(sys.argv[1], float(sys.argv[2])))
