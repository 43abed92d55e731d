"""What a run was made on, and with which code of ours: for a results JSON, so nothing that names a person."""

from __future__ import annotations

import functools
import json
import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

_CHECKOUT = Path(__file__).resolve().parents[1]


@functools.cache
def machine() -> dict[str, Any]:
    """The machine of this process.

    system, python: names with versions. cpu: its model; cores: as this process may use; memory_gib: of the machine.
    gpus: name and memory of each that this process may use, as the driver tells it (asking torch would start CUDA
    here, before vLLM forks); empty without NVIDIA's driver.
    """
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gib": _memory_gib(),
        "gpus": _gpus(os.environ.get("CUDA_VISIBLE_DEVICES")),
    }


@functools.cache
def commit() -> str | None:
    """The commit of the project's code that runs, with `-changed` behind it where files differ from it.

    Of a checkout what git says of it; of an installation what pip has noted of its source. None where neither knows:
    the version of the package stands among the packages.
    """
    if not (_CHECKOUT / ".git").exists():
        return _installed_commit()
    git = ("git", "--no-optional-locks", "-C", str(_CHECKOUT))
    if (head := _said(*git, "rev-parse", "HEAD")) is None:
        return None
    changed = _said(*git, "status", "--porcelain", "--untracked-files=no")
    return f"{head}-changed" if changed else head


def _installed_commit() -> str | None:
    try:
        told = distribution("egost").read_text("direct_url.json")
    except PackageNotFoundError:
        return None
    found = json.loads(told).get("vcs_info", {}).get("commit_id") if told else None
    return str(found) if found else None


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor() or platform.machine()


def _memory_gib() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (ValueError, OSError, AttributeError):
        return None


def _gpus(visible: str | None) -> list[str]:
    if visible == "":
        return []
    chosen = [] if visible is None else [f"--id={visible}"]
    told = _said("nvidia-smi", *chosen, "--query-gpu=name,memory.total", "--format=csv,noheader")
    return told.splitlines() if told else []


def _said(*command: str) -> str | None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
