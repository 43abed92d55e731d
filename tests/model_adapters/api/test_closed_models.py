"""What holds for all closed models, asked by their makers' real clients, at a server that misbehaves in one way."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from closed_model_server import TOKENS_IN, TOKENS_OUT, Asked, ClosedServer, serve_closed, what_it_says
from PIL import Image
from release_files import write_video

from egost.model_adapters.api.api_engine import ApiEngine, png_frames
from egost.model_adapters.api.gemini_engine import open_gemini
from egost.model_adapters.api.openai_engine import open_openai
from egost.model_adapters.engine import AdapterError, Ask, Failure, GenerationArguments, Reply
from egost.tasks.chat.calls import MOST_BAD_REQUESTS, Pacing
from egost.tasks.clips.clips import Clip, get_clip
from egost.tasks.clips.protocols import parse_protocol, resize

KEY = "c3f1a9d25f1d8a7743b94c01e0b6d7aa"
QUICK = Pacing(concurrency=4, timeout_s=1.0, tries=4, first_wait_s=0.02, longest_wait_s=0.1)
ARGUMENTS = GenerationArguments(max_new_tokens=256)
MODELS = {"openai": "gpt-4o-2024-08-06", "gemini": "gemini-2.0-flash"}

Open = Callable[..., tuple[ApiEngine, ClosedServer]]


@pytest.fixture(params=sorted(MODELS))
def maker(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(autouse=True)
def settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EGOST_PROTOCOL", "uniform8+224x224")
    monkeypatch.setenv("EGOST_API_KEY", KEY)
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    for name in ("OPENAI_API_KEY", "GEMINI_API_KEY"):
        monkeypatch.setenv(name, "the-key-for-its-maker-alone")


@pytest.fixture
def opened(maker: str) -> Iterator[Open]:
    """Starts a server and an engine that asks it; keywords that the engine does not take go to the server."""
    with ExitStack() as stack:

        def start(pacing: Pacing = QUICK, **given: Any) -> tuple[ApiEngine, ClosedServer]:
            ours = {name: given.pop(name) for name in ("model", "max_usd") if name in given}
            server = stack.enter_context(serve_closed(**given))
            made = open_openai if maker == "openai" else open_gemini
            url = f"{server.url}/v1" if maker == "openai" else server.url
            pace = {"concurrency": pacing.concurrency, "timeout_s": pacing.timeout_s}
            engine = made(**{"model": MODELS[maker], "base_url": url, **pace, **ours})
            engine.pacing = pacing
            return engine, server

        yield start


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Clip:
    return make_clip(tmp_path_factory.mktemp("clip"), seed=1)


def make_clip(folder: Path, seed: int, protocol: str = "uniform8+224x224") -> Clip:
    source = write_video(folder / f"{seed}.mp4", size=(120, 160), seed=seed)
    return get_clip(source, parse_protocol(protocol), cache=folder / "cache")


def asks(clip: Clip | None, number: int) -> list[Ask]:
    return [Ask(f"mini/{i}", f"Question {i}?", clip, ARGUMENTS) for i in range(number)]


def answers(engine: ApiEngine, asked: list[Ask]) -> list[Reply | Failure]:
    got = dict(engine.answer(asked))
    assert len(got) == len(asked)
    return [got[place] for place in range(len(asked))]


def texts(outcomes: list[Reply | Failure]) -> list[str]:
    return [o.text if isinstance(o, Reply) else o.reason for o in outcomes]


def truths(asked: list[Ask]) -> list[str]:
    return [what_it_says(ask.prompt, png_frames(ask.clip) if ask.clip else ()) for ask in asked]


def once(behaviour: str) -> Callable[[Asked], str]:
    """The first request with each prompt meets a behaviour, the others are answered."""
    return lambda ask: "ok" if ask.number else behaviour


def test_eight_images_arrive_as_the_very_pixels_in_order_before_the_question(
    opened: Open, tmp_path: Path
) -> None:
    engine, server = opened()
    clips = [make_clip(tmp_path, seed) for seed in (2, 3)]
    asked = [Ask("mini/x", f"Which way, clip {i}?", clip, ARGUMENTS) for i, clip in enumerate(clips)]
    assert texts(answers(engine, asked)) == truths(asked)
    by_prompt = {ask.prompt: ask for ask, _ in server.asks}
    for seed, ask in zip((2, 3), asked, strict=True):
        got = by_prompt[ask.prompt]
        assert got.order == "iiiiiiiit"
        files = [Image.open(io.BytesIO(image)) for image in got.images]
        assert {(file.format, file.mode, file.size) for file in files} == {("PNG", "RGB", (224, 224))}
        assert ask.clip
        seen = np.stack([np.asarray(file) for file in files])
        np.testing.assert_array_equal(seen, ask.clip.frames())
        whole = make_clip(tmp_path / "whole", seed, "uniform8").frames()
        np.testing.assert_array_equal(seen, np.stack([resize(frame, (224, 224)) for frame in whole]))
        assert len({image.tobytes() for image in seen}) == 8, "eight different frames, or order shows nothing"


def test_a_question_without_a_clip_has_no_images(opened: Open) -> None:
    engine, server = opened()
    assert texts(answers(engine, asks(None, 1))) == truths(asks(None, 1))
    assert server.asks[0][0].order == "t"


def test_frames_of_another_size_are_not_sent(
    opened: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, server = opened()
    for protocol in ("uniform8", "uniform8+cap50176"):
        wrong = make_clip(tmp_path, 4, protocol)
        with pytest.raises(AdapterError, match=r"Set EGOST_PROTOCOL=uniform8\+224x224"):
            answers(engine, asks(wrong, 3))
    monkeypatch.setenv("EGOST_PROTOCOL", "ref-qwen")
    with pytest.raises(AdapterError, match=r"is ref-qwen, .* Set EGOST_PROTOCOL=ref-qwen\+224x224"):
        opened()
    assert not server.asks


def test_calls_are_made_at_once_up_to_the_limit_and_replies_come_as_they_finish(
    opened: Open, clip: Clip
) -> None:
    engine, server = opened(latency_s=0.1, script=lambda ask: "hang:0.5" if ask.prompt == "late" else "ok")
    asked = [Ask("mini/late", "late", clip, ARGUMENTS), *asks(clip, 12)]
    places = [place for place, _ in engine.answer(asked)]
    assert places[-1] == 0 and sorted(places) == list(range(13))
    assert server.most_at_once == QUICK.concurrency


PASSING = ("error:429", "retry-after:0.05", "error:500", "error:503", "error:408", "hang:1.5", "drop", "cut")
BROKEN = ("broken-body", "html", "body:{}", "body:[]", "body:1", 'body:"text"')


@pytest.mark.parametrize("behaviour", PASSING + BROKEN)
def test_a_fault_that_passes_costs_a_call_and_nothing_else(opened: Open, clip: Clip, behaviour: str) -> None:
    engine, server = opened(script=once(behaviour))
    asked = asks(clip, 2)
    assert texts(answers(engine, asked)) == truths(asked)
    assert len(server.asks) == 4 and "4 calls (2 of them repeated)" in engine.spending.summary


@pytest.mark.parametrize(
    ("behaviour", "reason"),
    [
        ("drop", "server_error"),
        ("error:500", "server_error"),
        ("hang:1.5", "timeout"),
        ("error:429", "rate_limited"),
        ("html", "broken_body"),
        ("say:", "no_text"),
        ("error:413 too large", "context_too_long"),
        ("error:400 what is this", "bad_request"),
    ],
)
def test_a_fault_that_stays_leaves_the_sample_unscored(
    opened: Open, clip: Clip, behaviour: str, reason: str
) -> None:
    pacing = replace(QUICK, timeout_s=0.5, tries=2)
    engine, _ = opened(pacing, script=lambda ask: behaviour if "1" in ask.prompt else "ok")
    asked = asks(clip, 3)
    right = truths(asked)
    assert texts(answers(engine, asked)) == [right[0], reason, right[2]]


def test_a_server_that_asks_to_wait_is_left_alone_for_so_long(opened: Open, clip: Clip) -> None:
    times: list[float] = []

    def script(ask: Asked) -> str:
        times.append(time.monotonic())
        return "retry-after:0.6" if len(times) == 1 else "ok"

    engine, _ = opened(replace(QUICK, concurrency=1), script=script)
    answers(engine, asks(clip, 3))
    assert times[1] - times[0] >= 0.6 and len(times) == 4


def test_a_long_pause_and_a_dead_server_end_the_run(opened: Open, clip: Clip) -> None:
    engine, _ = opened(script=lambda ask: "retry-after:900")
    with pytest.raises(AdapterError, match="asks to wait 900 s"):
        answers(engine, asks(clip, 3))
    dead, _ = opened(replace(QUICK, breaker_calls=5, breaker_s=0), script=lambda ask: "drop")
    with pytest.raises(AdapterError, match="does not answer: 5 calls in a row failed"):
        answers(dead, asks(clip, 30))


@pytest.mark.parametrize(
    ("behaviour", "message"),
    [
        ("error:401 no such key", "The key was not accepted: set EGOST_API_KEY"),
        ("error:403 not yours", "The key in EGOST_API_KEY may not use"),
        ("error:404 no such model", "There is no model .* retired"),
        ("error:400 what is this", r"what is this \[key\]\. .*model= in --model_args"),
    ],
)
def test_what_no_request_can_survive_ends_the_run_at_once(
    opened: Open, clip: Clip, behaviour: str, message: str
) -> None:
    engine, server = opened(script=lambda ask: f"{behaviour} {KEY}")
    with pytest.raises(AdapterError, match=message) as raised:
        answers(engine, asks(clip, 30))
    assert KEY not in str(raised.value) and "[key]" in str(raised.value)
    assert len(server.asks) <= QUICK.concurrency + ("400" in behaviour) * MOST_BAD_REQUESTS
    chain = raised.value.__cause__ or raised.value.__context__
    assert chain is None, "the client's exception holds the request with its key"


def test_what_is_under_way_when_a_run_ends_is_paid_for_and_not_lost(opened: Open, clip: Clip) -> None:
    def script(ask: Asked) -> str:
        if "9" in ask.prompt:
            return "error:401"
        time.sleep(0.3)
        return "ok"

    engine, server = opened(script=script)
    got = []
    with pytest.raises(AdapterError, match="What was answered is kept"):
        for answer in engine.answer([*asks(clip, 3), Ask("mini/9", "9", clip, ARGUMENTS), *asks(clip, 30)]):
            got.append(answer)
    assert sorted(place for place, _ in got) == [0, 1, 2] and len(server.asks) == 4


def test_whoever_stops_listening_stops_the_calls(opened: Open, clip: Clip) -> None:
    engine, server = opened(latency_s=0.2)
    listening = engine.answer(asks(clip, 40))
    next(listening)
    heard = len(server.asks)
    listening.close()
    made = len(server.asks)
    assert made <= heard + 2 * QUICK.concurrency, "what is under way may end, and nothing else begins"
    time.sleep(0.6)
    assert len(server.asks) <= made + QUICK.concurrency < 40


def test_replies_carry_tokens_and_snapshot_and_the_run_its_price(
    opened: Open, clip: Clip, maker: str
) -> None:
    engine, _ = opened()
    for outcome in answers(engine, asks(clip, 4)):
        assert isinstance(outcome, Reply)
        assert (outcome.finish_reason, outcome.prompt_tokens) == ("stop", TOKENS_IN)
        assert outcome.completion_tokens == TOKENS_OUT
        fingerprint = "+fp_1" if maker == "openai" else ""
        assert outcome.snapshot == MODELS[maker] + fingerprint
    price_in, price_out = (2.5, 10) if maker == "openai" else (0.1, 0.4)
    cost = 4 * (TOKENS_IN * price_in + TOKENS_OUT * price_out) / 1e6
    assert f"{4 * TOKENS_IN} tokens in, {4 * TOKENS_OUT} out, {cost:.4f} USD" in engine.spending.summary


def test_an_unknown_price_is_said_to_be_unknown(opened: Open, clip: Clip) -> None:
    engine, _ = opened(model="some-model")
    answers(engine, asks(clip, 1))
    assert "price of some-model unknown" in engine.spending.summary
    with pytest.raises(AdapterError, match="no price of 'some-model' is known"):
        opened(model="some-model", max_usd=1)
    with pytest.raises(AdapterError, match="above 0"):
        opened(max_usd=0)


def test_a_limit_stops_before_it_is_passed(opened: Open, clip: Clip, maker: str) -> None:
    price_in, price_out = (2.5, 10) if maker == "openai" else (0.1, 0.4)
    one = (TOKENS_IN * price_in + TOKENS_OUT * price_out) / 1e6
    first = ((68_000 if maker == "openai" else 8960) * price_in + 256 * price_out) / 1e6
    limit = max(20 * one, 1.1 * first)
    engine, server = opened(max_usd=limit)
    got = []
    with pytest.raises(AdapterError, match="a higher max_usd asks for the rest"):
        for answer in engine.answer(asks(clip, 60)):
            got.append(answer)
    spent = len(server.asks) * one
    most = (2 * TOKENS_IN * price_in + 256 * price_out) / 1e6
    assert limit - most <= spent <= limit, "as near as a call's own bound"
    assert len(got) == len(server.asks) < 60
    with pytest.raises(AdapterError, match=r"0\.0000 USD are spent"):
        answers(opened(max_usd=first / 2)[0], asks(clip, 1))


@pytest.mark.parametrize(
    "url", ["http://user:secret@host/v1", "http://host/v1?key=secret", "ftp://host", "host"]
)
def test_a_url_that_would_be_recorded_with_a_secret_or_is_none_is_refused(maker: str, url: str) -> None:
    made = open_openai if maker == "openai" else open_gemini
    with pytest.raises(AdapterError, match="URL") as raised:
        made(MODELS[maker], base_url=url)
    assert "secret" not in str(raised.value)


def test_a_makers_key_goes_to_no_other_server(opened: Open, clip: Clip) -> None:
    engine, server = opened()
    answers(engine, asks(clip, 1))
    sent = " ".join(server.asks[0][0].headers.values())
    assert KEY in sent and "its-maker-alone" not in sent


def test_a_server_of_ones_own_may_want_no_key(
    opened: Open, clip: Clip, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("EGOST_API_KEY")
    engine, server = opened()
    answers(engine, asks(clip, 1))
    assert "its-maker-alone" not in " ".join(server.asks[0][0].headers.values())


def test_without_a_usable_key_the_maker_is_not_asked(maker: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made = open_openai if maker == "openai" else open_gemini
    name = "OPENAI_API_KEY" if maker == "openai" else "GEMINI_API_KEY"
    monkeypatch.setenv(name, "quoted “key”")
    with pytest.raises(AdapterError, match=f"{name} holds characters that no key has"):
        made(MODELS[maker])
    monkeypatch.delenv(name)
    with pytest.raises(AdapterError, match=f"needs a key: set {name}"):
        made(MODELS[maker])


def test_an_identity_says_how_frames_go_in_and_where(opened: Open) -> None:
    engine, server = opened()
    settings = engine.identity.settings
    assert (settings["frames"], settings["frame_size"], settings["frame_format"]) == (8, "224x224", "png")
    assert str(settings["url"]).startswith(server.url) and KEY not in str(engine.identity)


def test_a_pace_at_which_nothing_is_asked_is_refused(opened: Open) -> None:
    with pytest.raises(AdapterError, match="concurrency=0"):
        opened(replace(QUICK, concurrency=0))
