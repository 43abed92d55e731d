"""Text alone must not answer the mini world's questions; the guesser must be one that would notice."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.sparse import csr_matrix, hstack
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold
from sklearn.preprocessing import StandardScaler

from egost_tasks.mini_world.question_files import question_files
from egost_tasks.mini_world.walks import plan_clip

CLIPS = 500


@dataclass(frozen=True)
class Choice:
    clip: str
    task: str
    question: str
    options: tuple[str, ...]
    right: int


@pytest.fixture(scope="module")
def choices() -> list[Choice]:
    files = question_files((plan_clip(0, "test", number).truth for number in range(CLIPS)), 0)
    found = []
    for name, entries in files.items():
        way, _, kind = name.removesuffix(".json")[6:].partition("_")
        for entry in entries.values():
            if kind != "qa":
                mcq = entry[f"{way}_mcq"]
                options = tuple(option[3:] for option in mcq["options"])
                right = "ABCD".index(mcq["answer"])
                found.append(Choice(entry["video"], f"{kind}_{way}", mcq["question"], options, right))
    return found


def words(option: str) -> list[str]:
    return option.replace(",", " ").replace(";", " ").split()


def overlap(a: str, b: str) -> float:
    first, second = set(words(a)), set(words(b))
    return len(first & second) / len(first | second)


def in_place(a: str, b: str) -> float:
    return float(np.mean([x == y for x, y in zip(words(a), words(b), strict=False)]))


@cache
def surface(options: tuple[str, ...]) -> NDArray[np.float64]:
    """What can be seen of each option without reading it: length, likeness to the others, place."""
    rows = []
    for k, option in enumerate(options):
        others = options[:k] + options[k + 1 :]
        rows.append(
            [
                len(option),
                len(words(option)),
                np.mean([overlap(option, other) for other in others]),
                np.max([overlap(option, other) for other in others]),
                np.mean([in_place(option, other) for other in others]),
                np.max([in_place(option, other) for other in others]),
                any(sorted(words(option)) == sorted(words(other)) for other in others),
                option[:1].isupper(),
                option.endswith("."),
                *(k == place for place in range(4)),
            ]
        )
    table = np.array(rows, float)
    medoid = table[:, [2, 4]] == table[:, [2, 4]].max(axis=0)
    longest = table[:, :1] == table[:, 0].max()
    return np.hstack([table, table - table.mean(axis=0), medoid, longest])


def linear_guesser(choices: list[Choice]) -> NDArray[np.bool_]:
    """Whether a logistic regression on each option, trained on other clips, finds the right one."""
    of_choice = np.repeat(np.arange(len(choices)), [len(c.options) for c in choices])
    told = [f"{c.task}: {option}" for c in choices for option in c.options]
    features = np.vstack([surface(c.options) for c in choices])
    is_right = np.concatenate([np.arange(len(c.options)) == c.right for c in choices])
    clips = np.array([choices[k].clip for k in of_choice])
    correct = np.zeros(len(choices), bool)
    for train, test in GroupKFold(5).split(told, groups=clips):
        vectors = TfidfVectorizer(ngram_range=(1, 2), min_df=3, token_pattern=r"\S+")
        scaler = StandardScaler()
        train_rows = hstack(
            [
                vectors.fit_transform([told[k] for k in train]),
                csr_matrix(scaler.fit_transform(features[train])),
            ]
        )
        test_rows = hstack(
            [vectors.transform([told[k] for k in test]), csr_matrix(scaler.transform(features[test]))]
        )
        model = LogisticRegression(max_iter=300).fit(train_rows.tocsr(), is_right[train])
        score = model.decision_function(test_rows.tocsr())
        for index in np.unique(of_choice[test]):
            correct[index] = np.argmax(score[of_choice[test] == index]) == choices[index].right
    return correct


def always_a(choices: list[Choice]) -> NDArray[np.bool_]:
    return np.array([c.right == 0 for c in choices])


def longest(choices: list[Choice]) -> NDArray[np.bool_]:
    return np.array([int(np.argmax([len(o) for o in c.options])) == c.right for c in choices])


def most_overlap(choices: list[Choice]) -> NDArray[np.bool_]:
    return np.array([int(np.argmax(surface(c.options)[:, 2])) == c.right for c in choices])


def above_chance(choices: list[Choice], correct: NDArray[np.bool_]) -> tuple[float, float, float, float]:
    """Accuracy, chance, and the 95 % interval of their difference (normal, clustered by clip)."""
    chance = np.array([1 / len(c.options) for c in choices])
    excess = correct - chance
    names = {clip: k for k, clip in enumerate(sorted({c.clip for c in choices}))}
    sums = np.zeros(len(names))
    np.add.at(sums, [names[c.clip] for c in choices], excess - excess.mean())
    error = float(np.sqrt((sums**2).sum())) / len(choices)
    mean = float(excess.mean())
    return float(correct.mean()), float(chance.mean()), mean - 1.96 * error, mean + 1.96 * error


Guesser = Callable[[list[Choice]], NDArray[np.bool_]]


@pytest.mark.parametrize("guesser", [always_a, longest, most_overlap, linear_guesser])
def test_text_alone_stays_at_chance(choices: list[Choice], guesser: Guesser) -> None:
    accuracy, chance, low, high = above_chance(choices, guesser(choices))
    print(
        f"{guesser.__name__}: {accuracy:.3f}, chance {chance:.3f}, n {len(choices)}, [{low:+.3f}, {high:+.3f}]"
    )
    assert low <= 0 <= high, f"{guesser.__name__} has {accuracy:.3f}, chance is {chance:.3f}"


@pytest.mark.parametrize("task", ["mcq", "mcq_landmark", "mcq_action"])
def test_text_alone_stays_at_chance_within_each_task(choices: list[Choice], task: str) -> None:
    some = [c for c in choices if c.task.rpartition("_")[0] == task]
    accuracy, chance, low, high = above_chance(some, linear_guesser(some))
    print(f"{task}: {accuracy:.3f}, chance {chance:.3f}, n {len(some)}, [{low:+.3f}, {high:+.3f}]")
    assert low <= 0 <= high, f"text alone answers {accuracy:.3f} of {task}, chance is {chance:.3f}"


def one_word_changed(choice: Choice) -> Choice:
    """The usual way to make distractors: each differs from the truth in one place, so the truth is the medoid."""
    truth = words(choice.options[choice.right])
    options = []
    for k in range(len(choice.options)):
        at = k % len(truth)
        options.append(" ".join([*truth[:at], f"other{k}", *truth[at + 1 :]]))
    options[choice.right] = " ".join(truth)
    return replace(choice, options=tuple(options))


def tidy_truth(choice: Choice) -> Choice:
    """People write the right option, a model the others: here the right one alone ends with a full stop."""
    options = list(choice.options)
    options[choice.right] += "."
    return replace(choice, options=tuple(options))


@pytest.mark.parametrize("biased", [one_word_changed, tidy_truth])
def test_the_guesser_notices_usual_distractors(
    choices: list[Choice], biased: Callable[[Choice], Choice]
) -> None:
    some = [biased(c) for c in choices if len(c.options) > 2][:600]
    accuracy, _, low, _ = above_chance(some, linear_guesser(some))
    assert low > 0.2, f"{biased.__name__}: {accuracy:.3f}"


def test_the_two_questions_about_a_clip_do_not_tell_more_than_one(choices: list[Choice]) -> None:
    """Options that fit both a clip's forward and its reverse question are all options, not only the right one."""
    by_clip: dict[tuple[str, str], dict[str, Choice]] = {}
    for choice in choices:
        task, _, way = choice.task.rpartition("_")
        by_clip.setdefault((choice.clip, task), {})[way] = choice
    mirror = {"left": "right", "right": "left"}
    for (_, task), ways in by_clip.items():
        if task == "mcq":

            def turns(option: str) -> tuple[str, ...]:
                return tuple(w for w in words(option) if w in ("left", "right", "around"))

            forward = {turns(o) for o in ways["forward"].options}
            back = {tuple(mirror.get(t, t) for t in reversed(turns(o))) for o in ways["reverse"].options}
            assert forward == back
        else:
            assert len(ways["forward"].options) == len(ways["reverse"].options)


def test_right_letters_are_balanced(choices: list[Choice]) -> None:
    for task in {c.task for c in choices}:
        for size in (2, 3, 4):
            rights = [c.right for c in choices if c.task == task and len(c.options) == size]
            if rights:
                counts = np.bincount(rights, minlength=size)
                assert counts.max() - counts.min() <= 1, (task, size, counts)


def test_most_questions_have_four_options(choices: list[Choice]) -> None:
    sizes = np.bincount([len(c.options) for c in choices], minlength=5)
    assert sizes[2] > 0 and sizes[3] > 0
    assert sizes[4] > 0.6 * len(choices)
    assert all(len(set(c.options)) == len(c.options) for c in choices)
