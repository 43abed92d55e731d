"""The real command with `--model egost_vllm`: what a run records, and a run that is killed and goes on."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from lmms_eval_command import environment, plain_lmms_eval, saved

from egost.model_adapters.tiny_checkpoint import tiny_checkpoint

TASKS = "egost_mini_direction_forward,egost_mini_direction_reverse"
PYTHON = Path(sys.executable)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_checkpoint(tmp_path_factory.mktemp("checkpoint") / "tiny")


def arguments(checkpoint: Path) -> list[str]:
    model = f"model={checkpoint},dtype=float32,enforce_eager=True,max_num_seqs=1,max_model_len=1024"
    return [
        *("--tasks", TASKS, "--model", "egost_vllm", "--model_args", model, "--limit", "4"),
        *("--gen_kwargs", "max_new_tokens=60", "--output_path", "out", "--log_samples"),
    ]


def scored(folder: Path) -> dict[str, list[Any]]:
    """What was said to each question, how it was scored, and what is recorded of it."""
    _, samples = saved(folder)
    return {
        task: [(row["filtered_resps"], row["percent"]) for row in sorted(rows, key=lambda row: row["doc_id"])]
        for task, rows in samples.items()
    }


def test_a_killed_run_goes_on_and_ends_as_one_that_was_not(
    shared_cache: Path, checkpoint: Path, tmp_path: Path
) -> None:
    killed, unbroken = (shutil.copytree(shared_cache, tmp_path / name) for name in ("killed", "unbroken"))
    (tmp_path / "first").mkdir()
    run = subprocess.Popen(
        [
            *(sys.executable, "-c", "import sys; from lmms_eval.cli.dispatch import main; sys.exit(main())"),
            *arguments(checkpoint),
        ],
        cwd=tmp_path / "first",
        env=environment(killed),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 300
    while not (replies := journaled(killed)) and run.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(run.pid, signal.SIGKILL)
    run.wait()
    assert 1 <= replies < 8 and not (tmp_path / "first" / "out").exists(), "killed in the middle"

    outcomes = {}
    for name, cache in (("first", killed), ("second", unbroken)):
        (tmp_path / name).mkdir(exist_ok=True)
        done = plain_lmms_eval(*arguments(checkpoint), cwd=tmp_path / name, cache=cache, python=PYTHON)
        assert done.returncode == 0 and (tmp_path / name / "out").is_dir(), (
            done.stdout[-2000:] + done.stderr[-3000:]
        )
        outcomes[name] = scored(tmp_path / name / "out")
        line = next(line for line in done.stderr.splitlines() if line.startswith("egost: 8 of 8 samples"))
        assert (", 0 from the journal" in line) is (name == "second"), line
    for task, rows in outcomes["second"].items():
        went_on = [(said, without_journal(score)) for said, score in outcomes["first"][task]]
        assert went_on == [(said, without_journal(score)) for said, score in rows]
        for _, score in rows:
            generation = score["generation"]
            assert generation["engine"].startswith("vllm ") and generation["revision"].startswith("sha256:")
            assert generation["video_tokens"] > 0 and len(score["frames"]["pixels_sha256"]) == 64
            assert generation["truncated"] == (generation["completion_tokens"] == 60)


def without_journal(score: dict[str, Any]) -> dict[str, Any]:
    """A score without what depends on which replies came before: the journal, and vLLM's prefix cache."""
    return {**score, "generation": {**score["generation"], "journaled": None, "cached_tokens": None}}


def journaled(cache: Path) -> int:
    """How many replies the journals in a cache hold."""
    total = 0
    for path in (cache / "journal").glob("*.sqlite"):
        with closing(sqlite3.connect(path)) as database:
            try:
                total += database.execute("select count(*) from replies").fetchone()[0]
            except sqlite3.OperationalError:
                continue
    return total
