"""Makes calls of one server: paced, tried again where that helps, and stopped where it does not."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import TypeVar

from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_attempt
from tenacity.wait import wait_random_exponential

from egost.tasks.chat.faults import Fault
from egost.tasks.chat.pacing import Breaker, Lanes, Pacing
from egost.tasks.errors import EgostError

T = TypeVar("T")

MOST_BAD_REQUESTS = 20
"""So many in a row that the server calls bad requests are no fault of single samples any more; as many as the calls
without an answer that make a dead endpoint."""


class Faulted(Exception):
    """One call brought nothing of use."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.text)
        self.fault = fault


class NoReply(Exception):
    """No reply could be got for one sample. reason: see `Fault`."""

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason


class _Again(Faulted):
    pass


@dataclass(frozen=True, slots=True)
class Wording:
    """What messages say of a server.

    url: where it is; who: who refuses, for example `The judge gpt-4o`; kept: what is not lost, a sentence;
    remedy: what to do where it calls every request a bad one; stopped: the kind of error that ends the calls.
    """

    url: str
    who: str
    kept: str
    remedy: str
    stopped: type[EgostError]


class PacedCalls:
    """The calls of one server; for use within one event loop.

    first_bad_ends: whether one bad request ends the calls where nothing has been answered yet, and not only
        `MOST_BAD_REQUESTS` in a row.
    """

    def __init__(self, wording: Wording, pacing: Pacing, *, first_bad_ends: bool) -> None:
        self._wording, self._pacing, self._first_bad_ends = wording, pacing, first_bad_ends
        self._lanes = Lanes(pacing.concurrency, self.sleep)
        self._breaker = Breaker(pacing.breaker_calls, pacing.breaker_s)
        self._answered = False
        self._bad_requests = 0
        self._ended = asyncio.Event()
        self._why: EgostError | None = None
        self.stopped_at: float | None = None

    async def make(self, call: Callable[[bool], Awaitable[T]]) -> T:
        """What a call brings. call: makes it once, is told whether it is the first, and raises Faulted.

        Raises NoReply when it brings nothing however often it is made, and the error that `stop` was given, or
        one of the kind `Wording.stopped`, when no call can bring anything.
        """
        first_s = self._pacing.first_wait_s
        retrying = AsyncRetrying(
            stop=stop_after_attempt(self._pacing.tries),
            wait=wait_random_exponential(first_s, self._pacing.longest_wait_s, min=first_s / 2),
            retry=retry_if_exception_type(_Again),
            sleep=self.sleep,
            reraise=True,
        )
        try:
            async for attempt in retrying:
                with attempt:
                    return await self._once(call, attempt.retry_state.attempt_number == 1)
        except _Again as last:
            raise NoReply(last.fault.reason, last.fault.text) from None
        raise AssertionError("tenacity ends with a result or an exception")

    def stop(self, why: EgostError) -> None:
        """End the calls: those under way may finish, no other is made."""
        if self._why is None:
            self._why, self.stopped_at = why, time.monotonic()
        self._ended.set()

    def check(self) -> None:
        """Raises the error that ended the calls, once they are over."""
        if self._why:
            raise type(self._why)(str(self._why))

    async def sleep(self, seconds: float) -> None:
        """Wait, but not longer than calls are made; raises as `check` does."""
        try:
            await asyncio.wait_for(self._ended.wait(), seconds)
        except TimeoutError:
            return
        self.check()

    async def _once(self, call: Callable[[bool], Awaitable[T]], first: bool) -> T:
        while True:
            async with self._lanes.lane() as began:
                self.check()
                try:
                    result = await call(first)
                except Faulted as error:
                    fault = error.fault
                else:
                    self._answered, self._bad_requests = True, 0
                    self._breaker.answered()
                    self._lanes.went_well()
                    return result
            self._take(fault, began)
            first = False

    def _take(self, fault: Fault, began: float) -> None:
        """Draw the consequences of a fault; returns when the call is to be made again at once."""
        words = self._wording
        if fault.alive:
            self._breaker.answered()
        elif self._breaker.failed(began):
            self.stop(
                words.stopped(
                    f"{words.url} does not answer: {self._pacing.breaker_calls} calls in a row failed, the "
                    f"last one with: {fault.text}. {words.kept}; run the same again when it is back."
                )
            )
        if fault.reason == "bad_request":
            self._bad_requests += 1
            first_ends = self._first_bad_ends and not self._answered
            if first_ends or self._bad_requests >= MOST_BAD_REQUESTS:
                fault = replace(fault, action="stop", text=f"{fault.text}. {words.remedy}")
        if fault.action == "stop":
            self.stop(words.stopped(f"{words.who} refuses: {fault.text} {words.kept}."))
        if (fault.wait_s or 0) > self._pacing.longest_pause_s:
            self.stop(
                words.stopped(
                    f"{words.url} asks to wait {fault.wait_s:.0f} s: {fault.text}. {words.kept}; run the same "
                    "again then."
                )
            )
        self.check()
        if fault.wait_s:
            self._lanes.pause(fault.wait_s)
        if fault.reason == "rate_limited":
            self._lanes.halve(began)
        if fault.action == "unscored":
            raise NoReply(fault.reason, fault.text)
        if fault.action == "again":
            raise _Again(fault)
