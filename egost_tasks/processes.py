"""The same work on many things in several processes."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def in_processes(
    work: Callable[[T], R], things: Sequence[T], workers: int, take: Callable[[R], object]
) -> None:
    """Work on each thing, and have what came of it taken in this process, as it comes.

    One worker is this process itself. What `work` or `take` raises, or an interrupt, ends the others, too: those that
    have begun may finish.
    """
    if workers <= 1:
        for thing in things:
            take(work(thing))
        return
    # Not fork: a caller may have threads (torch, PyAV), which a forked child would wait for in vain.
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
        futures = [pool.submit(work, thing) for thing in things]
        try:
            for future in as_completed(futures):
                take(future.result())
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise
