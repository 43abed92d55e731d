"""What a log gets in place of a bar, with a clock that the test moves."""

from __future__ import annotations

import io
import itertools
from collections.abc import Iterator
from datetime import datetime

import pytest
from rich.console import Console

from egost.tasks.progress import LineAMinute, Pace, counted

NOON = datetime(2026, 3, 3, 12).timestamp()


class Clock:
    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def lines(clock: Clock, seconds: Iterator[float], total: int, *, terminal: bool = False) -> list[str]:
    """What is written while `total` clips are decoded that take so many seconds each."""
    log = io.StringIO()
    console = Console(file=log, force_terminal=terminal, width=200, highlight=False, soft_wrap=True)
    with counted("decoding", "clips", total, True, console, clock) as advance:
        for number in range(total):
            clock.now += next(seconds)
            advance(f"{number // 10} failed")
    return log.getvalue().splitlines()


def test_a_log_gets_a_line_a_minute_with_rate_and_end(clock: Clock) -> None:
    """Ten seconds a clip: the first line at 12:01:00 with 6 of 60, the last clip at 12:10."""
    found = lines(clock, itertools.repeat(10.0), 60)
    assert found == [
        f"egost: decoding: {6 * minute} of 60 clips, {(6 * minute - 1) // 10} failed, 0.1 clips/s, "
        "ends about Tue 12:10"
        for minute in range(1, 11)
    ] + ["egost: decoding: 60 of 60 clips, 5 failed"]


def test_what_takes_less_than_a_minute_gets_one_line(clock: Clock) -> None:
    assert lines(clock, itertools.repeat(0.01), 5000) == ["egost: decoding: 5000 of 5000 clips, 499 failed"]


def test_what_stops_says_how_far_it_came(clock: Clock) -> None:
    log = io.StringIO()
    with (
        pytest.raises(KeyboardInterrupt),
        counted("decoding", "clips", 9, True, Console(file=log), clock) as one,
    ):
        one()
        raise KeyboardInterrupt
    assert log.getvalue() == "egost: decoding: 1 of 9 clips\n"


def test_a_slow_start_counts_for_no_rate(clock: Clock) -> None:
    """An engine that needs 10 minutes to start, then answers 2 in a second: 600 more take 5 minutes, until 12:15."""
    first, second, *_ = lines(clock, itertools.chain([600.0], itertools.repeat(0.5)), 601)
    assert first == "egost: decoding: 1 of 601 clips, 0 failed"
    assert second == "egost: decoding: 121 of 601 clips, 12 failed, 2 clips/s, ends about Tue 12:15"


def test_a_step_longer_than_a_minute_gets_one_line_each(clock: Clock) -> None:
    found = lines(clock, itertools.repeat(3600.0), 30)
    assert len(found) == 30 + 1
    assert found[1].endswith("2 of 30 clips, 0 failed, 0.00028 clips/s, ends about Wed 18:00")


def test_a_terminal_gets_a_bar_and_no_lines(clock: Clock) -> None:
    found = lines(clock, itertools.repeat(30.0), 10, terminal=True)
    assert not any("egost:" in line for line in found) and any("10/10" in line for line in found)


def test_a_pace_of_journaled_work_is_not_known(clock: Clock) -> None:
    pace = Pace(clock)
    clock.now += 59.9
    assert not pace.line_due() and pace.outlook(10, "samples") == ""
    clock.now += 0.1
    assert pace.line_due() and not pace.line_due()


def test_what_comes_bit_by_bit_gets_its_line_a_minute_too(clock: Clock) -> None:
    """3 come at once and take 40 s each, 2 more come with the third; the others end 40 s after each line."""
    log = io.StringIO()
    lines = LineAMinute("asking", "questions", console=Console(file=log, soft_wrap=True), clock=clock)
    for more in (3, 0, 2, 0, 0):
        lines.total += more
        clock.now += 40.0
        lines.did()
    assert log.getvalue().splitlines() == [
        "egost: asking: 2 of 3 questions, 0.025 questions/s, ends about Tue 12:02",
        "egost: asking: 4 of 5 questions, 0.025 questions/s, ends about Tue 12:03",
    ]
