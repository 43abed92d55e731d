"""Servers that misbehave, over real HTTP: what is asked again, what fails one sample, what ends the run."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from chat_server import ChatAsk, run_chat, serve_chat, what_it_says
from release_files import write_video
from server_engines import engine

from egost.model_adapters.engine import AdapterError, Ask, Failure, GenerationArguments, Reply
from egost.model_adapters.server.server_engine import LOSSES, MOST_FAILED_IN_A_ROW
from egost.tasks.clips.clips import Clip, get_clip
from egost.tasks.clips.protocols import parse_protocol


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> list[Clip]:
    folder = tmp_path_factory.mktemp("clips")
    protocol = parse_protocol("uniform8")
    return [
        get_clip(write_video(folder / f"{i}.mp4", size=size, seed=i), protocol, folder)
        for i, size in enumerate([(112, 112), (112, 112), (114, 142)])
    ]


@pytest.fixture
def asks(clips: list[Clip]) -> list[Ask]:
    """Six questions on each of three clips."""
    return [
        Ask(f"mini/{c}-{q}", f"question {c}-{q}", clip, GenerationArguments(8))
        for c, clip in enumerate(clips)
        for q in range(6)
    ]


def answers(asks: Sequence[Ask], *urls: str, **settings: Any) -> list[Reply | Failure]:
    with closing(engine(*urls, **settings)) as made:
        outcomes = list(made.answer(asks))
    assert sorted(place for place, _ in outcomes) == list(range(len(asks))), "each exactly once"
    return [outcome for _, outcome in sorted(outcomes, key=lambda pair: pair[0])]


def right(asks: Sequence[Ask]) -> list[str]:
    return [what_it_says(ask.prompt, ask.clip.frames()) for ask in asks if ask.clip]


def texts(outcomes: Sequence[Reply | Failure]) -> list[str | None]:
    return [outcome.text if isinstance(outcome, Reply) else None for outcome in outcomes]


def only_for(prompt: str, behaviour: str, times: int = 99) -> Callable[[ChatAsk], str]:
    return lambda ask: behaviour if ask.text == prompt and ask.number < times else "ok"


@pytest.mark.parametrize("media", ["file", "inline"])
def test_every_pixel_arrives_as_it_is(asks: list[Ask], media: str) -> None:
    with serve_chat() as server:
        outcomes = answers(asks, server.url, media=media)
        assert texts(outcomes) == right(asks)
        assert {(ask.by_file, ask.by_copy) for ask in server.questions} == {
            (media == "file", media == "inline")
        }
        first = outcomes[0]
        assert isinstance(first, Reply) and (first.video_tokens, first.prompt_tokens) == (64, 74)


def test_a_family_without_a_video_input_gets_each_frame_as_an_image(asks: list[Ask]) -> None:
    with serve_chat(names=("intern", "egost?family=internvl_chat")) as server:
        outcomes = answers(asks[:6], server.url)
        questions = server.questions
    assert all(ask.images and ask.frames is not None and len(ask.frames) == 8 for ask in questions)
    assert {ask.text.splitlines()[7] for ask in questions} == {"Frame8: <image>"}
    assert all(isinstance(reply, Reply) and reply.video_tokens == 8 * 4 * 4 for reply in outcomes)


def test_what_is_sent_beside_the_clip(asks: list[Ask]) -> None:
    drawn = GenerationArguments(30, temperature=0.7, top_p=0.9, stop=("\n",), seed=5)
    with serve_chat() as server:
        answers([asks[0], Ask("mini/x", "drawn", None, drawn)], server.url)
        greedy, other = sorted((ask.body for ask in server.questions), key=lambda body: body["max_tokens"])
    assert greedy["messages"][0] == {"role": "system", "content": "You are a helpful assistant."}
    kinds = [part["type"] for part in greedy["messages"][1]["content"]]
    assert kinds == ["video_url", "text"], "the clip stands first, for the prefix cache"
    assert {k: v for k, v in greedy.items() if k != "messages"} == {
        "model": "tiny",
        "max_tokens": 8,
        "temperature": 0.0,
    }
    assert {k: v for k, v in other.items() if k not in ("messages", "model")} == {
        "max_tokens": 30,
        "temperature": 0.7,
        "top_p": 0.9,
        "top_k": 0,
        "min_p": 0.0,
        "seed": 5,
        "stop": ["\n"],
    }


def test_a_server_that_cannot_read_the_file_gets_the_pixels(asks: list[Ask]) -> None:
    with serve_chat(takes_files=False) as server:
        assert texts(answers(asks, server.url)) == right(asks)
        assert all(ask.by_copy for ask in server.questions)
        with pytest.raises(AdapterError, match=r"cannot be given clips by file: .*allowed-local-media-path"):
            answers(asks, server.url, media="file")


def test_a_server_that_samples_files_gets_the_pixels(asks: list[Ask]) -> None:
    with serve_chat(keeps=(4, 8)) as server:
        assert texts(answers(asks, server.url)) == right(asks)
        assert not any(ask.by_file or ask.by_copy for ask in server.questions)
        with pytest.raises(AdapterError, match="makes 32 tokens of the file and 64 of the pixels"):
            answers(asks, server.url, media="file")


@pytest.mark.parametrize("kept", [1, 4, 6])
def test_a_server_that_drops_frames_ends_the_run(asks: list[Ask], kept: int) -> None:
    with (
        serve_chat(keeps=(8, kept)) as server,
        pytest.raises(AdapterError, match="does not see all frames"),
    ):
        answers(asks, server.url)


def test_frames_lost_on_the_way_end_the_run(asks: list[Ask]) -> None:
    lost = asks[9].prompt
    with (
        serve_chat(script=only_for(lost, "lose:16")) as server,
        pytest.raises(AdapterError, match=r"made 48 tokens .* 64 were expected .* frames were lost"),
    ):
        answers(asks, server.url)


def test_a_server_that_tells_no_counts_is_warned_of_and_never_sampled(
    asks: list[Ask], said: list[str]
) -> None:
    with serve_chat(tells=False) as server:
        outcomes = answers(asks, server.url)
        assert texts(outcomes) == right(asks) and not any(ask.by_file for ask in server.questions)
        assert all(isinstance(o, Reply) and o.video_tokens is None for o in outcomes)
    assert sum("--enable-prompt-tokens-details" in line for line in said) == 1


@pytest.mark.parametrize("trouble", ["error:429 slow down", "error:500 no", "error:503 busy", "html", "cut"])
def test_trouble_that_passes_changes_no_reply(asks: list[Ask], trouble: str) -> None:
    with serve_chat(script=lambda ask: trouble if ask.number < 2 and not ask.probe else "ok") as server:
        assert texts(answers(asks, server.url)) == right(asks)
        assert len(server.questions) == 3 * len(asks)


def test_an_aborted_reply_is_asked_again(asks: list[Ask]) -> None:
    with serve_chat(script=only_for(asks[3].prompt, "finish:abort", times=1)) as server:
        assert texts(answers(asks, server.url)) == right(asks)


@pytest.mark.parametrize(
    ("behaviour", "reason"),
    [
        ("error:400 This model's maximum context length is 4096 tokens. However", "context_too_long"),
        # The server of the tests counts 2 tokens a reply, and 8 are asked for.
        ("finish:length", "context_too_long"),
        ("error:400 max_tokens=9000 cannot be greater than max_model_len=4096", "context_too_long"),
        (
            "error:400 The decoder prompt (length 9) is longer than the maximum model length",
            "context_too_long",
        ),
        ("error:400 Could not open video stream", "unsupported_video"),
        ("error:422 nothing of the kind", "refused"),
        ("error:500 CUDA out of memory", "out_of_memory"),
        ("error:500 no", "server_error"),
        ("html", "server_error"),
        ("cut", "server_error"),
        ("hang:3", "timeout"),
        ("say:null", "no_text"),
    ],
)
def test_one_sample_fails_with_its_reason(asks: list[Ask], behaviour: str, reason: str) -> None:
    bad = 7
    with serve_chat(script=only_for(asks[bad].prompt, behaviour)) as server:
        outcomes = answers(asks, server.url, timeout_s=0.5 if reason == "timeout" else 5.0)
    failure = outcomes[bad]
    assert isinstance(failure, Failure) and failure.reason == reason and failure.message
    expected: list[str | None] = list(right(asks))
    expected[bad] = None
    assert texts(outcomes) == expected


def test_an_empty_text_is_a_reply(asks: list[Ask]) -> None:
    with serve_chat(script=only_for(asks[0].prompt, 'say:""')) as server:
        assert texts(answers(asks[:1], server.url)) == [""]


def test_thinking_that_fills_all_tokens_is_a_reply_that_was_cut(asks: list[Ask]) -> None:
    most = asks[0].arguments.max_new_tokens
    with serve_chat(script=only_for(asks[0].prompt, f"think:{most}")) as server:
        [reply] = answers(asks[:1], server.url)
    assert isinstance(reply, Reply) and reply.text == "" and reply.finish_reason == "length"


def test_a_text_in_parts_is_read(asks: list[Ask]) -> None:
    parts = '[{"type": "text", "text": "B"}, {"type": "text", "text": "."}]'
    with serve_chat(script=only_for(asks[0].prompt, f"say:{parts}")) as server:
        assert texts(answers(asks[:1], server.url)) == ["B."]


def test_many_at_once_and_no_more(asks: list[Ask]) -> None:
    with serve_chat(latency_s=0.05) as server:
        answers(asks, server.url, concurrency=4)
        assert server.most_at_once == 4


def test_a_server_that_is_not_of_vllm_gets_pixels_rather_than_bytes(asks: list[Ask]) -> None:
    """Its decoder may show the file otherwise, which a number of tokens does not tell."""
    with serve_chat(version=None) as server:
        assert texts(answers(asks, server.url, media="inline")) == right(asks)
        assert not any(ask.by_file or ask.by_copy for ask in server.questions)


@pytest.mark.parametrize("version", ["0.32.0", None])
def test_a_clip_is_encoded_once_for_all_questions_on_it(
    asks: list[Ask], monkeypatch: pytest.MonkeyPatch, version: str | None
) -> None:
    from egost.model_adapters.server import server_requests

    encoded: list[tuple[int, ...]] = []
    real = server_requests.pixel_parts
    monkeypatch.setattr(
        server_requests,
        "pixel_parts",
        lambda frames, family: encoded.append(frames.shape) or real(frames, family),
    )
    copies: list[Path] = []
    copied = server_requests.copy_part
    monkeypatch.setattr(server_requests, "copy_part", lambda clip: copies.append(clip.path) or copied(clip))
    with serve_chat(version=version) as server, closing(engine(server.url, media="inline")) as made:
        outcomes = [outcome for _, outcome in sorted(made.answer(asks), key=lambda pair: pair[0])]
        assert texts(outcomes) == right(asks)
        sent = sum(len(json.dumps(ask.body)) for ask, _ in server.asks)
    # The probe frames, by which a server shows that it sees all, are of 224 x 224 pixels. Of the bytes of files, one
    # clip of each of two sizes goes as pixels, too, to know how many tokens it makes.
    assert len([shape for shape in encoded if shape[1:3] != (224, 224)]) == (2 if version else 3)
    assert len(copies) == (3 if version else 0)
    assert f"{made.sent_bytes / 1e6:,.1f}" == f"{sent / 1e6:,.1f}"


def test_two_servers_share_the_work_and_keep_a_clip_together(asks: list[Ask]) -> None:
    with serve_chat(latency_s=0.02) as one, serve_chat(latency_s=0.02) as two:
        assert texts(answers(asks, one.url, two.url, concurrency=1)) == right(asks)
        shares = [[ask.text.split()[1].split("-")[0] for ask in server.questions] for server in (one, two)]
    assert all(len(share) >= 6 for share in shares)
    assert {shares[0][0], shares[1][0]} == {"0", "1"}, "each begins with a clip of its own"
    assert all(len(set(share[:6])) == 1 for share in shares), "and asks all that is asked about it"


def test_a_slow_server_does_not_hold_the_others_up(asks: list[Ask]) -> None:
    slow_once = threading.Event()

    def slow(ask: ChatAsk) -> str:
        if not ask.probe:
            time.sleep(0.4)
            slow_once.set()
        return "ok"

    with serve_chat(script=slow) as one, serve_chat() as two:
        assert texts(answers(asks, one.url, two.url, concurrency=1)) == right(asks)
        # The slow one is asked one question at a time, so this is also how long the run waited for it.
        assert slow_once.is_set() and len(one.questions) < min(6, len(asks) / 2) and len(two.questions) > 6


def test_the_work_of_a_server_that_is_killed_goes_to_the_other(asks: list[Ask], said: list[str]) -> None:
    with run_chat(latency_s=0.05) as dying, serve_chat(latency_s=0.05) as other:
        with closing(engine(dying.server.url, other.url)) as made:
            outcomes = {}
            for place, outcome in made.answer(asks):
                outcomes[place] = outcome
                if len(outcomes) == 3:
                    dying.kill()
        assert texts([outcomes[place] for place in range(len(asks))]) == right(asks)
        assert len(dying.server.questions) > 0 and len(other.questions) > 9
    assert any("is gone" in line for line in said)


def test_a_server_that_comes_back_is_asked_again(asks: list[Ask]) -> None:
    with run_chat() as only, closing(engine(only.server.url, wait_s=10.0, concurrency=1)) as made:
        texts_by_place = {}
        for place, outcome in made.answer(asks):
            texts_by_place[place] = outcome
            if len(texts_by_place) == 5:
                only.kill()
                threading.Timer(0.5, only.start).start()
        assert texts([texts_by_place[place] for place in range(len(asks))]) == right(asks)


def test_when_no_server_is_left_the_run_ends_and_says_so(asks: list[Ask]) -> None:
    with run_chat() as only, closing(engine(only.server.url, wait_s=0.4)) as made:
        answered = []
        with pytest.raises(AdapterError, match=r"no server is left, and none came back within 0\.4 s"):
            for pair in made.answer(asks):
                answered.append(pair)
                only.kill()
        assert 1 <= len(answered) < len(asks)


def test_a_server_that_answers_nothing_ends_the_run(asks: list[Ask]) -> None:
    many = [Ask(f"mini/{i}", f"q{i}", asks[0].clip, asks[0].arguments) for i in range(60)]
    with (
        serve_chat(script=lambda ask: "ok" if ask.probe else "error:500 no") as server,
        pytest.raises(AdapterError, match=f"{MOST_FAILED_IN_A_ROW} requests in a row brought no reply"),
    ):
        answers(many, server.url)
    assert LOSSES == 3


def test_a_server_whose_completions_never_work_is_not_tried_for_ever(asks: list[Ask]) -> None:
    with (
        serve_chat(script=lambda ask: "cut") as server,
        pytest.raises(AdapterError, match="no server is left"),
    ):
        answers(asks, server.url, wait_s=0.4)
    with serve_chat(script=lambda ask: "cut") as broken, serve_chat() as other:
        assert texts(answers(asks, broken.url, other.url)) == right(asks)


def test_a_server_without_a_video_input_is_refused(asks: list[Ask]) -> None:
    with (
        serve_chat(
            script=lambda ask: "error:400 At most 0 video(s) may be provided in one prompt."
        ) as server,
        pytest.raises(AdapterError, match="takes no video: HTTP 400: At most 0 video"),
    ):
        answers(asks, server.url)


def test_one_of_two_servers_is_not_up_yet(asks: list[Ask]) -> None:
    with run_chat() as late, serve_chat() as up:
        late.kill()
        assert texts(answers(asks, late.server.url, up.url)) == right(asks)


def test_a_key_is_read_from_the_environment_alone(asks: list[Ask], monkeypatch: pytest.MonkeyPatch) -> None:
    with serve_chat(key="very-secret") as server:
        with pytest.raises(AdapterError, match="EGOST_SERVER_API_KEY: it is not set"):
            engine(server.url)
        monkeypatch.setenv("EGOST_SERVER_API_KEY", "wrong-secret")
        with pytest.raises(AdapterError, match="is not taken") as refused:
            engine(server.url)
        assert "wrong-secret" not in str(refused.value)
        monkeypatch.setenv("EGOST_SERVER_API_KEY", "very-secret")
        assert texts(answers(asks, server.url + "/v1/")) == right(asks)
