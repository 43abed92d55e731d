"""lmms-eval's own adapters as an engine of ours: asked in small pieces, so that each reply can be kept at once."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Sequence
from typing import Any, TextIO

import torch
from lmms_eval.api.instance import Instance, unwrap_generation_output

from egost.model_adapters.engine import Ask, EngineIdentity, Failure, GenerationArguments, Reply
from egost.tasks.scoring.scores import GENERATION_FAILED

_TASK, _SPLIT = "egost", "asks"


class LmmsEngine:
    """An adapter of lmms-eval that answers asks of ours.

    adapter: already built, simple or chat. batch: asks that are handed to it at once.

    It gets what lmms-eval itself would give it: the prompt, the path of the canonical clip as one video, and the
    generation arguments. What is drawn is drawn one by one, torch's generators being seeded before each, so
    that a run which was killed goes on as it would have. lmms-eval's adapters report neither why a reply ended nor,
    most of them, how many tokens it has: `unknown` then.
    """

    def __init__(self, adapter: Any, identity: EngineIdentity, batch: int) -> None:
        self.adapter, self._identity, self._batch = adapter, identity, batch
        self._logged: set[str] = set()

    @property
    def identity(self) -> EngineIdentity:
        """Of the adapter and its model."""
        return self._identity

    def answer(self, asks: Sequence[Ask]) -> Iterator[tuple[int, Reply | Failure]]:
        """See `Engine`. A batch that fails is asked again one by one, so that it costs only those who broke it."""
        for places in _batches(asks, self._batch):
            outcomes = self._answer([asks[place] for place in places])
            if len(places) > 1 and any(isinstance(outcome, Failure) for outcome in outcomes):
                for place in places:
                    yield place, self._answer([asks[place]])[0]
            else:
                yield from zip(places, outcomes, strict=True)

    def close(self) -> None:
        """Let the adapter free its memory."""
        self.adapter.clean()

    def _answer(self, asks: Sequence[Ask]) -> list[Reply | Failure]:
        if (seed := asks[0].arguments.seed) is not None:
            torch.manual_seed(seed)
        failure = None
        try:
            outputs = self._generate(asks)
        except Exception as error:
            failure = Failure.of_error(error, self._identity.engine, asks, self._logged)
        if failure:
            # Only here are the tensors gone that the traceback held.
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            return [failure] * len(asks)
        if len(outputs) != len(asks):
            what = f"the adapter gave {len(outputs)} replies to {len(asks)} requests"
            return [Failure("no_text", what)] * len(asks)
        return [_outcome(output, ask.arguments, len(asks)) for output, ask in zip(outputs, asks, strict=True)]

    def _generate(self, asks: Sequence[Ask]) -> list[Any]:
        self.adapter.task_dict = {_TASK: {_SPLIT: asks}}
        requests = [self._request(ask, place) for place, ask in enumerate(asks)]
        # Its bar would begin anew with each piece; ours shows the whole run.
        with contextlib.redirect_stderr(_WithoutBars(sys.stderr)):
            return list(self.adapter.generate_until(requests))

    def _request(self, ask: Ask, place: int) -> Instance:
        kwargs = _gen_kwargs(ask.arguments)
        about = (place, _TASK, _SPLIT)
        simple = (ask.prompt, kwargs, _visuals, *about)
        chat = (ask.prompt, _messages, kwargs, *about)
        metadata = {"task": _TASK, "doc_id": place, "repeats": 1}
        return Instance("generate_until", simple if self.adapter.is_simple else chat, 0, metadata)


class _WithoutBars:
    """A stream that lets all through but the bars of tqdm, which rewrite their line."""

    def __init__(self, stream: TextIO) -> None:
        self._stream, self._after_bar = stream, False

    def write(self, text: str) -> int:
        dropped = "\r" in text or (self._after_bar and text == "\n")
        self._after_bar = "\r" in text
        return len(text) if dropped else self._stream.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _batches(asks: Sequence[Ask], size: int) -> Iterator[list[int]]:
    """Places of asks that may go together: in their order, with the same arguments, nothing drawn among them."""
    batch: list[int] = []
    for place, ask in enumerate(asks):
        together = batch and ask.arguments == asks[batch[0]].arguments and ask.arguments.greedy
        if batch and not (together and len(batch) < size):
            yield batch
            batch = []
        batch.append(place)
    if batch:
        yield batch


def _gen_kwargs(arguments: GenerationArguments) -> dict[str, Any]:
    """What `GenerationArguments.read` reads, made anew for each request: some adapters take pieces out of it."""
    drawn = {"top_p": arguments.top_p, "top_k": arguments.top_k}
    return {
        "max_new_tokens": arguments.max_new_tokens,
        "temperature": arguments.temperature,
        "do_sample": not arguments.greedy,
        "until": list(arguments.stop),
        **{name: value for name, value in drawn.items() if value is not None},
    }


def _visuals(ask: Ask) -> list[str]:
    return [str(ask.clip.path)] if ask.clip else []


def _messages(ask: Ask) -> list[dict[str, Any]]:
    video = [{"type": "video", "url": path} for path in _visuals(ask)]
    return [{"role": "user", "content": [*video, {"type": "text", "text": ask.prompt}]}]


def _outcome(output: Any, arguments: GenerationArguments, batch: int) -> Reply | Failure:
    text, counts = unwrap_generation_output(output)
    if output is None or not isinstance(text, str):
        return Failure("no_text", f"the adapter gave {output!r}")
    if text.startswith(GENERATION_FAILED):
        return Failure("request_failed", text)
    tokens = counts.output_tokens if counts else None
    finish_reason = "unknown"
    # In a batch, adapters count the padding of the shorter replies.
    if tokens is not None and batch == 1:
        finish_reason = "length" if tokens >= arguments.max_new_tokens else "stop"
    return Reply(text, finish_reason, counts.input_tokens if counts else None, tokens)
