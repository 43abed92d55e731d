"""Two runs at once: the second one stops and says who asks; a lock of the dead holds nobody up."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from egost.model_adapters.engine import EngineIdentity
from egost.model_adapters.journal import Journal

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
