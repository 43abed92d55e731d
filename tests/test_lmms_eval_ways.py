"""lmms-eval used as its own users use it: its flags, its caches, tasks of one's own on top of ours."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from statistics import mean

import pytest
from judge_server import JudgeServer, scores_of, serve_judge
from lmms_eval_command import lmms_eval
from typer.testing import CliRunner

from egost.main import app
from egost.model_adapters.engine import AdapterError, GenerationArguments
from egost.tasks.mini_world import write_mini_release

REPLY = "B. Walk straight and turn left at the red plain panel."
MODEL = ["--model", "dummy", "--model_args", f"response={REPLY}"]
KEY = "sk-test-0123456789abcdef"


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shared") / "cache"
    write_mini_release(folder / "mini", clips=3, seed=5, progress=False)
    return folder


@pytest.fixture
def server() -> Iterator[JudgeServer]:
    with serve_judge() as running:
        yield running


def egost(*arguments: str | Path) -> tuple[int, str]:
    done = CliRunner().invoke(app, [*map(str, arguments)], env={"COLUMNS": "300"})
    return done.exit_code, done.output


def test_predict_only_judges_nothing_and_is_scored_afterwards(
    cache: Path, server: JudgeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    judge = {"EGOST_JUDGE": f"openai:judge-model@{server.url}", "EGOST_JUDGE_KEY": KEY}
    done = lmms_eval(
        *("--tasks", "egost_mini_route,egost_mini_direction_forward", *MODEL, "--output_path", "run"),
        *("--predict_only", "--num_fewshot", "2"),
        cwd=tmp_path,
        cache=cache,
        EGOST_ONLY="1",
        **judge,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert "num_fewshot has been set to 0 for egost_mini_route_forward" in done.stdout + done.stderr
    assert not server.asks, "nothing was to be scored"
    for command in ("summary", "report"):
        code, said = egost(command, tmp_path / "run")
        assert code == 2 and "was run with --predict_only" in said and "egost judge" in said

    monkeypatch.setenv("EGOST_CACHE", str(cache))
    for name, value in judge.items():
        monkeypatch.setenv(name, value)
    code, said = egost("judge", tmp_path / "run")
    assert code == 0 and len(server.asks) == 6, said
    [written] = tmp_path.rglob("*-judged-*_results.json")
    results = json.loads(written.read_text())
    rows = {
        path.name.split("_samples_")[1].removesuffix(".jsonl"): [json.loads(line) for line in path.open()]
        for path in tmp_path.rglob("*-judged-*_samples_*.jsonl")
    }
    for task in ("egost_mini_route_forward", "egost_mini_route_reverse"):
        by_hand = [sum(scores_of(row["target"], REPLY)) / 3 * 20 for row in rows[task]]
        assert results["results"][task]["percent,none"] == pytest.approx(mean(by_hand))
    right = [100.0 * (row["target"] == "B") for row in rows["egost_mini_direction_forward"]]
    direction = results["results"]["egost_mini_direction_forward"]
    assert direction["percent,none"] == pytest.approx(mean(right)) and direction["n_scored,none"] == 3
    assert results["groups"]["egost_mini_route"]["percent,none"] == pytest.approx(
        mean(results["results"][f"egost_mini_route_{way}"]["percent,none"] for way in ("forward", "reverse"))
    )
    assert egost("summary", written)[0] == 0


def test_a_refused_generation_argument_is_named_with_its_value() -> None:
    with pytest.raises(AdapterError, match=r"honour the generation argument num_beams=4; expected"):
        GenerationArguments.read({"max_new_tokens": 8, "num_beams": 4}, seed=0)
    with pytest.raises(AdapterError, match=r"argument best_of=3, penalty=0\.5; expected"):
        GenerationArguments.read({"max_new_tokens": 8, "best_of": 3, "penalty": 0.5, "num_beams": 1}, seed=0)


def test_the_hosts_cache_is_refused_in_one_sentence(cache: Path, tmp_path: Path) -> None:
    done = lmms_eval(
        *("--tasks", "egost_mini_mcq", *MODEL, "--output_path", "run", "--use_cache", "responses"),
        cwd=tmp_path,
        cache=cache,
        EGOST_ONLY="1",
    )
    assert done.returncode == 1 and "Traceback" not in done.stdout + done.stderr
    assert "egost: --use_cache would keep a failed request" in done.stderr
    assert "--model egost_journal" in done.stderr and not (tmp_path / "responses").exists()
