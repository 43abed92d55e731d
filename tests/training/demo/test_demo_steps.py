"""Steps of a demo: their order, what a second run leaves alone, and what is said of one that fails."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from rich.console import Console

from egost.training import TrainingError
from egost.training.demo.demo_steps import Command, Step, run_steps

STEPS = """
import sys
from pathlib import Path
from rich.console import Console
from egost.training.demo.demo_steps import Command, Step, run_steps

folder = Path(sys.argv[1])
steps = [
    Step(name, needs, folder, name, lambda words=(sys.argv[2], name, does): Command(words, {}))
    for name, needs, does in (("one", (), ""), ("two", ("one",), "time.sleep(3)"))
]
run_steps(steps, folder, at_once=2, console=Console())
"""

SCRIPT = """
import os, sys, time
from pathlib import Path

_, name, does = sys.argv
exec(does)
with open("order", "a") as order:
    print(name, file=order)
Path(name).touch()
"""
"""A step that does something, adds its name to a file, and makes a file of its name."""


@pytest.fixture(autouse=True)
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def console() -> Console:
    return Console(record=True, width=200, force_terminal=False)


def step(folder: Path, name: str, *needs: str, does: str = "", **settings: str) -> Step:
    words = (str(folder / "script.py"), name, does)
    return Step(name, needs, folder, name, lambda: Command(words, settings))


def order(folder: Path) -> list[str]:
    return (folder / "order").read_text().split()


def test_a_step_begins_after_what_it_needs_and_beside_what_it_does_not(
    tmp_path: Path, console: Console
) -> None:
    # `left` and `right` each wait for the other one to begin.
    waits = "Path(name + ' began').touch()\nwhile not Path('{} began').exists(): time.sleep(0.05)"
    steps = [
        step(tmp_path, "last", "left", "right"),
        step(tmp_path, "left", "first", does=waits.format("right")),
        step(tmp_path, "right", "first", does=waits.format("left")),
        step(tmp_path, "first"),
    ]
    took = run_steps(steps, tmp_path, at_once=2, console=console)
    assert order(tmp_path)[0] == "first" and order(tmp_path)[-1] == "last"
    assert set(took) == {"first", "left", "right", "last"}


def test_what_is_done_is_not_done_again(tmp_path: Path, console: Console) -> None:
    run_steps([step(tmp_path, "one")], tmp_path, at_once=1, console=console)
    run_steps([step(tmp_path, "one"), step(tmp_path, "two", "one")], tmp_path, at_once=1, console=console)
    assert order(tmp_path) == ["one", "two"]
    assert "one: done before" in console.export_text()
    (tmp_path / "one").unlink()
    run_steps([step(tmp_path, "one")], tmp_path, at_once=1, console=console)
    assert order(tmp_path) == ["one", "two", "one"]


def test_a_folder_of_other_settings_is_refused(tmp_path: Path, console: Console) -> None:
    run_steps([step(tmp_path, "one", SIZE="1")], tmp_path, at_once=1, console=console)
    with pytest.raises(TrainingError, match="holds a demo of other settings: its step one ran"):
        run_steps([step(tmp_path, "one", SIZE="2")], tmp_path, at_once=1, console=console)


@pytest.mark.parametrize(
    ("does", "says"),
    [
        ("print('too dark', file=sys.stderr); sys.exit(3)", "exit code 3"),
        ("print('too dark'); sys.exit()", "exit code 0, and there is no bad"),
    ],
)
def test_a_failed_step_stops_the_others_and_shows_its_last_lines(
    tmp_path: Path, console: Console, does: str, says: str
) -> None:
    steps = [step(tmp_path, "bad", does=does), step(tmp_path, "slow", does="time.sleep(60)")]
    with pytest.raises(TrainingError, match="too dark") as caught:
        run_steps(steps, tmp_path, at_once=2, console=console)
    assert says in str(caught.value) and str(tmp_path / "logs" / "bad.log") in str(caught.value)
    # Had it been waited for, the slow step would have written its file.
    assert not (tmp_path / "slow").exists() and not (tmp_path / "steps").exists()


def test_settings_of_the_shell_do_not_reach_a_step(
    tmp_path: Path, console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EGOST_TRAINED_ON", "allow")
    does = "Path('environment').write_text('\\n'.join(f'{n}={v}' for n, v in os.environ.items()))"
    run_steps([step(tmp_path, "one", does=does, EGOST_PROMPT="think")], tmp_path, at_once=1, console=console)
    seen = dict(
        line.split("=", 1) for line in (tmp_path / "environment").read_text().splitlines() if "=" in line
    )
    assert "EGOST_TRAINED_ON" not in seen
    assert seen["EGOST_PROMPT"] == "think" and seen["EGOST_CACHE"] == os.environ["EGOST_CACHE"]


def wait_for(found: Callable[[], bool]) -> None:
    until = time.monotonic() + 60
    while not found():
        assert time.monotonic() < until
        time.sleep(0.05)


def start(folder: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", STEPS, str(folder), str(folder / "script.py")]
    return subprocess.Popen(command, cwd=folder, start_new_session=True)


def test_a_killed_demo_goes_on_after_its_finished_steps(tmp_path: Path) -> None:
    first = start(tmp_path)
    wait_for(lambda: (tmp_path / "logs" / "two.log").exists())
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    done = (tmp_path / "steps" / "one.json").stat().st_mtime_ns
    assert start(tmp_path).wait(timeout=60) == 0
    assert order(tmp_path) == ["one", "two"]
    assert (tmp_path / "steps" / "one.json").stat().st_mtime_ns == done
    assert json.loads((tmp_path / "steps" / "two.json").read_text())["words"][1] == "two"


@pytest.mark.parametrize("sign", [signal.SIGKILL, signal.SIGTERM])
def test_a_step_ends_with_its_demo_and_is_done_again(tmp_path: Path, sign: signal.Signals) -> None:
    first = start(tmp_path)
    wait_for(lambda: (tmp_path / "logs" / "two.log").exists())
    os.kill(first.pid, sign)
    first.wait(timeout=20)
    assert start(tmp_path).wait(timeout=60) == 0
    assert order(tmp_path) == ["one", "two"]


def test_the_end_is_told_by_the_pace_so_far(tmp_path: Path, console: Console) -> None:
    record = tmp_path / "steps" / "first.json"
    first, second, third = (
        replace(step(tmp_path, name), expected=expected)
        for name, expected in (("first", 10.0), ("second", 1.0), ("third", 3.0))
    )
    run_steps([first], tmp_path, at_once=1, console=console)
    # As if it had taken two days in place of ten seconds; then three more seconds are half a day.
    record.write_text(json.dumps(json.loads(record.read_text()) | {"seconds": 2 * 86400 * 11 / 10}))
    began = datetime.now()
    run_steps([first, second, third], tmp_path, at_once=1, console=console)
    [told] = re.findall(r"2 of 3 steps done, all by about (\S+ \S+)", console.export_text())
    left = datetime.fromisoformat(told) - began
    # 11 expected seconds took 2.2 x 86400 s: 3 more are 51840 s.
    assert timedelta(hours=14) < left < timedelta(hours=15)
