"""Asks an API for many replies at once and gives them back as they come; the same for all closed models."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Protocol

from loguru import logger

from egost.model_adapters.api.api_spending import CallBound, Spending
from egost.model_adapters.engine import AdapterError, Ask, Failure, Reply
from egost.tasks.chat.calls import Calls, Faulted, NoReply, Pacing, Wording

DEFAULT_PACING = Pacing(concurrency=16, timeout_s=300.0)
"""Less at once than for the judge, since each call carries 8 images; more time, since a model may reason."""

_HOLD_S = 0.05

_REASONS = {"too_long": "context_too_long", "content_filter": "refused", "connection": "server_error"}
"""Reasons of `Fault` that a `Failure` has another word for."""

Answer = tuple[int, Reply | Failure]


@dataclass(frozen=True)
class Called:
    """What one call brought, and the tokens that it is charged for."""

    outcome: Reply | Failure
    snapshot: str
    tokens_in: int
    tokens_out: int


class Api(Protocol):
    """The client of one API; made and used within one event loop."""

    def bound(self, ask: Ask) -> CallBound:
        """The most tokens that an ask can take."""
        ...

    async def call(self, ask: Ask) -> Called:
        """Ask once. Raises Faulted, whose text holds no key."""
        ...

    async def close(self) -> None:
        """Close the connections."""
        ...


def answer_all(
    asks: Sequence[Ask], open_api: Callable[[], Api], who: Wording, pacing: Pacing, spending: Spending
) -> Iterator[Answer]:
    """Yield the place of each ask and what came of it, in the order in which they finish.

    When nothing more can work, what is under way is waited for and yielded first, since it is paid for, and then the
    error that says why is raised.
    """
    api = open_api()
    # What is left of a killed run may be the one request that is a bad one: it must not end each new try.
    with closing(Calls(who, pacing, first_bad_ends=False, at_end=api.close)) as calls:
        run = _Run(api, calls, spending)
        try:
            yield from calls.gather(asks, run.outcome)
        finally:
            logger.info(f"egost: {spending.summary}")


class _Run:
    """One call of `answer_all`."""

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


def wording(who: str, url: str, remedy: str) -> Wording:
    """What messages about an API say. who: for example `The model gpt-4o at https://...`."""
    return Wording(url=url, who=who, kept="What was answered is kept", remedy=remedy, stopped=AdapterError)


def bare_failure(text: str, finish_reason: str, refusal: str) -> Failure | None:
    """Why a reply counts as none: the model or a filter refused, or it said nothing though it had room."""
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
