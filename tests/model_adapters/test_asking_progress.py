"""What a log gets while a model is asked, with a clock that the test moves."""

from __future__ import annotations

from datetime import datetime

import pytest

from egost.model_adapters.engine import Failure, Reply
from egost.model_adapters.progress import AskingProgress

REPLY = Reply("A", "stop", 300, 4)


class Clock:
    now = datetime(2026, 3, 3, 12).timestamp()

    def __call__(self) -> float:
        return self.now


def test_a_log_gets_a_line_a_minute_from_the_first_clip_on(capsys: pytest.CaptureFixture[str]) -> None:
    """A clip in 6 s; then an engine that starts in 5 minutes, and half a sample a second, 30 of 360 journaled."""
    clock = Clock()
    with AskingProgress(360, "rank 0: ", clips=20, clock=clock) as progress:
        for clip in range(1, 21):
            clock.now += 6
            progress.decoded(clip)
        progress.journaled(30)
        clock.now += 300
        for _ in range(329):
            progress.answered(1, REPLY)
            clock.now += 2
        progress.answered(1, Failure("timeout", "no reply"))
    lines = capsys.readouterr().err.splitlines()
    start = "egost: rank 0: "
    assert lines[:3] == [
        f"{start}0 of 360 samples; 10 of 20 clips, 0 from the journal, 0 failed",
        f"{start}0 of 360 samples; 20 clips, 0 from the journal, 0 failed",
        f"{start}31 of 360 samples; 20 clips, 30 from the journal, 0 failed",
    ]
    # 29 more in the next minute; the 329 after the first take 658 s, from 12:07 on.
    assert lines[3] == (
        f"{start}61 of 360 samples; 20 clips, 30 from the journal, 0 failed, 0.5 samples/s, ends about Tue 12:17, "
        "tokens 150 in/s 2 out/s"
    )
    assert len(lines) == 2 + 1 + 10 + 1
    assert lines[-1].startswith(
        f"{start}360 of 360 samples; 20 clips, 30 from the journal, 1 failed, 0.5 samples/s, tokens 150 in/s 2 out/s; "
        "1078.0 s, "
    )


def test_a_stop_says_how_the_rest_is_got(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(KeyboardInterrupt), AskingProgress(2, "") as progress:
        progress.answered(1, REPLY)
        raise KeyboardInterrupt
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("egost: 1 of 2 samples; ") and line.endswith("the same command goes on")
