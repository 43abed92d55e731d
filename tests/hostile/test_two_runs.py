"""Two runs at once: the second one stops and says who asks; a lock of the dead holds nobody up."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest
from lmms_eval_command import environment, lmms_eval, saved
from places import ROOT
from preloaded import run_preloaded
from typer.testing import CliRunner
from wire_server import WireServer, http, serve_wire

from egost.main import app
from egost.model_adapters.engine import EngineIdentity
from egost.model_adapters.journal import Journal
from egost.results.run import read_run
from egost.tasks.errors import EgostError

HOLDER = """
import sys, time
from pathlib import Path
from egost.model_adapters.engine import EngineIdentity
from egost.model_adapters.journal import Journal

lock = Journal(Path(sys.argv[1])).only_asker(EngineIdentity("script 1", "scripted", sys.argv[2], {}))
print("asking", flush=True)
sys.stdin.read()
"""


def identity(revision: str = "1") -> EngineIdentity:
    return EngineIdentity("script 1", "scripted", revision, {})


@contextmanager
def asking(folder: Path, **settings: str) -> Iterator[subprocess.Popen[str]]:
    """Another process that asks revision 1 of a model, until it is ended."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(folder), "1"],
        env={**os.environ, **settings},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout and process.stdout.readline() == "asking\n"
        yield process
        process.kill()


def test_the_second_of_two_runs_says_who_asks(tmp_path: Path, attacked: Callable[..., None]) -> None:
    with asking(tmp_path) as other:
        message = (
            f"scripted is being asked already, .*: by process {other.pid} on {socket.gethostname()}, since "
            r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d .*the same command then asks for what is missing"
        )
        attacked(lambda: Journal(tmp_path).only_asker(identity()), message)
        attacked(lambda: Journal(tmp_path).only_asker(identity("2")), right=lambda lock: lock.is_locked)
        attacked(lambda: Journal(tmp_path / "b").only_asker(identity()), right=lambda lock: lock.is_locked)
        for note in (tmp_path / "asking").glob("*.json"):
            note.write_text("[" * 100_000)
        attacked(lambda: Journal(tmp_path).only_asker(identity()), "by a process that has not said which")


@pytest.mark.parametrize("ends_by", [signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV])
def test_a_dead_owner_holds_nobody_up(
    tmp_path: Path, attacked: Callable[..., None], ends_by: signal.Signals
) -> None:
    with asking(tmp_path) as other:
        other.send_signal(ends_by)
        other.wait()
        attacked(lambda: Journal(tmp_path).only_asker(identity()), right=lambda lock: lock.is_locked)


def test_the_ranks_of_a_run_ask_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, attacked: Callable[..., None]
) -> None:
    with asking(tmp_path, RANK="0", WORLD_SIZE="2") as first:
        monkeypatch.setenv("RANK", "1")
        attacked(lambda: Journal(tmp_path).only_asker(identity()), right=lambda lock: lock.is_locked)
        monkeypatch.setenv("RANK", "0")
        attacked(lambda: Journal(tmp_path).only_asker(identity()), f"by process {first.pid}")


def test_a_model_in_one_process_may_be_asked_again(tmp_path: Path, attacked: Callable[..., None]) -> None:
    first = Journal(tmp_path).only_asker(identity())
    attacked(lambda: Journal(tmp_path).only_asker(identity()), right=lambda lock: lock is first)


Done = CompletedProcess[str]


def the_second_of(
    first: Callable[[WireServer], Done],
    second: Callable[[WireServer], Done],
    made: Callable[[Any], Any] = lambda good: good,
) -> tuple[WireServer, Done, Done]:
    """What two commands do of which the second one starts and ends while the first one waits for its server.

    made: what the server makes of a good reply.
    """
    asked, go_on = threading.Event(), threading.Event()

    def wire(good: dict[str, Any]) -> bytes:
        asked.set()
        go_on.wait(300)
        return http(made(good))

    with serve_wire(wire=wire, always=True) as server, ThreadPoolExecutor() as pool:
        try:
            running = pool.submit(first, server)
            assert asked.wait(300)
            later = second(server)
        finally:
            go_on.set()
        return server, running.result(), later


def refused(done: Done) -> None:
    """Raise what a command said that must have ended by one message."""
    assert done.returncode, done.stdout
    raise EgostError(done.stderr[done.stderr.index("egost: ") :])


def test_a_run_is_judged_by_one_process_at_a_time(tmp_path: Path, attacked: Callable[..., None]) -> None:
    copies = [shutil.copytree(ROOT / "tests" / "saved" / "mini_run", tmp_path / name) for name in ("a", "b")]
    env = environment(tmp_path / "cache", EGOST_JUDGE_KEY="a-key-of-a-test", COLUMNS="200")

    def judge(folder: Path, server: WireServer) -> Done:
        words = ["judge", str(folder), "--judge", f"openai:m@{server.url}/v1"]
        return run_preloaded("egost.main:app", words, tmp_path, env, 300)

    server, first, second = the_second_of(
        lambda server: judge(copies[0], server), lambda server: judge(copies[0], server)
    )
    routes = [record for record in read_run(copies[1]).records if record.task.startswith("egost_mini_route")]
    texts = {(r.sample.question, r.sample.answer, r.response) for r in routes if r.response.strip()}
    attacked(
        lambda: refused(second),
        r"results\.json is being judged by openai:m@.* already: by process \d+ on .*, since \d{4}-.*then asks for what "
        "is missing",
    )
    attacked(lambda: first, right=lambda done: done.returncode == 0 and "written: " in done.stdout)
    attacked(lambda: len(server.heard), right=lambda asked: 0 < asked == len(texts))
    [written] = copies[0].glob("*-judged-*_results.json")
    attacked(
        lambda: read_run(written), right=lambda run: len(run.records) == len(read_run(copies[1]).records)
    )


def test_reasoning_is_written_by_one_process_at_a_time(
    tmp_path: Path, attacked: Callable[..., None], mini_release: Callable[..., Path]
) -> None:
    mini_release(tmp_path / "cache" / "mini", clips=4, seed=5)
    env = environment(tmp_path / "cache", EGOST_JUDGE_KEY="a-key-of-a-test", COLUMNS="200")

    def data(server: WireServer) -> Done:
        words = ["train", "data", "--world", "mini", "--rows", "4", "--out", "rows", "--writer"]
        return run_preloaded("egost.main:app", [*words, f"openai:m@{server.url}/v1"], tmp_path, env, 300)

    _, first, second = the_second_of(data, data)
    attacked(
        lambda: refused(second), r"is being asked for reasoning already: by process \d+ on .*, since \d{4}-"
    )
    attacked(lambda: first, right=lambda done: "is being asked" not in done.stderr)


def with_a_half(good: Any) -> Any:
    good["choices"][0]["message"]["content"] = "B. \ud83d"
    return good


def test_two_whole_runs_of_lmms_eval_with_one_journal(
    tmp_path: Path, attacked: Callable[..., None], mini_release: Callable[..., Path]
) -> None:
    """The server's replies hold half a surrogate pair, which the run counts."""
    mini_release(tmp_path / "mini", clips=4, seed=5)

    def run(output: str, server: WireServer) -> Done:
        return lmms_eval(
            *("--tasks", "egost_mini_direction_forward", "--model", "egost_openai", "--log_samples"),
            *("--model_args", f"base_url={server.url}/v1,model=gpt-4o-2024-08-06", "--output_path", output),
            cwd=tmp_path,
            cache=tmp_path / "cache",
            EGOST_MINI_DATA=str(tmp_path / "mini"),
            EGOST_PROTOCOL="uniform8+224x224",
            EGOST_API_KEY="a-key-of-a-test",
        )

    server, first, second = the_second_of(
        lambda server: run("first", server), lambda server: run("second", server), with_a_half
    )
    attacked(
        lambda: refused(second),
        r"gpt-4o.* is being asked already, with the same journal \(.*\): by process \d+ on .*, since \d{4}-",
    )
    attacked(lambda: first, right=lambda done: done.returncode == 0)
    _, samples = saved(tmp_path / "first")
    rows = samples["egost_mini_direction_forward"]
    attacked(lambda: [row["filtered_resps"] for row in rows], right=lambda found: found == ["B. \ufffd"] * 4)
    counted = CliRunner().invoke(app, ["summary", str(tmp_path / "first")])
    assert "4 responses held 4 halves of surrogate pairs" in counted.output, counted.output
    attacked(lambda: server.heard, right=lambda found: len(found) == 4)
    assert not list((tmp_path / "second").rglob("*_results.json"))
