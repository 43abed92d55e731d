"""Scheduler: spreads requests over servers and keeps a clip's questions together, unless a server would wait."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence

from egost.model_adapters.engine import Ask


class SharedWork:
    """Jobs, numbered from 0, that servers take one by one; for use within one event loop.

    A server begins with the next clip that no server has begun and goes on with its questions, so that its caches of
    the encoded video serve all of them. When no clip is left, it takes from the server that has most left.
    """

    def __init__(self, groups: Sequence[Sequence[int]], n_servers: int) -> None:
        self._clips = deque(deque(group) for group in groups)
        self._begun: list[deque[int]] = [deque() for _ in range(n_servers)]
        self._left = sum(map(len, groups))
        self._changed = asyncio.Event()
        self.finished = asyncio.Event()
        if not self._left:
            self.finished.set()

    async def take(self, server: int) -> int:
        """The next job for a server; waits where there is none now, since one may be given back."""
        while (job := self._next(server)) is None:
            self._changed.clear()
            await self._changed.wait()
        return job

    def done(self) -> None:
        """Count a job as done."""
        self._left -= 1
        if not self._left:
            self.finished.set()

    def give_back(self, job: int) -> None:
        """Let another server, or the same one later, do a job that was taken."""
        self._clips.appendleft(deque([job]))
        self._changed.set()

    def leave(self, server: int) -> None:
        """Free what a server has begun, for the others: it is gone."""
        if begun := self._begun[server]:
            self._clips.appendleft(deque(begun))
            begun.clear()
            self._changed.set()

    def _next(self, server: int) -> int | None:
        if self._begun[server]:
            return self._begun[server].popleft()
        if self._clips:
            self._begun[server] = self._clips.popleft()
            return self._begun[server].popleft()
        fullest = max(self._begun, key=len)
        return fullest.pop() if fullest else None


def by_clip(asks: Sequence[Ask]) -> list[list[int]]:
    """The places of the asks, those that follow each other on one clip together."""
    groups: list[list[int]] = []
    for place, ask in enumerate(asks):
        before = asks[groups[-1][-1]].clip if groups else None
        if before is not None and ask.clip is not None and before.path == ask.clip.path:
            groups[-1].append(place)
        else:
            groups.append([place])
    return groups
