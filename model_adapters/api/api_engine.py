"""The engine over an API, the same for all closed models: frames as PNG, many requests at once, and what they cost."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Protocol

from loguru import logger

from egost.model_adapters.engine import AdapterError, Ask, EngineIdentity, Failure, GenerationArguments, Reply
from egost.tasks.chat.calls import Calls, Faulted, NoReply, Pacing, Wording
from egost.tasks.chat.usage import price_usd, prices_of
from egost.tasks.clips.clips import Clip
from egost.tasks.clips.pixels import png
from egost.tasks.clips.protocols import chosen_protocol, parse_protocol

CLOSED_SIZE = (224, 224)
"""Width and height in pixels of a frame for a closed model (paper, appendix A.2)."""


def frame_settings() -> dict[str, str | int]:
    """How frames go in, for `EngineIdentity.settings`."""
    return {
        "frames": chosen_protocol().n_frames,
        "frame_size": "{}x{}".format(*CLOSED_SIZE),
        "frame_format": "png",
    }


def check_chosen_protocol() -> None:
    """Raises AdapterError where the run's protocol gives frames of another size than the closed models'.

    An adapter does not resize by itself: the record of a clip's pixels would then be of others than were seen.
    """
    protocol = chosen_protocol()
    if protocol.size != CLOSED_SIZE:
        raise _wrong_size(protocol.name, protocol.sampling)


_encoding = threading.Lock()


def png_frames(clip: Clip) -> tuple[bytes, ...]:
    """The frames of a clip in order, each as the bytes of a PNG file, so that no pixel changes on the way.

    Those of the last clips are kept; threads that ask for the same clip at once wait for one of them.
    Raises AdapterError where they are not of `CLOSED_SIZE`, CacheError where the clip's file was changed.
    """
    protocol = parse_protocol(clip.manifest.protocol)
    if protocol.size != CLOSED_SIZE:
        raise _wrong_size(protocol.name, protocol.sampling)
    with _encoding:
        # By its path, since the same content may lie under several names.
        return _pngs(clip.path, clip.manifest.pixels_sha256)


@lru_cache(maxsize=32)
def _pngs(path: Path, _pixels: str) -> tuple[bytes, ...]:
    return tuple(map(png, Clip.at(path).frames()))


def _wrong_size(protocol: str, sampling: str) -> AdapterError:
    size = "{}x{}".format(*CLOSED_SIZE)
    return AdapterError(
        f"the sampling protocol is {protocol}, but closed models see frames of {size} pixels (paper, appendix A.2). "
        f"Set EGOST_PROTOCOL={sampling}+{size}"
    )


DEFAULT_PACING = Pacing(concurrency=16, timeout_s=300.0)
"""Fewer calls at once than for the judge, since each carries 8 images; more time, since a model may reason."""

_HOLD_S = 0.05

_REASONS = {"too_long": "context_too_long", "content_filter": "refused", "connection": "server_error"}
"""Reasons of `Fault` that a `Failure` has another word for."""


@dataclass(frozen=True)
class Called:
    """What one call brought, and the tokens that it is charged for."""

    outcome: Reply | Failure
    snapshot: str
    tokens_in: int
    tokens_out: int


class Api(Protocol):
    """The client of one API; used within one event loop.

    wording: what messages about the API say. frame_tokens: the most that a frame is counted for. hidden_tokens: the
    most that a model thinks, on top of max_new_tokens.
    """

    wording: Wording
    frame_tokens: int
    hidden_tokens: int

    async def call(self, ask: Ask) -> Called:
        """Ask once. Raises Faulted."""
        ...

    async def close(self) -> None:
        """Close the connections."""
        ...


@dataclass
class ApiEngine:
    """An `Engine` behind an API.

    open_api: makes its client; it is given the seconds for one call. wrong: what of generation arguments the API has no
    parameter for; empty where it takes them all. pacing: how fast it is asked. spending: what that cost so far.
    """

    identity: EngineIdentity
    open_api: Callable[[float], Api]
    wrong: Callable[[GenerationArguments], str]
    pacing: Pacing
    spending: Spending

    def answer(self, asks: Sequence[Ask]) -> Iterator[tuple[int, Reply | Failure]]:
        """Answer all asks, several at once; see `Engine.answer`.

        When nothing more can work, calls under way are waited for and yielded first, since they are paid for, and then
        the error that says why is raised.
        """
        for arguments in {ask.arguments for ask in asks}:
            if wrong := self.wrong(arguments):
                raise AdapterError(f"--gen_kwargs has {wrong}. Fix --gen_kwargs.")
        return self._answers(asks)

    def close(self) -> None:
        """Nothing is held between calls of `answer`."""

    def _answers(self, asks: Sequence[Ask]) -> Iterator[tuple[int, Reply | Failure]]:
        api = self.open_api(self.pacing.timeout_s)
        # What is left of a killed run may be the one request that is a bad one: it must not end each new try.
        with closing(Calls(api.wording, self.pacing, first_bad_ends=False, at_end=api.close)) as calls:
            run = _Run(api, calls, self.spending)
            try:
                yield from calls.gather(asks, run.outcome)
            finally:
                logger.info(f"egost: {self.spending.summary}")


class _Run:
    """One call of `answer`."""

    def __init__(self, api: Api, calls: Calls, spending: Spending) -> None:
        self._api, self._calls, self._spending = api, calls, spending

    async def outcome(self, ask: Ask) -> Reply | Failure:
        """What came of one ask."""
        try:
            return await self._calls.make(lambda first: self._call(ask, first))
        except NoReply as error:
            return Failure(_REASONS.get(error.reason, error.reason), str(error))

    async def _call(self, ask: Ask, first: bool) -> Reply | Failure:
        bound = CallBound(
            frame_tokens=self._api.frame_tokens * len(ask.clip.manifest.indices) if ask.clip else 0,
            text_tokens=len(ask.prompt.encode("utf-8", "replace")),
            reply_tokens=ask.arguments.max_new_tokens + self._api.hidden_tokens,
        )
        held = await self._hold(bound)
        self._spending.called(first)
        try:
            called = await self._api.call(ask)
        except Faulted as error:
            self._spending.failed(held, billed=error.fault.reason in ("timeout", "connection", "broken_body"))
            raise
        except BaseException:
            self._spending.failed(held, billed=True)
            raise
        self._spending.charged(held, called.snapshot, called.tokens_in, called.tokens_out)
        return called.outcome

    async def _hold(self, bound: CallBound) -> float:
        while True:
            self._calls.check()
            if (held := self._spending.hold(bound)) is not None:
                return held
            await self._calls.sleep(_HOLD_S)


def bare_failure(text: str, finish_reason: str, refusal: str) -> Failure | None:
    """Why a reply counts as none: the model or a filter refused, or it is empty and was not cut off."""
    if refusal:
        return Failure("refused", refusal)
    if not text.strip() and finish_reason != "length":
        return Failure("no_text", f"the reply is empty (finish reason: {finish_reason or 'none'})")
    return None


def pacing_of(concurrency: int, timeout_s: float) -> Pacing:
    """How fast an API is asked. Raises AdapterError for a pace at which no call is made."""
    if concurrency < 1 or timeout_s <= 0:
        raise AdapterError(
            f"concurrency={concurrency} and timeout_s={timeout_s} allow no call; expected at least 1 "
            "call at once and more than 0 seconds. Fix --model_args."
        )
    return replace(DEFAULT_PACING, concurrency=concurrency, timeout_s=timeout_s)


@dataclass(frozen=True)
class CallBound:
    """The most that one call can take: tokens of its frames, of its text, and of its reply."""

    frame_tokens: int
    text_tokens: int
    reply_tokens: int


class Spending:
    """The account of one engine; for use within one thread.

    model: as it is asked for. max_usd: limit in US dollars, None for none. Raises AdapterError for a limit that
    cannot be kept because no price is known.
    """

    def __init__(self, model: str, max_usd: float | None) -> None:
        # Asked for in any case: the first price takes a second, which no call under way must wait for.
        has_price = price_usd(model, 0, 0) is not None
        if max_usd is not None and not has_price:
            raise AdapterError(
                f"max_usd={max_usd} cannot be kept: no price of '{model}' is known ({prices_of()}). Name one of "
                "`egost models`, for example gpt-4o-2024-08-06 or gemini-3.5-flash, or leave max_usd out."
            )
        if max_usd is not None and max_usd <= 0:
            raise AdapterError(f"max_usd={max_usd} allows no call at all; expected US dollars above 0.")
        self._model, self._max_usd = model, max_usd
        self._held: list[float] = []
        self._spent = 0.0
        self._most_in: int | None = None
        self._calls = self._again = self._tokens_in = self._tokens_out = 0
        self._unpriced: set[str] = set()

    def hold(self, bound: CallBound) -> float | None:
        """Set aside what a call can cost at most, in US dollars; None while calls under way hold too much.

        Raises AdapterError when the limit is too low for the call even if all others cost nothing more, or cannot be
        kept since a snapshot without a known price has answered.
        """
        if self._max_usd is None:
            self._held.append(0.0)
            return 0.0
        if self._unpriced:
            unpriced = ", ".join(sorted(self._unpriced))
            raise AdapterError(
                f"max_usd={self._max_usd} cannot be kept: '{self._model}' was asked, '{unpriced}' answered, and its "
                "price is not known. What was answered is kept; leave max_usd out to go on."
            )
        # A prompt is its frames, always the same number of tokens, and a text of at most a token a byte.
        frames = bound.frame_tokens if self._most_in is None else self._most_in
        most = price_usd(self._model, frames + bound.text_tokens, bound.reply_tokens) or 0.0
        if self._spent + sum(self._held) + most <= self._max_usd:
            self._held.append(most)
            return most
        if self._held:
            return None
        raise AdapterError(
            f"max_usd={self._max_usd} is reached: {self._spent:.4f} USD are spent, and the next call may cost up to "
            f"{most:.4f}. What was answered is kept; the same command with a higher max_usd asks for the rest."
        )

    def called(self, first: bool) -> None:
        """A call goes out."""
        self._calls += 1
        self._again += not first

    def charged(self, held: float, snapshot: str, tokens_in: int, tokens_out: int) -> None:
        """A call was answered by a snapshot and took so many tokens; gives back what it held."""
        self._held.remove(held)
        self._tokens_in += tokens_in
        self._tokens_out += tokens_out
        self._most_in = max(self._most_in or 0, tokens_in)
        if (cost := price_usd(snapshot, tokens_in, tokens_out)) is None:
            self._unpriced.add(snapshot)
        else:
            self._spent += cost

    def failed(self, held: float, *, billed: bool) -> None:
        """A call brought nothing. billed: the API may charge it all the same, since it may have worked on it."""
        self._held.remove(held)
        self._spent += held if billed else 0.0

    @property
    def summary(self) -> str:
        """One line: calls, tokens and US dollars so far."""
        if self._unpriced:
            cost = f"price of {', '.join(sorted(self._unpriced))} unknown"
        else:
            cost = f"{self._spent:.4f} USD at list prices ({prices_of()})"
        return (
            f"{self._model}: {self._calls} calls ({self._again} of them repeated), {self._tokens_in} tokens in, "
            f"{self._tokens_out} out, {cost}"
        )
