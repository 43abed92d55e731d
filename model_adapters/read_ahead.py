"""Clips read and requests made ready in threads, while a model in this process works on what was ready before."""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from typing import Generic, TypeVar

from egost.model_adapters.engine import Ask
from egost.tasks.clips.clips import Clip
from egost.tasks.progress import usable_cores

F = TypeVar("F")
R = TypeVar("R")

MOST_READERS = 4
"""More of them read more than one thread makes requests of."""


class ReadAhead(Generic[F, R]):
    """What asks were made into, clip by clip, each clip as soon as it is read: a slow one holds up no other.

    At most two clips for each reader are held: read, and not yet taken with all their asks.
    """

    def __init__(
        self,
        asks: Sequence[Ask],
        read: Callable[[Clip | None], F],
        make: Callable[[Ask, F], R],
        readers: int | None = None,
    ) -> None:
        """read: the frames of a clip, called in several threads. make: a request of an ask and its frames, called in
        one thread at a time. readers: threads; by default as many as cores, at most MOST_READERS.
        """
        self._asks, self._read, self._make = asks, read, make
        count = readers or min(usable_cores(), MOST_READERS)
        clips = groupby(range(len(asks)), key=lambda place: asks[place].clip)
        self._clips = deque([*places] for _, places in clips)
        self._held: dict[int, list[int]] = {}
        self._most_held = 2 * count
        self._ready: queue.SimpleQueue[tuple[int, R | BaseException]] = queue.SimpleQueue()
        self._one_makes = threading.Lock()
        self._closed = False
        self._threads = ThreadPoolExecutor(count, thread_name_prefix="egost-read-ahead")
        self._go_on()

    def take(self, *, wait: bool) -> tuple[int, R] | None:
        """The place of an ask and what it was made into; None where there is none left, or none ready.

        wait: for the next one. Raises what `read` or `make` did.
        """
        if not self._held:
            return None
        try:
            place, made = self._ready.get(block=wait)
        except queue.Empty:
            return None
        if isinstance(made, BaseException):
            raise made
        of_clip = next(first for first, places in self._held.items() if place in places)
        self._held[of_clip].remove(place)
        if not self._held[of_clip]:
            del self._held[of_clip]
            self._go_on()
        return place, made

    def close(self) -> bool:
        """End the threads; whether something was made that nobody took."""
        self._closed = True
        self._threads.shutdown(cancel_futures=True)
        return not self._ready.empty()

    def _go_on(self) -> None:
        while self._clips and len(self._held) < self._most_held:
            places = self._clips.popleft()
            self._held[places[0]] = [*places]
            self._threads.submit(self._make_all, places)

    def _make_all(self, places: Sequence[int]) -> None:
        try:
            frames = self._read(self._asks[places[0]].clip)
            for place in places:
                # In the order in which they are made: vLLM's two caches of frames follow each other.
                with self._one_makes:
                    if self._closed:
                        return
                    self._ready.put((place, self._make(self._asks[place], frames)))
        except BaseException as error:
            self._ready.put((places[0], error))
