"""Bodies of strangers' servers: a wrong field is a named failure of one sample, and none is read without a limit."""

from __future__ import annotations

import json
import resource
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from attacks import drawn
from wire_server import CLIENTS, Seen, WireServer, http, serve_wire

from egost.model_adapters.engine import AdapterError, Failure, Reply
from egost.model_adapters.server.server_engine import ServerEngine
from egost.tasks.chat.http import MOST_REPLY_BYTES, retry_after
from egost.tasks.errors import EgostError
from egost.tasks.judging.judge import JudgeFailure, Judgement

CHAT = ("server", "openai", "judge")


@pytest.fixture(autouse=True)
def settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EGOST_PROTOCOL", "uniform8+224x224")
    monkeypatch.setattr("egost.model_adapters.server.server_api.TRIES", 2)


def put(body: dict[str, Any], place: str, value: Any) -> bytes:
    """The JSON of a body with a value at a place; the value is JSON text, so that it can be what Python cannot say."""
    *way, last = place.split(".")
    inner: Any = body
    for part in way:
        inner = inner[int(part) if part.isdecimal() else part]
    inner[last] = "<here>"
    return json.dumps(body).replace('"<here>"', value).encode()


COUNTS = ('"two"', "-1", "1.5", "NaN", "Infinity", "1e400", "1" + "0" * 300, "[]", "{}", "true", '"2"')
TEXTS = ("5", "-0.5", "NaN", "{}", "true", "[5]", '[{"text": 5}]', '[["text"]]')
NAMES = ("5", "[]", "{}", "true", "NaN")
FIELDS = {
    "usage.prompt_tokens": COUNTS,
    "usage.completion_tokens": COUNTS,
    "usage.prompt_tokens_details": ('"x"', "5", "[]", '{"multimodal_tokens": 5}'),
    "choices.0.message.content": TEXTS,
    "choices.0.message.refusal": NAMES,
    "choices.0.finish_reason": NAMES,
    "choices.0.message": ("5", '"text"', "[]", "true"),
    "choices": ("[5]", '["text"]', "[[]]", "[null]"),
    "usage": ("5", '"two"', "[]", "true"),
    "model": NAMES,
    "system_fingerprint": NAMES,
}
WRONG = [(client, place, value) for client in CHAT for place, values in FIELDS.items() for value in values]


@pytest.mark.parametrize(("client", "place", "value"), drawn(WRONG, 45))
def test_a_wrong_field_is_named_and_costs_one_sample(
    attacked: Callable[..., None],
    server: WireServer,
    tmp_path: Path,
    client: str,
    place: str,
    value: str,
) -> None:
    server.wire = lambda good: http(put(good, place, value))

    def attack() -> None:
        good, bad = CLIENTS[client](server.url, tmp_path)[0]
        assert isinstance(good, Reply | Judgement)
        assert isinstance(bad, Failure | JudgeFailure)
        assert bad.reason == ("server_error" if client == "server" else "broken_body")
        raise EgostError(bad.message if isinstance(bad, Failure) else bad.text)

    attacked(attack, rf"the body of the reply is no chat completion: {place}\b.*: input should be")


DEEP = b"[" * 100_000 + b"]" * 100_000
BODIES: dict[str, tuple[Callable[[dict[str, Any]], bytes], str]] = {
    "brackets": (lambda good: DEEP, "nested 100,000 deep"),
    "objects": (lambda good: b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "nested 100,000 deep"),
    "deep content": (lambda good: put(good, "choices.0.message", DEEP.decode()), "nested 100,00. deep"),
    "no UTF-8": (
        lambda good: put(good, "model", '"\u00e9"').replace("\u00e9".encode(), b"\xff"),
        "it is not UTF-8",
    ),
    "UTF-16": (lambda good: json.dumps(good).encode("utf-16"), "it is not UTF-8"),
    "5,000 digits": (lambda good: put(good, "usage.prompt_tokens", "9" * 5000), "more digits"),
    "5,000 digits elsewhere": (lambda good: put(good, "created", "-" + "9" * 5000), "more digits"),
    "cut": (lambda good: json.dumps(good).encode()[:-9], "it is not JSON"),
    "HTML": (lambda good: b"<html>\x1b[31mwelcome</html>", "it is not JSON"),
    "empty": (lambda good: b"", "it is not JSON"),
    "zeros": (lambda good: b"\0" * 1000, "it is not JSON"),
    "a list": (lambda good: json.dumps([good]).encode(), "it is no JSON object"),
    "a number": (lambda good: b"5", "it is no JSON object"),
    "nothing": (lambda good: b"null", "it is no JSON object"),
    "an error with 200": (lambda good: b'{"error": {"message": "\\u001b[2Jno"}}', "choices: field required"),
}


@pytest.mark.parametrize(("client", "name"), [(client, name) for client in CHAT for name in BODIES])
def test_a_body_that_is_none_costs_one_sample(
    attacked: Callable[..., None], server: WireServer, tmp_path: Path, client: str, name: str
) -> None:
    make, message = BODIES[name]
    server.wire = lambda good: http(make(good))

    def attack() -> None:
        good, bad = CLIENTS[client](server.url, tmp_path)[0]
        assert isinstance(good, Reply | Judgement) and isinstance(bad, Failure | JudgeFailure)
        raise EgostError(bad.message if isinstance(bad, Failure) else bad.text)

    attacked(attack, message)


GEMINI = {
    "usageMetadata.promptTokenCount": ('"two"', "-1", "NaN", "1e400", "1" + "0" * 300, "[]", "{}"),
    "usageMetadata.candidatesTokenCount": ('"two"', "-1", "1" + "0" * 300, "[]"),
    "candidates": ("5", '"x"', "[5]", "{}", DEEP.decode()),
    "candidates.0.content": ("5", '"x"', "[]"),
    "candidates.0.content.parts": ("5", "[5]", '[{"text": 5}]', '[{"text": []}]'),
    "candidates.0.finishReason": ("{}", "[]"),
    "modelVersion": ("5", "[]", "{}"),
}


@pytest.mark.parametrize(
    ("place", "value"), drawn([(place, value) for place, values in GEMINI.items() for value in values], 16)
)
def test_a_wrong_field_of_gemini_costs_one_sample(
    attacked: Callable[..., None], server: WireServer, tmp_path: Path, place: str, value: str
) -> None:
    server.wire = lambda good: http(put(good, place, value))

    def attack() -> None:
        good, bad = CLIENTS["gemini"](server.url, tmp_path)[0]
        assert isinstance(good, Reply) and isinstance(bad, Failure)
        assert bad.reason in ("broken_body", "no_text"), bad
        raise EgostError(bad.message)

    attacked(attack, "is no reply of Gemini's|holds no candidate|the reply is empty")


def _endless(good: dict[str, Any]) -> bytes:
    return http(b" " * (MOST_REPLY_BYTES + 1) + json.dumps(good).encode())


@pytest.mark.parametrize("client", CLIENTS)
def test_a_huge_reply_is_refused_by_its_size(
    attacked: Callable[..., None], server: WireServer, tmp_path: Path, client: str
) -> None:
    server.wire = _endless

    def attack() -> None:
        _, bad = CLIENTS[client](server.url, tmp_path)[0]
        raise EgostError(bad.message if isinstance(bad, Failure) else bad.text)

    attacked(attack, f"the reply was not read: it is longer than {MOST_REPLY_BYTES:,} bytes")


def test_200_mb_are_not_held_in_memory(server: WireServer, tmp_path: Path) -> None:
    import gzip

    packed = gzip.compress(b" " * (200 << 20), 9)
    server.wire = lambda good: http(packed, headers=("Content-Encoding: gzip",))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    _, bad = CLIENTS["openai"](server.url, tmp_path)[0]
    assert (
        isinstance(bad, Failure) and "it is packed (gzip), although it was asked for as it is" in bad.message
    )
    # KiB on Linux; bytes on a Mac, where this asks for less.
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 << 10


MODELS = (
    {"data": 5}, {"data": [5]}, {"data": [{"id": 5}]}, {"data": [{"id": None}]}, {"data": [{"id": "tiny", "root": 5}]},
    {"data": [{"id": "tiny", "parent": []}]}, {"data": [[]]}, {"data": {}}, [], 5, "x", {"id": "tiny"},
)  # fmt: skip


@pytest.mark.parametrize("models", MODELS, ids=str)
def test_a_list_of_models_that_is_none_is_named(attacked: Callable[..., None], models: Any) -> None:
    with serve_wire(models=models) as odd:
        attacked(
            lambda: ServerEngine([odd.url], wait_s=0.1),
            "does not speak the chat-completions interface.*/v1/models",
        )


@pytest.mark.parametrize("half", ["\\ud83d", "\\ude00", "\\ud83d\\ud83d", "\\udc00\\ud800"])
@pytest.mark.parametrize("client", CLIENTS)
def test_half_a_surrogate_pair_becomes_a_mark(
    attacked: Callable[..., None], server: WireServer, tmp_path: Path, client: str, half: str
) -> None:
    server.wire = lambda good: http(json.dumps(good).replace("B.", f"B. {half}").encode())

    def right(found: Seen) -> bool:
        (good, bad), said = found
        said.encode()
        halves = len(half) // 6
        return client == "judge" or (
            bad.text == "B. " + "\ufffd" * halves and (good.replaced, bad.replaced) == (0, halves)
        )

    attacked(lambda: CLIENTS[client](server.url, tmp_path), right=right)


@pytest.mark.parametrize(
    "place",
    ["model", "modelVersion", "system_fingerprint", "choices.0.finish_reason", "candidates.0.finishReason"],
)
@pytest.mark.parametrize("client", CLIENTS)
def test_half_a_surrogate_pair_beside_the_text_is_not_counted(
    attacked: Callable[..., None], server: WireServer, tmp_path: Path, client: str, place: str
) -> None:
    other = "choices" if client == "gemini" else "candidates"
    server.wire = lambda good: http(good if place.startswith(other) else put(good, place, '"stop\\ud83d"'))

    def right(found: Seen) -> bool:
        outcomes, said = found
        said.encode()
        json.dumps([asdict(one) for one in outcomes], ensure_ascii=False).encode()
        return client == "judge" or [one.replaced for one in outcomes] == [0, 0]

    attacked(lambda: CLIENTS[client](server.url, tmp_path), right=right)


@pytest.mark.parametrize("text", ["no \\ud83d", '{"think": "\\ud83d"}', ""], ids=ascii)
def test_a_judgement_that_failed_on_half_a_pair_can_be_written(
    attacked: Callable[..., None], server: WireServer, tmp_path: Path, text: str
) -> None:
    server.wire = lambda good: http(
        put(good, "choices.0.message.content", json.dumps(text).replace("\\\\", "\\"))
    )

    def right(found: Seen) -> bool:
        _, bad = found[0]
        json.dumps(asdict(bad), ensure_ascii=False).encode()
        return isinstance(bad, JudgeFailure)

    attacked(lambda: CLIENTS["judge"](server.url, tmp_path), right=right)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "0.25"}, 0.25),
        ({"retry-after-ms": "1500"}, 1.5),
        ({"retry-after": "-5"}, 0.0),
        ({"retry-after": "Wed, 21 Oct 2026 07:28:10 GMT", "date": "Wed, 21 Oct 2026 07:28:00 GMT"}, 10.0),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0.0),
        ({"retry-after": "Wed, 21 Oct 9998 07:28:00 GMT"}, 31_536_000.0),
        ({"retry-after": "9" * 400}, 31_536_000.0),
        ({"retry-after": "inf"}, 31_536_000.0),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": ""}, None),
        ({}, None),
    ],
)
def test_what_a_server_asks_to_wait_is_bounded(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after(headers) == seconds


def test_the_model_client_waits_as_long_as_it_is_asked_and_names_a_rate_limit(
    server: WireServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []

    async def note(seconds: float) -> None:
        waits.append(seconds)

    monkeypatch.setattr("egost.model_adapters.server.server_api.asyncio.sleep", note)
    server.wire = lambda good: http(
        {"error": {"message": "slow down"}}, 429, "Too Many", ("Retry-After: 60",)
    )
    _, bad = CLIENTS["server"](server.url, tmp_path)[0]
    assert isinstance(bad, Failure) and bad.reason == "rate_limited" and "HTTP 429" in bad.message
    assert 59 < max(waits) <= 60


@pytest.mark.parametrize("client", CLIENTS)
def test_an_absurd_wait_is_said_and_not_waited_for(
    attacked: Callable[..., None], server: WireServer, tmp_path: Path, client: str
) -> None:
    server.wire = lambda good: http(
        {"error": {"message": "slow"}}, 429, "Too Many", ("Retry-After: 1000000",)
    )

    def attack() -> None:
        _, bad = CLIENTS[client](server.url, tmp_path)[0]
        assert isinstance(bad, Failure) and bad.reason == "rate_limited"
        raise AdapterError(bad.message)

    attacked(attack, "asks to wait 1000000 s: .*HTTP 429")
