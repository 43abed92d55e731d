"""What the machine does to a command: here, the children of one that is killed."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from lmms_eval_command import environment
from places import ROOT
from video_files import write_video
from wire_server import http, serve_wire

from egost.tasks.release.layout import question_files, write_question_files
from egost.tasks.sample import Sample

WITHIN = 5.0
"""Seconds after which no child of a killed parent is left."""

TASK = "egost_mini_direction_forward"
SERVED = {"data": [{"id": "Qwen/Qwen2-VL-7B-Instruct", "root": "/models/x"}]}


def descendants(pid: int) -> set[int]:
    found: set[int] = set()
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        # A thread may end meanwhile.
        with suppress(FileNotFoundError, ProcessLookupError):
            for child in map(int, task.read_text().split()):
                found |= {child} | descendants(child)
    return found


def running(pids: set[int]) -> set[int]:
    def runs(pid: int) -> bool:
        try:
            return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
        except FileNotFoundError:
            return False

    return {pid for pid in pids if runs(pid)}


def official_release(root: Path) -> Path:
    """A release whose clips take seconds to decode, all together."""
    samples = []
    (root / "part1").mkdir(parents=True)
    write_video(root / "part1" / "0.mp4", 9, size=(1280, 720), preset="ultrafast", gop=250)
    for number in range(40):
        (root / "part1" / f"{number}.mp4").write_bytes(
            (root / "part1" / "0.mp4").read_bytes() + bytes(number)
        )
        name = f"Part1/route_forward/{number}"
        samples.append(Sample(name, "route", "forward", 1, f"{number}.mp4", "How?", (), "Turn left."))
    write_question_files(root, question_files(samples))
    return root


@pytest.mark.parametrize(
    ("arguments", "made"),
    [
        (["data", "mini", "--clips", "40", "--workers", "2"], "mini"),
        (["clips", "build", "--workers", "2"], "clips"),
        (["train", "demo", "--quick", "--out", "cache/demo"], "demo"),
    ],
)
def test_children_end_with_a_killed_command(
    tmp_path: Path, attacked: Callable[..., None], arguments: list[str], made: str
) -> None:
    cache = tmp_path / "cache"
    settings = {} if made == "mini" else {"EGOST_DATA": str(official_release(tmp_path / "release"))}
    command = subprocess.Popen(
        [sys.executable, "-c", "from egost.main import app; app()", *arguments],
        cwd=tmp_path,
        env=environment(cache, PYTHONPATH=str(ROOT), **settings),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        # Until two children are at work, and one thing is made.
        while command.poll() is None and not (
            len(children := descendants(command.pid)) >= 2 and list((cache / made).rglob("*.mp4"))
        ):
            time.sleep(0.02)
    finally:
        command.send_signal(signal.SIGKILL)
        command.wait()
    attacked(lambda: len(children) >= 2 and gone(children), right=bool)


@pytest.mark.parametrize("at", ["its start", "work"])
def test_lmms_eval_ends_with_a_killed_egost_run(
    tmp_path: Path, attacked: Callable[..., None], at: str, mini_release: Callable[..., Path]
) -> None:
    mini_release(tmp_path / "mini", clips=4, seed=5)
    asked = threading.Event()

    def wire(good: dict[str, Any]) -> bytes:
        asked.set()
        time.sleep(WITHIN)
        return http(good)

    with serve_wire(wire=wire, always=True, models=SERVED) as server:
        arguments = ["run", "qwen2-vl-7b", "--base-url", server.url]
        command = subprocess.Popen(
            [sys.executable, "-c", "from egost.main import app; app()", *arguments, "--tasks", TASK],
            cwd=tmp_path,
            env=environment(tmp_path / "cache", PYTHONPATH=str(ROOT), EGOST_MINI_DATA=str(tmp_path / "mini")),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            while command.poll() is None and not (
                (children := descendants(command.pid)) and (asked.is_set() or at == "its start")
            ):
                time.sleep(0.02)
        finally:
            command.send_signal(signal.SIGKILL)
            command.wait()
        attacked(lambda: children and gone(children), right=bool)


def gone(children: set[int]) -> bool:
    end = time.monotonic() + WITHIN
    while (left := running(children)) and time.monotonic() < end:
        time.sleep(0.05)
    return not left


SERVING = """
import subprocess, sys, time
from pathlib import Path
from egost.model_adapters.server.server_process import ServerProcess

child = [sys.executable, "-c", "import time; time.sleep(600)"]
parent = [sys.executable, "-c", f"import subprocess, time; subprocess.Popen({child!r}); time.sleep(600)"]
with ServerProcess(parent, "http://127.0.0.1:1", Path(sys.argv[1]), print):
    time.sleep(600)
"""


def test_a_server_and_its_children_end_with_a_killed_command(
    tmp_path: Path, attacked: Callable[..., None]
) -> None:
    command = subprocess.Popen([sys.executable, "-c", SERVING, str(tmp_path / "log")])
    try:
        # The server, its child, and who watches.
        while command.poll() is None and len(children := descendants(command.pid)) < 3:
            time.sleep(0.02)
    finally:
        command.send_signal(signal.SIGKILL)
        command.wait()
    attacked(lambda: len(children) == 3 and gone(children), right=bool)
