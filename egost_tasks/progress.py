"""Work on many things of one kind: a progress bar, and as many processes or threads as there are cores to use."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager, suppress
from math import ceil
from pathlib import Path
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from egost.tasks.end_with_parent import end_when

T = TypeVar("T")
R = TypeVar("R")


@contextmanager
def counted(doing: str, things: str, total: int, shown: bool) -> Iterator[Callable[..., None]]:
    """Show number, rate and remaining time on stderr; gives the function to call for each thing that is done.

    That function takes a note to show with the number, for example `2 failed`, or nothing.
    doing: what is done, for example `rendering walks`. things: their plural. total: those still to be done.
    """
    with Progress(
        TextColumn(doing),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}"),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        disable=not shown or total == 0,
    ) as bar:
        task = bar.add_task(things, total=total, note="", rate="")

        def advance(note: str = "") -> None:
            bar.advance(task)
            speed = bar.tasks[0].finished_speed or bar.tasks[0].speed
            bar.update(task, note=note, rate=f"{speed:.1f} {things}/s" if speed else "")

        yield advance


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
