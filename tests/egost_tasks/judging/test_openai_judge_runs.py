"""Whole runs of the judge: a thousand judgements under all faults at once, killed, resumed, and in two processes."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from judge_server import Ask, JudgeServer, scores_of, serve_judge
from places import ROOT

from egost.tasks.chat.calls import Pacing
from egost.tasks.chat.endpoint import parse_endpoint
from egost.tasks.chat.reply_store import STORE, stored_bodies
from egost.tasks.judging.judge import JudgeFailure, Judgement, RouteItem
from egost.tasks.judging.openai_judge import OpenAIJudge

N = 1000
PACING = Pacing(timeout_s=3.0, tries=6, first_wait_s=0.02, longest_wait_s=0.2)
PATIENT = replace(PACING, timeout_s=60)
"""Where each sample must be asked once: no machine is so busy that a call lapses meanwhile."""

FAULTS = (
    "error:429",
    "retry-after:0.02",
    "error:500",
    "error:503",
    "drop",
    "cut",
    "broken-body",
    "finish:stop",
    "score:7",
    "score:-1",
    "score:3.5",
    'score:"4/5"',
    "say:I would give it five points.",
    "no-choice",
    "refusal",
    "finish:content_filter",
    "finish:length",
    "trickle:0.01",
)
"""One in five items meets one of them first, and one in fifty a server that hangs."""

FOR_GOOD = {3: ("score:7", "bad_scores"), 33: ("refusal", "refusal"), 63: ("error:500", "server_error")}
"""Items (by their number modulo 100) that never get a reply of use, and the reason that they end with."""


def script(ask: Ask) -> str:
    number = int(ask.prediction.split()[1])
    if number % 100 in FOR_GOOD:
        return FOR_GOOD[number % 100][0]
    if ask.number == 0 and number % 50 == 1:
        return "hang:5" if number % 100 == 1 else "trickle:0.25"
    if ask.number == 0 and number % 5 == 2:
        return FAULTS[number // 5 % len(FAULTS)]
    if ask.number == 1 and number % 25 == 2:
        return FAULTS[number // 25 % len(FAULTS)]
    return "ok"


def items(number: int = N) -> list[RouteItem]:
    ways = ("forward", "reverse")
    return [
        RouteItem(f"s{i}", "Which way?", f"Turn left at sofa {i}.", f"walk {i}", ways[i % 2])  # type: ignore[arg-type]
        for i in range(number)
    ]


def expected(item: RouteItem) -> list[int] | str:
    number = int(item.sample_id[1:])
    if number % 100 in FOR_GOOD:
        return FOR_GOOD[number % 100][1]
    return list(scores_of(item.reference, item.prediction))


def outcome(verdict: Judgement | JudgeFailure) -> list[int] | str:
    if isinstance(verdict, JudgeFailure):
        return verdict.reason
    return [verdict.direction, verdict.landmark, verdict.semantic]


_RUN = """
import json, sys
from test_openai_judge_runs import PACING, PATIENT, items, outcome
from egost.tasks.judging.openai_judge import OpenAIJudge
from egost.tasks.chat.endpoint import parse_endpoint
judge = OpenAIJudge(parse_endpoint(sys.argv[1]), pacing=PATIENT if sys.argv[3] == "patient" else PACING)
asked = items(int(sys.argv[2]))
print("ready", flush=True)
sys.stdin.readline()
verdicts = judge(asked)
used = judge.usage
print(json.dumps({"verdicts": [outcome(v) for v in verdicts], "ids": [v.sample_id for v in verdicts],
                  "judged": used.judged, "cached": used.cached, "calls": used.calls}))
"""


def run_in_a_process(
    server: JudgeServer, number: int = N, pacing: Literal["quick", "patient"] = "quick"
) -> subprocess.Popen[str]:
    """A judge in a process of its own, which begins when `begin` says so."""
    path = os.pathsep.join([str(Path(__file__).parent), str(ROOT / "tests" / "support"), str(ROOT)])
    return subprocess.Popen(
        [sys.executable, "-c", _RUN, f"openai:judge-model@{server.url}", str(number), pacing],
        env={**os.environ, "PYTHONPATH": path},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def begin(*runs: subprocess.Popen[str]) -> None:
    for run in runs:
        assert run.stdout and run.stdout.readline() == "ready\n"
    for run in runs:
        assert run.stdin
        run.stdin.write("\n")
        run.stdin.flush()


def told_by(run: subprocess.Popen[str]) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(run.communicate(timeout=60)[0])
    return told


def kept_predictions(server: JudgeServer, cache: Path, number: int) -> set[str]:
    """Predictions whose judgement is on disk."""
    judge = OpenAIJudge(parse_endpoint(f"openai:judge-model@{server.url}"), folder=cache / "for-its-keys")
    by_key = {judge._key(item, 0): item.prediction for item in items(number)}
    judge.close()
    return {by_key[key] for key in stored_bodies(cache / "judge" / STORE)}


def count_kept(cache: Path) -> int:
    try:
        with sqlite3.connect(f"file:{cache / 'judge' / STORE}?mode=ro", uri=True) as database:
            return int(database.execute("SELECT count(*) FROM replies").fetchone()[0])
    except sqlite3.OperationalError:
        return 0


def test_a_thousand_judgements_under_all_faults_at_once() -> None:
    asked = items()
    with serve_judge(script=script) as server:
        judge = OpenAIJudge(parse_endpoint(f"openai:judge-model@{server.url}"), pacing=PACING)
        # The first call is slow on a busy machine, and the time limit here is short.
        judge([RouteItem("warm", "Which way?", "Turn left.", f"walk {N}", "forward")])
        verdicts = judge(asked)
        judge.close()
    assert [v.sample_id for v in verdicts] == [item.sample_id for item in asked]
    assert [outcome(v) for v in verdicts] == [expected(item) for item in asked]
    used = judge.usage
    assert used.judged == 1 + N - 30 and used.cached == 0 and used.calls == len(server.asks)
    assert used.failures == {"bad_scores": 10, "refusal": 10, "server_error": 10}
    assert set(used.faults) == {
        "rate_limited", "timeout", "server_error", "connection", "broken_body", "no_object",
        "bad_scores", "empty_reply", "refusal", "content_filter", "truncated",
    }  # fmt: skip
    answers = Counter(ask.prediction for ask, behaviour in server.asks if behaviour == "ok")
    assert max(answers.values()) == 1, "nothing is judged twice"
    assert set(server.behaviours) == {"ok", "hang:5", "trickle:0.25", *FAULTS}


def test_a_run_that_is_killed_three_times_goes_on_and_ends_the_same(own_cache: Path) -> None:
    number, for_good = 600, 18
    kills: list[tuple[int, set[str]]] = []
    with serve_judge(script=script, latency_s=0.02) as server:
        for goal in (50, 150, 250):
            run = run_in_a_process(server, number)
            begin(run)
            deadline = time.monotonic() + 150
            while count_kept(own_cache) < goal and time.monotonic() < deadline:
                assert run.poll() is None
                time.sleep(0.01)
            run.send_signal(signal.SIGKILL)
            run.communicate()
            time.sleep(0.1)
            kills.append((len(server.asks), kept_predictions(server, own_cache, number)))
            assert goal <= len(kills[-1][1]) < number - for_good
        last, again = run_in_a_process(server, number), run_in_a_process(server, number)
        begin(last)
        told = told_by(last)
        calls = len(server.asks)
        begin(again)
        repeated = told_by(again)
    for before, done in kills:
        assert not done & {ask.prediction for ask, _ in server.asks[before:]}, "asked for again"
    assert told["verdicts"] == [expected(item) for item in items(number)]
    assert told["ids"] == [item.sample_id for item in items(number)]
    done = kills[-1][1]
    assert told["cached"] == len(done) and told["judged"] == number - for_good - len(done)
    assert repeated["verdicts"] == told["verdicts"]
    assert (repeated["judged"], repeated["cached"]) == (0, number - for_good)
    asked_again = {ask.prediction for ask, _ in server.asks[calls:]}
    assert len(asked_again) == for_good, "only what has no judgement is asked for again"


def test_two_processes_at_once_agree_and_nobody_asks_again(own_cache: Path) -> None:
    number = 200
    with serve_judge(latency_s=0.1) as server:
        runs = [run_in_a_process(server, number, "patient") for _ in range(2)]
        begin(*runs)
        told = [told_by(run) for run in runs]
        asked = Counter(ask.prediction for ask, _ in server.asks)
        assert len(asked) == number and max(asked.values()) <= 2, "at most once by each"
        right = [list(scores_of(item.reference, item.prediction)) for item in items(number)]
        assert told[0]["verdicts"] == told[1]["verdicts"] == right
        assert all(run["judged"] + run["cached"] == number for run in told)
        assert len(kept_predictions(server, own_cache, number)) == number
        third = run_in_a_process(server, number)
        begin(third)
        assert told_by(third)["cached"] == number and sum(asked.values()) == len(server.asks)
