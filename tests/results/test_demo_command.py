"""`egost demo`: what it prints, stopped and started again, and what it says where a run cannot be finished."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from egost_command import EGOST
from lmms_eval_command import environment
from planted_run import planted
from typer.testing import CliRunner

from egost.commands import demo
from egost.main import app
from egost.results.intervals import estimate, paired
from egost.results.run import Run


def test_one_table_and_bars_fit_80_columns(
    demo_run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a, b = (planted(demo_run, tmp_path / name, seed=seed, model=name) for seed, name in enumerate("ab"))
    demo.show([a, b])
    shown = capsys.readouterr().out
    lines = shown.splitlines()
    assert max(map(len, lines)) <= 80 and shown.isascii()
    table = [line for line in lines if re.search(r"\d \([-+]?\d+\.\d to ", line)]
    assert [line[:11] for line in table] == [
        *(f"{kind + way:11}" for kind in ("Route ", "Direction ", "Landmark ", "Action ") for way in "FR"),
        "Avg.(Total)",
        "Avg.(ST)   ",
    ]
    asked = ("direction", "forward")
    direction = [[r for r in run.records if (r.sample.task, r.sample.way) == asked] for run in (a, b)]
    means = [estimate(records).value for records in direction]
    wanted = [f"{means[0]:.1f}", f"{means[1]:.1f}", f"{paired(*direction).value:+.1f}"]
    assert re.findall(r"(\S+) \(", table[2]) == wanted
    assert len([line for line in lines if re.fullmatch(r".{13}[ =#|]*[=#|]", line)]) == 2 * 8


def test_a_bar_is_as_long_as_its_figure_with_a_mark_at_chance() -> None:
    # 50 letters for 100 percent.
    assert demo.bar("=", 97.7, None) == "=" * 49
    assert demo.bar("#", 90.0, 27.5) == "#" * 14 + "|" + "#" * 30
    assert demo.bar("#", 18.8, 28.1) == "#" * 9 + " " * 5 + "|"
    assert demo.bar("=", 0.0, None) == ""


def test_it_says_what_mini_st_r1_was_trained_for() -> None:
    assert demo.taught().startswith(
        "mini-st-r1 is mini-base trained on routes, directions, landmarks and actions.\n"
    )


def test_stopped_and_started_again_it_ends_with_a_page_and_what_to_type_next(
    tmp_path: Path, mini_release: Callable[..., Path]
) -> None:
    """On 4 walks, with the judge of another setting, which would need a key."""
    mini = mini_release(tmp_path / "mini", clips=4)
    told = environment(
        tmp_path / "cache", EGOST_MINI_DATA=str(mini), EGOST_JUDGE="gpt-4o", EGOST_PROMPT="bare"
    )
    command = [str(EGOST), "demo"]
    first = subprocess.Popen(
        command, cwd=tmp_path, env=told, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    log = tmp_path / "runs" / "demo" / "mini-base.log"
    while not log.exists() and first.poll() is None:
        time.sleep(0.1)
    first.send_signal(signal.SIGINT)
    out, _ = first.communicate(timeout=60)
    assert first.returncode == 130
    assert out.splitlines()[-1] == "egost: stopped. What is answered is kept: the same command goes on."
    assert "Traceback" not in out

    done = subprocess.run(
        command, cwd=tmp_path, env=told, capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr + log.read_text()
    lines = done.stdout.splitlines()
    assert lines[1] == "The mini world: 4 rendered walks with exact answers. No benchmark results."
    assert lines[-2] == "lmms-eval's own output: runs/demo/mini-base.log, runs/demo/mini-st-r1.log"
    assert re.fullmatch(
        r"Open runs/demo/report.html in a browser. Then type: \S*egost run qwen2.5-vl-7b --dry-run", lines[-1]
    )
    assert "not asked" not in done.stdout and "Direction R" in done.stdout
    assert "WARNING" not in done.stdout + done.stderr and "lmms_eval" not in done.stdout + done.stderr
    assert b"mini_st_r1" in (tmp_path / "runs" / "demo" / "report.html").read_bytes()


@pytest.fixture
def cannot_start(
    tmp_path: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch, mini_release: Callable[..., Path]
) -> Path:
    """A Python that fails, which lmms-eval is to be started with, and a mini world whose frames are there."""
    mini = mini_release(tmp_path / "mini", clips=4)
    monkeypatch.setenv("EGOST_MINI_DATA", str(mini))
    assert CliRunner().invoke(app, ["clips", "build", "--mini"]).exit_code == 0
    broken = tmp_path / "python"
    broken.touch(0o755)
    monkeypatch.setattr(sys, "executable", str(broken))
    return broken


def test_a_run_that_cannot_start_names_the_log_and_its_last_line(tmp_path: Path, cannot_start: Path) -> None:
    cannot_start.write_text("#!/bin/sh\nprintf '\\033[31mImportError: no torch\\033[0m\\n' >&2\nexit 1\n")
    done = CliRunner().invoke(app, ["demo", "--out", str(tmp_path / "out")])
    log = tmp_path / "out" / "mini-base.log"
    assert done.exit_code == 2
    assert done.stderr.splitlines()[-1] == (
        f"egost: lmms-eval stopped with exit code 1; {log} has all that it said, at last: ImportError: no torch. "
        "What is answered is kept: the same command goes on."
    )


def test_a_full_disk_is_said_where_not_even_the_log_can_say_it(tmp_path: Path, cannot_start: Path) -> None:
    cannot_start.write_text("#!/bin/sh\nhead -c 1000000 /dev/zero >&2\nexit 1\n")
    disk = tmp_path / "disk"
    disk.mkdir()
    if os.geteuid() or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", disk]).returncode:
        pytest.skip("only root mounts a small disk")
    try:
        done = CliRunner().invoke(app, ["demo", "--out", str(disk / "out")])
    finally:
        subprocess.run(["umount", disk], check=True)
    assert done.exit_code == 2
    last = done.stderr.splitlines()[-1]
    assert last.startswith(f"egost: {disk}/out cannot be written: ") and "space" in last, last
