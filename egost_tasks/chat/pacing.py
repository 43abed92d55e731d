"""How fast a judge is asked: how many calls at once, when to wait, and when to give up on a server."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from egost.tasks.judging.judge import JudgeError

DEFAULT_CONCURRENCY = 32


@dataclass(frozen=True, slots=True)
class Pacing:
    """Settings of the calls; times in seconds.

    concurrency: most calls at once. timeout_s: for one whole call, from its start to the last byte of its reply.
    tries: calls for one reply when the server fails or is busy; the wait before the second is about
        `first_wait_s`, then doubles with jitter up to `longest_wait_s`.
    asks: replies for one judgement when they cannot be read.
    longest_pause_s: a server that asks for a longer pause (`Retry-After`) ends the judging.
    breaker_calls, breaker_s: so many failures in a row, over at least so long, end the judging.
    lease_s: how long another process waits for a judgement that a vanished one had begun.
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
    lease_s: float = 60.0


def chosen_pacing() -> Pacing:
    """The settings with `EGOST_JUDGE_CONCURRENCY`. Raises JudgeError when that is no whole number above 0."""
    asked = os.environ.get("EGOST_JUDGE_CONCURRENCY") or str(DEFAULT_CONCURRENCY)
    if not asked.isdecimal() or int(asked) < 1:
        raise JudgeError(f"EGOST_JUDGE_CONCURRENCY is {asked!r}; expected a whole number from 1 on.")
    return Pacing(concurrency=int(asked))


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
