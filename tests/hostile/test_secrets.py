"""Keys stay here: servers that repeat them in every place and writing, URLs that hold them, proxies and redirects."""

from __future__ import annotations

import base64
import itertools
import json
import logging
from collections.abc import Callable, Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import quote

import pytest
from attacks import drawn
from egost_command import egost, egost_run
from loguru import logger
from wire_server import CLIENTS, WireServer, all_said, http, serve_wire

from egost.model_adapters.api.gemini_engine import open_gemini
from egost.model_adapters.api.openai_engine import open_openai
from egost.model_adapters.model_names import model_named
from egost.model_adapters.run_plan import RunOptions, plan_run
from egost.model_adapters.server.serve import plan_server, serve_command
from egost.model_adapters.server.server_engine import open_server
from egost.tasks.chat.endpoint import parse_endpoint
from egost.tasks.chat.http import is_this_machine
from egost.tasks.errors import EgostError
from egost.tasks.judging.choose import get_judge
from egost.tasks.keys import redacted
from egost.tasks.mini_world import write_mini_release
from egost.tasks.settings import SETTINGS

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


@pytest.fixture(autouse=True)
def settings(monkeypatch: pytest.MonkeyPatch) -> None:
    assert CANARIES.keys() == {setting.name for setting in SETTINGS if setting.secret}
    for name, value in CANARIES.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("EGOST_PROTOCOL", "uniform8+224x224")
    monkeypatch.setattr("egost.model_adapters.server.server_api.TRIES", 1)


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> Iterator[Callable[[], str]]:
    """What was logged, at any level, and printed."""
    caplog.set_level(logging.DEBUG)
    caplog.set_level(logging.NOTSET, "httpx")
    lines: list[str] = []
    sink = logger.add(lambda message: lines.append(str(message)), level=0, diagnose=True, backtrace=True)

    def collect() -> str:
        printed = capfd.readouterr()
        # httpcore's own debugging shows each byte, and is asked for by nobody.
        records = [r.getMessage() for r in caplog.records if not r.name.startswith(("httpcore", "asyncio"))]
        return "".join([*lines, *records, printed.out, printed.err])

    yield collect
    logger.remove(sink)


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


@pytest.mark.parametrize(
    ("client", "place", "writing"),
    drawn([(client, place, writing) for client in CLIENTS for place in PLACES for writing in WRITINGS], 150),
)
def test_a_key_that_a_server_repeats_is_nowhere(
    attacked: Callable[..., None],
    server: WireServer,
    said: Callable[[], str],
    tmp_path: Path,
    client: str,
    place: str,
    writing: str,
) -> None:
    key = CANARIES[SENT[client]]
    leaks = WRITINGS[writing](key)
    server.wire = lambda good: PLACES[place](good, " ".join(leaks))

    def nowhere(found: str) -> bool:
        return not any(core(writing, text) in found for text in [*leaks, key])

    attacked(lambda: all_said(client, server.url, tmp_path) + said(), right=nowhere)


@pytest.mark.parametrize("name", CANARIES)
def test_each_key_that_the_process_holds_is_taken_out_in_each_writing(name: str) -> None:
    for writing, write in WRITINGS.items():
        for text in write(CANARIES[name]):
            assert core(writing, text) not in redacted(f'it said "{text}", and more'), (writing, text)


def test_what_is_no_key_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "B. Turn left at the door, then key A1; none, EMPTY, xxxxxxxx, not-needed 4f9a1c7e 0123 srv_ SGVsbG8gd29ybG"
    assert redacted(text) == text
    for placeholder in ("EMPTY", "none", "x", "", "left", "xxxxxxxx", "not-needed", "left"):
        for name in CANARIES:
            monkeypatch.setenv(name, placeholder)
        assert redacted(text) == text


SECRET = "s3cret-w0rd"
URLS = (
    "http://me:{}@host/v1", "http://{}@host/v1", "https://me:{}@127.0.0.1:8000", "http://:{}@host", "http://host/v1?key={}",
    "http://host/?api_key={}&x=1", "http://host/v1#{}", "me:{}@host:8000", "ftp://me:{}@host", "http://me:{}@[::1]:80",
    "http://[me:{}@host", "http://host:port/?token={}", "http://me:{}@host/a@b", "http:\\\\me:{}@host", "//me:{}@host",
    "http://host/v1;http://me:{}@other", " http://me:{}@host", "HTTP://ME:{}@HOST", "http://me%3A{}@host",
)  # fmt: skip


def a_plan(url: str, name: str = "qwen2-vl-7b") -> object:
    return plan_run(model_named(name), RunOptions("egost", base_url=url), {})


TAKERS: dict[str, Callable[[str], object]] = {
    "egost run, a server": a_plan,
    "egost run, an API": lambda url: a_plan(url, "gpt-4o"),
    "egost run, more arguments": lambda url: plan_run(
        model_named("qwen2-vl-7b"), RunOptions("egost", extra=("--model_args", f"base_url={url}")), {}
    ),
    "the judge": lambda url: get_judge(f"openai:m@{url}"),
    "the judge at Azure": lambda url: get_judge(f"azure:d@{url}"),
    "a writer": lambda url: parse_endpoint(f"openai:m@{url}"),
    "egost_openai": lambda url: open_openai("gpt-4o", base_url=url),
    "egost_openai at Azure": lambda url: open_openai("d", azure_endpoint=url),
    "egost_gemini": lambda url: open_gemini("gemini-2.0-flash", base_url=url),
    "egost_server": open_server,
}


@pytest.mark.parametrize(
    ("taker", "url"),
    drawn(
        [
            (taker, url)
            for taker in TAKERS
            for url in URLS
            if (";" not in url or taker in ("egost_server", "egost run, a server"))
            # What another program takes is looked through for passwords and keys alone.
            and (taker != "egost run, more arguments" or ("://" in url and "@" in url))
        ],
        60,
    ),
)
def test_a_url_with_a_secret_is_refused_and_not_repeated(
    attacked: Callable[..., None], taker: str, url: str
) -> None:
    def attack() -> None:
        try:
            TAKERS[taker](url.format(SECRET))
        except EgostError as error:
            assert SECRET not in str(error) and SECRET not in repr(error.__cause__), error
            raise

    attacked(attack, "carries a user name|A key or password on a command line")


@pytest.mark.parametrize("taker", sorted(TAKERS))
@pytest.mark.parametrize("name", ["EGOST_SERVER_API_KEY", "AZURE_OPENAI_API_KEY", "OPENAI_API_KEY"])
def test_a_key_in_a_path_is_refused(attacked: Callable[..., None], taker: str, name: str) -> None:
    def attack() -> None:
        try:
            TAKERS[taker](f"http://127.0.0.1:9/{CANARIES[name]}/v1")
        except EgostError as error:
            assert CANARIES[name] not in str(error)
            raise

    attacked(attack, "carries a user name|A key or password on a command line")


@pytest.mark.parametrize(
    "extra",
    [
        ("--api-key", SECRET), (f"--api-key={SECRET}",), ("--api_key", SECRET), ("--api-ke", SECRET),
        ("--hf-tok", SECRET),
        ("--chat-template", CANARIES["HF_TOKEN"]), ("--middleware", f"http://me:{SECRET}@host"),
    ],
)  # fmt: skip
def test_a_key_for_vllm_is_on_no_command_line(attacked: Callable[..., None], extra: tuple[str, ...]) -> None:
    def attack() -> None:
        serve_command(plan_server("qwen2-vl-7b", gpus=1, extra=extra))

    attacked(attack, "a command line can be read by everyone|[Aa] key or password on a command line")


@pytest.fixture(scope="module")
def proxy() -> Iterator[tuple[str, list[str]]]:
    """A proxy that writes down what it is asked, and its URL."""
    heard: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def _note(self) -> None:
            heard.append(f"{self.command} {self.path}\n{self.headers}")
            self.send_error(502)

        do_GET = do_POST = do_CONNECT = _note

        def log_message(self, *args: object) -> None:
            pass

    running = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=running.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{running.server_port}", heard
    running.shutdown()
    running.server_close()


@pytest.fixture
def by_proxy(proxy: tuple[str, list[str]], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, proxy[0])
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    proxy[1].clear()
    return proxy[1]


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "LOCALHOST", "127.1", "[::ffff:127.0.0.1]"])
def test_no_proxy_is_asked_for_a_server_on_this_machine(
    by_proxy: list[str], tmp_path: Path, client: str, host: str
) -> None:
    with serve_wire() as own:
        all_said(client, own.url.replace("127.0.0.1", host), tmp_path)
        assert not by_proxy
        # Where the system takes no such address, the server hears nothing, and neither does the proxy.
        assert own.heard or host.startswith("[")


@pytest.mark.parametrize("client", CLIENTS)
def test_a_proxy_is_asked_for_the_world(by_proxy: list[str], tmp_path: Path, client: str) -> None:
    all_said(client, "http://model.example", tmp_path)
    assert any("model.example" in line for line in by_proxy)


@pytest.mark.parametrize(
    ("host", "own"),
    [
        ("127.0.0.1", True), ("127.255.0.9:80", True), ("[::1]:8000", True), ("localhost", True), ("LocalHost.", True),
        ("a.localhost", True), ("127.1", True), ("2130706433", True), ("0x7f.1", True), ("0.0.0.0", True),
        ("[::]", True),
        ("[::ffff:127.0.0.1]", True), ("128.0.0.1", False), ("localhost.example", False), ("127.0.0.1.example", False),
        ("10.0.0.1", False), ("[::2]", False), ("example", False), ("", False),
    ],
)  # fmt: skip
def test_what_is_this_machine(host: str, own: bool) -> None:
    assert is_this_machine(f"http://{host}/v1") == own


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_key_follows_no_redirect(
    attacked: Callable[..., None], server: WireServer, tmp_path: Path, client: str, status: int
) -> None:
    with serve_wire() as elsewhere:
        server.wire = lambda good: http(
            b"", status, "Moved", (f"Location: {elsewhere.url}/v1/chat/completions",)
        )

        def attack() -> str:
            return all_said(client, server.url, tmp_path)

        attacked(attack, right=lambda found: not elsewhere.heard and "leads on to http" in found)


NOT_FATAL = (
    "content", "refusal", "model", "modelVersion", "fingerprint", "a wrong field", "error 500", "an HTML page",
    "a header", "the words of the status", "the words of a good status", "a cut body",
)  # fmt: skip
RUNS = {
    "server": ("qwen2-vl-7b", "", {}),
    "openai": ("gpt-4o", "/v1", {"EGOST_PROTOCOL": "uniform8+224x224"}),
    "gemini": ("gemini-3.5-flash", "", {"EGOST_PROTOCOL": "uniform8+224x224"}),
}


def shown_by_ps() -> set[str]:
    """The command lines and titles of all processes, as every user of the machine sees them."""
    return {
        path.read_bytes().decode("latin-1") for path in Path("/proc").glob("[0-9]*/cmdline") if path.exists()
    }


@pytest.mark.parametrize("client", RUNS)
def test_the_real_commands_leave_no_key_anywhere(tmp_path: Path, client: str) -> None:
    """Evaluation with a judge, judging again, and a report, at a server that repeats its key in each reply."""
    write_mini_release(tmp_path / "mini", clips=4, seed=5, progress=False)
    model, path, settings = RUNS[client]
    number = itertools.count()
    lines: set[str] = set()

    def wire(good: dict[str, Any]) -> bytes:
        turn = next(number)
        lines.update(shown_by_ps())
        place = NOT_FATAL[turn % len(NOT_FATAL)]
        # Whoever asks, it may be by either key.
        keys = CANARIES[SENT[client]], CANARIES["EGOST_JUDGE_KEY"]
        leaks = [text for key in keys for text in list(WRITINGS.values())[turn % len(WRITINGS)](key)]
        return PLACES[place](good, " ".join(leaks))

    served = {"data": [{"id": "Qwen/Qwen2-VL-7B-Instruct", "root": "/models/x"}]}
    with serve_wire(wire=wire, always=True, models=served) as server:
        with_keys = {
            **CANARIES,
            "EGOST_MINI_DATA": str(tmp_path / "mini"),
            "EGOST_JUDGE": f"openai:m@{server.url}/v1",
            **settings,
        }
        tasks = "egost_mini_route_forward,egost_mini_direction_reverse"
        command = (model, "--base-url", server.url + path, "--tasks", tasks, "--output", "out")
        done = [egost_run(*command, cwd=tmp_path, cache=tmp_path / "cache", **with_keys)]
        server.wire = lambda good: PLACES["error 401"](good, CANARIES[SENT[client]])
        done.append(egost_run(*command, "--fresh", cwd=tmp_path, cache=tmp_path / "cache", **with_keys))
    done.append(egost("report", "out", cwd=tmp_path, cache=tmp_path / "cache", **with_keys))
    said = "".join(run.stdout + run.stderr for run in done)
    assert done[1].returncode != 0 and "Traceback (most recent call last)" not in done[1].stderr, said[-3000:]
    assert list((tmp_path / "out").rglob("*_samples_*.jsonl")), said[-3000:]
    heard = "".join(server.heard)
    assert CANARIES[SENT[client]] in heard and CANARIES["EGOST_JUDGE_KEY"] in heard, "both keys were sent"
    assert not any(
        key in heard for name, key in CANARIES.items() if name not in (SENT[client], "EGOST_JUDGE_KEY")
    )
    files = [path.read_bytes().decode("latin-1") for path in tmp_path.rglob("*") if path.is_file()]
    for writing, write in WRITINGS.items():
        for name, key in CANARIES.items():
            for text in write(key):
                found = [where.partition(core(writing, text)) for where in (said, *lines, *files)]
                assert not [(before[-200:], after[:99]) for before, key, after in found if key], (
                    writing,
                    name,
                )
