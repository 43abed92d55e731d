"""Keys to be searched for, the ways to write one, and the places in a reply where a server may repeat it."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from wire_server import http

CANARIES = {
    "OPENAI_API_KEY": "sk-proj-Xq7bZ1kV9tLm3RwY5nD0uAeC",
    "AZURE_OPENAI_API_KEY": "4f9a1c7e3b8d2056e1f4a7c9b3d80265",
    "EGOST_JUDGE_KEY": "judge+canary/7Hq2=Wz8&Pk4 d",
    "EGOST_API_KEY": "api.canary-Tn5vR1xJ8mB3",
    "EGOST_SERVER_API_KEY": "srv_canary~9Gd6Ls2Fy7Qw",
    "GEMINI_API_KEY": "AIzaSyCanary3Vb8Nk1Xc5Jh7Mf2Rt9Zp4Lw6Dq0",
    "GOOGLE_API_KEY": 'goog-canary-"quoted"-5Yt8',
    "HF_TOKEN": "hf_CanaryKq4Wm9Zs1Bx7Pd2Vn6Tj",
}
SENT = {
    "server": "EGOST_SERVER_API_KEY",
    "openai": "EGOST_API_KEY",
    "gemini": "EGOST_API_KEY",
    "judge": "EGOST_JUDGE_KEY",
}


def b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


WRITINGS: dict[str, Callable[[str], Sequence[str]]] = {
    "whole": lambda key: [key],
    "twice": lambda key: [key + key],
    "first half": lambda key: [key[: len(key) // 2]],
    "second half": lambda key: [key[len(key) // 2 :]],
    "all but four": lambda key: [key[:-4], key[4:]],
    "cut in two": lambda key: [key[: len(key) // 2], key[len(key) // 2 :]],
    "in a bearer": lambda key: [f"Bearer {key}"],
    "URL": lambda key: [quote(key, safe="")],
    "every letter as URL": lambda key: ["".join(f"%{ord(letter):02X}" for letter in key)],
    "base64": lambda key: [b64(key)],
    "base64 of a bearer": lambda key: [b64(f"Bearer {key}")],
    "base64 of user and key": lambda key: [b64(f"me:{key}")],
    "base64 of a half": lambda key: [b64(key[: len(key) // 2])],
    "base64 for URLs": lambda key: [base64.urlsafe_b64encode(f"k{key}k".encode()).decode()],
    "hexadecimal": lambda key: [key.encode().hex()],
    "backward": lambda key: [key[::-1]],
    "upper case": lambda key: [key.upper()],
    "JSON escapes": lambda key: ["".join(f"\\u{ord(letter):04x}" for letter in key)],
}
"""How a server may repeat a key: the texts that it says, none of which may come through whole."""


def core(writing: str, text: str) -> str:
    """What of a text shows the key: base64's ends belong to the neighbours."""
    before = {"base64 of a bearer": 10, "base64 of user and key": 5}.get(writing, 3)
    return text.rstrip("=")[before:-3] if writing.startswith("base64") else text.removeprefix("Bearer ")


def in_message(**where: Any) -> Callable[[dict[str, Any], str], bytes]:
    def make(good: dict[str, Any], leak: str) -> bytes:
        if "choices" in good:
            good["choices"][0]["message"] |= dict.fromkeys(where, leak)
        else:
            good["candidates"][0]["content"]["parts"] = [{"text": leak, "thought": "refusal" in where}]
        return http(good)

    return make


def top(name: str) -> Callable[[dict[str, Any], str], bytes]:
    return lambda good, leak: http({**good, name: leak})


def error(status: int, **more: Any) -> Callable[[dict[str, Any], str], bytes]:
    return lambda good, leak: http(
        {"error": {"message": f"no: {leak}", "code": status, "status": "X", "param": leak, **more}},
        status,
        "No",
    )


PLACES: dict[str, Callable[[dict[str, Any], str], bytes]] = {
    "content": in_message(content=1),
    "refusal": in_message(content=1, refusal=1),
    "reasoning": in_message(reasoning_content=1),
    "model": top("model"),
    "modelVersion": top("modelVersion"),
    "fingerprint": top("system_fingerprint"),
    "a wrong field": lambda good, leak: http({**good, "usage": leak, "usageMetadata": leak}),
    "a name": lambda good, leak: http({leak: good}),
    **{f"error {status}": error(status) for status in (400, 401, 403, 404, 413, 422, 429, 500, 503)},
    "a refused parameter": error(400, message="response_format"),
    "an HTML page": lambda good, leak: http(f"<html>{leak}".encode(), 500, "No", kind="text/html"),
    "a page instead of a reply": lambda good, leak: http(leak.encode()),
    "a cut body": lambda good, leak: http(json.dumps({**good, "x": leak}).encode()[:-3]),
    "a deep body": lambda good, leak: http(json.dumps(leak).encode() + b"[" * 1000),
    "UTF-16": lambda good, leak: http(json.dumps({"error": leak}).encode("utf-16"), 500, "No"),
    "UTF-16 by its charset": lambda good, leak: http(
        leak.encode("utf-16-le"), 500, "No", kind="text/plain; charset=utf-16-le"
    ),
    "a header": lambda good, leak: http(
        {"error": {"message": "no"}}, 500, "No", (f"X-Leak: {leak}", f"WWW-Authenticate: Bearer {leak}")
    ),
    "the kind of content": lambda good, leak: http(b"no", 500, "No", kind=f"text/{leak}"),
    "the words of the status": lambda good, leak: http({"error": {"message": "no"}}, 500, leak),
    "the words of a good status": lambda good, leak: http(good, 200, leak),
    "a status line that is none": lambda good, leak: f"{leak} 200 OK\r\n\r\n".encode(),
    "a header that is none": lambda good, leak: f"HTTP/1.1 200 OK\r\n{leak}\r\n\r\n".encode(),
    "a length that is none": lambda good, leak: f"HTTP/1.1 200 OK\r\nContent-Length: {leak}\r\n\r\n".encode(),
    "a coding": lambda good, leak: http(good, headers=(f"Content-Encoding: {leak}",)),
    "a redirect": lambda good, leak: http(
        b"", 307, "Moved", (f"Location: http://127.0.0.1:9/{quote(leak)}",)
    ),
    "a reply that breaks off": lambda good, leak: http(leak.encode()).replace(b"Length: ", b"Length: 9"),
}


def keys_in(texts: Sequence[str]) -> list[tuple[str, str, str]]:
    """Each canary that shows in the texts: in which writing, whose, and what stands around it."""
    return [
        (writing, name, text[max(0, at - 200) : at] + "..." + text[at + len(shows) :][:99])
        for writing, write in WRITINGS.items()
        for name, key in CANARIES.items()
        for shows in (core(writing, written) for written in write(key))
        for text in texts
        if (at := text.find(shows)) >= 0
    ]


def files_below(folder: Path) -> list[str]:
    """All that is on disk, byte by byte."""
    return [path.read_bytes().decode("latin-1") for path in folder.rglob("*") if path.is_file()]
