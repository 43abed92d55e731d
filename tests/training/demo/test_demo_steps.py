"""Steps of a demo: their order, what a second run leaves alone, and what is said of one that fails."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
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
    Step(name, needs, folder, name, lambda words=("sh", "-c", does): Command(words, {}))
    for name, needs, does in (
        ("one", (), "echo one >> order; touch one"),
        ("two", ("one",), "sleep 3; echo two >> order; touch two"),
    )
]
run_steps(steps, folder, at_once=2, console=Console())
"""


@pytest.fixture
def console() -> Console:
    return Console(record=True, width=200, force_terminal=False)


def step(folder: Path, name: str, *needs: str, does: str = "", **settings: str) -> Step:
    """A step that adds its name to a file, does something, and makes a file of its name."""
    words = ("sh", "-c", f"echo {name} >> {folder}/order; {does or ':'}; touch {folder}/{name}")
    return Step(name, needs, folder, name, lambda: Command(words, settings))


def order(folder: Path) -> list[str]:
    return (folder / "order").read_text().split()


def test_a_step_begins_after_what_it_needs_and_beside_what_it_does_not(
    tmp_path: Path, console: Console
) -> None:
    # `left` and `right` each wait for the other one to begin.
    waits = "until grep -q {} " + str(tmp_path / "order") + "; do sleep 0.05; done"
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
        ("echo too dark >&2; exit 3", "exit code 3"),
        ("echo too dark; exit 0", "exit code 0, and there is no bad"),
    ],
)
def test_a_failed_step_stops_the_others_and_shows_its_last_lines(
    tmp_path: Path, console: Console, does: str, says: str
) -> None:
    steps = [step(tmp_path, "bad", does=does), step(tmp_path, "slow", does="sleep 60")]
    with pytest.raises(TrainingError, match="too dark") as caught:
        run_steps(steps, tmp_path, at_once=2, console=console)
    assert says in str(caught.value) and str(tmp_path / "logs" / "bad.log") in str(caught.value)
    # Had it been waited for, the slow step would have written its file.
    assert not (tmp_path / "slow").exists() and not (tmp_path / "steps").exists()


def test_settings_of_the_shell_do_not_reach_a_step(
    tmp_path: Path, console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EGOST_TRAINED_ON", "allow")
    does = f"env > {tmp_path}/environment"
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
    return subprocess.Popen([sys.executable, "-c", STEPS, str(folder)], cwd=folder, start_new_session=True)


def test_a_killed_demo_goes_on_after_its_finished_steps(tmp_path: Path) -> None:
    first = start(tmp_path)
    wait_for(lambda: (tmp_path / "logs" / "two.log").exists())
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    done = (tmp_path / "steps" / "one.json").stat().st_mtime_ns
    assert start(tmp_path).wait(timeout=60) == 0
    assert order(tmp_path) == ["one", "two"]
    assert (tmp_path / "steps" / "one.json").stat().st_mtime_ns == done
    assert json.loads((tmp_path / "steps" / "two.json").read_text())["words"][0] == "sh"


@pytest.mark.parametrize(("sign", "left"), [(signal.SIGKILL, True), (signal.SIGTERM, False)])
def test_a_step_that_outlives_its_demo_is_waited_for(
    tmp_path: Path, sign: signal.Signals, left: bool
) -> None:
    first = start(tmp_path)
    wait_for(lambda: (tmp_path / "logs" / "two.log").exists())
    os.kill(first.pid, sign)
    first.wait(timeout=20)
    assert start(tmp_path).wait(timeout=60) == 0
    # Killed alone, the first one's step ran on to its end before the second began it again.
    assert order(tmp_path) == ["one", "two", "two"] if left else ["one", "two"]
