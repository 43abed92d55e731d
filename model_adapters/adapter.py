"""Our engines as models of lmms-eval (`--model egost_...`): journaled one by one, each failure with its reason.

lmms-eval --tasks egost --model egost_server --model_args base_url=http://127.0.0.1:8000
"""

from __future__ import annotations

import inspect
import logging
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from itertools import chain
from typing import Any, NoReturn

from accelerate import PartialState
from filelock import FileLock
from lmms_eval.api.instance import GenerationResult, TokenCounts
from lmms_eval.api.model import lmms
from lmms_eval.models.model_utils.gen_metrics import log_metrics
from lmms_eval.utils import simple_parse_args_string

from egost.model_adapters.api.gemini_engine import open_gemini
from egost.model_adapters.api.openai_engine import open_openai
from egost.model_adapters.engine import AdapterError, Ask, Engine, EngineIdentity, Failure, Reply
from egost.model_adapters.journal import Entry, Journal, request_key
from egost.model_adapters.lmms_engine import LmmsEngine, batches, open_lmms_adapter
from egost.model_adapters.lmms_requests import SampleRequest, Wave, read_requests
from egost.model_adapters.progress import AskingProgress
from egost.model_adapters.server.server_engine import ServerEngine, open_server
from egost.model_adapters.transformers_engine import TransformersEngine
from egost.model_adapters.vllm_engine import VllmSettings, open_vllm
from egost.tasks.errors import exits_with_message
from egost.tasks.release.trained_on import note_model, noted_model
from egost.tasks.scoring.generation_notes import Generation, note_generation
from egost.tasks.scoring.scores import failed_reply

# It says for each request that it would take more frames than the 8 that there are.
logging.getLogger("qwen_vl_utils.vision_process").setLevel(logging.ERROR)

NO_CLIP = Failure("no_clip", "the clip has no frames, so that the model was not asked")


class EngineModel(lmms):  # type: ignore[misc]
    """A model of lmms-eval whose requests an engine of ours answers; the base of our adapters.

    seed: of what is drawn; greedy replies do not depend on it. fresh: ask for all, whatever the journal
    holds; the new replies are journaled all the same, and are what later runs find. draws: so many seeds, from the
    run's on, are asked for; the replies to the further ones are journaled for the runs of these seeds.

    A request counts as done when its reply is in the journal: after a kill the same command asks for the rest
    alone. A request that failed comes back as a text that the scorer takes for no reply, and is not journaled.
    What concerns the whole run (AdapterError, CacheError) ends it as `SystemExit` with one message.
    """

    is_simple = True

    def __init__(self, engine: Engine, *, seed: int = 0, fresh: bool = False, draws: int = 1) -> None:
        super().__init__()
        self._engine, self._seed, self._fresh, self._draws = engine, seed, fresh, draws
        self._only_asker: FileLock | None = None
        if isinstance(engine, LmmsEngine):
            # lmms-eval gathers over the ranks by its own adapter's accelerator.
            self._rank, self._world_size = engine.adapter.rank, engine.adapter.world_size
            if hasattr(engine.adapter, "accelerator"):
                self.accelerator = engine.adapter.accelerator

    @classmethod
    @exits_with_message
    def create_from_arg_string(
        cls, arg_string: str, additional_config: dict[str, Any] | None = None
    ) -> EngineModel:
        """lmms-eval's way to make an adapter of `--model_args`; a name that the adapter does not know stops it."""
        try:
            given = simple_parse_args_string(arg_string)
        except ValueError as error:
            raise AdapterError(
                f"the model_args '{arg_string}' are not of the form NAME=VALUE,NAME=VALUE. Fix --model_args."
            ) from error
        own = {name: value for name, value in (additional_config or {}).items() if value is not None}
        refuse_unknown(cls, {**own, **given})
        return cls(**{**own, **given})

    @property
    def identity(self) -> EngineIdentity:
        """What exactly answers."""
        return self._engine.identity

    @property
    def device(self) -> Any:
        """Where lmms-eval gathers what its ranks count; under torchrun it gives a model no accelerator to ask."""
        return PartialState().device

    @exits_with_message
    def generate_until(self, requests: Sequence[Any]) -> list[GenerationResult]:
        """The replies to lmms-eval's requests, in their order."""
        try:
            in_order = _batch_of(self._engine) > 1
            waves, clips = read_requests(
                requests, self.task_dict, self._seed, in_order=in_order, draws=self._draws
            )
            with closing(waves):
                label = f"rank {self.rank}: " * (self.world_size > 1)
                progress = AskingProgress(len(requests) * self._draws, label, clips)
                replies = self._replies(waves, progress)[: len(requests)]
            # lmms-eval keeps what its first rank alone has logged.
            if isinstance(self._engine, ServerEngine) and self._engine.sent_bytes and self.world_size == 1:
                sent = {"sent_mb": self._engine.sent_bytes / 1e6}
                log_metrics(
                    progress.seconds, progress.tokens_out, progress.tokens_out / progress.seconds, sent
                )
            return replies
        except BaseException:
            self._engine.close()
            raise

    def replies(self, asked: Sequence[SampleRequest], label: str = "") -> list[GenerationResult]:
        """The replies to requests of our own, in their order, through the journal. label: put before the progress.

        A request that failed comes back as a text that the scorer takes for no reply. Raises AdapterError, also where
        another process asks the same model, and CacheError.
        """
        return self._replies([list(enumerate(asked))], AskingProgress(len(asked), label))

    def _replies(self, waves: Iterable[Wave], progress: AskingProgress) -> list[GenerationResult]:
        with closing(Journal()) as journal:

            def claim() -> None:
                self._only_asker = self._only_asker or journal.only_asker(self.identity)

            try:
                return _Asking(self._engine, journal, progress).all(waves, self._fresh, claim)
            finally:
                # Of several ranks, others may still ask: they are done when lmms-eval calls `clean`.
                if os.environ.get("WORLD_SIZE", "1") == "1":
                    self._release()

    def _release(self) -> None:
        if self._only_asker:
            self._only_asker.release()
            self._only_asker = None

    @exits_with_message
    def loglikelihood(self, requests: Sequence[Any]) -> NoReturn:
        """Not offered. Raises AdapterError."""
        raise _generates_only("log-likelihoods")

    @exits_with_message
    def generate_until_multi_round(self, requests: Sequence[Any]) -> NoReturn:
        """Not offered. Raises AdapterError."""
        raise _generates_only("several rounds")

    def clean(self) -> None:
        """Called by lmms-eval when all requests are answered: give the engine's memory back to the judge."""
        self._engine.close()
        self._release()
        super().clean()


def refuse_unknown(adapter: type, given: Mapping[str, object]) -> None:
    """Raise AdapterError for model_args that the constructor of an adapter does not name, or lacks.

    A constructor that takes any further name (`**rest`) has to look at those by itself.
    """
    parameters = inspect.signature(adapter).parameters.values()
    named = [p for p in parameters if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)]
    known = [p.name for p in named]
    takes_any = len(named) < len(parameters)
    unknown = [] if takes_any else sorted(set(given) - set(known))
    missing = [p.name for p in named if p.default is p.empty and p.name not in given]
    if unknown or missing:
        found = f"does not know {', '.join(unknown)}" if unknown else f"needs {', '.join(missing)}"
        raise AdapterError(
            f"{adapter.__name__} {found}; its model_args are {', '.join(known)}. Fix --model_args."
        )


def _generates_only(what: str) -> AdapterError:
    return AdapterError(
        f"our adapters generate one reply to a prompt; a task asked for {what}. They evaluate egost tasks only: "
        "take one of lmms-eval's own adapters for others."
    )


class _Asking:
    """One call of `generate_until`: the requests, and the replies so far."""

    def __init__(self, engine: Engine, journal: Journal, progress: AskingProgress) -> None:
        self._engine, self._journal = engine, journal
        self._identity = engine.identity
        self._asked: dict[int, tuple[SampleRequest, str]] = {}
        self._outcomes: dict[str, Reply | Failure] = {}
        self._journaled: set[str] = set()
        # The same request, from two samples or two tasks, is asked once.
        self._shared: dict[str, list[SampleRequest]] = {}
        self._clips: set[Any] = set()
        self._progress = progress

    def all(self, waves: Iterable[Wave], fresh: bool, claim: Callable[[], None]) -> list[GenerationResult]:
        """The replies in the order of the requests. claim: called before a wave of which something is asked."""
        held: Wave = []
        with self._progress:
            for more in chain[Wave | None](waves, [None]):
                wave = [*held, *(more or [])]
                self._take_up(wave)
                self._look_up(fresh)
                missing = [key for key in self._by_clip() if key not in self._outcomes]
                if asked := missing if more is None else self._in_whole_batches(missing):
                    claim()
                    self._ask(asked)
                held = [one for one in wave if self._asked[one[0]][1] not in self._outcomes]
        return [self._result(*self._asked[place]) for place in sorted(self._asked)]

    def _take_up(self, wave: Wave) -> None:
        self._shared = {}
        for place, request in wave:
            key = request_key(request.ask, self._identity)
            self._asked[place] = request, key
            self._shared.setdefault(key, []).append(request)
            if request.ask.clip:
                self._clips.add(request.ask.clip.path)
        self._progress.decoded(len(self._clips))

    def _look_up(self, fresh: bool) -> None:
        for key, requests in self._shared.items():
            if known := self._outcomes.get(key):
                self._take(key, known)
            elif requests[0].ask.clip is None and not requests[0].blind:
                self._take(key, NO_CLIP)
            elif not fresh and (reply := self._journal.get(key)):
                self._outcomes[key] = reply
                self._journaled.add(key)
                self._progress.journaled(len(requests))

    def _by_clip(self) -> list[str]:
        """The keys, all questions on a clip together, clips in the order in which they were met."""
        groups: dict[Any, list[str]] = {}
        for key in self._shared:
            clip = self._ask_of(key).clip
            groups.setdefault(clip and clip.path, []).append(key)
        return [key for keys in groups.values() for key in keys]

    def _in_whole_batches(self, keys: list[str]) -> list[str]:
        """The keys without a last batch that more may fill: padding must not depend on which clips are decoded."""
        size = _batch_of(self._engine)
        *_, last = [[], *batches([self._ask_of(key) for key in keys], size)]
        return keys if len(last) == size else keys[: len(keys) - len(last)]

    def _ask(self, keys: Sequence[str]) -> None:
        with _Writing(self._journal, self._identity) as writing:
            for place, outcome in self._engine.answer([self._ask_of(key) for key in keys]):
                key = keys[place]
                if isinstance(outcome, Failure):
                    self._take(key, outcome)
                else:
                    writing.write(key, self._ask_of(key), outcome)
                for done, reply in writing.written(wait=False):
                    self._take(done, reply)
            for done, reply in writing.written(wait=True):
                self._take(done, reply)
        if left := [key for key in keys if key not in self._outcomes]:
            raise AdapterError(
                f"{self._identity.engine} ended with {len(left)} of {len(keys)} requests unanswered, the first is "
                f"{self._ask_of(left[0]).sample}. The others are journaled: the same command goes on."
            )

    def _take(self, key: str, outcome: Reply | Failure) -> None:
        self._outcomes[key] = outcome
        self._progress.answered(len(self._shared[key]), outcome)

    def _ask_of(self, key: str) -> Ask:
        return self._shared[key][0].ask

    def _result(self, request: SampleRequest, key: str) -> GenerationResult:
        outcome = self._outcomes[key]
        if outcome is not NO_CLIP and request.repetition == 0:
            generation = _generation(self._identity, outcome, key in self._journaled)
            note_generation(request.world, request.sample_id, generation)
        if isinstance(outcome, Failure):
            return GenerationResult(failed_reply(outcome.reason, outcome.message))
        counts = TokenCounts(input_tokens=outcome.prompt_tokens, output_tokens=outcome.completion_tokens)
        return GenerationResult(outcome.text, counts)


def _batch_of(engine: Engine) -> int:
    return engine.batch if isinstance(engine, LmmsEngine) else 1


def _generation(identity: EngineIdentity, outcome: Reply | Failure, journaled: bool) -> Generation:
    reply = outcome if isinstance(outcome, Reply) else None
    finish_reason = reply.finish_reason if reply else None
    return Generation(
        engine=identity.engine,
        model=identity.model,
        revision=identity.revision,
        settings=dict(identity.settings),
        finish_reason=finish_reason,
        truncated=None if finish_reason in (None, "unknown") else finish_reason == "length",
        prompt_tokens=reply.prompt_tokens if reply else None,
        completion_tokens=reply.completion_tokens if reply else None,
        video_tokens=reply.video_tokens if reply else None,
        journaled=journaled,
        failure=f"{outcome.reason}: {outcome.message}" if isinstance(outcome, Failure) else None,
        snapshot=reply.snapshot if reply else None,
        replaced=reply.replaced if reply else 0,
        reasoning=reply.reasoning if reply else None,
        cached_tokens=reply.cached_tokens if reply else None,
    )


class _Writing:
    """Writes replies into the journal while the model goes on: a disk takes milliseconds to keep something."""

    def __init__(self, journal: Journal, identity: EngineIdentity) -> None:
        self._journal, self._identity = journal, identity
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="egost-journal")
        self._waiting: deque[Entry] = deque()
        self._futures: deque[tuple[Future[None], str, Reply]] = deque()

    def __enter__(self) -> _Writing:
        return self

    def __exit__(self, *_: object) -> None:
        # Whatever ended the asking, what was answered is kept.
        self._thread.shutdown()

    def write(self, key: str, ask: Ask, reply: Reply) -> None:
        """Have a reply written; `written` gives it back when it is on the disk."""
        self._waiting.append(Entry(key, ask, reply, self._identity))
        self._futures.append((self._thread.submit(self._flush), key, reply))

    def written(self, *, wait: bool) -> Iterator[tuple[str, Reply]]:
        """The replies that are on the disk by now, each once. Raises CacheError where they cannot be kept."""
        while self._futures and (wait or self._futures[0][0].done()):
            future, key, reply = self._futures.popleft()
            future.result()
            yield key, reply

    def _flush(self) -> None:
        """Write all that waits, at the price of one. What a reply's own flush finds gone, an earlier one wrote."""
        entries = [self._waiting.popleft() for _ in range(len(self._waiting))]
        if entries:
            self._journal.put(entries)


def _common(
    *,
    seed: int = 0,
    fresh: bool = False,
    draws: int = 1,
    batch_size: int | str | None = None,
    max_batch_size: int | None = None,
    device: str | None = None,
) -> None:
    """The arguments of every adapter. lmms-eval always gives the last three; our engines choose by themselves."""


def _adapter(
    name: str, open_engine: Callable[..., Engine], settings: Callable[..., Any] | None = None
) -> type[EngineModel]:
    """An adapter whose model_args are the arguments that open its engine, and those of `_common`.

    settings: what takes the further arguments (`**`) of `open_engine`; None lets any pass.
    """
    of_engine = dict(inspect.signature(open_engine).parameters)
    further = [p for p in of_engine.values() if p.kind is p.VAR_KEYWORD]
    for parameter in further:
        del of_engine[parameter.name]
    if settings:
        of_engine |= inspect.signature(settings).parameters
    any_pass = bool(further) and settings is None
    accepted = {**inspect.signature(_common).parameters, **of_engine}
    parameters = [accepted[n].replace(kind=inspect.Parameter.KEYWORD_ONLY) for n in {**of_engine, **accepted}]

    class Adapter(EngineModel):
        __doc__ = open_engine.__doc__
        __signature__ = inspect.Signature([*parameters, *(further if any_pass else [])])

        def __init__(self, *, seed: int = 0, fresh: bool = False, draws: int = 1, **given: Any) -> None:
            if "seed" in of_engine:
                given["seed"] = seed
            passed = {n: value for n, value in given.items() if any_pass or n in of_engine}
            note_model(given)
            super().__init__(open_engine(**passed), seed=seed, fresh=fresh, draws=draws)
            self.egost_names = noted_model()

    Adapter.__name__ = Adapter.__qualname__ = name
    return Adapter


EgostVllm = _adapter("EgostVllm", open_vllm, VllmSettings)
EgostServer = _adapter("EgostServer", open_server)
EgostTransformers = _adapter("EgostTransformers", TransformersEngine)
EgostOpenAI = _adapter("EgostOpenAI", open_openai)
EgostGemini = _adapter("EgostGemini", open_gemini)
EgostJournal = _adapter("EgostJournal", open_lmms_adapter)
