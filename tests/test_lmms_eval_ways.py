"""lmms-eval used as its own users use it: its flags, its caches, its clients of servers."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import mean

import pytest
from chat_server import serve_chat
from demo_runs import DemoHome
from judge_server import JudgeServer, scores_of, serve_judge
from lmms_eval_command import lmms_eval, saved
from typer.testing import CliRunner

from egost.main import app
from egost.model_adapters.engine import AdapterError, GenerationArguments
from egost.results.compare import unlike
from egost.results.run import read_run

REPLY = "B. Walk straight and turn left at the red plain panel."
MODEL = ["--model", "dummy", "--model_args", f"response={REPLY}"]
KEY = "sk-test-0123456789abcdef"


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory, mini_release: Callable[..., Path]) -> Path:
    folder = tmp_path_factory.mktemp("shared") / "cache"
    mini_release(folder / "mini", clips=3, seed=5)
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


def test_other_generation_arguments_and_another_instruction_are_not_alike(demo_home: DemoHome) -> None:
    run, other = read_run(demo_home.output), read_run(demo_home.output)
    assert "gen_kwargs: max_new_tokens=8" in egost("summary", demo_home.output)[1]
    assert not unlike(run, other, sorted(run.header.tasks))
    changed = {"gen_kwargs": "max_new_tokens=9", "system_instruction": "Be brief."}
    other.__dict__["header"] = dataclasses.replace(run.header, **changed)
    assert [str(one) for one in unlike(run, other, sorted(run.header.tasks))] == [
        "generation arguments of all tasks: max_new_tokens=8 against max_new_tokens=9",
        "system instruction of all tasks: the tasks' own against Be brief.",
    ]
    assert other.settings["system_instruction"] == "Be brief."


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


def test_the_results_are_json_and_a_baseline_finds_each_score(
    tmp_path: Path, mini_release: Callable[..., Path]
) -> None:
    cache = tmp_path / "cache"
    mini_release(cache / "mini", clips=3, seed=5)
    next((cache / "mini").rglob("*.mp4")).write_bytes(b"")
    common = ("--model", "dummy", "--log_samples", "--tasks", "egost_mini_mcq,egost_mini_route")
    first = lmms_eval(
        *common, "--model_args", "response=A", "--output_path", "first", cwd=tmp_path, cache=cache
    )
    [baseline] = (tmp_path / "first").rglob("*_samples_egost_mini_direction_forward.jsonl")
    second = lmms_eval(
        *(*common, "--model_args", "response=B", "--output_path", "second", "--baseline", str(baseline)),
        cwd=tmp_path,
        cache=cache,
    )
    assert "[Baseline] Loaded 3 samples" in second.stdout, first.stderr + second.stderr

    [file] = (tmp_path / "second").rglob("*_results.json")
    results = json.loads(file.read_text(), parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    _, samples = saved(tmp_path / "second")
    for rows in samples.values():
        for row in rows:
            scored = row["percent"]["unscored"] is None
            assert (row["n_scored"], row["score"] is not None) == (int(scored), scored)
            assert (row["n_unscored"] is None) == scored
    rows = samples["egost_mini_direction_forward"]
    assert [row["score"] for row in rows if row["n_scored"]] == [
        float(row["target"] == "B") for row in rows if row["n_scored"]
    ]
    figures = results["results"]["egost_mini_direction_forward"]
    assert (figures["n_scored,none"], figures["n_unscored,none"]) == (2, 1)
    assert figures["truncated,none"] is None and not [
        name for name in figures if "n_scored_stderr_clt" in name and figures[name] != "N/A"
    ]
    compared = [row["target"] for row in rows if row["n_scored"]]
    assert figures["paired_baseline_score"] == 100 * mean(float(right == "A") for right in compared)
    assert figures["percent,none"] == 100 * mean(float(right == "B") for right in compared)
    found = results["efficiency"]["by_task"]["egost_mini_direction_forward"]
    assert found["total_correct_score"] == compared.count("B")
    for group in ("egost_mini_mcq", "egost_mini_route"):
        shown = {name.partition(",")[0] for name in results["groups"][group] if "_stderr" not in name}
        assert shown == {"percent", "compat", "alias"} | (shown & {" "}), shown
    assert egost("summary", tmp_path / "second")[0] == 1, "too many are unscored"


@pytest.mark.parametrize(
    ("adapter", "more", "argument"),
    [
        ("openai", (), "max_frames_num"),
        ("openai", ("--force_simple",), None),
        ("async_openai", (), "nframes"),
        ("egost_journal", (), "max_frames_num"),
    ],
)
def test_lmms_evals_clients_of_servers_take_all_8_frames(
    cache: Path, tmp_path: Path, adapter: str, more: tuple[str, ...], argument: str | None
) -> None:
    own = "adapter=openai," if adapter == "egost_journal" else ""
    with serve_chat(script=lambda ask: "ok", names=("tiny",)) as server:
        common = f"{own}model=tiny,base_url={server.url}/v1,api_key=none"
        for frames in ("", f",{argument}=8") if argument else ("",):
            done = lmms_eval(
                *("--tasks", "egost_mini_direction_forward", "--output_path", "run", "--log_samples"),
                *("--model", adapter, *more, "--model_args", common + frames),
                cwd=tmp_path,
                cache=cache,
                EGOST_ONLY="1",
            )
            if argument and not frames:
                assert done.returncode == 1 and f"Add {argument}=8 to --model_args" in done.stderr
                assert not server.asks and not (tmp_path / "run").exists()
        assert len(server.questions) == 3
        assert [len(ask.frames) for ask in server.questions if ask.frames is not None] == [8, 8, 8]
    results, _ = saved(tmp_path / "run")
    assert results["results"]["egost_mini_direction_forward"]["n_scored,none"] == 3


def test_cached_requests_are_refused(cache: Path, tmp_path: Path) -> None:
    tasks = ("--tasks", "egost_mini_mcq", "--output_path", "run", *MODEL)
    done = lmms_eval(*tasks, "--cache_requests", "true", cwd=tmp_path, cache=cache)
    assert done.returncode == 1 and "Traceback" not in done.stderr and not (tmp_path / "run").exists()
    assert "egost: --cache_requests would ask what it kept before, without the clips" in done.stderr
