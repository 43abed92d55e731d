"""Runs the real lmms-eval command as a subprocess."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from preloaded import run_preloaded

COMMAND = Path(sys.executable).with_name("lmms-eval")


def lmms_eval(
    *arguments: str, cwd: Path, cache: Path, timeout: float = 600, **settings: str
) -> subprocess.CompletedProcess[str]:
    """`lmms-eval ARGUMENTS` in a folder, with a cache of its own and without a network.

    In a preloaded process, which indexes our tasks alone: 2 s of CPU where a plain start takes 20.
    """
    assert all(name.startswith("EGOST_") for name in settings), "a preloaded process has read the others"
    env = environment(cache, **{"EGOST_ONLY": "1", **settings})
    return run_preloaded("lmms_eval.cli.dispatch:main", arguments, cwd, env, timeout)


def plain_lmms_eval(
    *arguments: str, cwd: Path, cache: Path, python: Path | None = None, timeout: float = 600, **settings: str
) -> subprocess.CompletedProcess[str]:
    """The command as a user starts it, for what depends on the start: which tasks are found, what is imported.

    python: the interpreter of another environment, whose `lmms-eval` entry point is called.
    """
    start = (
        [str(COMMAND)]
        if python is None
        else [str(python), "-c", "import sys; from lmms_eval.cli.dispatch import main; sys.exit(main())"]
    )
    return subprocess.run(
        [*start, *arguments],
        cwd=cwd,
        env=environment(cache, **settings),
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def lmms_eval_on_two_ranks(
    *arguments: str, cwd: Path, cache: Path, timeout: float = 400, **settings: str
) -> subprocess.CompletedProcess[str]:
    """lmms-eval started by `accelerate launch` as two processes, which share the samples; on a CPU.

    `accelerate launch --cpu --num_processes 2` starts one process alone, without MPI.
    """
    return subprocess.run(
        [
            *(sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"),
            *("--main_process_port", "0", "-m", "lmms_eval", *arguments),
        ],
        cwd=cwd,
        env=environment(cache, EGOST_ONLY="1", ACCELERATE_USE_CPU="1", **settings),
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def ranks_of(done: subprocess.CompletedProcess[str]) -> set[int]:
    """The ranks that a run of lmms-eval says it had."""
    return {int(rank) for rank in re.findall(r"Running on rank (\d+)", done.stdout + done.stderr)}


def environment(cache: Path, **settings: str) -> dict[str, str]:
    """The environment of a stranger: none of our settings but those given, and no network."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("EGOST_")}
    # One thread, so that a reply does not depend on how many a process has.
    quiet = {
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "TRANSFORMERS_VERBOSITY": "error",
    }
    return {**inherited, **quiet, "EGOST_CACHE": str(cache), "HF_HOME": str(cache / "hf"), **settings}


def on_cpu(checkpoint: Path | str) -> list[str]:
    """The arguments for lmms-eval's own `qwen2_vl` on a CPU."""
    return [
        "--model",
        "qwen2_vl",
        "--device",
        "cpu",
        "--model_args",
        f"device_map=cpu,pretrained={checkpoint}",
    ]


def saved(output: Path) -> tuple[dict[str, Any], dict[str, list[dict[str, Any]]]]:
    """The results JSON and the samples by task of the one run in an output folder."""
    [results] = output.rglob("*_results.json")
    samples = {
        path.name.split("_samples_")[1].removesuffix(".jsonl"): [
            json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()
        ]
        for path in output.rglob("*_samples_*.jsonl")
    }
    return json.loads(results.read_text(encoding="utf-8")), samples
