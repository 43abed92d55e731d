"""What is special about Gemini."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
from closed_model_server import TOKENS_OUT, ClosedServer, serve_closed, what_it_says
from test_closed_models import KEY, QUICK, answers, asks, make_clip

from egost.model_adapters.api.api_engine import ApiEngine, png_frames
from egost.model_adapters.api.gemini_engine import open_gemini
from egost.model_adapters.engine import AdapterError, Ask, Failure, GenerationArguments, Reply
from egost.tasks.clips.clips import Clip


@pytest.fixture(autouse=True)
def settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EGOST_PROTOCOL", "uniform8+224x224")
    monkeypatch.setenv("EGOST_API_KEY", KEY)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Clip:
    return make_clip(tmp_path_factory.mktemp("clip"), seed=1)


@pytest.fixture
def server() -> Iterator[ClosedServer]:
    with serve_closed() as running:
        yield running


def engine(server: ClosedServer, model: str = "gemini-2.5-flash", **settings: Any) -> ApiEngine:
    made = open_gemini(model, base_url=server.url, **settings)
    made.pacing = QUICK
    return made


def ask(clip: Clip, **arguments: Any) -> list[Ask]:
    return [Ask("mini/1", "Which way?", clip, GenerationArguments(256, **arguments))]


def config(server: ClosedServer) -> dict[str, Any]:
    return dict(server.asks[-1][0].body["generationConfig"])


def test_greedy_and_drawn_replies_are_asked_for_as_such(server: ClosedServer, clip: Clip) -> None:
    answers(engine(server, "gemini-2.0-flash"), ask(clip))
    assert config(server) == {"maxOutputTokens": 256, "temperature": 0}
    assert server.asks[-1][0].path == "/v1beta/models/gemini-2.0-flash:generateContent"
    answers(
        engine(server, "gemini-2.0-flash"),
        ask(clip, temperature=0.7, top_p=0.9, top_k=5, seed=3, stop=("\n",)),
    )
    assert config(server) == {
        "maxOutputTokens": 256,
        "temperature": 0.7,
        "topP": 0.9,
        "topK": 5,
        "seed": 3,
        "stopSequences": ["\n"],
    }


@pytest.mark.parametrize(
    ("given", "room", "sent"),
    [
        ({}, 24_576, None),
        ({"thinking_room": 100}, 100, None),
        ({"thinking_budget": 0}, 0, {"thinkingBudget": 0}),
        ({"thinking_budget": 512}, 512, {"thinkingBudget": 512}),
        ({"thinking_budget": -1}, 24_576, {"thinkingBudget": -1}),
        ({"thinking_level": "low"}, 24_576, {"thinkingLevel": "LOW"}),
    ],
)
def test_thoughts_have_room_of_their_own(
    server: ClosedServer, clip: Clip, given: dict[str, Any], room: int, sent: dict[str, Any] | None
) -> None:
    made = engine(server, **given)
    answers(made, ask(clip))
    assert (
        config(server)["maxOutputTokens"]
        == 256 + room
        == 256 + int(made.identity.settings["thinking_room"] or 0)
    )
    got = config(server).get("thinkingConfig")
    names = {"thinking_budget": "thinkingBudget", "thinking_level": "thinkingLevel"}
    assert (got and {names.get(name, name): value for name, value in got.items()}) == sent


def test_thoughts_are_charged_but_are_no_part_of_the_reply(clip: Clip) -> None:
    with serve_closed(script=lambda _: "thinking") as server:
        [reply] = answers(engine(server), ask(clip))
    assert isinstance(reply, Reply) and reply.text == what_it_says("Which way?", png_frames(clip))
    assert (reply.completion_tokens, reply.video_tokens) == (TOKENS_OUT + 40, 8 * 258)


@pytest.mark.parametrize(
    ("behaviour", "reason", "message"),
    [
        ("blocked:SAFETY", "refused", "prompt was blocked: SAFETY"),
        ("finish:SAFETY", "refused", "reply was blocked: SAFETY"),
        ("finish:RECITATION Turn le", "refused", "reply was blocked: RECITATION"),
        ("finish:OTHER", "no_text", "OTHER"),
        ("finish:A_NEW_WORD", "no_text", "A_NEW_WORD"),
        ("error:400 The input token count exceeds the maximum number of tokens", "context_too_long", ""),
    ],
)
def test_a_block_is_no_reply(clip: Clip, behaviour: str, reason: str, message: str) -> None:
    with serve_closed(script=lambda _: behaviour) as server:
        [outcome] = answers(engine(server), ask(clip))
    assert isinstance(outcome, Failure) and outcome.reason == reason and message in outcome.message


def test_a_reply_that_filled_its_room_is_truncated_even_where_thoughts_took_it_all(clip: Clip) -> None:
    for behaviour, text in (("finish:MAX_TOKENS Turn le", "Turn le"), ("finish:MAX_TOKENS", "")):
        with serve_closed(script=lambda _, behaviour=behaviour: behaviour) as server:
            [reply] = answers(engine(server), ask(clip))
        assert isinstance(reply, Reply) and (reply.text, reply.finish_reason) == (text, "length")


def test_a_wait_that_stands_in_the_body_is_kept(clip: Clip) -> None:
    times: list[float] = []

    def script(_: object) -> str:
        times.append(time.monotonic())
        return "retry-info:0.5s" if len(times) == 1 else "ok"

    with serve_closed(script=script) as server:
        answers(engine(server), ask(clip))
    assert len(times) == 2 and times[1] - times[0] >= 0.5


@pytest.mark.parametrize(
    ("behaviour", "message"),
    [
        ("per-day", "quota of EGOST_API_KEY is used up"),
        ("code:400 INVALID_ARGUMENT API key not valid. Please pass a valid API key.", "key was not accepted"),
        ("code:400 FAILED_PRECONDITION User location is not supported", "location is not supported"),
    ],
)
def test_what_no_request_can_survive_ends_the_run(clip: Clip, behaviour: str, message: str) -> None:
    with serve_closed(script=lambda _: behaviour) as server, pytest.raises(AdapterError, match=message):
        answers(engine(server), asks(clip, 9))


def test_what_cannot_work_is_refused_before_anything_is_asked(server: ClosedServer, clip: Clip) -> None:
    with pytest.raises(AdapterError, match="does not think"):
        engine(server, "gemini-2.0-flash", thinking_budget=100)
    with pytest.raises(AdapterError, match="exclude each other"):
        engine(server, thinking_budget=100, thinking_level="low")
    with pytest.raises(AdapterError, match="6 texts in until"):
        answers(engine(server), ask(clip, stop=tuple("abcdef")))
    assert not server.asks
