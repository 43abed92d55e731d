"""Calls of one server: paced, tried again where that helps, and stopped where it does not.

    calls = Calls(words, Pacing(), first_bad_ends=True)
    for place, result in calls.gather(requests, work):     # as they finish
        ...
    calls.close()

`work` is a coroutine function that makes the calls of one request by `await calls.make(call)`. It runs in an event loop
in a background thread, so that several threads can ask at once.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import queue
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from concurrent.futures import Future
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Literal, TypeVar

from tenacity import AsyncRetrying, retry_if_exception, stop_after_attempt
from tenacity.wait import wait_random_exponential

from egost.tasks.errors import EgostError, SettingError

T = TypeVar("T")
Q = TypeVar("Q")

DEFAULT_CONCURRENCY = 32

MOST_BAD_REQUESTS = 20
"""After so many bad requests in a row the calls end: the fault is not in single requests then."""

_AHEAD = 2
"""Requests under way for each call at once, so that one that waits to try again leaves no lane idle."""


@dataclass(frozen=True, slots=True)
class Fault:
    """A call that brought no completion.

    action: `again` (worth another try), `without` (again, without `parameter`), `unscored` (this request has no
        reply) or `stop` (no request has one).
    reason: a short stable word: `rate_limited`, `timeout`, `connection`, `broken_body`, `server_error`,
        `content_filter`, `too_long`, `parameter`, `bad_request` (of one request, as long as others are answered),
        `refused`.
    text: what the server said, or for `stop` what a person has to do.
    wait_s: how long the server asks to wait, None where it does not say.
    alive: the server answered, so that the fault is no sign of a dead endpoint.
    """

    action: Literal["again", "without", "unscored", "stop"]
    reason: str
    text: str
    wait_s: float | None = None
    parameter: str = ""
    alive: bool = True


class Faulted(Exception):
    """One call brought nothing of use."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.text)
        self.fault = fault


class NoReply(Exception):
    """There is no usable reply to a request. reason: a short stable word, see `Fault`."""

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Pacing:
    """Settings of the calls; times in seconds.

    concurrency: most calls at once. timeout_s: for one whole call, from its start to the last byte of its reply.
    tries: calls for one reply when the server fails or is busy; the wait before the second is about
        `first_wait_s`, then doubles with jitter up to `longest_wait_s`.
    asks: replies for one question when they cannot be read.
    longest_pause_s: a server that asks for a longer pause (`Retry-After`) ends the calls.
    breaker_calls, breaker_s: so many failures in a row, over at least so long, end the calls.
    """

    concurrency: int = DEFAULT_CONCURRENCY
    timeout_s: float = 120.0
    tries: int = 8
    asks: int = 3
    first_wait_s: float = 0.5
    longest_wait_s: float = 30.0
    longest_pause_s: float = 120.0
    breaker_calls: int = 20
    breaker_s: float = 30.0


def chosen_pacing() -> Pacing:
    """The settings with `EGOST_JUDGE_CONCURRENCY`. Raises SettingError when that is no whole number above 0."""
    asked = os.environ.get("EGOST_JUDGE_CONCURRENCY") or str(DEFAULT_CONCURRENCY)
    if not asked.isdecimal() or int(asked) < 1:
        raise SettingError(f"EGOST_JUDGE_CONCURRENCY is {asked!r}; expected a whole number from 1 on.")
    return Pacing(concurrency=int(asked))


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


class Calls:
    """The calls of one server; safe in threads, but for what is said to be for the event loop.

    first_bad_ends: whether one bad request ends the calls where nothing has been answered yet, and not only
        `MOST_BAD_REQUESTS` in a row. at_end: closes what the calls need, in the event loop, by `close`.
    """

    def __init__(
        self,
        wording: Wording,
        pacing: Pacing,
        *,
        first_bad_ends: bool,
        at_end: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._wording, self._pacing = wording, pacing
        self._first_bad_ends, self._at_end = first_bad_ends, at_end
        self._lanes = Lanes(pacing.concurrency, self.sleep)
        self._breaker = Breaker(pacing.breaker_calls, pacing.breaker_s)
        self._admitted = asyncio.Semaphore(_AHEAD * pacing.concurrency)
        self._answered = False
        self._bad_requests = 0
        self._ended = asyncio.Event()
        self._why: EgostError | None = None
        self.stopped_at: float | None = None
        self._lock = threading.Lock()
        self._closed = False
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="egost-calls", daemon=True)
        self._thread.start()
        atexit.register(self.close)

    def submit(self, work: Callable[[Q], Awaitable[T]], request: Q) -> Future[T]:
        """Begin the work of a request; returns at once. Raises the kind of `Wording.stopped` once it was closed."""
        with self._lock:
            if self._closed:
                raise self.closing()
            return asyncio.run_coroutine_threadsafe(self._admit(work, request), self._loop)

    def gather(self, requests: Iterable[Q], work: Callable[[Q], Awaitable[T]]) -> Iterator[tuple[int, T]]:
        """Do the work of all requests; gives the place of each and what came of it, in the order of completion.

        When no call can bring anything any more, what is under way is waited for and given first, since it is paid
        for; then the error that says why is raised. Whoever stops listening cancels what is under way.
        """
        done: queue.SimpleQueue[tuple[int, Future[T]]] = queue.SimpleQueue()
        futures = [self.submit(work, request) for request in requests]
        for place, future in enumerate(futures):
            future.add_done_callback(lambda found, place=place: done.put((place, found)))  # type: ignore[misc]
        failed: BaseException | None = None
        try:
            for _ in futures:
                place, future = done.get()
                error = self.closing() if future.cancelled() else future.exception()
                if error is None:
                    yield place, future.result()
                failed = failed or error
        finally:
            for future in futures:
                future.cancel()
        if failed:
            raise failed

    async def make(self, call: Callable[[bool], Awaitable[T]]) -> T:
        """The result of a call, for the event loop. call: makes it once; takes whether it is the first; raises Faulted.

        Raises NoReply when no try brings a result, and the error that `stop` was given, or
        one of the kind `Wording.stopped`, when no call can bring anything.
        """
        self.check()
        first_s = self._pacing.first_wait_s
        retrying = AsyncRetrying(
            stop=stop_after_attempt(self._pacing.tries),
            wait=wait_random_exponential(first_s, self._pacing.longest_wait_s, min=first_s / 2),
            retry=retry_if_exception(lambda error: isinstance(error, Faulted)),
            sleep=self.sleep,
            reraise=True,
        )
        try:
            async for attempt in retrying:
                with attempt:
                    return await self._once(call, attempt.retry_state.attempt_number == 1)
        except Faulted as last:
            raise NoReply(last.fault.reason, last.fault.text) from None
        raise AssertionError("tenacity ends with a result or an exception")

    def stop(self, why: EgostError) -> None:
        """End the calls: those under way may finish, no other is made. For the event loop."""
        if self._why is None:
            self._why, self.stopped_at = why, time.monotonic()
        self._ended.set()

    def check(self) -> None:
        """Raises the error that ended the calls, once they are over."""
        if self._why:
            raise type(self._why)(str(self._why))

    async def sleep(self, seconds: float) -> None:
        """Wait, but not longer than calls are made; raises as `check` does. For the event loop."""
        try:
            await asyncio.wait_for(self._ended.wait(), seconds)
        except TimeoutError:
            return
        self.check()

    def closing(self) -> EgostError:
        """The error for whoever waits for a reply when the calls are closed."""
        return self._wording.stopped(f"{self._wording.who} was closed. {self._wording.kept}.")

    def close(self) -> None:
        """End everything; whoever waits for a reply gets the error of `closing`."""
        atexit.unregister(self.close)
        with self._lock:
            if self._closed or not self._thread.is_alive():
                return
            self._closed = True
        asyncio.run_coroutine_threadsafe(self._shut(), self._loop)
        self._thread.join(timeout=5)
        if not self._thread.is_alive():
            self._loop.close()

    async def _shut(self) -> None:
        self.stop(self.closing())
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        try:
            if self._at_end:
                await self._at_end()
        finally:
            self._loop.call_soon(self._loop.stop)

    async def _admit(self, work: Callable[[Q], Awaitable[T]], request: Q) -> T:
        try:
            async with self._admitted:
                return await work(request)
        except EgostError as error:
            self.stop(error)
            raise
        except Exception as error:
            # Its text may hold the key.
            kind = type(error).__name__
        # Outside of the handler, so that the exception is not kept as this one's context.
        why = self._wording.stopped(
            f"{self._wording.who} ended with an unexpected {kind}. {self._wording.kept}."
        )
        self.stop(why)
        raise why

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
            raise Faulted(fault)


class Lanes:
    """Lets so many calls through at once: half as many after a 429, and slowly more again.

    For use within one event loop. sleep: waits some seconds, or raises when there is nothing to wait for any more.
    """

    def __init__(self, most: int, sleep: Callable[[float], Awaitable[None]]) -> None:
        self.limit = float(most)
        self._most, self._sleep = most, sleep
        self._busy = 0
        self._free = asyncio.Condition()
        self._paused_until = 0.0
        self._halved_at = 0.0

    @asynccontextmanager
    async def lane(self) -> AsyncIterator[float]:
        """Hold one lane; gives the moment (`time.monotonic`) at which it was got."""
        while True:
            if (pause := self._paused_until - time.monotonic()) > 0:
                await self._sleep(pause)
            async with self._free:
                await self._free.wait_for(lambda: self._busy < int(self.limit))
                if time.monotonic() >= self._paused_until:
                    self._busy += 1
                    break
        try:
            yield time.monotonic()
        finally:
            async with self._free:
                self._busy -= 1
                self._free.notify(2)

    def pause(self, seconds: float) -> None:
        """Begin no call for some time, since the server asks for it."""
        self._paused_until = max(self._paused_until, time.monotonic() + seconds)

    def halve(self, began: float) -> None:
        """A call that began at a moment got a 429: halve, once for all calls that were under way together."""
        if began >= self._halved_at:
            self.limit = max(1.0, self.limit / 2)
            self._halved_at = time.monotonic()

    def went_well(self) -> None:
        """A call was answered: one lane more for each round of as many calls as there are lanes."""
        self.limit = min(float(self._most), self.limit + 1 / self.limit)


class Breaker:
    """Notices a dead endpoint: failures in a row, with no answer between them, over some time."""

    def __init__(self, calls: int, seconds: float) -> None:
        self._calls, self._seconds = calls, seconds
        self._failed = 0
        self._since = 0.0

    def answered(self) -> None:
        """The server answered."""
        self._failed = 0

    def failed(self, began: float) -> bool:
        """A call that began at a moment (`time.monotonic`) had no answer; True when it is time to give up."""
        self._since = began if self._failed == 0 else min(self._since, began)
        self._failed += 1
        return self._failed >= self._calls and time.monotonic() - self._since >= self._seconds
