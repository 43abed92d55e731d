"""Keys stay here: servers that repeat them in every place and writing, URLs that hold them, proxies and redirects."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from attacks import drawn
from canaries import CANARIES, PLACES, SENT, WRITINGS, core
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

pytestmark = pytest.mark.usefixtures("keys")


@pytest.mark.parametrize(
    ("client", "place", "writing"),
    drawn([(client, place, writing) for client in CLIENTS for place in PLACES for writing in WRITINGS], 80),
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
    "egost run, a model": model_named,
    "egost serve, a model": plan_server,
    "egost serve, a host": lambda url: plan_server("qwen2-vl-7b", gpus=1, host=url),
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
        ("--override", f"api_key={SECRET}"), ("--override", f"a=1,token:{SECRET}"), ("--x", f"hf_token={SECRET},b=2"),
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
