"""The engine over an API, the same for all closed models: many requests at once, and what they cost."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Protocol
from urllib.parse import urlsplit

from loguru import logger

from egost.model_adapters.api.api_spending import CallBound, Spending
from egost.model_adapters.engine import AdapterError, Ask, EngineIdentity, Failure, GenerationArguments, Reply
from egost.tasks.chat.calls import Calls, Faulted, NoReply, Pacing, Wording

OTHER_KEY = "EGOST_API_KEY"
"""Environment variable with the key of any other server; the makers' own keys are sent to the makers alone."""

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
    """The client of one API; used within one event loop."""

    @property
    def wording(self) -> Wording:
        """What messages about the API say."""
        ...

    def bound(self, ask: Ask) -> CallBound:
        """The most tokens that an ask can take."""
        ...

    async def call(self, ask: Ask) -> Called:
        """Ask once. Raises Faulted, whose text holds no key."""
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
        held = await self._hold(self._api.bound(ask))
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


def check_url(url: str, key_name: str) -> None:
    """Raises AdapterError for a text that is no URL of a server, or a URL with a secret in it: the URL is recorded."""
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError as error:
        raise AdapterError(
            "the URL in --model_args cannot be read; expected http(s)://HOST[:PORT]/PATH."
        ) from error
    if "@" in url or "?" in url or "#" in url:
        raise AdapterError(
            "the URL in --model_args carries a user name, password or query. It would be recorded in the results: "
            f"put the key into {key_name} instead."
        )
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise AdapterError(f"'{url}' is no URL of a server; expected http(s)://HOST[:PORT]/PATH.")
