"""Asking a real server that misbehaves: faults, pacing, retries, refusals and the account of it all."""

from __future__ import annotations

import json
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from judge_server import SNAPSHOT, Ask, JudgeServer, scores_of, serve_judge
from loguru import logger

from egost.tasks.chat.calls import MOST_BAD_REQUESTS, Pacing
from egost.tasks.chat.client import Role
from egost.tasks.chat.endpoint import parse_endpoint
from egost.tasks.chat.reading import json_object
from egost.tasks.chat.reply_store import STORE, stored_bodies
from egost.tasks.chat.structured import SEED, Answered, Asker, Question, object_form, reply_store
from egost.tasks.errors import EgostError

KEY = "c3f1a9d25f1d8a7743b94c01e0b6d7aa"
QUICK = Pacing(timeout_s=20, tries=4, first_wait_s=0.02, longest_wait_s=0.1)
IMPATIENT = replace(QUICK, timeout_s=1.0)
"""For servers that do not reply in time; elsewhere a busy machine must not look like one."""

FORM = object_form("scores", {"direction": {"type": "integer"}})

Scores = tuple[int, int, int]
Open = Callable[..., tuple[Asker, JudgeServer]]


class Stopped(EgostError):
    """What ends the asking in these tests."""


ROLE = Role("The tester", "What was answered is kept", "--tester", Stopped)


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "the-key-for-openai-alone")
    monkeypatch.setenv("EGOST_JUDGE_KEY", KEY)
    monkeypatch.setenv("AZURE_OPENAI_API_KEY", KEY)


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Open]:
    """Starts a server and who asks it; other keywords go to the server."""
    with ExitStack() as stack:

        def start(
            form: str = "openai:judge-model@{}", pacing: Pacing = QUICK, **settings: Any
        ) -> tuple[Asker, JudgeServer]:
            server = stack.enter_context(serve_judge(**settings))
            return asker(stack, form.format(server.url), pacing, tmp_path), server

        yield start


def asker(stack: ExitStack, name: str, pacing: Pacing, folder: Path) -> Asker:
    made = Asker(parse_endpoint(name), ROLE, reply_store(folder), pacing)
    stack.callback(made.close)
    return made


def question(text: str, keeps_all: bool = False) -> Question[Scores]:
    def read(completion: Any) -> Scores:
        found = json_object(completion)
        return found["direction"], found["landmark"], found["semantic"]

    messages = [
        {"role": "system", "content": "Three numbers."},
        {"role": "user", "content": f"<candidate-{'0' * 16}>\n{text}\n</candidate-{'0' * 16}>"},
    ]
    return Question(
        lambda ask: f"{text} {ask if keeps_all else ''}", lambda: messages, FORM, read, keeps_all=keeps_all
    )


def walks(first: int, last: int) -> list[str]:
    return [f"walk {i}" for i in range(first, last)]


def answers(asked: Asker, texts: list[str], keeps_all: bool = False) -> list[Scores | str]:
    """What each text got: scores, or the reason why there are none."""
    got = dict(asked.gather([question(text, keeps_all) for text in texts]))
    return [
        found.content if isinstance(found, Answered) else found.reason for _, found in sorted(got.items())
    ]


def truths(texts: list[str]) -> list[Scores]:
    return [scores_of("", text) for text in texts]


TRANSPORT = {
    "error:429": "rate_limited",
    "retry-after:0.05": "rate_limited",
    "error:500": "server_error",
    "error:503": "server_error",
    "error:408": "server_error",
    "hang:2": "timeout",
    "trickle:0.1": "timeout",
    "drop": "connection",
    "cut": "connection",
    "broken-body": "broken_body",
    "html": "broken_body",
}


@pytest.mark.parametrize(("behaviour", "kind"), TRANSPORT.items())
def test_a_fault_that_passes_costs_a_call_and_nothing_else(opened: Open, behaviour: str, kind: str) -> None:
    asked, server = opened(
        script=lambda ask: "ok" if ask.number else behaviour,
        pacing=IMPATIENT if kind == "timeout" else QUICK,
    )
    assert answers(asked, walks(0, 2)) == truths(walks(0, 2))
    used = asked.tally.usage("judge-model")
    assert used.faults == {kind: 2} and used.failures == {}
    assert (used.calls, used.retries, asked.tally.n_answered) == (4, 2, 2) and len(server.asks) == 4
    assert (used.snapshots, used.tokens_in, used.tokens_out) == ((SNAPSHOT,), 1800, 200)


@pytest.mark.parametrize(("behaviour", "kind"), [("drop", "connection"), ("error:503", "server_error")])
def test_a_fault_that_stays_concerns_its_question(opened: Open, behaviour: str, kind: str) -> None:
    asked, server = opened(script=lambda ask: behaviour if "walk 1" in ask.prediction else "ok")
    right = truths(walks(0, 3))
    assert answers(asked, walks(0, 3)) == [right[0], kind, right[2]]
    assert asked.tally.usage("m").failures == {kind: 1} and len(server.asks) == 2 + QUICK.tries


NONSENSE = {"say:All three are 5.": "no_object", "finish:length": "truncated", "refusal": "refusal"}


@pytest.mark.parametrize(("behaviour", "kind"), NONSENSE.items())
@pytest.mark.parametrize("keeps_all", [False, True])
def test_nonsense_is_asked_for_again_with_other_seeds_and_kept_where_it_counts(
    opened: Open, tmp_path: Path, behaviour: str, kind: str, keeps_all: bool
) -> None:
    asked, server = opened(script=lambda ask: behaviour)
    assert answers(asked, ["walk 0"], keeps_all) == [kind]
    assert [ask.body["seed"] for ask, _ in server.asks] == [SEED, SEED + 1, SEED + 2]
    assert len(stored_bodies(tmp_path / STORE)) == (3 if keeps_all else 0)
    server.script = lambda ask: "ok"
    again = answers(asked, ["walk 0"], keeps_all)
    assert again == ([kind] if keeps_all else truths(["walk 0"])) and len(server.asks) == 4 - keeps_all


@pytest.mark.parametrize("parameter", ["response_format", "seed", "temperature", "max_completion_tokens"])
def test_a_parameter_that_the_server_does_not_know_is_left_out_once_and_said(
    opened: Open, parameter: str
) -> None:
    asked, server = opened(script=lambda ask: f"no-parameter:{parameter}")
    said: list[str] = []
    sink = logger.add(lambda message: said.append(str(message)), level="WARNING")
    assert answers(asked, walks(0, 1)) + answers(asked, walks(1, 10)) == truths(walks(0, 10))
    logger.remove(sink)
    assert asked.tally.usage("m").left_out == (parameter,) and len(server.asks) == 11
    assert len([line for line in said if f"does not take {parameter}" in line]) == 1


REFUSALS = {
    "error:401 Incorrect API key": "set EGOST_JUDGE_KEY to a valid key",
    "error:403": "may not use judge-model",
    "error:404": r"no model 'judge-model'.*--tester",
    "error:422": "does not take the request",
    "code:429 insufficient_quota": "no credit left",
    "retry-after:3600": "asks to wait 3600 s",
}


@pytest.mark.parametrize(("behaviour", "message"), REFUSALS.items())
def test_a_refusal_ends_the_asking_and_what_was_answered_is_kept(
    opened: Open, tmp_path: Path, behaviour: str, message: str
) -> None:
    asked, server = opened(pacing=replace(QUICK, concurrency=4))
    answers(asked, walks(0, 10))
    server.script = lambda ask: f"{behaviour} {KEY}" if behaviour.startswith("error") else behaviour
    for texts in (walks(0, 40), walks(10, 20)):
        with pytest.raises(Stopped, match=f"(?s){message}.*What was answered is kept") as caught:
            answers(asked, texts)
        assert KEY not in "".join(traceback.format_exception(caught.value))
        assert caught.value.__context__ is None, "the client's exception holds the request with its key"
    assert len(server.asks) <= 10 + 4, "no call is made once the server has refused"
    assert answers_of_a_new_one(server, tmp_path, walks(0, 10)) == truths(walks(0, 10))


def answers_of_a_new_one(server: JudgeServer, folder: Path, texts: list[str]) -> list[Scores | str]:
    with ExitStack() as stack:
        return answers(asker(stack, f"openai:judge-model@{server.url}", QUICK, folder), texts)


@pytest.mark.parametrize(
    ("behaviour", "reason"),
    [
        ("code:400 context_length_exceeded", "too_long"),
        ("error:400 This model's maximum context length is 9 tokens", "too_long"),
        ("error:413", "too_long"),
        ("code:400 content_filter", "content_filter"),
    ],
)
def test_a_refusal_of_one_question_is_no_refusal_of_all(opened: Open, behaviour: str, reason: str) -> None:
    asked, server = opened(script=lambda ask: behaviour if ask.prediction == "walk 0" else "ok")
    assert answers(asked, walks(0, 3)) == [reason, *truths(walks(1, 3))] and len(server.asks) == 3


def test_a_bad_request_before_any_answer_ends_the_asking(opened: Open) -> None:
    asked, server = opened(script=lambda ask: "error:400 no such thing", pacing=replace(QUICK, concurrency=4))
    with pytest.raises(Stopped, match=r"no such thing.*does not take the request"):
        answers(asked, walks(0, 40))
    assert len(server.asks) <= 4


def test_a_bad_request_among_answers_concerns_its_question(opened: Open) -> None:
    asked, server = opened(pacing=replace(QUICK, concurrency=1))
    texts = walks(0, 90)
    answers(asked, texts[:1])
    server.script = lambda ask: "error:400 odd" if int(ask.prediction.split()[1]) % 3 else "ok"
    expected = ["bad_request" if i % 3 else truths([text])[0] for i, text in enumerate(texts)]
    assert answers(asked, texts) == expected
    assert asked.tally.usage("m").failures == {"bad_request": 60} and len(server.asks) == 90


def test_bad_requests_in_a_row_end_the_asking(opened: Open) -> None:
    asked, server = opened(pacing=replace(QUICK, concurrency=4))
    answers(asked, walks(0, 1))
    server.script = lambda ask: "error:400 odd"
    with pytest.raises(Stopped, match=r"odd.*does not take the request"):
        answers(asked, walks(0, 100))
    assert MOST_BAD_REQUESTS < len(server.asks) <= 1 + MOST_BAD_REQUESTS + 4


@pytest.mark.parametrize("behaviour", ["drop", "hang:2", "error:502"])
def test_a_dead_endpoint_ends_the_asking_soon(opened: Open, tmp_path: Path, behaviour: str) -> None:
    pacing = replace(QUICK, breaker_calls=10, breaker_s=0.5, tries=50, concurrency=8, timeout_s=0.5)
    asked, server = opened(script=lambda ask: behaviour, pacing=pacing)
    with pytest.raises(Stopped, match=r"does not answer: 10 calls in a row failed"):
        answers(asked, walks(0, 300))
    # Calls that time out are ended by one of their first waves; those that fail at once, by the time.
    assert len(server.asks) <= 6 * pacing.concurrency if behaviour == "hang:2" else len(server.asks) < 200
    server.script = lambda ask: "ok"
    assert answers_of_a_new_one(server, tmp_path, walks(0, 300)) == truths(walks(0, 300))


def test_nobody_at_the_address_is_a_dead_endpoint(tmp_path: Path) -> None:
    pacing = replace(QUICK, breaker_calls=5, breaker_s=0.1, tries=50)
    with ExitStack() as stack:
        asked = asker(stack, "openai:m@http://127.0.0.1:9/v1", pacing, tmp_path)
        with pytest.raises(Stopped, match=r"http://127.0.0.1:9/v1 does not answer"):
            answers(asked, walks(0, 10))


def test_a_429_halves_the_calls_at_once_and_they_grow_back(opened: Open) -> None:
    """The server bears 4 calls at once; the asker begins with 32."""
    server: JudgeServer

    def script(ask: Ask) -> str:
        return "error:429" if server.at_once > 4 else "ok"

    asked, server = opened(script=script, latency_s=0.01, pacing=replace(QUICK, tries=20))
    assert answers(asked, walks(0, 200)) == truths(walks(0, 200))
    assert asked.tally.usage("m").faults["rate_limited"] < 200
    busy = [behaviour for _, behaviour in server.asks]
    assert busy[:32].count("error:429") > busy[-32:].count("error:429")


@pytest.mark.parametrize("behaviour", ["retry-after:0.6", "busy:0.6"])
def test_retry_after_is_honoured_by_all_calls(opened: Open, behaviour: str) -> None:
    moments: list[float] = []

    def script(ask: Ask) -> str:
        moments.append(time.monotonic())
        return behaviour if len(moments) == 1 else "ok"

    asked, _ = opened(script=script, pacing=replace(QUICK, concurrency=1))
    assert answers(asked, walks(0, 5)) == truths(walks(0, 5))
    assert moments[1] - moments[0] >= 0.6


def test_many_calls_are_under_way_at_once_and_never_more_than_allowed(opened: Open) -> None:
    asked, server = opened(latency_s=0.3, pacing=replace(QUICK, concurrency=16))
    answers(asked, walks(0, 60))
    assert server.most_at_once == 16


def test_answers_come_as_they_finish_and_what_is_under_way_at_an_end_is_not_lost(opened: Open) -> None:
    def script(ask: Ask) -> str:
        if ask.prediction == "walk 3":
            return "error:401"
        time.sleep(0.6 if ask.prediction == "walk 0" else 0.3)
        return "ok"

    asked, server = opened(script=script, pacing=replace(QUICK, concurrency=4))
    got: list[int] = []
    with pytest.raises(Stopped, match="not accepted"):
        for place, _ in asked.gather([question(text) for text in walks(0, 30)]):
            got.append(place)
    assert sorted(got) == [0, 1, 2] and got[-1] == 0 and len(server.asks) == 4


def test_whoever_stops_listening_stops_the_calls(opened: Open) -> None:
    asked, server = opened(latency_s=0.2, pacing=replace(QUICK, concurrency=4))
    listening = asked.gather([question(text) for text in walks(0, 40)])
    next(listening)
    listening.close()  # type: ignore[attr-defined]
    made = len(server.asks)
    time.sleep(0.6)
    assert len(server.asks) <= made + 4 < 40
    assert answers(asked, ["walk 50"]) == truths(["walk 50"]), "the others can still ask"


def test_azure_is_asked_in_its_own_way(opened: Open) -> None:
    asked, server = opened("azure:my-gpt4o@{}")
    assert answers(asked, walks(0, 1)) == truths(walks(0, 1))
    [(ask, _)] = server.asks
    assert "/openai/deployments/my-gpt4o/chat/completions?api-version=" in ask.path
    assert ask.headers["api-key"] == KEY


def test_a_server_of_ones_own_never_gets_openais_key(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EGOST_JUDGE_KEY")
    asked, server = opened()
    answers(asked, walks(0, 1))
    assert server.asks[0][0].headers["authorization"] == "Bearer no-key"


def test_what_is_sent_and_kept(opened: Open, tmp_path: Path) -> None:
    asked, server = opened()
    answers(asked, ["walk 0"])
    [(ask, _)] = server.asks
    assert ask.headers["authorization"] == f"Bearer {KEY}" and ask.body["response_format"] == FORM
    assert (ask.body["model"], ask.body["temperature"], ask.body["seed"]) == ("judge-model", 0, SEED)
    [body] = stored_bodies(tmp_path / STORE).values()
    assert (body["snapshot"], body["tokens_in"], body["left_out"]) == (SNAPSHOT, 900, [])
    assert body["asked"] == f"openai:judge-model@{server.url}" and KEY not in json.dumps(body)


def test_questions_that_are_asked_one_by_one_leave_a_line_a_minute(
    opened: Open, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, server = opened()
    now = [0.0]
    endpoint = parse_endpoint(f"openai:judge-model@{server.url}")
    asking = Asker(endpoint, ROLE, reply_store(tmp_path / "own"), QUICK, clock=lambda: now[0])
    for number in range(1, 7):
        now[0] += 25.0
        asking.submit(question(f"question {number}")).result()
        while asking._log.done < number:
            time.sleep(0.001)
    asking.close()
    numbers = [
        line.partition(f"egost: asking {endpoint.label}: ")[2]
        for line in capsys.readouterr().err.splitlines()
    ]
    assert [number.partition(",")[0] for number in numbers] == ["3 of 3 questions", "6 of 6 questions"]
