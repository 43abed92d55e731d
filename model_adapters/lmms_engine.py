"""lmms-eval's own adapters as an engine of ours: asked in small pieces, so that each reply can be kept at once.

`--model egost_journal --model_args adapter=qwen2_vl,...` names one. lmms-eval allows this without patching: its public
registry builds the adapter, and an adapter answers any list of requests. An adapter that shards its model over ranks
(FSDP, DeepSpeed) is refused: it needs every rank in every step, while ranks whose replies are journaled have fewer
requests.
"""

from __future__ import annotations

import contextlib
import difflib
import inspect
import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, TextIO

import torch
from lmms_eval.api.instance import Instance, unwrap_generation_output
from lmms_eval.models import get_model, list_available_models
from loguru import logger

from egost.model_adapters.checkpoints import checkpoint_identity
from egost.model_adapters.engine import AdapterError, Ask, EngineIdentity, Failure, GenerationArguments, Reply
from egost.model_adapters.registration import CLASSES
from egost.tasks.errors import CacheError
from egost.tasks.registration import check_frames
from egost.tasks.scoring.scores import GENERATION_FAILED

_TASK, _SPLIT = "egost", "asks"

_PLACED_RIGHT_FROM = 364
"""Pixels: longer side of frames from which transformers counts Qwen2.5-VL's text on from where it was trained to: 8
frames at 1 a second end at position 13, as 13 patches of 28 pixels do. See `place_text_as_trained`."""


class LmmsEngine:
    """An adapter of lmms-eval that answers asks of ours.

    adapter: already built, simple or chat. batch: asks that are handed to it at once.

    It gets what lmms-eval itself would give it: the prompt, the path of the canonical clip as one video, and the
    generation arguments. What is drawn is drawn one by one, torch's generators being seeded before each, so
    that a run which was killed goes on as it would have. lmms-eval's adapters report neither why a reply ended nor,
    most of them, how many tokens it has: `unknown` then.
    """

    def __init__(self, adapter: Any, identity: EngineIdentity, batch: int) -> None:
        self.adapter, self._identity, self.batch = adapter, identity, batch
        self._logged: set[str] = set()
        self._warned = False

    @property
    def identity(self) -> EngineIdentity:
        """Of the adapter and its model."""
        return self._identity

    def answer(self, asks: Sequence[Ask]) -> Iterator[tuple[int, Reply | Failure]]:
        """See `Engine`. A batch that fails is asked again one by one, so that it costs only those who broke it."""
        self._warn_of_places(asks)
        for places in batches(asks, self.batch):
            outcomes = self._answer([asks[place] for place in places])
            if len(places) > 1 and any(isinstance(outcome, Failure) for outcome in outcomes):
                for place in places:
                    yield place, self._answer([asks[place]])[0]
            else:
                yield from zip(places, outcomes, strict=True)

    def close(self) -> None:
        """Let the adapter free its memory."""
        self.adapter.clean()

    def _warn_of_places(self, asks: Sequence[Ask]) -> None:
        """Say once that Qwen2.5-VL sees its question at another place than it was trained to."""
        if self._warned or not self._identity.engine.endswith(" qwen2_5_vl"):
            return
        sizes = [max(ask.clip.manifest.width, ask.clip.manifest.height) for ask in asks if ask.clip]
        if sizes and min(sizes) < _PLACED_RIGHT_FROM:
            self._warned = True
            logger.warning(
                f"some clips have frames below {_PLACED_RIGHT_FROM} pixels, behind which "
                f"transformers {version('transformers')} puts Qwen2.5-VL's question at another place than it was "
                "trained to, and lmms-eval's adapter with it. --engine transformers and vLLM put it right "
                "(docs/limits.md)."
            )

    def _answer(self, asks: Sequence[Ask]) -> list[Reply | Failure]:
        try:
            for ask in asks:
                if ask.clip:
                    ask.clip.check()
        except CacheError as error:
            return [Failure("unsupported_video", str(error))] * len(asks)
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


def batches(asks: Sequence[Ask], size: int) -> Iterator[list[int]]:
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


_NAMES_A_MODEL = ("pretrained", "model_version", "model_name", "model_path", "model")
_SECRET = re.compile(
    r"(.*_)?(api_?key|secret(_?key)?|access_?key|password)|((api|auth|access|bearer|hf)_)?token",
    re.IGNORECASE,
)
"""Arguments that are neither shown nor recorded. Only whole names: `max_soft_tokens` changes replies."""

_PACKAGES = ("transformers", "torch")
_SHARDED = ("FSDP", "DEEPSPEED", "MEGATRON_LM", "TP")


def open_lmms_adapter(adapter: str, **adapter_args: Any) -> LmmsEngine:
    """An adapter of lmms-eval whose replies are journaled one by one.

    adapter: its name (`lmms-eval models` lists them). All other arguments are the adapter's own. A chat adapter gets
    the same message as from lmms-eval. In a batch (`--batch_size`), padding may change the last bits of a reply,
    with any adapter; so may other batches after a killed run. Raises AdapterError, and SettingError as
    `check_frames` does.
    """
    batch = _batch_size(adapter_args.get("batch_size", 1))
    inner_class = _adapter_class(adapter)
    try:
        inner = inner_class(**adapter_args)
    except Exception as error:
        raise AdapterError(
            f"lmms-eval's adapter '{adapter}' could not be built with {_shown(adapter_args)} "
            f"({type(error).__name__}: {error}). Fix --model_args, or see what the adapter needs."
        ) from error
    if hasattr(inner, "accelerator") and (kind := inner.accelerator.distributed_type.name) in _SHARDED:
        raise AdapterError(
            f"lmms-eval's adapter '{adapter}' shards its model over the ranks ({kind}), which then must all be "
            "asked the same number of times; a journal cannot promise that. Use data parallel ranks."
        )
    check_frames(inner)
    # lmms-eval hands the batch size on as it was typed, or as a number where it was not.
    identity = _identity(adapter, inner, inner_class, {**adapter_args, "batch_size": batch})
    return LmmsEngine(inner, identity, batch)


def _adapter_class(adapter: str) -> Any:
    names = [name for name in list_available_models(include_aliases=True) if name not in CLASSES]
    if adapter not in names:
        near = ", ".join(difflib.get_close_matches(adapter, names, n=3))
        raise AdapterError(
            f"lmms-eval has no adapter '{adapter}' of its own{f' (near: {near})' if near else ''}. "
            "`lmms-eval models` lists them; ours (egost_...) have the journal already."
        )
    try:
        return get_model(adapter)
    except Exception as error:
        raise AdapterError(
            f"lmms-eval's adapter '{adapter}' cannot be imported ({type(error).__name__}: {error}). Install what "
            "it needs."
        ) from error


def _batch_size(given: Any) -> int:
    try:
        return max(1, int(given))
    except ValueError as error:
        raise AdapterError(f"the batch size '{given}' is no number. Set --batch_size to one.") from error


def _identity(adapter: str, inner: Any, inner_class: Any, given: Mapping[str, Any]) -> EngineIdentity:
    parameters = inspect.signature(inner_class).parameters
    named = next((name for name in _NAMES_A_MODEL if name in parameters or name in given), None)
    name = (
        str(given.get(named, parameters[named].default if named in parameters else None))
        if named
        else adapter
    )
    model, revision = _model(name, given.get("revision"))
    settings: dict[str, str | int | float | bool | None] = {
        "interface": "simple" if inner.is_simple else "chat",
        **{package: version(package) for package in _PACKAGES},
        **{key: _plain(value) for key, value in given.items() if key != named and not _SECRET.fullmatch(key)},
    }
    return EngineIdentity(f"lmms-eval {version('lmms-eval')} {adapter}", model, revision, settings)


def _model(name: str, revision: str | None) -> tuple[str, str | None]:
    """Name and revision; no revision where it is not a checkpoint's, but a name that an API knows."""
    try:
        checkpoint = checkpoint_identity(name, revision)
    except AdapterError:
        if Path(name).expanduser().is_dir():
            # Its content may change under the same name, and replies of another model would be taken for its own.
            raise
        return name, revision
    return checkpoint.name, checkpoint.revision


def _shown(given: Mapping[str, Any]) -> str:
    return ", ".join(f"{key}={'...' if _SECRET.fullmatch(key) else value}" for key, value in given.items())


def _plain(value: Any) -> str | int | float | bool | None:
    if value is None or isinstance(value, str | int | float | bool):
        return value
    return json.dumps(value, sort_keys=True, default=str)
