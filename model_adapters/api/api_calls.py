"""Asks an API for many replies at once and gives them back as they come; the same for all closed models."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from loguru import logger

from egost.model_adapters.api.api_spending import CallBound, Spending
from egost.model_adapters.engine import AdapterError, Ask, Failure, Reply
from egost.tasks.chat.paced_calls import Faulted, NoReply, PacedCalls, Wording
from egost.tasks.chat.pacing import Pacing
from egost.tasks.errors import EgostError

DEFAULT_PACING = Pacing(concurrency=16, timeout_s=300.0)
"""Less at once than for the judge, since each call carries 8 images; more time, since a model may reason."""

_HOLD_S = 0.05
_AHEAD = 2
"""Asks under way for each call at once, so that one that waits to try again leaves no lane idle."""

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

    The calls run in an event loop of their own in a background thread. When nothing more can work, what is under
    way is waited for and yielded first, since it is paid for, and then the error that says why is raised.
    """
    answers: queue.Queue[Answer | None] = queue.Queue()
    run = _Run(asks, answers, spending)
    thread = threading.Thread(target=run.in_loop, args=(open_api, who, pacing), name="egost-api", daemon=True)
    thread.start()
    try:
        while (answer := answers.get()) is not None:
            yield answer
    finally:
        run.abandon()
        thread.join()
        logger.info(f"egost: {spending.summary}")
    if run.why:
        raise run.why


class _Run:
    """One call of `answer_all`."""

    def __init__(self, asks: Sequence[Ask], answers: queue.Queue[Answer | None], spending: Spending) -> None:
        self._asks, self._answers, self._spending = enumerate(asks), answers, spending
        self._lock = threading.Lock()
        self._main: tuple[asyncio.AbstractEventLoop, asyncio.Task[None]] | None = None
        self.why: BaseException | None = None

    def in_loop(self, open_api: Callable[[], Api], who: Wording, pacing: Pacing) -> None:
        """Answer all asks; the target of the background thread."""
        try:
            asyncio.run(self._answer_all(open_api, who, pacing))
        except asyncio.CancelledError:
            pass
        except BaseException as error:
            self.why = error
        finally:
            with self._lock:
                self._main = None
            self._answers.put(None)

    def abandon(self) -> None:
        """Cancel what is under way, if anything is: nobody waits for it any more."""
        with self._lock:
            if self._main:
                loop, task = self._main
                loop.call_soon_threadsafe(task.cancel)

    async def _answer_all(self, open_api: Callable[[], Api], who: Wording, pacing: Pacing) -> None:
        with self._lock:
            task = asyncio.current_task()
            assert task is not None
            self._main = asyncio.get_running_loop(), task
        # What is left of a killed run may be the one request that is a bad one: it must not end each new try.
        api, calls = open_api(), PacedCalls(who, pacing, first_bad_ends=False)
        try:
            await asyncio.gather(*(self._work(api, calls) for _ in range(_AHEAD * pacing.concurrency)))
        finally:
            await api.close()
        calls.check()

    async def _work(self, api: Api, calls: PacedCalls) -> None:
        """Answer one ask after another, until there is none left or the calls have ended."""
        for place, ask in self._asks:
            try:
                self._answers.put((place, await self._outcome(api, calls, ask)))
            except EgostError as error:
                calls.stop(error)
                return

    async def _outcome(self, api: Api, calls: PacedCalls, ask: Ask) -> Reply | Failure:
        try:
            return await calls.make(lambda first: self._call(api, calls, ask, first))
        except NoReply as error:
            return Failure(_REASONS.get(error.reason, error.reason), str(error))

    async def _call(self, api: Api, calls: PacedCalls, ask: Ask, first: bool) -> Reply | Failure:
        held = await self._hold(api.bound(ask), calls)
        self._spending.called(first)
        try:
            called = await api.call(ask)
        except Faulted as error:
            self._spending.failed(held, billed=error.fault.reason in ("timeout", "connection", "broken_body"))
            raise
        except BaseException:
            self._spending.failed(held, billed=True)
            raise
        self._spending.charged(held, called.snapshot, called.tokens_in, called.tokens_out)
        return called.outcome

    async def _hold(self, bound: CallBound, calls: PacedCalls) -> float:
        while True:
            calls.check()
            if (held := self._spending.hold(bound)) is not None:
                return held
            await calls.sleep(_HOLD_S)


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
