"""What goes to a model and what comes back: the types that all our engines share.

An engine (vLLM in this process, a server, a closed model's API) turns `Ask`s into `Reply`s. What is the same for
all engines (journal, order, progress, what lmms-eval wants) is in `adapter.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from loguru import logger

from egost.tasks.errors import EgostError, visible
from egost.tasks.json_text import encodable

if TYPE_CHECKING:
    from egost.tasks.clips.clips import Clip

_KNOWN = {"max_new_tokens", "temperature", "do_sample", "top_p", "top_k", "until", "seed", "num_beams"}


class AdapterError(EgostError):
    """The model cannot be asked: the server is not up, the model's name is wrong, a package or a key is missing."""


@dataclass(frozen=True)
class GenerationArguments:
    """How a reply is to be generated.

    max_new_tokens: most tokens of a reply. temperature: 0 is greedy. top_p, top_k: None is no cut.
    stop: texts at which a reply ends. seed: None for greedy; decides what is drawn otherwise.
    """

    max_new_tokens: int
    temperature: float = 0.0
    top_p: float | None = None
    top_k: int | None = None
    stop: tuple[str, ...] = ()
    seed: int | None = None

    @property
    def greedy(self) -> bool:
        return self.temperature == 0

    @classmethod
    def read(cls, gen_kwargs: Mapping[str, Any], seed: int) -> GenerationArguments:
        """The arguments that lmms-eval's `generation_kwargs`, changed by its `--gen_kwargs`, ask for.

        seed: of the run, used where something is drawn. Raises AdapterError for an argument that no adapter of
        ours can honour, or for a value of a wrong kind: none is dropped in silence.
        """
        given = {name: value for name, value in gen_kwargs.items() if value is not None}
        refused = {name: value for name, value in given.items() if name not in _KNOWN}
        if given.get("num_beams", 1) != 1:
            refused["num_beams"] = given["num_beams"]
        if refused:
            listed = ", ".join(f"{name}={value}" for name, value in sorted(refused.items()))
            raise AdapterError(
                f"no adapter of ours can honour the generation argument {listed}; expected "
                f"{', '.join(sorted(_KNOWN))}, and one beam. Fix --gen_kwargs."
            )
        until = given.get("until", ())
        try:
            temperature = float(given.get("temperature", 0))
            drawn = bool(given.get("do_sample", True)) and temperature > 0
            return cls(
                max_new_tokens=int(given["max_new_tokens"]),
                temperature=temperature if drawn else 0.0,
                top_p=float(given["top_p"]) if drawn and "top_p" in given else None,
                top_k=int(given["top_k"]) if drawn and "top_k" in given else None,
                stop=(until,) if isinstance(until, str) else tuple(until),
                seed=int(given.get("seed", seed)) if drawn else None,
            )
        except (KeyError, TypeError, ValueError) as error:
            raise AdapterError(
                f"the generation arguments {given} cannot be used ({error!r}). Fix --gen_kwargs."
            ) from error


@dataclass(frozen=True)
class Ask:
    """One request to a model: a clip, then a text.

    sample: `WORLD/ID` of the sample, for messages and progress. prompt: the text, without any chat template.
    clip: the canonical frames; None asks without a video.
    """

    sample: str
    prompt: str
    clip: Clip | None
    arguments: GenerationArguments


@dataclass(frozen=True)
class Reply:
    """What a model said.

    finish_reason: `stop`, or `length` where the reply reached max_new_tokens, or a word of the API's own.
    prompt_tokens, completion_tokens: of the request; video_tokens: those of the prompt that encode frames,
    as a video or as images. None where the engine does not report them.
    snapshot: the model that an API says has replied, where it says so.
    replaced: halves of surrogate pairs in the text, which no file can hold; U+FFFD is in their places.
    reasoning: the thinking, where it came apart from the text: kept, and never read for an answer.
    cached_tokens: of the prompt's, those that vLLM's prefix cache had; no part of what was said.
    """

    text: str
    finish_reason: str
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    video_tokens: int | None = None
    snapshot: str | None = None
    replaced: int = 0
    reasoning: str | None = None
    cached_tokens: int | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        if self.reasoning is not None:
            object.__setattr__(self, "reasoning", encodable(self.reasoning))
        # lmms-eval's writer of samples stops at such a text, and drops all samples behind it.
        if (text := encodable(self.text)) != self.text:
            object.__setattr__(self, "replaced", text.count("\ufffd") - self.text.count("\ufffd"))
            object.__setattr__(self, "text", text)


@dataclass(frozen=True)
class Failure:
    """Why a model said nothing to one request.

    reason: a short stable word that is counted next to the scores (`context_too_long`, `out_of_memory`,
    `rate_limited`, `refused`, `timeout`, `no_text`, `server_error`, `unsupported_video`); message: for people.
    """

    reason: str
    message: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "message", visible(self.message))

    @classmethod
    def of_error(cls, error: Exception, engine: str, asks: Sequence[Ask], logged: set[str]) -> Failure:
        """What an exception of a model in this process means for the requests that it was working on.

        engine: its name, for the log. logged: kinds of errors that are in the log already; each is logged once.
        Raises AdapterError where the GPU is broken.
        """
        if "CUDA error" in str(error):
            raise AdapterError(
                f"the GPU failed at {asks[0].sample} and answers nothing more in this process ({error}). What is "
                "answered is journaled: start the same command again."
            ) from error
        kind = type(error).__name__
        if kind not in logged:
            logged.add(kind)
            logger.opt(exception=error).error(
                f"egost: {engine} failed at {', '.join(ask.sample for ask in asks)}; errors of this kind are logged "
                "once, and counted"
            )
        # By its name, since torch is imported by engines that need it alone.
        memory = (
            isinstance(error, MemoryError)
            or kind == "OutOfMemoryError"
            or "can't allocate memory" in str(error)
        )
        return cls("out_of_memory" if memory else "model_error", f"{kind}: {error}")


@dataclass(frozen=True)
class SampledGroup:
    """Completions that were sampled of one prompt.

    prompt_ids: token ids of the prompt with its frames. completion_ids: of each completion, its end token included.
    log_probabilities: of the tokens of each completion, natural, under the distribution that they were drawn from.
    """

    prompt_ids: tuple[int, ...]
    completion_ids: tuple[tuple[int, ...], ...]
    log_probabilities: tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class EngineIdentity:
    """What replies depend on apart from the request; part of the journal's key.

    engine: name and version, `vllm 0.32.0`, `openai`. model: hub id, folder's name or the API's name.
    revision: commit of the hub, hash of a local checkpoint, snapshot of an API; None where it cannot be known.
    settings: what else changes a reply, for example dtype and quantisation, how frames go in.
    """

    engine: str
    model: str
    revision: str | None
    settings: Mapping[str, str | int | float | bool | None]

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "settings": dict(sorted(self.settings.items()))}


class Engine(Protocol):
    """Something that answers many requests at once."""

    @property
    def identity(self) -> EngineIdentity: ...

    def answer(self, asks: Sequence[Ask]) -> Iterator[tuple[int, Reply | Failure]]:
        """Yield the place of an ask and what came of it, in the order in which they finish, each exactly once.

        The asks come ordered by clip, so that caches of an encoded video serve all questions on it. What
        concerns one request alone is a Failure; AdapterError means that nothing more can work.
        """
        ...

    def close(self) -> None:
        """Give back what the engine holds (processes, connections); may be called more than once."""
        ...
