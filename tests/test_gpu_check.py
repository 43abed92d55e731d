"""`make gpu-check` on a CPU, with a tiny checkpoint: every part whose packages are here is really measured."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from lmms_eval_command import environment
from places import ROOT
from preloaded import run_preloaded

sys.path.insert(0, str(ROOT / "tests" / "benchmarks"))

from gpu_check import check, newest, table
from gpu_parts import PARTS, SIZES

TINY = SIZES["tiny"]


def preloaded(
    arguments: Sequence[str], given: Mapping[str, str], limit_s: float
) -> subprocess.CompletedProcess[str]:
    env = environment(Path(given["EGOST_CACHE"])) | given
    return run_preloaded("gpu_parts:measure_part", arguments, Path(arguments[1]), env, limit_s)


@pytest.mark.skipif(
    find_spec("vllm") is not None, reason="vLLM's parts take minutes: gpu_check.py --size tiny"
)
def test_each_part_is_measured_or_says_what_it_lacks(tmp_path: Path) -> None:
    record = check(tmp_path, TINY, list(PARTS), preloaded)
    parts: dict[str, Any] = record["parts"]
    assert list(parts) == list(PARTS)
    assert not any("failed" in part for part in parts.values()), parts
    for name in ("sft", "grpo"):
        assert len(parts[name]["step_s"]) == 2 and 0 < parts[name]["vision"] < 1
    # Eight completions of eight tokens, and one pass for the loss: most of the time is sampling.
    assert parts["grpo"]["vision"] < parts["grpo"]["sampling"] < 1
    # Two walks: a question of each kind and way is asked of each, of actions where there is one.
    assert parts["qwen2_vl"]["samples"] >= 8 and 0 < parts["qwen2_vl"]["outside"] < 1
    lacking = {name: part["not_run"] for name, part in parts.items() if "not_run" in part}
    assert lacking == {
        **{name: "vllm" for name, part in PARTS.items() if "vllm" in part.needs},
        "sft_4bit": "bitsandbytes" if find_spec("bitsandbytes") is None else "a GPU",
    }
    assert (record["shape"], record["packages"]["trl"][:4]) == ("tiny", "1.16")
    written = table(record)
    assert "| lmms-eval's `vllm_generate` | not run: vllm |" in written
    assert f"sampling {parts['grpo']['sampling']:.0%}" in written


def test_a_part_fails_alone_and_ends_in_time(tmp_path: Path) -> None:
    programs = {
        "checkpoint": "print('a line of a library'); print('{\"weights_gib\": 2}')",
        "sft": "raise SystemExit('CUDA out of memory')",
        "grpo": "import time; time.sleep(600)",
        "qwen2_vl": 'print(\'{"samples_per_s": 3, "outside": 0.25}\')',
    }

    def start(
        arguments: Sequence[str], _: Mapping[str, str], limit_s: float
    ) -> subprocess.CompletedProcess[str]:
        limit = 0.2 if arguments[0] == "grpo" else limit_s
        program = [sys.executable, "-c", programs[arguments[0]]]
        return subprocess.run(program, capture_output=True, text=True, timeout=limit, check=False)

    record = check(tmp_path, TINY, list(programs), start)
    assert record["parts"]["sft"]["failed"] == "CUDA out of memory"
    assert record["parts"]["grpo"]["failed"].startswith("not done after")
    lines = table(record).splitlines()
    assert "| checkpoint and clips made here | 2.0 GiB of weights |" in lines
    assert "| SFT, LoRA of Table 6 on bfloat16 weights | failed: CUDA out of memory |" in lines
    assert "| lmms-eval's `qwen2_vl` | 3.0 samples/s, 25% outside the model |" in lines
    none_left = check(tmp_path, dataclasses.replace(TINY, patience=0.0), list(programs), start)
    assert none_left["parts"]["checkpoint"] == {"not_run": "time"}
    assert none_left["parts"]["sft"] == {"not_run": "the checkpoint"}


def test_the_table_of_the_documents_is_the_newest_record() -> None:
    shown = table(newest())
    assert shown in (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    if newest() is None:
        assert shown.count("| not run |") == len(PARTS) and "%" not in shown
