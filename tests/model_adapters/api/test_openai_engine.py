"""What is special about models behind the chat-completions interface."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from closed_model_server import Asked, ClosedServer, serve_closed
from test_closed_models import ARGUMENTS, KEY, QUICK, answers, asks, make_clip

from egost.model_adapters.api.api_engine import ApiEngine
from egost.model_adapters.api.openai_engine import open_openai
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


def engine(server: ClosedServer, model: str = "gpt-4o-2024-08-06", **settings: Any) -> ApiEngine:
    made = open_openai(model, base_url=f"{server.url}/v1", **settings)
    made.pacing = QUICK
    return made


def sent(server: ClosedServer) -> dict[str, Any]:
    body = server.asks[-1][0].body
    return {name: value for name, value in body.items() if name != "messages"}


def ask(clip: Clip, **arguments: Any) -> list[Ask]:
    return [Ask("mini/1", "Which way?", clip, GenerationArguments(256, **arguments))]


def test_greedy_and_drawn_replies_are_asked_for_as_such(server: ClosedServer, clip: Clip) -> None:
    answers(engine(server), ask(clip))
    assert sent(server) == {"model": "gpt-4o-2024-08-06", "max_completion_tokens": 256, "temperature": 0}
    answers(engine(server), ask(clip, temperature=0.7, top_p=0.9, seed=3, stop=("\n",)))
    assert sent(server) == {
        "model": "gpt-4o-2024-08-06",
        "max_completion_tokens": 256,
        "temperature": 0.7,
        "top_p": 0.9,
        "seed": 3,
        "stop": ["\n"],
    }


@pytest.mark.parametrize("detail", ["low", "high", "auto"])
def test_the_detail_is_sent_and_recorded(server: ClosedServer, clip: Clip, detail: str) -> None:
    made = engine(server, detail=detail)
    answers(made, ask(clip))
    content = server.asks[-1][0].body["messages"][0]["content"]
    assert [part["image_url"]["detail"] for part in content[:8]] == [detail] * 8
    assert made.identity.settings["detail"] == detail


def test_an_unknown_detail_is_refused(server: ClosedServer) -> None:
    with pytest.raises(AdapterError, match="detail=full is none of low, high, auto"):
        engine(server, detail="full")


def test_a_model_that_reasons_gets_room_and_no_temperature(server: ClosedServer, clip: Clip) -> None:
    made = engine(server, "o4-mini-2025-04-16", reasoning_effort="low", seed=5)
    answers(made, ask(clip))
    assert sent(server) == {
        "model": "o4-mini-2025-04-16",
        "max_completion_tokens": 25256,
        "reasoning_effort": "low",
    }
    settings = made.identity.settings
    assert (settings["reasoning"], settings["reasoning_effort"], settings["draw"]) == (True, "low", 5)
    assert made.identity.revision == "2025-04-16"
    with pytest.raises(AdapterError, match="temperature or until"):
        answers(made, ask(clip, temperature=0.7, seed=1))
    named_otherwise = engine(server, "thinker", reasoning=True, reasoning_room=1000)
    answers(named_otherwise, ask(clip))
    assert sent(server) == {"model": "thinker", "max_completion_tokens": 1256}


def test_what_cannot_work_is_refused_before_anything_is_asked(server: ClosedServer, clip: Clip) -> None:
    with pytest.raises(AdapterError, match="'o3-mini' takes no images"):
        engine(server, "o3-mini")
    with pytest.raises(AdapterError, match="reasoning_effort=low is for models that reason"):
        engine(server, reasoning_effort="low")
    with pytest.raises(AdapterError, match="top_k"):
        answers(engine(server), ask(clip, temperature=1.0, top_k=5, seed=1))
    with pytest.raises(AdapterError, match="5 texts in until"):
        answers(engine(server), ask(clip, stop=tuple("abcde")))
    with pytest.raises(AdapterError, match="name two servers"):
        engine(server, azure_endpoint=server.url)
    assert not server.asks


def test_azure_is_asked_with_its_own_key(
    server: ClosedServer, clip: Clip, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AZURE_OPENAI_API_KEY", raising=False)
    with pytest.raises(AdapterError, match="AZURE_OPENAI_API_KEY"):
        open_openai("my-4o", azure_endpoint=server.url)
    monkeypatch.setenv("AZURE_OPENAI_API_KEY", "azure-key-0123456789")
    made = open_openai("my-4o", azure_endpoint=server.url)
    made.pacing = QUICK
    [reply] = answers(made, ask(clip))
    got = server.asks[-1][0]
    assert isinstance(reply, Reply) and got.order == "iiiiiiiit"
    assert got.path.startswith("/openai/deployments/my-4o/chat/completions")
    assert got.headers["api-key"] == "azure-key-0123456789" and made.identity.engine == "azure"


@pytest.mark.parametrize(
    ("behaviour", "expected"),
    [
        ("refusal", "refused"),
        ("finish:content_filter", "refused"),
        ("finish:content_filter Turn le", "refused"),
        ("code:400 content_filter no", "refused"),
        ("code:400 content_policy_violation no", "refused"),
        ("code:400 context_length_exceeded no", "context_too_long"),
        ("code:400 x what is this", "bad_request"),
        ("finish:stop", "no_text"),
    ],
)
def test_a_refusal_is_no_reply(clip: Clip, behaviour: str, expected: str) -> None:
    def script(ask: Asked) -> str:
        return behaviour if "1" in ask.prompt else "ok"

    with serve_closed(script=script) as server:
        [first, second] = answers(engine(server), asks(clip, 2))
    assert isinstance(first, Reply)
    assert isinstance(second, Failure) and second.reason == expected and second.message


def test_a_reply_that_filled_its_room_is_truncated_even_where_reasoning_took_it_all(clip: Clip) -> None:
    for behaviour, text in (("finish:length Turn le", "Turn le"), ("finish:length", "")):
        with serve_closed(script=lambda _, behaviour=behaviour: behaviour) as server:
            [reply] = answers(engine(server, "o4-mini"), ask(clip))
        assert isinstance(reply, Reply) and (reply.text, reply.finish_reason) == (text, "length")


def test_an_account_without_credit_ends_the_run(clip: Clip) -> None:
    with (
        serve_closed(script=lambda _: "code:429 insufficient_quota pay") as server,
        pytest.raises(AdapterError, match="no credit left"),
    ):
        answers(engine(server), asks(clip, 9))


@pytest.mark.parametrize(
    ("name", "remedy"),
    [("temperature", "set reasoning=true"), ("max_completion_tokens", "it is too old for this adapter")],
)
def test_a_parameter_that_the_server_does_not_take_is_not_dropped_in_silence(
    clip: Clip, name: str, remedy: str
) -> None:
    with (
        serve_closed(script=lambda _: f"error:400 Unsupported value: '{name}'") as server,
        pytest.raises(AdapterError, match=f"does not take {name}: {remedy}"),
    ):
        answers(engine(server), asks(clip, 2))


def test_a_key_in_a_reply_is_not_written_down(clip: Clip, tmp_path: Path) -> None:
    with serve_closed(script=lambda _: f"say:the key is {KEY}") as server:
        [reply] = answers(engine(server), [Ask("mini/1", "q", clip, ARGUMENTS)])
    assert isinstance(reply, Reply) and reply.text == "the key is [key]"
