"""Attacks on a local page by other processes of the machine: without its token, by links, and by what is no HTTP."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from attacks import drawn

from egost.tasks.construction.workfolder import ClipRow
from egost.tasks.errors import EgostError

SECRET = "the content of a file elsewhere"

LINKS = ("absolute.mp4", "relative.mp4", "chain.mp4", "loop.mp4", "dangling.mp4", "folder.mp4")
NAMES = ("..", ".", "/etc/passwd", "../secret.txt", "..\\secret.txt", "clips/../../secret.txt", "")


@dataclass(frozen=True)
class Page:
    """A running page. address: with its token; log: its standard error; folder: what it serves."""

    address: str
    log: Path
    folder: Path

    @property
    def token(self) -> str:
        return self.address.partition("?token=")[2]

    @property
    def port(self) -> int:
        return urlsplit(self.address).port or 0


def row(clip: str) -> str:
    found = ClipRow(
        clip, "film.mp4", 0.0, 1.0, "s", "indoor_single", "", 32, 32, "10/1", 10, 1.0, "0" * 64, "0" * 64
    )
    return json.dumps(asdict(found)) + "\n"


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """The annotation page by the real command, over a folder that strangers have filled with links."""
    root = tmp_path_factory.mktemp("walks")
    (root / "secret.txt").write_text(SECRET)
    out, clips = root / "out", root / "out" / "clips"
    clips.mkdir(parents=True)
    (clips / "walk.mp4").write_bytes(b"frames")
    (clips / "again.mp4").symlink_to("walk.mp4")
    (clips / "absolute.mp4").symlink_to(root / "secret.txt")
    (clips / "relative.mp4").symlink_to("../../secret.txt")
    (clips / "chain.mp4").symlink_to("absolute.mp4")
    (clips / "loop.mp4").symlink_to("loop.mp4")
    (clips / "dangling.mp4").symlink_to(root / "nowhere")
    (clips / "folder.mp4").symlink_to(root)
    names = ("walk.mp4", "again.mp4", *LINKS)
    (out / "clips.jsonl").write_text("".join(map(row, names)))
    log = root / "log"
    command = "from egost.commands.construct import construct_app; construct_app()"
    with log.open("w") as errors:
        server = subprocess.Popen(
            [sys.executable, "-u", "-c", command, "annotate", str(out), "--annotator", "ana"],
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env={**os.environ, "COLUMNS": "40"},
        )
    assert server.stdout
    found = re.fullmatch(
        r"annotate as ana: (http://127\.0\.0\.1:\d+/\?token=[\w-]{20,})\n", server.stdout.readline()
    )
    try:
        assert found, log.read_text()
        # The page refuses to begin with such names, and reads the list for each request.
        (out / "clips.jsonl").write_text("".join(map(row, (*names, *NAMES))))
        yield Page(found[1], log, out)
    finally:
        server.send_signal(signal.SIGINT)
        assert server.wait(30) == 0


def asked(page: Page, method: str, path: str, token: str | None, **more: object) -> httpx.Response:
    url = f"http://127.0.0.1:{page.port}{path}" + ("" if token is None else f"?token={token}")
    return httpx.request(method, url, trust_env=False, **more)  # type: ignore[arg-type]


WRONG_TOKENS: dict[str, Callable[[str], str | None]] = {
    "none": lambda token: None,
    "empty": lambda token: "",
    "first half": lambda token: token[: len(token) // 2],
    "all but one": lambda token: token[:-1],
    "one more": lambda token: token + "A",
    "another case": lambda token: token.swapcase(),
    "not ASCII": lambda token: "%C3%A9%ED%A0%80",
    "zeros": lambda token: "%00" * len(token),
}
PLACES = (
    ("GET", "/"),
    ("GET", "/page.js"),
    ("GET", "/annotate.css"),
    ("GET", "/api/clips"),
    ("GET", "/api/clips/walk.mp4"),
    ("GET", "/clips/walk.mp4"),
    ("HEAD", "/clips/walk.mp4"),
    ("PUT", "/api/clips/walk.mp4"),
    ("POST", "/api/clips"),
    ("GET", "/nowhere"),
)


@pytest.mark.parametrize(
    ("name", "place"), drawn([(name, place) for name in WRONG_TOKENS for place in PLACES], 30)
)
def test_without_the_token_nothing_is_read_or_written(
    attacked: Callable[..., None], page: Page, name: str, place: tuple[str, str]
) -> None:
    def attack() -> None:
        body = {"forward": [], "reverse": None, "revision": ""} if place[0] in ("PUT", "POST") else None
        reply = asked(page, *place, WRONG_TOKENS[name](page.token), json=body)
        assert reply.status_code == 403 and page.token not in reply.text
        assert not (page.folder / "annotations").exists()
        if place[0] != "HEAD":
            raise EgostError(reply.text)

    attacked(attack, None if place[0] == "HEAD" else "open the whole address that egost printed")


def test_a_person_without_the_token_is_told_in_plain_text(page: Page) -> None:
    reply = asked(page, "GET", "/", None)
    assert (reply.status_code, reply.headers["content-type"]) == (403, "text/plain; charset=utf-8")
    whole = asked(page, "GET", "/", page.token)
    assert whole.status_code == 200
    for path in re.findall(r'(?:href|src)="(/[^"]+)"', whole.text):
        assert httpx.get(f"http://127.0.0.1:{page.port}{path}", trust_env=False).status_code == 200, path


@pytest.mark.parametrize("name", [*LINKS, *NAMES])
def test_no_link_and_no_name_leads_out_of_the_folder(
    attacked: Callable[..., None], page: Page, name: str
) -> None:
    def attack() -> None:
        quoted = "".join(f"%{byte:02x}" for byte in name.encode())
        reply = asked(page, "GET", f"/clips/{quoted}", page.token)
        assert reply.status_code in (403, 404) and SECRET not in reply.text, reply.status_code
        raise EgostError(reply.text)

    attacked(attack, "leads out of its folder|has no such clip|Not Found|is missing")


def test_a_link_within_the_folder_is_served(page: Page) -> None:
    assert asked(page, "GET", "/clips/again.mp4", page.token).content == b"frames"


def _tls_hello() -> bytes:
    hello = ssl.MemoryBIO()
    client = ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), hello, server_hostname="localhost")
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    return hello.read()


GARBAGE = {
    "a TLS hello": _tls_hello,
    "zeros": lambda: b"\0" * 500 + b"\r\n\r\n",
    "half a line": lambda: b"GET",
    "no version": lambda: b"GET /\r\n\r\n",
    "another version": lambda: b"GET / HTTP/9.9\r\n\r\n",
    "no path": lambda: b"GET  HTTP/1.1\r\n\r\n",
    "a path of 100,000 letters": lambda: b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n\r\n",
    "a header without a name": lambda: b"GET / HTTP/1.1\r\n: x\r\n\r\n",
    "a header of 100,000 letters": lambda: b"GET / HTTP/1.1\r\nX: " + b"a" * 100_000 + b"\r\n\r\n",
    "a length that is none": lambda: b"PUT / HTTP/1.1\r\nContent-Length: two\r\n\r\n",
    "a negative length": lambda: b"PUT / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
    "two lengths": lambda: b"PUT / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
    "two hosts": lambda: b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    "SSH": lambda: b"SSH-2.0-OpenSSH_9.0\r\n",
    "HTTP/2": lambda: b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "letters that are no ASCII": lambda: "GÉT / HTTP/1.1\r\n\r\n".encode(),
}
WITH_TOKEN = {
    "chunks that are none": b"Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n",
    "a body that is no gzip": b"Content-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{}",
    "a body that breaks off": b"Content-Length: 100\r\n\r\n{",
    "a body that is no UTF-8": b"Content-Length: 4\r\n\r\n\xff\xfe\xfd{",
    "half a surrogate pair": b'Content-Length: 24\r\n\r\n{"revision": "\\ud800  "}   ',
    "100,000 brackets": b"Content-Length: 100000\r\n\r\n" + b"[" * 100_000,
    "2 MB": b"Content-Length: 2000000\r\n\r\n" + b" " * 2_000_000,
}


@pytest.mark.parametrize("name", [*GARBAGE, *WITH_TOKEN])
def test_what_is_no_request_is_refused_without_a_traceback(
    attacked: Callable[..., None], page: Page, name: str
) -> None:
    if name in GARBAGE:
        sent = GARBAGE[name]()
    else:
        head = f"PUT /api/clips/walk.mp4?token={page.token} HTTP/1.1\r\nHost: 127.0.0.1:{page.port}\r\n"
        sent = head.encode() + b"Content-Type: application/json\r\n" + WITH_TOKEN[name]

    before = len(page.log.read_text())

    def attack() -> bool:
        with socket.create_connection(("127.0.0.1", page.port), timeout=5) as line:
            try:
                line.sendall(sent)
                line.shutdown(socket.SHUT_WR)
                first = line.recv(100)
            except ConnectionError:
                first = b""
        said = page.log.read_text()[before:]
        assert "Traceback" not in said and "Error" not in said, said
        assert not (page.folder / "annotations").exists()
        assert asked(page, "GET", "/api/clips", page.token).status_code == 200
        return not first or re.match(rb"HTTP/\d\.\d 4", first) is not None

    attacked(attack, right=bool)
