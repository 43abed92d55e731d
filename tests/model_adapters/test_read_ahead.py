"""Clips are read ahead in threads: bounded, and a slow or broken one holds up no other."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import closing

import pytest

from egost.model_adapters.engine import Ask, GenerationArguments
from egost.model_adapters.read_ahead import ReadAhead

LONG_S = 20.0
"""A test that hangs fails after so long."""

Read = Callable[[object], str]


def asks(*clips: str) -> list[Ask]:
    """One for each clip; names stand for clips, which nothing here opens."""
    few = GenerationArguments(max_new_tokens=1)
    return [Ask(f"mini/{number}", "?", clip, few) for number, clip in enumerate(clips)]  # type: ignore[arg-type]


def ahead(of: list[Ask], read: Read, readers: int = 2) -> ReadAhead[str, str]:
    return ReadAhead(of, read, lambda ask, frames: f"{ask.sample} of {frames}", readers)


def test_every_ask_is_made_once_from_the_frames_of_its_clip() -> None:
    read: list[object] = []

    def reading(clip: object) -> str:
        read.append(clip)
        return f"<{clip}>"

    with closing(ahead(asks("a", "a", "b", "c", "c", "c"), reading)) as made:
        found = dict(taken for _ in range(6) if (taken := made.take(wait=True)))
        assert made.take(wait=True) is None
    clips = ["a", "a", "b", "c", "c", "c"]
    assert found == {place: f"mini/{place} of <{clip}>" for place, clip in enumerate(clips)}
    assert sorted(map(str, read)) == ["a", "b", "c"]


def test_a_slow_clip_holds_up_no_other_and_whoever_has_work_does_not_wait() -> None:
    arrives = threading.Event()

    def slow(clip: object) -> str:
        assert clip != "slow" or arrives.wait(LONG_S)
        return str(clip)

    with closing(ahead(asks("slow", "b", "b", "c"), slow)) as made:
        assert sorted(taken[0] for _ in range(3) if (taken := made.take(wait=True))) == [1, 2, 3]
        assert made.take(wait=False) is None
        arrives.set()
        assert made.take(wait=True) == (0, "mini/0 of slow")


def test_few_clips_are_held_at_once() -> None:
    read, all_may = [], threading.Semaphore(0)

    def counting(clip: object) -> str:
        read.append(clip)
        all_may.release()
        return str(clip)

    clips = [str(number) for number in range(20) for _ in range(3)]
    with closing(ahead(asks(*clips), counting, readers=2)) as made:
        for _ in range(4):
            assert all_may.acquire(timeout=LONG_S)
        assert not all_may.acquire(timeout=0.05) and len(read) == 4, "two clips for each reader"
        for taken in range(60):
            assert made.take(wait=True)
            assert len(read) <= 4 + (taken + 1) // 3
    assert len(read) == 20


def test_what_breaks_a_reader_is_raised_where_its_work_is_taken() -> None:
    def broken(clip: object) -> str:
        if clip == "b":
            raise MemoryError("no frames")
        return str(clip)

    with closing(ahead(asks("a", "b"), broken, readers=1)) as made:
        assert made.take(wait=True) == (0, "mini/0 of a")
        with pytest.raises(MemoryError, match="no frames"):
            made.take(wait=True)


def test_closing_says_whether_something_made_was_not_taken() -> None:
    taken = ahead(asks("a"), str, readers=1)
    assert taken.take(wait=True)
    assert not taken.close()
    made_a = threading.Event()

    def telling(clip: object) -> str:
        if clip == "b":
            made_a.set()
        return str(clip)

    left = ahead(asks("a", "b"), telling, readers=1)
    assert made_a.wait(LONG_S)
    assert left.close()
