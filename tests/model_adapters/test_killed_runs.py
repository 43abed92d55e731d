"""The plain lmms-eval command, killed in the middle and started again: it goes on, to the same results."""

from __future__ import annotations

import re
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from lmms_eval_command import COMMAND, environment, lmms_eval, on_cpu, saved

from egost.model_adapters.tiny_checkpoint import tiny_checkpoint


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory, mini_release: Callable[..., Path]) -> Path:
    folder = tmp_path_factory.mktemp("shared") / "cache"
    mini_release(folder / "mini", clips=4, seed=3)
    return folder


def journaled(cache: Path) -> int:
    journal = cache / "journal" / "responses.sqlite"
    if not journal.exists():
        return 0
    with closing(sqlite3.connect(journal)) as db:
        try:
            [[n]] = db.execute("SELECT count(*) FROM replies")
        except sqlite3.OperationalError:  # The table is about to be made.
            return 0
    return int(n)


def rows(output: Path) -> dict[str, list[dict[str, Any]]]:
    """All that was saved of the samples, but what says how the reply was made."""
    _, samples = saved(output)
    for task in samples.values():
        for row in task:
            row["percent"].pop("generation")
            row.pop("truncated")
            row.pop("token_counts")
    return samples


def test_kill_9_in_the_middle_and_again(cache: Path, tmp_path: Path) -> None:
    checkpoint = tiny_checkpoint(tmp_path / "tiny")
    common = ["--tasks", "egost_mini_st", "--gen_kwargs", "max_new_tokens=24", "--log_samples"]
    of_host = on_cpu(checkpoint)
    ours = ["--model", "egost_journal", "--device", "cpu", "--model_args"]
    ours += [f"adapter=qwen2_vl,{of_host[-1]}"]

    unbroken = lmms_eval(*common, *of_host, "--output_path", "unbroken", cwd=tmp_path, cache=cache)
    assert unbroken.returncode == 0 and journaled(cache) == 0

    killed = subprocess.Popen(
        [str(COMMAND), *common, *ours, "--output_path", "ours"],
        cwd=tmp_path,
        env=environment(cache, EGOST_ONLY="1"),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 300
    while journaled(cache) < 5:
        assert killed.poll() is None and time.monotonic() < deadline, "it never answered"
        time.sleep(0.05)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    before = journaled(cache)
    assert 5 <= before < 16 and not (tmp_path / "ours").exists()

    again = lmms_eval(*common, *ours, "--output_path", "ours", cwd=tmp_path, cache=cache)
    assert again.returncode == 0, again.stderr[-3000:]
    [line] = re.findall(r"egost: 16 of 16 samples; .*", again.stderr)
    assert f" {before} from the journal, 0 failed" in line
    assert journaled(cache) == 16, "each request was answered once"
    assert rows(tmp_path / "ours") == rows(tmp_path / "unbroken")
    first, second = saved(tmp_path / "ours")[0], saved(tmp_path / "unbroken")[0]
    for name in ("egost_mini_st", "egost_mini_route_reverse", "egost_mini_direction_forward"):
        for metric in ("percent,none", "compat,none"):
            figures = [run["results"][name][metric] for run in (first, second)]
            assert figures[0] == figures[1]


def test_ours_are_listed_and_a_wrong_name_is_said_in_one_line(cache: Path, tmp_path: Path) -> None:
    arguments = ["--tasks", "egost_mini_mcq", "--model", "egost_journal", "--model_args"]
    done = lmms_eval(*arguments, "adapter=qwen2_vll", cwd=tmp_path, cache=cache)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "egost: lmms-eval has no adapter 'qwen2_vll' of its own (near: qwen2_vl" in done.stderr
