"""Turns lmms-eval's requests into requests to our engines."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from egost.model_adapters.engine import AdapterError, Ask, GenerationArguments
from egost.tasks.clips.clips import Clip
from egost.tasks.sample import World


@dataclass(frozen=True)
class SampleRequest:
    """One request about a sample of ours.

    repetition: 0, or more where lmms-eval asks the same several times (`--repeats`). blind: it is to be asked without
    a video; any other request without a clip is not asked, since its clip has no frames.
    """

    world: World
    sample_id: str
    ask: Ask
    repetition: int
    blind: bool = False


def read_requests(requests: Sequence[Any], task_dict: Mapping[str, Any], seed: int) -> list[SampleRequest]:
    """The requests (lmms-eval's `Instance`s of simple models) in their order, their clips decoded on all cores.

    task_dict: the data sets by task and split, as lmms-eval gives them to a model. seed: of the run; a
    repetition of a request that is drawn has the seed that many higher, else all would be the same.

    Raises AdapterError for a request that is not about a sample of ours, or that wants what no adapter can do.
    """
    docs = [_doc(request, task_dict) for request in requests]
    clips = _decoded(requests, docs)
    seen: Counter[tuple[Any, ...]] = Counter()
    asked = []
    for request, doc in zip(requests, docs, strict=True):
        prompt, gen_kwargs, _, doc_id, task, split = request.args
        arguments = GenerationArguments.read(gen_kwargs, seed)
        repetition = seen[task, split, doc_id]
        # A request that only fills up a rank is no draw of its own.
        seen[task, split, doc_id] += not request.metadata.get("__padding_only__", False)
        if arguments.seed is not None:
            arguments = replace(arguments, seed=arguments.seed + repetition)
        ask = Ask(f"{doc['world']}/{doc['id']}", prompt, clips[_clip_name(doc)], arguments)
        asked.append(SampleRequest(doc["world"], doc["id"], ask, repetition))
    return asked


def _doc(request: Any, task_dict: Mapping[str, Any]) -> dict[str, Any]:
    _, _, _, doc_id, task, split = request.args
    doc: dict[str, Any] = task_dict[task][split][doc_id]
    if not {"world", "id", "part", "clip"} <= set(doc):
        raise AdapterError(
            f"the task '{task}' is none of the egost tasks: its documents hold {sorted(doc)}. This adapter evaluates "
            "egost tasks only (lmms-eval --tasks list); take one of lmms-eval's own adapters for others."
        )
    return doc


def _clip_name(doc: Mapping[str, Any]) -> tuple[str, int, str]:
    return doc["world"], doc["part"], doc["clip"]


def _decoded(
    requests: Sequence[Any], docs: Sequence[dict[str, Any]]
) -> dict[tuple[str, int, str], Clip | None]:
    futures: dict[tuple[str, int, str], Future[Clip | None]] = {}
    pool = ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="egost-clips")
    try:
        for request, doc in zip(requests, docs, strict=True):
            if (name := _clip_name(doc)) not in futures:
                futures[name] = pool.submit(_clip, request.args[2], doc)
        return {name: future.result() for name, future in futures.items()}
    finally:
        pool.shutdown(cancel_futures=True)


def _clip(doc_to_visual: Any, doc: dict[str, Any]) -> Clip | None:
    """The canonical clip of a sample; None where it has no frames, which the scorer says why."""
    visuals = doc_to_visual(doc)
    return Clip.at(Path(visuals[0])) if visuals else None
