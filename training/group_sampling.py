"""Groups of completions by vLLM, in this process or on a server, from weights that change between two calls.

What GRPO needs of an engine: `take_weights` of a step, then `sample` several completions of each prompt, with the
clip, as token ids and log-probabilities.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_delay, wait_fixed

from egost.model_adapters.engine import AdapterError, Ask, SampledGroup
from egost.model_adapters.families import processor_arguments
from egost.model_adapters.server.server_api import ROLLOUTS, ServedModel, ServerApi, family_served
from egost.model_adapters.server.server_requests import FrameSender, Part, Way, request_body
from egost.model_adapters.vllm_engine import VllmEngine
from egost.tasks.chat.calls import Faulted, NoReply
from egost.tasks.errors import CacheError

if TYPE_CHECKING:
    import torch

T = TypeVar("T")

_REPLY_S = 3600.0
_CLIPS_KEPT = 16

Wanted = Sequence[tuple[Ask, Mapping[str, Any]]]
"""Asks, and for each what vLLM's SamplingParams and its chat completions call by the same names (`n`, `seed`, ...)."""


class Weights(Protocol):
    """Weights to hand over: see `TrainedWeights`."""

    @property
    def main(self) -> bool: ...

    def __iter__(self) -> Iterator[tuple[str, torch.Tensor]]: ...

    def save(self) -> Path: ...

    def sender(self, way: str, url: str, group_port: int) -> Callable[[], None]: ...


class GroupSampler(Protocol):
    """Something that samples groups of completions."""

    def take_weights(self, weights: Weights, name: str) -> None:
        """Go on with these weights, under a name of their own; by all processes. Raises AdapterError."""

    def sample(self, wanted: Wanted, weights: str) -> list[SampledGroup]:
        """One group for each ask, in their order, by the weights of a name. Raises AdapterError."""

    def close(self) -> None:
        """Stop what was started, and close the connections."""


class EngineSampler:
    """A `GroupSampler` over vLLM in this process, which starts with the first call."""

    def __init__(self, engine: VllmEngine) -> None:
        self._engine = engine
        # Weights come from this process's memory. vLLM would start a process of its own on a GPU.
        os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"

    def take_weights(self, weights: Iterable[tuple[str, torch.Tensor]], name: str) -> None:
        with _same_randomness():
            llm = self._engine.llm
        with _spoken(f"vLLM does not take the weights of {name}"):
            # By `load_weights` of the worker's model, layer by layer, which knows how each layer keeps its own.
            llm.collective_rpc("reload_weights", kwargs={"weights_iterator": iter(weights)})
            if not llm.reset_prefix_cache():
                raise RuntimeError("what it keeps of the old ones is in use")
            llm.llm_engine.reset_encoder_cache()

    def sample(self, wanted: Wanted, weights: str) -> list[SampledGroup]:
        from vllm import SamplingParams

        llm = self._engine.llm
        requests = [self._engine.request(ask) for ask, _ in wanted]
        with _spoken("vLLM samples nothing"):
            params = [SamplingParams(**sampling, logprobs=0, detokenize=False) for _, sampling in wanted]
            outputs = llm.generate(requests, params, use_tqdm=False)
        return [
            SampledGroup(
                prompt_ids=tuple(output.prompt_token_ids),
                completion_ids=tuple(tuple(completion.token_ids) for completion in output.outputs),
                log_probabilities=tuple(
                    tuple(
                        of[token].logprob
                        for token, of in zip(completion.token_ids, completion.logprobs, strict=True)
                    )
                    for completion in output.outputs
                ),
            )
            for output in outputs
        ]

    def close(self) -> None:
        self._engine.close()


def _has_gpu() -> bool:
    import torch

    return bool(torch.cuda.is_available())


@contextmanager
def _same_randomness() -> Iterator[None]:
    """Let whoever draws in this process go on as before: on a CPU, vLLM seeds all of it anew when it starts."""
    import torch

    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])


@contextmanager
def _spoken(what: str) -> Iterator[None]:
    """Any fault of vLLM's as an AdapterError that says what did not work."""
    try:
        yield
    except Exception as error:
        raise AdapterError(
            f"{what} ({type(error).__name__}: {error}). Where memory ran out, lower vllm_gpu_memory_utilization or "
            "vllm_max_model_length. Run the same command again, to go on from the last whole checkpoint."
        ) from error


class ServerSampler:
    """A `GroupSampler` over a server that `egost serve MODEL --rollouts` started, which says how it takes weights.

    url: of the server. max_pixels: of a frame, see `processor_arguments`. wait_s: how long to wait until it is up.
    group_port: where NCCL's processes meet. Raises AdapterError where it is not up by then, serves something else,
    or takes weights from a GPU where there is none here.
    """

    def __init__(self, url: str, max_pixels: int, wait_s: float, group_port: int = 51216) -> None:
        self._group_port = group_port
        self._send: Callable[[], None] | None = None
        self._loop = asyncio.new_event_loop()
        self._api = ServerApi(url, _REPLY_S)
        self._way: Way | None = None
        try:
            self._begin(url, max_pixels, wait_s)
        except BaseException:
            self.close()
            raise

    def _begin(self, url: str, max_pixels: int, wait_s: float) -> None:
        try:
            served = self._loop.run_until_complete(self._served(wait_s))
        except NoReply as error:
            raise AdapterError(
                f"no server is up at {url} ({error}). Start one with `egost serve MODEL --rollouts`, wait until it is "
                "healthy, and run the same command again."
            ) from error
        if ROLLOUTS not in (served.advertised or {}):
            raise AdapterError(
                f"{url} serves {served.name} for evaluation. Start a server for rollouts: egost serve MODEL --rollouts."
            )
        self._by = (served.advertised or {})[ROLLOUTS]
        if self._by in ("ipc", "nccl") and not _has_gpu():
            raise AdapterError(
                f"{url} takes weights by {self._by}, from a GPU, and this process has none. Start the server so that "
                "it takes them from a shared disk: egost serve MODEL --rollouts --weights folder."
            )
        self._family = family_served(served)
        self._name = served.name
        self._pixels = processor_arguments(self._family, max_pixels)
        self._frames = FrameSender(self._family, self._body, "auto", _CLIPS_KEPT, served.version is not None)

    def take_weights(self, weights: Weights, name: str) -> None:
        folder = None
        if self._by in ("ipc", "nccl"):
            with _spoken(f"{self._api.url} does not take the weights of {name} by {self._by}"):
                if self._send is None:
                    self._send = weights.sender(self._by, self._api.url, self._group_port)
                self._send()
        else:
            folder = weights.save()
        if weights.main:
            self._run(self._api.take_weights(name, folder))

    def sample(self, wanted: Wanted, weights: str) -> list[SampledGroup]:
        groups = self._run(self._groups(wanted))
        if (found := self._run(self._api.weights())) != weights:
            raise AdapterError(
                f"{self._api.url} holds the weights '{found}', and was given '{weights}': another run uses it too, or "
                "it was started anew. Give each run a server of its own; then run the same command again, to go on "
                "from the last whole checkpoint."
            )
        return groups

    def close(self) -> None:
        self._run(self._api.close())
        self._loop.close()

    async def _groups(self, wanted: Wanted) -> list[SampledGroup]:
        clip = next((ask.clip for ask, _ in wanted if ask.clip), None)
        if clip and self._way is None:
            self._way = await self._frames.way_to(self._api, clip)
        return await asyncio.gather(*(self._group(ask, sampling) for ask, sampling in wanted))

    async def _group(self, ask: Ask, sampling: Mapping[str, Any]) -> SampledGroup:
        frames = await self._frames.clips.parts(ask.clip, self._way or "inline") if ask.clip else []
        tokens = {"logprobs": True, "return_token_ids": True}
        body = {**self._body(ask, frames), **sampling, **tokens}
        try:
            return await self._api.sample(body)
        except NoReply as error:
            if error.reason != "connection":
                raise
            # There is no other server to ask, and the seed says what is drawn.
            return await self._api.sample(body)

    def _body(self, ask: Ask, frames: Sequence[Part]) -> dict[str, Any]:
        return {**request_body(self._name, self._family, ask, frames), "mm_processor_kwargs": self._pixels}

    async def _served(self, wait_s: float) -> ServedModel:
        retrying = AsyncRetrying(
            retry=retry_if_exception_type(NoReply),
            stop=stop_after_delay(wait_s),
            wait=wait_fixed(min(2.0, wait_s / 4)),
            reraise=True,
        )
        return await retrying(self._api.served, None)

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        try:
            return self._loop.run_until_complete(work)
        except (NoReply, Faulted, CacheError) as error:
            raise AdapterError(
                f"{self._api.url} samples nothing: {error}. Look at its log; then run the same command again, to go "
                "on from the last whole checkpoint."
            ) from error
