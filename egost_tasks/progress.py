"""Work on many things of one kind: a bar, or a line a minute in logs; as many processes as there are cores to use."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager, suppress
from datetime import datetime
from math import ceil
from pathlib import Path
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from egost.tasks.end_with_parent import end_when

T = TypeVar("T")
R = TypeVar("R")


_LINE_EVERY_S = 60.0


class Pace:
    """How fast work goes, when it will end, and when a log is due a line.

    Counted from the first thing that was done: an engine's start, or a download, says nothing of the others.
    clock: seconds since 1970.
    """

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._said = clock()
        self._first: float | None = None
        self._since_first = 0

    def did(self, number: int = 1) -> None:
        """Count things that were done."""
        if self._first is None:
            self._first = self._clock()
        else:
            self._since_first += number

    def line_due(self) -> bool:
        """Whether a minute has passed since this was last true, or since the start."""
        now = self._clock()
        if now - self._said < _LINE_EVERY_S:
            return False
        self._said = now
        return True

    @property
    def per_second(self) -> float:
        """How many things are done in a second; 0 where it is not known yet."""
        seconds = self._clock() - (self._first or 0.0)
        return self._since_first / seconds if self._first is not None and seconds > 0 else 0.0

    def rate(self, things: str) -> str:
        """`3.1 clips/s`; empty where unknown."""
        return f"{self.per_second:.2g} {things}/s" if self.per_second else ""

    def outlook(self, left: int, things: str) -> str:
        """`3.1 clips/s, ends about Tue 14:32`: the rate, and when `left` more will be done; empty where unknown."""
        if not self.per_second:
            return ""
        ends = datetime.fromtimestamp(self._clock() + left / self.per_second)
        return f"{self.rate(things)}, ends about {ends:%a %H:%M}"


class LineAMinute:
    """Counts things as they are done, and writes a line a minute on stderr; nothing on a terminal.

    total: may grow while they are done.
    """

    def __init__(
        self,
        doing: str,
        things: str,
        total: int = 0,
        console: Console | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """doing, things, clock: see `counted`."""
        self._console = console or Console(stderr=True, highlight=False, markup=False, soft_wrap=True)
        self._doing, self._things, self.total = doing, things, total
        self._pace = Pace(clock)
        self.done = 0

    def did(self, note: str = "") -> str:
        """Count one more; gives the rate for people."""
        self.done += 1
        self._pace.did()
        if self._pace.line_due():
            self.say(note, self._pace.outlook(self.total - self.done, self._things))
        return self._pace.rate(self._things)

    def say(self, *figures: str) -> None:
        """Write a line now, unless to a terminal."""
        if not self._console.is_terminal:
            number = f"{self.done} of {self.total} {self._things}"
            self._console.print(f"egost: {self._doing}: {', '.join(filter(None, (number, *figures)))}")


@contextmanager
def counted(
    doing: str,
    things: str,
    total: int,
    shown: bool,
    console: Console | None = None,
    clock: Callable[[], float] = time.time,
) -> Iterator[Callable[..., None]]:
    """Show number, rate and remaining time on stderr; gives the function to call for each thing that is done.

    On a terminal it is a bar, elsewhere a line a minute and one at the end. That function takes a note to show with
    the number, for example `2 failed`, or nothing.
    doing: what is done, for example `rendering walks`. things: their plural. total: those still to be done.
    clock: see `Pace`.
    """
    console = console or Console(stderr=True, highlight=False, markup=False, soft_wrap=True)
    log = LineAMinute(doing, things, total, console if shown and total else Console(quiet=True), clock)
    said = ""

    with Progress(
        TextColumn(doing),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}"),
        TextColumn("{task.fields[outlook]}"),
        TimeRemainingColumn(),
        console=console,
        disable=not shown or not console.is_terminal or total == 0,
    ) as bar:
        task = bar.add_task(things, total=total, note="", outlook="")

        def advance(note: str = "") -> None:
            nonlocal said
            said = note
            rate = log.did(note)
            bar.update(task, completed=log.done, note=note, outlook=rate)

        try:
            yield advance
        finally:
            log.say(said)


def usable_cores(group_of: Path = Path("/proc/self/cgroup"), groups: Path = Path("/sys/fs/cgroup")) -> int:
    """How many cores this process may use: its affinity, cut by its control group, shared with this machine's ranks.

    group_of: the file that names the control group (cgroup v2). groups: where groups with their `cpu.max` are, `MOST
    PERIOD` in microseconds. Of several local ranks (`LOCAL_WORLD_SIZE`) each gets its share, one core at least.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with suppress(OSError, IndexError):
        group = groups / group_of.read_text(encoding="utf-8").split("0::/", 1)[1].splitlines()[0]
        for folder in (group, *group.parents):
            if not folder.is_relative_to(groups):
                break
            with suppress(OSError, ValueError):
                most, period = (folder / "cpu.max").read_text(encoding="utf-8").split()
                cores = min(cores, ceil(int(most) / int(period)))
    with suppress(ValueError):
        cores //= max(1, int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
    return max(1, cores)


def in_processes(
    work: Callable[[T], R], things: Sequence[T], workers: int, take: Callable[[R], object]
) -> None:
    """Call `work` on each thing in other processes, and `take` on each result in this one, as it comes.

    One worker is this process itself. What `work` or `take` raises, or an interrupt, ends the others too; those that
    have begun may finish. Where this process is killed, they end with it.
    """
    if workers <= 1:
        for thing in things:
            take(work(thing))
        return
    # Not fork: a caller may have threads (torch, PyAV), which a forked child would wait for in vain.
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _end_with_parent) as pool:
        futures = [pool.submit(work, thing) for thing in things]
        try:
            for future in as_completed(futures):
                take(future.result())
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def _end_with_parent() -> None:
    if parent := multiprocessing.parent_process():
        end_when(parent.join)
