"""The judge against a real server that misbehaves in one way at a time."""

from __future__ import annotations

import json
import logging
import sqlite3
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from judge_server import SNAPSHOT, Ask, JudgeServer, scores_of, serve_judge, spoken, wants_scores_alone
from loguru import logger

from egost.tasks.chat.calls import Pacing
from egost.tasks.chat.endpoint import parse_endpoint
from egost.tasks.errors import CacheError
from egost.tasks.judging.judge import (
    JudgeError,
    JudgeFailure,
    Judgement,
    JudgeStopped,
    RouteItem,
    judge_noise,
)
from egost.tasks.judging.openai_judge import OpenAIJudge

KEY = "c3f1a9d25f1d8a7743b94c01e0b6d7aa"
QUICK = Pacing(timeout_s=20, tries=4, first_wait_s=0.02, longest_wait_s=0.1)
REFERENCE = "Turn left at the sofa."

Open = Callable[..., tuple[OpenAIJudge, JudgeServer]]


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "the-key-for-openai-alone")
    monkeypatch.setenv("EGOST_JUDGE_KEY", KEY)
    monkeypatch.setenv("AZURE_OPENAI_API_KEY", KEY)


@pytest.fixture
def opened() -> Iterator[Open]:
    """Starts a server and a judge that asks it; keywords that the judge does not take go to the server."""
    with ExitStack() as stack:

        def start(
            form: str = "openai:judge-model@{}",
            pacing: Pacing = QUICK,
            repeats: int = 1,
            compat: bool = False,
            **settings: Any,
        ) -> tuple[OpenAIJudge, JudgeServer]:
            server = stack.enter_context(serve_judge(**settings))
            endpoint = parse_endpoint(form.format(server.url))
            judge = OpenAIJudge(endpoint, compat=compat, pacing=pacing, repeats=repeats)
            stack.callback(judge.close)
            return judge, server

        yield start


def items(number: int) -> list[RouteItem]:
    return [RouteItem(f"s{i}", "Which way?", REFERENCE, f"walk {i}", "forward") for i in range(number)]


def triples(verdicts: list[Judgement | JudgeFailure]) -> list[tuple[int, int, int] | str]:
    return [
        v.reason if isinstance(v, JudgeFailure) else (v.direction, v.landmark, v.semantic) for v in verdicts
    ]


def truths(asked: list[RouteItem]) -> list[tuple[int, int, int]]:
    return [scores_of(item.reference, item.prediction) for item in asked]


def once(behaviour: str) -> Callable[[Ask], str]:
    """The first request for each item meets a behaviour, the others are answered."""
    return lambda ask: "ok" if ask.number else behaviour


UNREADABLE = {
    "score:7": "bad_scores",
    "score:-1": "bad_scores",
    "score:3.5": "bad_scores",
    'score:"4/5"': "bad_scores",
    "score:null": "bad_scores",
    "say:All three are 5 out of 5.": "no_object",
    "say:": "empty_reply",
    "finish:length": "truncated",
    "finish:stop": "no_object",
    "finish:content_filter": "content_filter",
    "refusal": "refusal",
    "no-choice": "empty_reply",
    "empty-choice": "empty_reply",
}


@pytest.mark.parametrize(("behaviour", "kind"), [("error:500", "server_error"), *UNREADABLE.items()])
def test_a_fault_that_passes_costs_a_call_and_nothing_else(opened: Open, behaviour: str, kind: str) -> None:
    judge, server = opened(script=once(behaviour))
    asked = items(2)
    assert triples(judge(asked)) == truths(asked)
    used = judge.usage
    assert used.faults == {kind: 2} and used.failures == {}
    assert (used.calls, used.judged, used.retries) == (4, 2, 2) and len(server.asks) == 4
    assert used.snapshots == (SNAPSHOT,)


@pytest.mark.parametrize(("behaviour", "kind"), UNREADABLE.items())
def test_a_reply_that_cannot_be_read_is_asked_for_three_times(
    opened: Open, behaviour: str, kind: str
) -> None:
    judge, server = opened(script=lambda ask: behaviour)
    [verdict] = judge(items(1))
    assert isinstance(verdict, JudgeFailure) and verdict.reason == kind and verdict.judge == judge.name
    assert len(server.asks) == 3 and len({ask.body["seed"] for ask, _ in server.asks}) == 3
    if behaviour.startswith("say:"):
        assert verdict.text == behaviour.removeprefix("say:")


def test_a_judge_whose_reasons_run_on_is_asked_for_the_scores_alone(opened: Open) -> None:
    judge, server = opened(script=lambda ask: "ok" if wants_scores_alone(ask) else "finish:length")
    assert triples(judge(items(3))) == truths(items(3))
    assert judge.usage.faults == {"truncated": 3} and len(server.asks) == 6
    first, second = (
        next(ask for ask, _ in server.asks if wants_scores_alone(ask) is alone) for alone in (False, True)
    )
    assert "Leave out the reasons" not in first.body["messages"][0]["content"]
    assert "Leave out the reasons" in second.body["messages"][0]["content"]
    told = [
        {ask.body["messages"][1]["content"] for ask, _ in server.asks if wants_scores_alone(ask) is alone}
        for alone in (False, True)
    ]
    assert told[0] == told[1] and len(told[0]) == 3
    properties = first.body["response_format"]["json_schema"]["schema"]["properties"]
    assert {field["maxLength"] for name, field in properties.items() if name.endswith("_reason")} == {300}


def test_a_server_that_knows_no_bound_in_a_schema_is_asked_without_the_schema(opened: Open) -> None:
    judge, server = opened(script=lambda ask: "no-parameter:response_format")
    assert triples(judge(items(2))) == truths(items(2))
    assert "response_format" not in server.asks[-1][0].body


def test_an_error_is_not_kept_and_whoever_asks_again_has_it_asked_again(opened: Open) -> None:
    judge, server = opened(script=lambda ask: "refusal" if ask.number < 3 else "ok")
    assert triples(judge(items(1))) == ["refusal"]
    assert triples(judge(items(1))) == truths(items(1)) and len(server.asks) == 4


def test_a_second_run_makes_no_call(opened: Open) -> None:
    judge, server = opened()
    asked = items(20)
    first = judge(asked)
    again = OpenAIJudge(parse_endpoint(f"openai:judge-model@{server.url}"), pacing=QUICK)
    assert again(asked) == first and len(server.asks) == 20
    used = again.usage
    assert (used.calls, used.judged, used.cached, used.tokens_in) == (0, 0, 20, 0)
    assert used.snapshots == (SNAPSHOT,)
    again.close()


def test_what_was_asked_for_decides_whether_a_judgement_is_the_same(opened: Open) -> None:
    judge, server = opened()
    [item] = items(1)
    others = [
        replace(item, question="Where?"),
        replace(item, reference="Turn right."),
        replace(item, prediction="walk 2"),
        replace(item, way="reverse"),
    ]
    judge([item, replace(item, sample_id="another sample with the same texts"), *others])
    assert len(server.asks) == 5
    for model, compat in (("another", False), ("judge-model", True)):
        other = OpenAIJudge(parse_endpoint(f"openai:{model}@{server.url}"), compat=compat, pacing=QUICK)
        other([item])
        other.close()
    assert len(server.asks) == 7


def test_rules_need_no_call(opened: Open) -> None:
    judge, server = opened()
    [item] = items(1)
    verdicts = judge([replace(item, prediction=" \n"), replace(item, reference="")])
    assert isinstance(verdicts[0], Judgement) and verdicts[0].empty and verdicts[0].percent == 0
    assert triples(verdicts)[1] == "empty_reference"
    assert server.asks == [] and judge([]) == []


def test_what_is_sent(opened: Open) -> None:
    judge, server = opened()
    judge(items(1))
    [(ask, _)] = server.asks
    assert ask.path == "/v1/chat/completions" and ask.headers["authorization"] == f"Bearer {KEY}"
    assert ask.body["model"] == "judge-model" and ask.body["temperature"] == 0 and ask.body["seed"]
    schema = ask.body["response_format"]["json_schema"]
    assert schema["strict"] is True
    assert schema["schema"]["properties"]["landmark"] == {"type": "integer", "enum": [0, 1, 2, 3, 4, 5]}
    assert (ask.reference, ask.prediction) == (REFERENCE, "walk 0")


def test_compat_asks_for_the_dictionary_and_reads_it(opened: Open) -> None:
    judge, server = opened(compat=True)
    asked = items(3)
    assert triples(judge(asked)) == truths(asked)
    assert judge.name.endswith("+route-judge-compat-2")
    assert all(not {"response_format", "temperature"} & ask.body.keys() for ask, _ in server.asks)


def test_compat_asks_once_and_counts_what_the_public_reader_reads(opened: Open) -> None:
    """What it cannot read is 0 there and unscored here, and is kept: neither a repeat nor another run asks again."""
    judge, server = opened(compat=True)
    server.script = lambda ask: (
        "score:4.5" if ask.prediction == "walk 0" else "say:{'direction': 4, 'landmark': 3}"
    )
    first, second = judge(items(2))
    _, landmark, semantic = truths(items(1))[0]
    assert isinstance(first, JudgeFailure) and first.compat == pytest.approx(
        (4.5 + landmark + semantic) / 3 * 20
    )
    assert isinstance(second, JudgeFailure) and second.reason == "bad_scores"
    assert second.compat == pytest.approx(46.67, abs=0.01)
    again = OpenAIJudge(parse_endpoint(f"openai:judge-model@{server.url}"), compat=True, pacing=QUICK)
    assert [verdict.compat for verdict in again(items(2))] == [first.compat, second.compat]
    again.close()
    assert len(server.asks) == 2


REFUSALS = {
    "error:401 Incorrect API key": "set EGOST_JUDGE_KEY to a valid key",
    "error:404": r"no model 'judge-model'.*EGOST_JUDGE or --judge",
}


@pytest.mark.parametrize(("behaviour", "message"), REFUSALS.items())
def test_a_refusal_ends_the_judging_and_keeps_what_was_judged(
    opened: Open, behaviour: str, message: str
) -> None:
    judge, server = opened(pacing=replace(QUICK, concurrency=4))
    before, after = items(40)[:10], items(40)[10:]
    judge(before)
    server.script = lambda ask: behaviour
    with pytest.raises(JudgeStopped, match=message):
        judge(items(40))
    assert len(server.asks) <= 10 + 4, "no call is made once the server has refused"
    with pytest.raises(JudgeStopped, match=message):
        judge(after)
    server.script = lambda ask: "ok"
    calls = len(server.asks)
    again = OpenAIJudge(parse_endpoint(f"openai:judge-model@{server.url}"), pacing=QUICK)
    assert triples(again(items(40))) == truths(items(40))
    assert again.usage.cached == 10 and len(server.asks) == calls + 30
    again.close()


def test_judging_starts_in_the_background_and_threads_find_it(opened: Open) -> None:
    answers = threading.Event()

    def script(ask: Ask) -> str:
        answers.wait(30)
        return "ok"

    judge, server = opened(script=script, pacing=replace(QUICK, timeout_s=60))
    asked = items(40)
    began = time.monotonic()
    judge.start(asked)
    assert not server.asks, "nothing is answered yet"
    found: dict[str, Judgement | JudgeFailure] = {}

    def ask(part: list[RouteItem]) -> None:
        for item in part:
            [found[item.sample_id]] = judge([item])

    threads = [threading.Thread(target=ask, args=(asked[k::4],)) for k in range(4)]
    for thread in threads:
        thread.start()
    while server.at_once < judge._pacing.concurrency and time.monotonic() - began < 30:
        time.sleep(0.01)
    assert not found
    answers.set()
    for thread in threads:
        thread.join()
    assert triples([found[item.sample_id] for item in asked]) == truths(asked)
    assert len(server.asks) == 40 and server.most_at_once == 32, "the threads that wait are 4"
    assert 0 < judge.usage.wall_s <= time.monotonic() - began


def test_repeats_are_judgements_of_their_own_and_their_spread_is_known(opened: Open) -> None:
    judge, server = opened(script=lambda ask: f"score:{ask.number % 3}", repeats=3)
    asked = items(4)
    verdicts = judge(asked)
    assert len(server.asks) == 12 and judge.usage.judged == 12
    for item, verdict in zip(asked, verdicts, strict=True):
        assert isinstance(verdict, Judgement)
        _, landmark, semantic = scores_of(item.reference, item.prediction)
        assert sorted(verdict.repeats) == [(d, landmark, semantic) for d in range(3)]
        assert verdict.repeats[0] == (verdict.direction, verdict.landmark, verdict.semantic)
    noise = judge_noise([v for v in verdicts if isinstance(v, Judgement)])
    assert noise and (noise.samples, noise.repeats, noise.same) == (4, 3, 0)
    assert noise.sample_sd == pytest.approx(100 / 15) and noise.run_sd == pytest.approx(100 / 15 / 2)
    assert {ask.body["seed"] for ask, _ in server.asks if ask.prediction == "walk 0"} == {
        ask.body["seed"] for ask, _ in server.asks
    } and len({ask.body["seed"] for ask, _ in server.asks}) == 3
    assert judge_noise([Judgement("s", 1, 2, 3, "", "j")]) is None
    with pytest.raises(JudgeError, match="repeat 0 times"):
        opened(repeats=0)


def test_the_key_is_nowhere(
    opened: Open, own_cache: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """Not even where the server repeats it in its replies and errors."""
    caplog.set_level(logging.DEBUG)
    said: list[str] = []
    sink = logger.add(lambda message: said.append(str(message)), level=0, diagnose=True, backtrace=True)
    leak = json.loads(spoken((1, 2, 3))) | {"direction_reason": f"your key is {KEY}"}
    scripts = {
        "walk 0": f"say:{json.dumps(leak)}",
        "walk 1": f"say:the key is {KEY}",
        "walk 2": f"error:500 {KEY}",
        "walk 3": f"error:400 response_format {KEY}",
    }
    judge, server = opened(script=lambda ask: scripts.get(ask.prediction, "ok"))
    server.script = lambda ask: (
        "ok" if ask.prediction == "walk 3" and "response_format" not in ask.body else scripts[ask.prediction]
    )
    verdicts = judge(items(4))
    assert triples(verdicts)[:3] == [(1, 2, 3), "no_object", "server_error"]
    seen = [repr(verdicts), json.dumps([asdict(v) for v in verdicts]), repr(judge.usage), judge.name]
    server.script = lambda ask: f"error:401 Incorrect API key provided: {KEY}"
    with pytest.raises(JudgeStopped) as caught:
        judge(items(6))
    seen += [str(caught.value), repr(caught.value), "".join(traceback.format_exception(caught.value))]
    assert "[key]" in seen[0] and "[key]" in seen[4]
    logger.remove(sink)
    written = capfd.readouterr()
    seen += [*said, caplog.text, written.out, written.err]
    judge.close()
    kept = b"".join(path.read_bytes() for path in own_cache.rglob("*") if path.is_file())
    assert len(kept) > 1000 and any("does not take response_format" in line for line in said)
    assert not any(KEY in text for text in seen) and KEY.encode() not in kept


def test_a_cache_that_cannot_be_used_is_said(opened: Open, own_cache: Path) -> None:
    (own_cache / "judge").write_text("a file where the folder should be")
    with pytest.raises(CacheError, match=r"replies.sqlite.*EGOST_CACHE"):
        opened()
    (own_cache / "judge").unlink()
    (own_cache / "judge").mkdir()
    (own_cache / "judge" / "replies.sqlite").write_text("no database at all, " * 100)
    judge, _ = opened()
    assert triples(judge(items(1))) == truths(items(1)), "a damaged file is moved aside"
    assert len(list((own_cache / "judge").glob("replies.sqlite.damaged-*"))) == 1


def test_a_cache_that_fails_on_the_way_ends_the_judging(opened: Open, own_cache: Path) -> None:
    judge, _ = opened()
    with sqlite3.connect(own_cache / "judge" / "replies.sqlite") as database:
        database.execute("DROP TABLE replies")
    with pytest.raises(CacheError, match="no such table: replies"):
        judge(items(100))
