"""A bar for a step that makes many things of one kind."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


@contextmanager
def counted(doing: str, things: str, total: int, shown: bool) -> Iterator[Callable[[], None]]:
    """Show number, rate and remaining time on stderr; gives the function to be called for each thing that is done.

    doing: what is done, for example `rendering walks`. things: their plural. total: those still to be done.
    """
    with Progress(
        TextColumn(doing),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        disable=not shown or total == 0,
    ) as bar:
        task = bar.add_task(things, total=total, rate="")

        def advance() -> None:
            bar.advance(task)
            speed = bar.tasks[0].finished_speed or bar.tasks[0].speed
            bar.update(task, rate=f"{speed:.1f} {things}/s" if speed else "")

        yield advance
