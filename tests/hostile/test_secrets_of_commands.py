"""No command that asks a server leaves a key anywhere: not in what it prints, logs, records or keeps, nor for `ps`."""

from __future__ import annotations

import itertools
import shutil
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest
from attacks import drawn
from canaries import CANARIES, PLACES, SENT, WRITINGS, files_below, keys_in
from egost_command import egost_run
from lmms_eval_command import environment
from mini_annotations import annotated_folder
from places import ROOT
from preloaded import run_preloaded
from typer.testing import CliRunner
from wire_server import QUICK, serve_wire

from egost.main import EXAMPLES, app
from egost.model_adapters.engine import AdapterError
from egost.model_adapters.model_names import model_named
from egost.model_adapters.run_plan import RunOptions, plan_run
from egost.model_adapters.server.server_process import ServerProcess
from egost.tasks.construction.questions import write_questions
from egost.tasks.construction.writers import OfflineWriter
from egost.tasks.judging.validity.pair_set import all_pairs

pytestmark = pytest.mark.usefixtures("keys")

NOT_FATAL = (
    "content", "refusal", "model", "modelVersion", "fingerprint", "a wrong field", "error 500", "an HTML page",
    "a header", "the words of the status", "the words of a good status", "a cut body",
)  # fmt: skip
RUNS = {
    "server": ("qwen2-vl-7b", ""),
    "openai": ("gpt-4o", "/v1"),
    "gemini": ("gemini-3.5-flash", ""),
}
SERVED = {"data": [{"id": "Qwen/Qwen2-VL-7B-Instruct", "root": "/models/x"}]}
SAVED = ROOT / "tests" / "saved" / "mini_run"
CHOICE = "egost_mini_direction_reverse"
TASKS = f"egost_mini_route_forward,{CHOICE}"


def shown_by_ps() -> set[str]:
    """The command lines and titles of all processes, as every user of the machine sees them."""
    return {
        path.read_bytes().decode("latin-1") for path in Path("/proc").glob("[0-9]*/cmdline") if path.exists()
    }


@pytest.fixture(scope="module")
def mini(tmp_path_factory: pytest.TempPathFactory, mini_release: Callable[..., Path]) -> Path:
    root = tmp_path_factory.mktemp("world") / "mini"
    mini_release(root, clips=4, seed=5)
    return root


@pytest.mark.parametrize("client", RUNS)
def test_the_real_commands_leave_no_key_anywhere(tmp_path: Path, mini: Path, client: str) -> None:
    """Evaluation with a judge, judging again, and a report, at a server that repeats its key in each reply.

    One of the three starts the real `egost run`; the others run lmms-eval in a preloaded process.
    """
    model, path = RUNS[client]
    number = itertools.count()
    lines: set[str] = set()

    def wire(good: dict[str, Any]) -> bytes:
        turn = next(number)
        lines.update(shown_by_ps())
        place = NOT_FATAL[turn % len(NOT_FATAL)]
        # Whoever asks, it may be by either key.
        keys = CANARIES[SENT[client]], CANARIES["EGOST_JUDGE_KEY"]
        leaks = [text for key in keys for text in list(WRITINGS.values())[turn % len(WRITINGS)](key)]
        return PLACES[place](good, " ".join(leaks))

    with serve_wire(wire=wire, always=True, models=SERVED) as server:
        judge = f"openai:m@{server.url}/v1"
        with_keys = {
            **CANARIES,
            "EGOST_MINI_DATA": str(mini),
            "EGOST_JUDGE": judge,
            "EGOST_PROTOCOL": "uniform8+224x224",
        }
        env = environment(tmp_path / "cache", COLUMNS="200", **with_keys)

        def command(*words: str) -> CompletedProcess[str]:
            return run_preloaded("egost.main:app", words, tmp_path, env, 300)

        def evaluate(*, fresh: bool) -> CompletedProcess[str]:
            options = RunOptions(TASKS, base_url=server.url + path, output=tmp_path / "out", fresh=fresh)
            plan = plan_run(model_named(model), options, env)
            lines.update([plan.shown, *plan.command])
            return run_preloaded(
                "lmms_eval.cli.dispatch:main", plan.command[1:], tmp_path, {**env, **plan.settings}, 300
            )

        if client == "server":
            url = ("--base-url", server.url + path)
            words = (model, *url, "--tasks", TASKS, "--output", "out")
            evaluated = egost_run(*words, cwd=tmp_path, cache=tmp_path / "cache", **with_keys)
        else:
            evaluated = evaluate(fresh=False)
        done = [evaluated, command("judge", "out", "--judge-repeats", "2")]
        if client == "server":
            done += [
                command("report", "out"),
                command(
                    "diagnose", model, *url, "--tasks", CHOICE, "--controls", "blind", "--output", "diagnosed"
                ),
            ]
            server.wire = lambda good: PLACES["error 401"](
                good, f"{CANARIES[SENT[client]]} {CANARIES['EGOST_JUDGE_KEY']}"
            )
            refused = [evaluate(fresh=True), command("judge", "out", "--judge", f"{judge}+compat")]
            assert (
                refused[0].returncode and "The key was not accepted" in refused[1].stdout + refused[1].stderr
            ), refused
            done += refused
    said = "".join(run.stdout + run.stderr for run in done)
    # 1 says that too many samples are unscored.
    assert max(run.returncode for run in done[:3]) < 2, said[-3000:]
    assert "Traceback (most recent call last)" not in said, said[-3000:]
    assert list((tmp_path / "out").rglob("*-judged-*_samples_*.jsonl")), said[-3000:]
    heard = "".join(server.heard)
    assert CANARIES[SENT[client]] in heard and CANARIES["EGOST_JUDGE_KEY"] in heard, "both keys were sent"
    assert not any(
        key in heard for name, key in CANARIES.items() if name not in (SENT[client], "EGOST_JUDGE_KEY")
    )
    assert not keys_in([said, *lines, *files_below(tmp_path)])


def questions(out: Path, judge: str) -> list[str]:
    annotated_folder(out, 2)
    return ["construct", "questions", str(out), "--writer", judge]


def calibrate(out: Path, judge: str) -> list[str]:
    write_questions(annotated_folder(out, 2), OfflineWriter(0))
    return ["construct", "calibrate", str(out), "--judge", judge]


def train_data(out: Path, judge: str) -> list[str]:
    return ["train", "data", "--world", "mini", "--rows", "4", "--out", str(out), "--writer", judge]


def check_the_judge(out: Path, judge: str) -> list[str]:
    return ["judge", "--check", "--judge", judge, "--report", str(out)]


ASKERS: tuple[Callable[[Path, str], list[str]], ...] = (questions, calibrate, train_data, check_the_judge)


@pytest.fixture
def quick(mini: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No long waits for a server that fails; a cache of its own."""
    monkeypatch.setenv("EGOST_MINI_DATA", str(mini))
    for module in (
        "tasks.construction.questions",
        "tasks.construction.calibration",
        "tasks.judging.openai_judge",
        "training.rows.thought_writer",
    ):
        monkeypatch.setattr(f"egost.{module}.chosen_pacing", lambda: QUICK)
    some = all_pairs()[:2]
    # The package has a function of the name of its module.
    checking = import_module("egost.tasks.judging.validity.check")
    monkeypatch.setattr(checking, "all_pairs", lambda: some)
    return own_cache


@pytest.mark.parametrize(
    ("asker", "place", "writing"),
    drawn([(asker, place, writing) for asker in ASKERS for place in PLACES for writing in WRITINGS], 32),
)
def test_a_key_that_a_server_repeats_to_a_command_is_nowhere(
    attacked: Callable[..., None],
    said: Callable[[], str],
    quick: Path,
    tmp_path: Path,
    asker: Callable[[Path, str], list[str]],
    place: str,
    writing: str,
) -> None:
    leak = " ".join(WRITINGS[writing](CANARIES["EGOST_JUDGE_KEY"]))
    with serve_wire(wire=lambda good: PLACES[place](good, leak), always=True) as server:
        words = asker(tmp_path / "out", f"openai:m@{server.url}/v1")

        def attack() -> list[str]:
            done = CliRunner().invoke(app, words)
            assert server.heard and (done.exception is None or isinstance(done.exception, SystemExit)), done
            return [done.output, said(), *files_below(tmp_path), *files_below(quick)]

        attacked(attack, right=lambda found: not keys_in(found))


PASSWORD = "s3cret-w0rd"

LOCAL = {
    "cache prune": "--older 30 --dry-run",
    "clips build": "--mini --workers 1",
    "clips verify": "",
    "compare": "{run} {run} --output {out}/flips.csv",
    "construct annotate": "{out} --import {out}/none.csv",
    "construct clips": "{out} {out}/work",
    "construct publish": "{out} {out}/release",
    "data mini": "--clips 4 --workers 1 --out {out}/mini",
    "data status": "--mini",
    "data verify": "--mini --workers 1",
    "env": "--all",
    "judge": "{run} --judge offline",
    "judge agree": "{out}/labels.csv {run}",
    "judge label": "{run} --rater -",
    "leaderboard": "{run} --world mini --table 1 -o {out}/board.json",
    "models": "",
    "power": "{run}",
    "prompts import": "{out}",
    "regress": "{run} --baseline {out}/baseline.jsonl --update",
    "report": "{run} -o {out}/page.html",
    "rescore": "{run}",
    "run": "gpt-4o --dry-run",
    "serve": "qwen2-vl-7b --dry-run",
    "show": "{run} --output {out}/manifest.json",
    "summary": "{run}",
    "sweep": "gpt-4o --dry-run",
    "tasks": "",
    "train plot": "{out}",
    "verify": "qwen2-vl-7b --run {run}",
}
"""Commands that ask no server here, with their arguments: the process holds all keys, and URLs with passwords."""

ELSEWHERE = {
    "construct calibrate": "above",
    "construct questions": "above",
    "construct review": "a local page, as that of construct annotate; reads no key",
    "data download": "test_hubs",
    "diagnose": "the real commands",
    "parity": "asks models of this disk; reads no key",
    "tiny": "writes a checkpoint of random numbers; reads no key",
    "train data": "above",
    "demo": "runs commands of this list on models of this disk",
    "train demo": "runs commands of this list on models of this disk",
    "train grpo": "asks its server by the client of test_secrets; what it records leaves tokens out (test_sft_recipe)",
    "train merge": "reads and writes checkpoints of this disk; reads no key",
    "train sft": "trains a model of this disk; what it records leaves tokens out (test_sft_recipe)",
}
"""Where the other commands are attacked, or why they cannot leave a key anywhere."""


def test_no_command_is_left_out() -> None:
    assert sorted([*LOCAL, *ELSEWHERE]) == sorted(EXAMPLES)


@pytest.mark.parametrize("command", LOCAL)
def test_a_command_that_asks_nobody_shows_no_key_of_its_process(
    attacked: Callable[..., None],
    said: Callable[[], str],
    quick: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    command: str,
) -> None:
    places = {"run": shutil.copytree(SAVED, tmp_path / "run"), "out": tmp_path / "out"}
    places["out"].mkdir()
    url = f"http://me:{PASSWORD}@127.0.0.1:9"
    for name in ("HF_ENDPOINT", "HTTPS_PROXY", "ALL_PROXY", "EGOST_JUDGE"):
        monkeypatch.setenv(name, f"openai:m@{url}" if name == "EGOST_JUDGE" else url)

    def attack() -> list[str]:
        done = CliRunner().invoke(app, [*command.split(), *LOCAL[command].format(**places).split()])
        assert done.exception is None or isinstance(done.exception, SystemExit), done
        return [done.output, said(), *files_below(tmp_path), *files_below(quick)]

    def nowhere(found: list[str]) -> bool:
        return not keys_in(found) and not any(PASSWORD in text for text in found)

    attacked(attack, right=nowhere)


SAYS = r"""
import os, sys, time
for number, key in enumerate(os.environ["SAID"].split("\n")):
    print(f"ERROR 01-01 00:00:00 [api.py:1] the key is {key}, I say", file=sys.stderr if number % 2 else sys.stdout)
sys.stdout.write(os.environ["SAID"].split("\n")[0])
sys.exit(3)
"""


@pytest.mark.parametrize("name", CANARIES)
def test_no_key_is_in_the_log_of_egost_serve(
    attacked: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """vLLM prints its arguments and what clients sent; here, each writing of a key."""
    written = [text for write in WRITINGS.values() for text in write(CANARIES[name])]
    monkeypatch.setenv("SAID", "\n".join(written))
    told: list[str] = []
    log = tmp_path / "8000.log"

    def attack() -> list[str]:
        with (
            ServerProcess([sys.executable, "-c", SAYS], "http://127.0.0.1:9", log, told.append) as server,
            pytest.raises(AdapterError, match="ended before it was healthy \\(exit status 3\\)") as raised,
        ):
            server.wait_until_healthy(30)
        assert log.read_text().count("I say") == len(written)
        return [str(raised.value), *told, *files_below(tmp_path)]

    attacked(attack, right=lambda found: not keys_in(found))
