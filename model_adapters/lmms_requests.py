"""Turns lmms-eval's requests into requests to our engines."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from functools import partial
from itertools import takewhile
from pathlib import Path
from typing import Any

from egost.model_adapters.engine import AdapterError, Ask, GenerationArguments
from egost.tasks.clips.clips import Clip
from egost.tasks.progress import usable_cores
from egost.tasks.sample import World

_LOOK_S = 5.0


@dataclass(frozen=True)
class SampleRequest:
    """One request about a sample of ours.

    repetition: 0, or more where lmms-eval asks the same several times (`--repeats`), or a later run will. blind: it is
    to be asked without a video; any other request without a clip is not asked, since its clip has no frames.
    """

    world: World
    sample_id: str
    ask: Ask
    repetition: int
    blind: bool = False


Wave = list[tuple[int, SampleRequest]]
"""Requests whose clips are decoded, each with its place; none where some seconds have passed without a clip."""


def read_requests(
    requests: Sequence[Any], task_dict: Mapping[str, Any], seed: int, *, in_order: bool, draws: int = 1
) -> tuple[Generator[Wave, None, None], int]:
    """The requests (lmms-eval's `Instance`s of simple models), while their clips are decoded on all cores; and how many
    clips these are.

    task_dict: the data sets by task and split, as lmms-eval gives them to a model. seed: of the run; a
    repetition of a request that is drawn has the seed that many higher, else all would be the same.
    draws: of each request that is drawn, by seeds that follow each other; the further ones have places behind all
    requests. in_order: give the clips in the order of their first requests, not as they are decoded.

    Raises AdapterError for a request that is not about a sample of ours, or that wants what no adapter can do.
    """
    seen: Counter[tuple[Any, ...]] = Counter()
    of_clip: dict[tuple[str, int, str], Wave] = {}
    visuals: dict[tuple[str, int, str], Callable[[], list[str]]] = {}
    for place, request in enumerate(requests):
        doc = _doc(request, task_dict)
        prompt, gen_kwargs, doc_to_visual, doc_id, task, split = request.args
        arguments = GenerationArguments.read(gen_kwargs, seed)
        repetition = seen[task, split, doc_id]
        # A request that only fills up a rank is no draw of its own.
        seen[task, split, doc_id] += not request.metadata.get("__padding_only__", False)
        if arguments.seed is not None:
            arguments = replace(arguments, seed=arguments.seed + repetition)
        clip = doc["world"], doc["part"], doc["clip"]
        ask = Ask(f"{doc['world']}/{doc['id']}", prompt, None, arguments)
        wave = of_clip.setdefault(clip, [])
        wave.append((place, SampleRequest(doc["world"], doc["id"], ask, repetition)))
        for more in range(1, draws if arguments.seed is not None else 1):
            ask = replace(ask, arguments=replace(arguments, seed=(arguments.seed or 0) + more))
            further = SampleRequest(doc["world"], doc["id"], ask, repetition + more)
            wave.append((place + more * len(requests), further))
        visuals.setdefault(clip, partial(doc_to_visual, doc))
    return _waves(of_clip, visuals, in_order), len(visuals)


def _waves(
    of_clip: dict[Any, Wave], visuals: dict[Any, Callable[[], list[str]]], in_order: bool
) -> Generator[Wave, None, None]:
    pool = ThreadPoolExecutor(usable_cores(), thread_name_prefix="egost-clips")
    try:
        waiting = {pool.submit(_clip, shown): of_clip[clip] for clip, shown in visuals.items()}
        while waiting:
            wait([next(iter(waiting))] if in_order else waiting, _LOOK_S, FIRST_COMPLETED)
            done = list(takewhile(Future.done, waiting) if in_order else filter(Future.done, waiting))
            yield [
                (place, replace(asked, ask=replace(asked.ask, clip=future.result())))
                for future in done
                for place, asked in waiting.pop(future)
            ]
    finally:
        pool.shutdown(cancel_futures=True)


def _doc(request: Any, task_dict: Mapping[str, Any]) -> dict[str, Any]:
    _, _, _, doc_id, task, split = request.args
    doc: dict[str, Any] = task_dict[task][split][doc_id]
    if not {"world", "id", "part", "clip"} <= set(doc):
        raise AdapterError(
            f"the task '{task}' is none of the egost tasks: its documents hold {sorted(doc)}. This adapter evaluates "
            "egost tasks only (lmms-eval --tasks list); take one of lmms-eval's own adapters for others."
        )
    return doc


def _clip(visuals: Callable[[], list[str]]) -> Clip | None:
    """The canonical clip of a sample; None where it has no frames, which the scorer says why."""
    paths = visuals()
    return Clip.at(Path(paths[0])) if paths else None
