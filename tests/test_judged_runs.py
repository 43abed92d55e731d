"""Routes judged over HTTP: by the plain lmms-eval command, again from a saved run, and by several processes."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import mean
from typing import Any

import pytest
from judge_server import SNAPSHOT, Ask, JudgeServer, Triple, scores_of, serve_judge
from lmms_eval_command import environment, lmms_eval, lmms_eval_on_two_ranks, ranks_of, saved

from egost.tasks.judging.judge import RouteItem
from egost.tasks.judging.rubric import OfflineRubric

KEY = "sk-test-0123456789abcdef"
REPLY = "Walk straight and turn left at the red plain panel."
ROUTES = ("egost_mini_route_forward", "egost_mini_route_reverse")
MODEL = ["--model", "dummy", "--model_args", f"response={REPLY}"]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory, mini_release: Callable[..., Path]) -> Path:
    folder = tmp_path_factory.mktemp("shared") / "cache"
    mini_release(folder / "mini", clips=6, seed=5)
    return folder


@pytest.fixture
def server() -> Iterator[JudgeServer]:
    with serve_judge(latency_s=0.2) as running:
        yield running


def run_routes(cwd: Path, cache: Path, output: str, **settings: str) -> subprocess.CompletedProcess[str]:
    return lmms_eval(
        *["--tasks", "egost_mini_route", *MODEL, "--output_path", output, "--log_samples"],
        cwd=cwd,
        cache=cache,
        EGOST_JUDGE_KEY=KEY,
        **settings,
    )


def egost(cache: Path, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", "from egost.main import app; app()", *arguments],
        env=environment(cache, COLUMNS="200", EGOST_JUDGE_KEY=KEY, **settings),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def check_scores(results: dict[str, Any], samples: dict[str, list[dict[str, Any]]]) -> None:
    """Every figure is what the server's model thinks of the pair, task and group figures their means."""
    figures = []
    for task in ROUTES:
        for row in samples[task]:
            d, lm, s = scores_of(row["target"], REPLY)
            assert (row["direction"], row["landmark"], row["semantic"]) == (d, lm, s)
            assert row["percent"]["score"] == pytest.approx((d + lm + s) / 3 * 20)
            assert row["percent"]["judgement"]["snapshot"] == SNAPSHOT
        figures.append(mean(row["percent"]["score"] for row in samples[task]))
        assert results["results"][task]["percent,none"] == pytest.approx(figures[-1])
        assert results["results"][task]["judge_failed,none"] == 0
    assert len(set(figures)) == 2
    assert results["groups"]["egost_mini_route"]["percent,none"] == pytest.approx(mean(figures))


def test_the_command_judges_by_a_server_and_a_second_run_asks_nothing(
    cache: Path, server: JudgeServer, tmp_path: Path
) -> None:
    judge = f"openai:judge-model@{server.url}"
    done = run_routes(tmp_path, cache, "first", EGOST_JUDGE=judge)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    results, samples = saved(tmp_path / "first")
    check_scores(results, samples)
    assert len(server.asks) == 12
    assert server.most_at_once == 6, "all of a task at once; lmms-eval's own threads are 4"
    rows = [results["results"][task] for task in ROUTES]
    assert [row["judge_calls,none"] for row in rows] == [6, 6], "each task's own account"
    assert sum(row["judge_tokens_in,none"] for row in rows) == 12 * 900
    metadata = results["configs"][ROUTES[0]]["metadata"]
    assert metadata["judge"] == f"{judge}+route-judge-1" and metadata["judge_prompt"] == "route-judge-1"

    again = run_routes(tmp_path, cache, "second", EGOST_JUDGE=judge)
    assert len(server.asks) == 12 and again.returncode == 0
    results, samples = saved(tmp_path / "second")
    check_scores(results, samples)
    assert [results["results"][task]["judge_cached,none"] for task in ROUTES] == [6, 6]
    for text in (done.stdout, done.stderr, again.stdout, *(p.read_text() for p in tmp_path.rglob("*.json*"))):
        assert KEY not in text
    assert KEY.encode() not in b"".join(p.read_bytes() for p in (cache / "judge").iterdir())


def test_a_saved_run_is_judged_again_without_the_model(
    cache: Path, server: JudgeServer, tmp_path: Path
) -> None:
    assert run_routes(tmp_path, cache, "run").returncode == 0
    old, old_samples = saved(tmp_path / "run")
    assert old["configs"][ROUTES[0]]["metadata"]["judge"].startswith("offline-rubric-")
    before = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*.json*")}

    judge = f"openai:other-model@{server.url}"
    done = egost(cache, "judge", str(tmp_path / "run"), "--judge", judge, "--judge-repeats", "2")
    assert done.returncode == 0, done.stderr
    assert len(server.asks) == 24 and "24 calls, 0 cached" in done.stdout
    assert "2 judgements a sample" in done.stdout and "100 % of the samples judged alike" in done.stdout
    assert all(path.read_bytes() == content for path, content in before.items()), (
        "the old run stays as it was"
    )
    for path in before:
        path.unlink()
    results, samples = saved(tmp_path / "run")
    check_scores(results, samples)
    assert results["rejudged_from"] in {path.name for path in before}
    metadata = results["configs"][ROUTES[0]]["metadata"]
    row = results["results"][ROUTES[0]]
    assert row["percent_stderr_clt,none"] > 0 and "judge_calls,none" not in row
    assert "judge_calls" not in samples[ROUTES[0]][0] and metadata["judge_prompt"] == "route-judge-1"
    assert results["judge_usage"]["calls"] == 24 and metadata["judge_noise"]["same"] == 1
    assert [row["filtered_resps"] for row in samples[ROUTES[0]]] == [
        row["filtered_resps"] for row in old_samples[ROUTES[0]]
    ]


def test_without_a_judge_it_says_so_before_the_model_is_loaded(release_folder: Path, tmp_path: Path) -> None:
    for tasks, settings, message in (
        ("egost_route", {}, "No judge is chosen"),
        ("egost", {"EGOST_JUDGE": "gpt-4o"}, "OPENAI_API_KEY"),
        ("egost_mini_st", {"EGOST_JUDGE": "nobody"}, "No judge 'nobody'"),
    ):
        done = lmms_eval(
            *["--tasks", tasks, "--model", "qwen2_vl", "--model_args", f"pretrained={tmp_path / 'no_model'}"],
            cwd=tmp_path,
            cache=tmp_path / "cache",
            EGOST_DATA=str(release_folder),
            **settings,
        )
        assert done.returncode == 1
        assert message in done.stderr and "EGOST_JUDGE=offline" in done.stderr + "EGOST_JUDGE=offline" * (
            tasks == "egost_mini_st"
        )
        assert "no_model" not in done.stderr and "Traceback" not in done.stderr


def test_a_judge_that_refuses_costs_the_score_and_not_the_run(cache: Path, tmp_path: Path) -> None:
    with serve_judge(script=lambda ask: "error:401 bad key") as server:
        done = run_routes(tmp_path, cache, "run", EGOST_JUDGE=f"openai:refusing@{server.url}")
        results, samples = saved(tmp_path / "run")
        assert len(server.asks) <= 33
    text = done.stdout + done.stderr
    assert "The key was not accepted: set EGOST_JUDGE_KEY" in text and "egost judge RUN" in text
    for task in ROUTES:
        row = results["results"][task]
        assert (row["n_scored,none"], row["n_unscored,none"], row["judge_failed,none"]) == (0, 6, 6)
        assert {s["percent"]["unscored"] for s in samples[task]} == {"judge_failed:judge_stopped"}
    with serve_judge() as server:
        assert (
            egost(cache, "judge", str(tmp_path / "run"), "--judge", f"openai:m@{server.url}").returncode == 0
        )
    newest = max((tmp_path / "run").rglob("*_results.json"), key=lambda path: path.stat().st_mtime_ns)
    assert json.loads(newest.read_text())["results"][ROUTES[0]]["n_scored,none"] == 6


def test_two_ranks_judge_each_sample_once(cache: Path, server: JudgeServer, tmp_path: Path) -> None:
    # lmms-eval's `dummy` alone cannot run on two ranks: it has no device.
    model = ["--model", "egost_journal", "--model_args", f"adapter=dummy,response={REPLY}"]
    done = lmms_eval_on_two_ranks(
        *["--tasks", "egost_mini_route", *model, "--output_path", "out", "--log_samples"],
        cwd=tmp_path,
        cache=cache,
        EGOST_JUDGE=f"openai:ranks@{server.url}",
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    assert ranks_of(done) == {0, 1}
    results, samples = saved(tmp_path / "out")
    assert {task: len(rows) for task, rows in samples.items()} == dict.fromkeys(ROUTES, 6)
    check_scores(results, samples)
    assert len(server.asks) == 12 and len({(a.reference, a.prediction) for a, _ in server.asks}) == 12
    assert sum(results["results"][task]["judge_calls,none"] for task in ROUTES) == 12


def test_the_check_of_a_judge_offline_and_over_http(cache: Path, tmp_path: Path) -> None:
    done = egost(cache, "judge", "--check", "--judge", "offline", "--report", str(tmp_path / "report.json"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads((tmp_path / "report.json").read_text())["judge"] == OfflineRubric.name

    def opinion(ask: Ask) -> Triple:
        [verdict] = OfflineRubric()([RouteItem("x", ask.question, ask.reference, ask.prediction, "forward")])
        return verdict.direction, verdict.landmark, verdict.semantic  # type: ignore[union-attr]

    with serve_judge(scores=opinion) as server:
        over_http = egost(cache, "judge", "--check", "--judge", f"openai:good@{server.url}")
    assert over_http.returncode == 0, over_http.stdout + over_http.stderr
    within = re.compile(r"(\d+) of (\d+)")
    assert within.findall(over_http.stdout)[:1] == within.findall(done.stdout)[:1]
    with serve_judge() as server:
        random = egost(cache, "judge", "--check", "--judge", f"openai:random@{server.url}")
    assert random.returncode == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["RUN"], "No judge is chosen"),
        (["RUN", "--judge", "offline"], "holds no *_results.json"),
        (["--check", "--judge", "gpt-4o"], "OPENAI_API_KEY"),
        (["runs", "--judge", "offline", "--limit", "3"], "--limit belongs to --check"),
        (["runs", "--judge", "offline", "--report", "r.json"], "--report belongs to --check"),
        ([], "name a run to be judged"),
    ],
)
def test_what_the_command_says_when_it_cannot(tmp_path: Path, arguments: list[str], message: str) -> None:
    arguments = [str(tmp_path) if argument == "RUN" else argument for argument in arguments]
    done = subprocess.run(
        [sys.executable, "-c", "from egost.main import app; app()", "judge", *arguments],
        env=environment(tmp_path / "cache", OPENAI_API_KEY="", COLUMNS="200"),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2 and message in done.stderr and "Traceback" not in done.stderr
