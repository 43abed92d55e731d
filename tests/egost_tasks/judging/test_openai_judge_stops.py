"""How the judging ends early, for one sample or for all, and what is left then."""

from __future__ import annotations

import json
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from judge_server import Ask, JudgeServer, scores_of, serve_judge

from egost.tasks.chat.calls import Pacing
from egost.tasks.chat.endpoint import parse_endpoint
from egost.tasks.chat.reply_store import STORE, stored_bodies
from egost.tasks.chat.structured import SEED
from egost.tasks.judging import openai_judge as client
from egost.tasks.judging.judge import JudgeFailure, Judgement, JudgeStopped, RouteItem
from egost.tasks.judging.openai_judge import OpenAIJudge, shared_judge

PACING = Pacing(timeout_s=10, tries=4, first_wait_s=0.02, longest_wait_s=0.1)

Open = Callable[..., tuple[OpenAIJudge, JudgeServer]]


@pytest.fixture
def opened() -> Iterator[Open]:
    with ExitStack() as stack:

        def start(
            pacing: Pacing = PACING, repeats: int = 1, **settings: Any
        ) -> tuple[OpenAIJudge, JudgeServer]:
            server = stack.enter_context(serve_judge(**settings))
            judge = OpenAIJudge(parse_endpoint(f"openai:m@{server.url}"), pacing=pacing, repeats=repeats)
            stack.callback(judge.close)
            return judge, server

        yield start


def items(number: int) -> list[RouteItem]:
    return [RouteItem(f"s{i}", "Which way?", "Turn left.", f"walk {i}", "forward") for i in range(number)]


def outcome(verdict: Judgement | JudgeFailure) -> tuple[int, int, int] | str:
    if isinstance(verdict, JudgeFailure):
        return verdict.reason
    return verdict.direction, verdict.landmark, verdict.semantic


def truth(item: RouteItem) -> tuple[int, int, int]:
    return scores_of(item.reference, item.prediction)


def test_what_nobody_expected_ends_the_judging_by_name_and_without_its_text(opened: Open) -> None:
    judge, server = opened()
    [fine] = items(1)
    judge([fine])
    no_text: Any = ["secret-word"]
    with pytest.raises(
        JudgeStopped, match=r"openai:m@http.* ended with an unexpected AttributeError"
    ) as caught:
        judge([replace(fine, question=no_text)])
    assert "secret-word" not in "".join(traceback.format_exception(caught.value))
    assert caught.value.__context__ is None
    with pytest.raises(JudgeStopped, match="unexpected AttributeError"):
        judge(items(5))
    assert outcome(judge([fine])[0]) == truth(fine) and len(server.asks) == 1


def test_a_first_judgement_stands_although_a_repeat_was_stopped(opened: Open) -> None:
    def script(ask: Ask) -> str:
        return "ok" if ask.body["seed"] == SEED else "error:401"

    judge, _ = opened(script=script, repeats=3, pacing=replace(PACING, concurrency=3))
    [item] = items(1)
    [verdict] = judge([item])
    assert outcome(verdict) == truth(item)
    assert isinstance(verdict, Judgement) and verdict.repeats == (truth(item),)
    with pytest.raises(JudgeStopped, match="not accepted"):
        judge(items(2))


def test_whoever_waits_when_the_judge_is_closed_is_told_so(opened: Open, own_cache: Path) -> None:
    answers = threading.Event()
    judge, server = opened(script=lambda ask: "ok" if answers.wait(60) else "drop")
    told: list[str] = []

    def wait_for_all() -> None:
        with pytest.raises(JudgeStopped) as caught:
            judge(items(200))
        told.append(str(caught.value))

    threads = [threading.Thread(target=wait_for_all, daemon=True) for _ in range(3)]
    for thread in threads:
        thread.start()
    while server.at_once < PACING.concurrency:
        time.sleep(0.01)
    judge.close()
    for thread in threads:
        thread.join(timeout=30)
    assert len(told) == 3 and all("was closed" in text for text in told)
    assert not server.asks, "nobody waits for a reply"
    answers.set()
    assert stored_bodies(own_cache / "judge" / STORE) == {}
    judge.close()
    judge.start(items(300))
    with pytest.raises(JudgeStopped, match="was closed"):
        judge(items(300))


def test_a_judge_that_has_stopped_is_followed_by_a_new_one_after_a_while(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with serve_judge(script=lambda ask: "error:401") as server:
        spec, [item] = f"openai:m@{server.url}", items(1)
        for _ in range(20):
            with pytest.raises(JudgeStopped, match="not accepted"):
                shared_judge(spec, 1)([item])
        assert len(server.asks) == 1
        server.script = lambda ask: "ok"
        stopped = shared_judge(spec, 1)
        monkeypatch.setattr(client, "STAYS_STOPPED_S", 0.2)
        time.sleep(0.3)
        fresh = shared_judge(spec, 1)
        assert fresh is not stopped and outcome(fresh([item])[0]) == truth(item)
        assert shared_judge(spec, 1) is fresh
        used = fresh.usage
        assert (used.calls, used.judged, used.faults) == (2, 1, {"refused": 1}), "one account for the process"
        fresh.close()


@pytest.mark.parametrize("reply", ["say:no \ud83d", "error:400 odd \ud83d"])
def test_what_a_failure_says_can_be_written_down(opened: Open, reply: str) -> None:
    judge, server = opened()
    first, second = items(2)
    judge([first])
    server.script = lambda ask: reply
    [failure] = judge([second])
    assert isinstance(failure, JudgeFailure) and failure.text.endswith(("no \ufffd", "odd \ufffd"))
    json.dumps(failure.text, ensure_ascii=False).encode()
