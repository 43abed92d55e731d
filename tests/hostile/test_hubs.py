"""Hubs that are none, or not well: a page that asks to log in, wrong bodies, wrong names, and keys said back."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import huggingface_hub.constants
import pytest
from attacks import drawn
from canaries import CANARIES, WRITINGS, files_below, keys_in
from scripted_server import Scripted, ScriptedHandler, serve
from wire_server import http

from egost.model_adapters.checkpoints import download_checkpoint
from egost.model_adapters.engine import AdapterError
from egost.tasks.errors import ReleaseError
from egost.tasks.release.hub import download

TOKEN = CANARIES["HF_TOKEN"]
ABOUT: dict[str, Any] = {
    "_id": "1",
    "id": "x/y",
    "sha": "5" * 40,
    "private": False,
    "downloads": 0,
    "likes": 0,
    "tags": [],
    "siblings": [{"rfilename": "a.json"}],
}
FILE = {"type": "file", "path": "a.json", "size": 2, "oid": "0" * 40}
Wire = Callable[[str], bytes]


@dataclass
class Hub(Scripted):
    """wire: makes the bytes of a response from a path."""

    wire: Wire = lambda path: b""


class _Handler(ScriptedHandler):
    of: Hub

    def do_GET(self) -> None:
        self.wfile.write(self.of.wire(urlsplit(self.path).path))
        self.close_connection = True

    do_HEAD = do_GET


@pytest.fixture(scope="module")
def hub() -> Iterator[Hub]:
    with serve(Hub(), _Handler) as running:
        yield running


@pytest.fixture(autouse=True)
def asked(hub: Hub, keys: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", hub.url)
    monkeypatch.setattr(
        huggingface_hub.constants,
        "HUGGINGFACE_CO_URL_TEMPLATE",
        f"{hub.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}",
    )
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)


def about(**more: Any) -> Wire:
    return lambda path: http({**ABOUT, **more})


def files(*listed: Any) -> Wire:
    return lambda path: http(list(listed) if "/tree/" in path else ABOUT)


def failed(status: int, *headers: str) -> Wire:
    return lambda path: http(
        {"error": f"no {TOKEN}"}, status, "No", (f"X-Error-Message: no {TOKEN}", *headers)
    )


NO_HUB = "does not answer as a hub does"
BODIES: dict[str, Wire] = {
    "a page": lambda path: http(f"<html>log in {TOKEN}".encode(), kind="text/html"),
    "nothing": lambda path: http(b""),
    "null": lambda path: http(None),
    "a number": lambda path: http(5),
    "a list": lambda path: http([1]),
    "an empty object": lambda path: http({}),
    "brackets": lambda path: http(b"[" * 100_000),
    "digits": lambda path: http(b'{"a": ' + b"9" * 5_000 + b"}"),
    "no UTF-8": lambda path: http(b'{"a": "\xff"}'),
    **{f"sha {json.dumps(sha)[:12]}": about(sha=sha) for sha in (5, None, "", "../../x", "a" * 10_000)},
    "siblings a number": about(siblings=5),
    "siblings of numbers": about(siblings=[5]),
    "a date that is none": about(lastModified="soon"),
    "files a text": lambda path: http("x" if "/tree/" in path else ABOUT),
    "files of numbers": files(5),
    "files without names": files({"type": "file"}),
}
UNREACHED = "could not download|the hub gives|the hub has no|has no revision"
FAILURES: dict[str, Wire] = {
    **{f"status {status}": failed(status) for status in (400, 401, 403, 404, 409, 429, 500)},
    **{
        code: failed(404, f"X-Error-Code: {code}")
        for code in ("RepoNotFound", "GatedRepo", "DisabledRepo", "EntryNotFound")
    },
    "a reason": lambda path: http({}, 500, TOKEN),
    "a redirect": lambda path: http(b"", 302, "Moved", (f"Location: http://127.0.0.1:9/{TOKEN}",)),
    "a status line that is none": lambda path: f"{TOKEN} 200\r\n\r\n".encode(),
    "a body that breaks off": lambda path: http(ABOUT).replace(b"Length: ", b"Length: 9"),
    "no reply": lambda path: b"",
}
LISTED: dict[str, Any] = {
    "above": "../../above.json", "absolute": "/tmp/absolute.json", "zero": "a\0b",
    "long": "a" * 3_000, "number": 5, "empty": "", "dots": "..", "backslashes": "..\\..\\above.json",
}  # fmt: skip
ATTACKS = [
    *[(name, wire, NO_HUB) for name, wire in BODIES.items()],
    *[(name, wire, UNREACHED) for name, wire in FAILURES.items()],
    *[(f"file {name}", files({**FILE, "path": path}), UNREACHED) for name, path in LISTED.items()],
]


@pytest.mark.parametrize(
    ("what", "name", "wire", "message"),
    drawn([(what, *attack) for what in ("release", "checkpoint") for attack in ATTACKS], 40),
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_hub_that_is_none_is_said(
    attacked: Callable[..., None], said: Callable[[], str], hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    what: str, name: str, wire: Wire, message: str,
) -> None:  # fmt: skip
    cache, messages = tmp_path / "cache", []
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(cache))
    hub.wire = wire

    def attack() -> None:
        try:
            if what == "release":
                download(tmp_path / "out")
            else:
                download_checkpoint("x/y", None)
        except (ReleaseError, AdapterError) as error:
            messages.append(str(error))
            raise

    attacked(attack, f"{message}|{UNREACHED}")
    assert not list(tmp_path.rglob("above.json")) and not Path("/tmp/absolute.json").exists()
    found = [text for text in [*messages, said(), *files_below(tmp_path)] if TOKEN in text]
    assert not found


@pytest.mark.parametrize("writing", sorted(WRITINGS))
def test_a_hub_says_a_key_back(
    attacked: Callable[..., None], said: Callable[[], str], hub: Hub, tmp_path: Path, writing: str
) -> None:
    leak = " ".join(WRITINGS[writing](TOKEN)).replace("\n", " ")
    hub.wire = lambda path: http({"error": leak}, 403, "No", (f"X-Error-Message: {leak}",))
    messages: list[str] = []

    def attack() -> None:
        try:
            download(tmp_path)
        except ReleaseError as error:
            messages.append(str(error))
            raise

    attacked(attack, UNREACHED)
    assert not keys_in([*messages, said()])


def test_an_address_with_a_password_is_refused(
    attacked: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://me:s3cret-w0rd@127.0.0.1:9")
    attacked(lambda: download(tmp_path), "The URL in HF_ENDPOINT carries a user name")
    attacked(lambda: download_checkpoint("x/y", None), "The URL in HF_ENDPOINT carries a user name")
