"""Closed models through the plain lmms-eval command, at a local server that speaks their interfaces."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from closed_model_server import Asked, serve_closed, what_it_says
from lmms_eval_command import COMMAND, environment, lmms_eval, saved

KEY = "c3f1a9d25f1d8a7743b94c01e0b6d7aa"
CLIPS = 6
PROTOCOL = "uniform8+224x224"
TASK = "egost_mini_direction_reverse"


@pytest.fixture(scope="module")
def mini(tmp_path_factory: pytest.TempPathFactory, mini_release: Callable[..., Path]) -> Path:
    folder = tmp_path_factory.mktemp("shared") / "mini"
    mini_release(folder, clips=CLIPS, seed=5)
    return folder


def arguments(model: str, model_args: str) -> list[str]:
    output = ["--output_path", "out", "--log_samples"]
    return ["--model", model, "--model_args", model_args, "--tasks", TASK, *output]


def settings(mini: Path) -> dict[str, str]:
    return {"EGOST_MINI_DATA": str(mini), "EGOST_PROTOCOL": PROTOCOL, "EGOST_API_KEY": KEY}


def truths(asked: list[Asked]) -> dict[str, str]:
    """What an unbroken run would have been told, by the prompt."""
    return {ask.prompt: what_it_says(ask.prompt, ask.images) for ask in asked}


def check_key_is_nowhere(folder: Path, *said: str) -> None:
    assert not any(KEY in text for text in said)
    for path in folder.rglob("*"):
        assert path.is_dir() or KEY.encode() not in path.read_bytes(), path


def test_a_killed_run_asks_only_for_the_rest_and_ends_as_an_unbroken_one(mini: Path, tmp_path: Path) -> None:
    with serve_closed(latency_s=1.0) as server:
        model_args = f"model=gpt-4o-2024-08-06,base_url={server.url}/v1,concurrency=1"
        command = arguments("egost_openai", model_args)
        run = subprocess.Popen(
            [str(COMMAND), *command],
            cwd=tmp_path,
            env=environment(tmp_path / "cache", EGOST_ONLY="1", **settings(mini)),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            deadline = time.monotonic() + 400
            while len(server.asks) < 4 and time.monotonic() < deadline:
                time.sleep(0.02)
        finally:
            run.kill()
            run.wait()
        made = len(server.asks)
        assert 4 <= made < CLIPS
        again = lmms_eval(*command, cwd=tmp_path, cache=tmp_path / "cache", **settings(mini))
        asked = [ask for ask, _ in server.asks]
    assert again.returncode == 0, again.stderr[-3000:]
    # The one that was under way when the process died is asked again, no other.
    assert len(asked) <= CLIPS + 1 and "from the journal" in again.stderr
    assert {ask.order for ask in asked} == {"iiiiiiiit"} and len(truths(asked)) == CLIPS
    results, samples = saved(tmp_path / "out")
    for row in samples[TASK]:
        [prompt] = [ask.prompt for ask in asked if ask.prompt in str(row["input"])][:1]
        assert row["filtered_resps"] == truths(asked)[prompt]
        generation = row["percent"]["generation"]
        assert generation["snapshot"] == "gpt-4o-2024-08-06+fp_1" and generation["engine"] == "openai"
        assert generation["settings"]["frame_size"] == "224x224"
    assert sum(row["percent"]["generation"]["journaled"] for row in samples[TASK]) >= made - 1
    assert results["results"][TASK]["n_scored,none"] == CLIPS
    assert results["configs"][TASK]["metadata"]["sampling_protocol"] == PROTOCOL
    assert f"{len(asked) - made} calls" in again.stdout and "USD at list prices" in again.stdout
    check_key_is_nowhere(tmp_path, again.stdout, again.stderr)


def test_a_blocked_prompt_is_unscored_with_its_reason(mini: Path, tmp_path: Path) -> None:
    with serve_closed() as server:
        server.script = lambda ask: "blocked:SAFETY" if len(server.seen) == 2 else "ok"
        done = lmms_eval(
            *arguments("egost_gemini", f"model=gemini-2.5-flash,base_url={server.url},concurrency=1"),
            cwd=tmp_path,
            cache=tmp_path / "cache",
            **settings(mini),
        )
        asked = [ask for ask, _ in server.asks]
    assert done.returncode == 0, done.stderr[-3000:]
    assert len(asked) == CLIPS and {ask.order for ask in asked} == {"iiiiiiiit"}
    results, samples = saved(tmp_path / "out")
    reasons = [row["n_unscored"] for row in samples[TASK] if row["n_unscored"]]
    assert reasons == ["generation_failed:refused"]
    assert results["results"][TASK]["n_scored,none"] == CLIPS - 1
    check_key_is_nowhere(tmp_path, done.stdout, done.stderr)


@pytest.mark.parametrize(
    ("adapter", "model_args", "changes", "message"),
    [
        ("EgostOpenAI", "model=gpt-4o", {"EGOST_PROTOCOL": "uniform8"}, "egost: .* EGOST_PROTOCOL=uniform8"),
        ("EgostGemini", "model=gemini-2.5-pro", {"GOOGLE_API_KEY": ""}, "egost: .* GEMINI_API_KEY or GOOGLE"),
        (
            "EgostOpenAI",
            "model=gpt-4o,api_key=secret",
            {},
            "does not know api_key; its model_args are model, ",
        ),
        ("EgostGemini", "", {}, "EgostGemini needs model"),
        ("EgostOpenAI", "model=o3-mini,max_usd=3", {}, "egost: 'o3-mini' takes no images"),
    ],
)
def test_model_args_that_cannot_work_end_the_command_with_one_message(
    monkeypatch: pytest.MonkeyPatch, adapter: str, model_args: str, changes: dict[str, str], message: str
) -> None:
    from egost.model_adapters import adapter as adapters

    monkeypatch.delenv("GEMINI_API_KEY", raising=False)
    for name, value in {"EGOST_PROTOCOL": PROTOCOL, **changes}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit, match=message) as raised:
        getattr(adapters, adapter).create_from_arg_string(
            model_args, {"batch_size": 1, "max_batch_size": None, "device": None}
        )
    assert "secret" not in str(raised.value)


def test_model_args_reach_the_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    from egost.model_adapters.adapter import EgostGemini, EgostOpenAI

    monkeypatch.setenv("EGOST_PROTOCOL", PROTOCOL)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("GOOGLE_API_KEY", KEY)
    adapter = EgostOpenAI.create_from_arg_string("model=thinker,reasoning=True,reasoning_effort=high,seed=2")
    settings = adapter._engine.identity.settings
    assert (settings["reasoning"], settings["reasoning_effort"], settings["draw"]) == (True, "high", 2)
    gemini = EgostGemini.create_from_arg_string("model=gemini-2.5-flash,thinking_budget=512")
    assert gemini._engine.identity.settings["thinking_budget"] == 512
