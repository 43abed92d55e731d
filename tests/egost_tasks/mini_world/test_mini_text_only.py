"""Text alone must not answer the mini world's questions; the guesser must be one that would notice."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from egost.tasks.errors import ReleaseError
from egost.tasks.mini_world.release_writer import question_files
from egost.tasks.mini_world.walks import plan_clip
from egost.tasks.sample import Sample
from egost.tasks.text_only_baseline import (
    accuracy_of,
    always_first,
    linear_baseline,
    longest_option,
    most_like_others,
    text_only_accuracy,
    words,
)

CLIPS = 500
TASKS: dict[str, Any] = {"mcq": "direction", "mcq_landmark": "landmark", "mcq_action": "action"}


@pytest.fixture(scope="module")
def choices() -> list[Sample]:
    return choices_of(1)


def choices_of(generator: int) -> list[Sample]:
    files = question_files((plan_clip(0, "test", number, generator).truth for number in range(CLIPS)), 0)
    found = []
    for name, entries in files.items():
        part, way, kind = name.removesuffix(".json").split("_", 2)
        for key, entry in entries.items():
            if kind != "qa":
                mcq = entry[f"{way}_mcq"]
                options = tuple(option[3:] for option in mcq["options"])
                task: Any = TASKS[kind]
                found.append(
                    Sample(
                        f"{part}/{task}_{way}/{key}", task, "forward" if way == "forward" else "reverse", int(part[4:]),
                        entry["video"], mcq["question"], options, mcq["answer"],
                    )
                )  # fmt: skip
    return found


def right(choice: Sample) -> int:
    return choice.letters.index(choice.answer)


Guesser = Callable[[Sequence[Sample]], NDArray[np.bool_]]


@pytest.mark.parametrize("guesser", [always_first, longest_option, most_like_others, linear_baseline])
def test_text_alone_stays_at_chance(choices: list[Sample], guesser: Guesser) -> None:
    floor = accuracy_of(choices, guesser(choices))
    print(guesser.__name__, floor)
    assert floor.at_chance, f"{guesser.__name__}: {floor}"


@pytest.mark.parametrize("task", ["direction", "landmark", "action"])
def test_text_alone_stays_at_chance_within_each_task(choices: list[Sample], task: str) -> None:
    floor = text_only_accuracy([c for c in choices if c.task == task])
    print(task, floor)
    assert floor.at_chance, f"text alone on {task}: {floor}"


def one_word_changed(choice: Sample) -> Sample:
    """The usual way to make distractors: each differs from the truth in one place, so the truth is the medoid."""
    truth = words(choice.options[right(choice)])
    options = []
    for k in range(len(choice.options)):
        at = k % len(truth)
        options.append(" ".join([*truth[:at], f"other{k}", *truth[at + 1 :]]))
    options[right(choice)] = " ".join(truth)
    return replace(choice, options=tuple(options))


def tidy_truth(choice: Sample) -> Sample:
    """People write the right option, a model the others: here the right one alone ends with a full stop."""
    options = list(choice.options)
    options[right(choice)] += "."
    return replace(choice, options=tuple(options))


@pytest.mark.parametrize("biased", [one_word_changed, tidy_truth])
def test_the_guesser_notices_usual_distractors(
    choices: list[Sample], biased: Callable[[Sample], Sample]
) -> None:
    floor = text_only_accuracy([biased(c) for c in choices if len(c.options) > 2][:600], folds=5)
    assert floor.low - floor.chance > 0.2, f"{biased.__name__}: {floor}"


def test_text_alone_stays_at_chance_across_the_sources_of_mini_2() -> None:
    assert not text_only_accuracy(choices_of(2), by="source").above_chance


def test_what_has_no_floor_is_said(choices: list[Sample]) -> None:
    with pytest.raises(ReleaseError, match="10 clips or more; these are about 1"):
        text_only_accuracy(choices[:1])
    with pytest.raises(ReleaseError, match="no options"):
        text_only_accuracy([replace(choices[0], task="route", options=())])


def test_the_two_questions_about_a_clip_do_not_tell_more_than_one(choices: list[Sample]) -> None:
    """Options that fit both a clip's forward and its reverse question are all options, not only the right one."""
    by_clip: dict[tuple[str, str], dict[str, Sample]] = {}
    for choice in choices:
        by_clip.setdefault((choice.clip, choice.task), {})[choice.way] = choice
    mirror = {"left": "right", "right": "left"}
    for (_, task), ways in by_clip.items():
        if task == "direction":

            def turns(option: str) -> tuple[str, ...]:
                return tuple(w for w in words(option) if w in ("left", "right", "around"))

            forward = {turns(o) for o in ways["forward"].options}
            back = {tuple(mirror.get(t, t) for t in reversed(turns(o))) for o in ways["reverse"].options}
            assert forward == back
        else:
            assert len(ways["forward"].options) == len(ways["reverse"].options)


def test_right_letters_are_balanced(choices: list[Sample]) -> None:
    for kind in {(c.task, c.way) for c in choices}:
        for size in (2, 3, 4):
            rights = [right(c) for c in choices if (c.task, c.way) == kind and len(c.options) == size]
            if rights:
                counts = np.bincount(rights, minlength=size)
                assert counts.max() - counts.min() <= 1, (kind, size, counts)


def test_most_questions_have_four_options(choices: list[Sample]) -> None:
    sizes = np.bincount([len(c.options) for c in choices], minlength=5)
    assert sizes[2] > 0 and sizes[3] > 0
    assert sizes[4] > 0.6 * len(choices)
    assert all(len(set(c.options)) == len(c.options) for c in choices)


def test_a_fit_takes_one_thread(choices: list[Sample], monkeypatch: pytest.MonkeyPatch) -> None:
    from sklearn.linear_model import LogisticRegression
    from threadpoolctl import threadpool_info, threadpool_limits

    def threads() -> set[int]:
        return {pool["num_threads"] for pool in threadpool_info()}

    during: list[set[int]] = []
    fit = LogisticRegression.fit
    monkeypatch.setattr(LogisticRegression, "fit", lambda *given: (during.append(threads()), fit(*given))[1])
    with threadpool_limits(2):
        linear_baseline(choices[:300])
        assert threads() == {2}
    assert during == [{1}] * 10, "as many fits as folds"
