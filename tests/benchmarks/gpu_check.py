"""What ST-R1's training and evaluation take on one GPU of 80 GB or more, in at most 8 minutes. Run by `make gpu-check`.

No network, no weights: random ones of Qwen2-VL-7B's shape with the tiny checkpoint's vocabulary, clips and rows of the
mini world, shown as large as the paper shows them. Each part is a process of its own with a time limit; what fails, or
has no time left, fails alone. A part whose package is missing is `not run`. Parts come in the order of what they need.

The record, `results/records/gpu-check-DATE.json`, has what each part took; `--table` prints the newest as Markdown, as
docs/benchmarks.md has it. `--size tiny` is the same with a tiny checkpoint, on any machine: its figures mean nothing.
Without a GPU seconds are of CPU.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from gpu_parts import PARTS, SIZES, Size, on_cpu

ROOT = Path(__file__).resolve().parents[2]
RECORDS = ROOT / "results" / "records"
TOTAL_S = 480.0
LEAST_GIB = 75
"""What a GPU that is sold as one of 80 GB has, and a little less."""

PACKAGES = ("torch", "transformers", "trl", "peft", "lmms_eval", "vllm", "bitsandbytes")


Start = Callable[[Sequence[str], Mapping[str, str], float], "subprocess.CompletedProcess[str]"]
"""Starts `measure_part` with arguments, settings and a limit in seconds; raises TimeoutExpired beyond that."""


def check(
    folder: Path, size: Size, names: Sequence[str], start: Start, total_s: float = TOTAL_S
) -> dict[str, Any]:
    """The record of the parts that are named, each of which `start` runs."""
    begun = time.monotonic()
    found: dict[str, dict[str, Any]] = {}
    for name in names:
        left = TOTAL_S * size.patience - (time.monotonic() - begun)
        part_begun = time.monotonic()
        found[name] = _result(name, folder, size, found, left, start)
        if "not_run" not in found[name]:
            found[name]["took_s"] = time.monotonic() - part_begun
        print(f"{name}: {json.dumps({k: v for k, v in found[name].items() if k != 'replies'})}", flush=True)
    replies = [found.get(name, {}).get("replies") for name in ("egost_vllm", "egost_vllm_uncached")]
    if all(replies):
        found["egost_vllm_uncached"]["same_answers"] = sum(a == b for a, b in zip(*replies, strict=True))
    for result in found.values():
        result.pop("replies", None)
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "commit": _commit(),
        "device": _device(),
        "packages": dict(_versions()),
        "shape": size.shape,
        "frames": size.frames,
        "parts": found,
    }


def _result(
    name: str, folder: Path, size: Size, found: Mapping[str, Any], left: float, start: Start
) -> dict[str, Any]:
    part = PARTS[name]
    if missing := [need for need in part.needs if importlib.util.find_spec(need) is None]:
        return {"not_run": ", ".join(missing)}
    if part.gpu and on_cpu():
        return {"not_run": "a GPU"}
    if name != "checkpoint" and set(found.get("checkpoint", {})) & {"not_run", "failed"}:
        return {"not_run": "the checkpoint"}
    if left < 10:
        return {"not_run": "time"}
    try:
        limit = min(part.limit_s * size.patience, left)
        done = start([name, str(folder), size.shape], settings(folder, size), limit)
    except subprocess.TimeoutExpired:
        return {"failed": f"not done after {limit:.0f} s"}
    if done.returncode:
        return {"failed": "\n".join((done.stderr or done.stdout).strip().splitlines()[-5:])[-600:]}
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def settings(folder: Path, size: Size) -> dict[str, str]:
    """The environment of a part."""
    here = Path(__file__).parent
    given = os.environ.get("PYTHONPATH")
    return {
        "PYTHONPATH": os.pathsep.join([str(here), str(here.parent / "support"), *([given] if given else [])]),
        "EGOST_CACHE": str(folder / "cache"),
        "EGOST_MINI_DATA": str(folder / "mini"),
        "EGOST_PROTOCOL": size.frames,
        "EGOST_ONLY": "1",
        "HF_HUB_OFFLINE": "1",
        "HF_HOME": str(folder / "hf"),
        "TOKENIZERS_PARALLELISM": "false",
        "TRANSFORMERS_VERBOSITY": "error",
        "VLLM_LOGGING_LEVEL": "ERROR",
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        **({"VLLM_CPU_KVCACHE_SPACE": "1"} if on_cpu() else {}),
    }


def in_own_process(
    arguments: Sequence[str], environment: Mapping[str, str], limit_s: float
) -> subprocess.CompletedProcess[str]:
    """`measure_part` in a process of its own."""
    return subprocess.run(
        [sys.executable, str(Path(__file__).with_name("gpu_parts.py")), *arguments],
        env={**os.environ, **environment},
        # Not in a checkout: lmms-eval takes its folder `egost` for the task.
        cwd=arguments[1],
        capture_output=True,
        text=True,
        timeout=limit_s,
        check=False,
    )


FIGURES: dict[str, Callable[[Any], str]] = {
    "step_s": lambda steps: f"{' and '.join(f'{step:.1f}' for step in steps)} s a step",
    "samples_per_s": lambda rate: f"{rate:.1f} samples/s",
    "outside": lambda share: f"{share:.0%} outside the model",
    "cached": lambda share: f"{share:.0%} of the prompt from the prefix cache",
    "vision": lambda share: f"vision {share:.0%}",
    "sampling": lambda share: f"sampling {share:.0%}",
    "handing_over": lambda share: f"handing over weights {share:.0%}",
    "sampling_gap": lambda gap: f"sampling gap {gap:.1e}",
    "same_answers": lambda count: f"{count} answers the same",
    "questions": lambda count: f"of {count}",
    "largest_gap": lambda gap: f"first tokens at most {gap:.1e} apart",
    "weights_gib": lambda gib: f"{gib:.1f} GiB of weights",
    "peak_gib": lambda gib: f"{gib:.1f} GiB at most",
}


def table(record: Mapping[str, Any] | None) -> str:
    """The parts of a record, or of none, as a table of Markdown."""
    parts = record["parts"] if record else {}
    lines = ["| part | figures |", "|---|---|"]
    for name, part in PARTS.items():
        result = parts.get(name, {"not_run": None})
        if "not_run" in result:
            said = f"not run{': ' if result['not_run'] else ''}{result['not_run'] or ''}"
        elif "failed" in result:
            said = f"failed: {result['failed'].splitlines()[-1]}"
        else:
            said = ", ".join(word(result[key]) for key, word in FIGURES.items() if key in result)
        lines.append(f"| {part.what} | {said} |")
    if record:
        lines += ["", f"{record['device']}, {record['date']}, commit {record['commit'][:7]}."]
    return "\n".join(lines)


def newest(folder: Path = RECORDS) -> dict[str, Any] | None:
    """The last record, if there is one."""
    found = sorted(folder.glob("gpu-check-*.json"))
    record: dict[str, Any] | None = json.loads(found[-1].read_text()) if found else None
    return record


def _device() -> str:
    if on_cpu():
        return f"{platform.machine()}, {os.cpu_count()} cores, no GPU"
    import torch

    found = torch.cuda.get_device_properties(0)
    return f"{found.name}, {found.total_memory / 2**30:.0f} GiB"


def _commit() -> str:
    done = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


def _versions() -> Iterator[tuple[str, str]]:
    for name in (*PACKAGES, "vllm-cpu"):
        with suppress(PackageNotFoundError):
            yield name, version(name)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("parts", nargs="*", help=f"of {', '.join(PARTS)}; all by default")
    parser.add_argument("--size", choices=list(SIZES), default="7B", help="any but 7B on any machine")
    parser.add_argument(
        "--table", action="store_true", help="print the newest record as Markdown, and run nothing"
    )
    parser.add_argument("--json", type=Path, help="where to write the record")
    given = parser.parse_args()
    if given.table:
        print(table(newest()))
        return
    if unknown := [name for name in given.parts if name not in PARTS]:
        parser.error(f"{unknown[0]} is no part; expected {', '.join(PARTS)}")
    if given.size == "7B":
        import torch

        if on_cpu() or torch.cuda.get_device_properties(0).total_memory < LEAST_GIB * 2**30:
            raise SystemExit(
                f"This needs a GPU of 80 GB, and found: {_device()}. --size tiny runs anywhere, and shows nothing."
            )
    names = list(dict.fromkeys(["checkpoint", *(given.parts or PARTS)]))
    with TemporaryDirectory() as folder:
        record = check(Path(folder), SIZES[given.size], names, in_own_process)
    target = given.json or RECORDS / f"gpu-check-{record['date']}.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(record, indent=1) + "\n")
    print(f"\n{table(record)}\n\nrecord: {target}")


if __name__ == "__main__":
    main()
