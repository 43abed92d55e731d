"""What can be wrong with one question by the annotated steps and by its words, and what a whole set gives away.

A set of choices is guessed without a frame, by rules and by runs of models that saw none. Each check compares a guesser
with chance; a set fails it where the guesser's whole interval lies above chance. All checks together raise a false
alarm in 5 % of the sets that give nothing away (Bonferroni), not each check alone.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import chain, combinations
from statistics import NormalDist
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from egost.tasks.construction.annotations import Annotation, turns
from egost.tasks.construction.drafts import (
    CHOICE_TASKS,
    Draft,
    Items,
    annotation_sha256,
    draft_id,
    truth_of,
    turned_round,
)
from egost.tasks.errors import ConstructionError
from egost.tasks.judging.route_text import read_route
from egost.tasks.sample import LETTERS, Sample, TaskKind
from egost.tasks.text_only_baseline import (
    FOLDS,
    Z_95,
    TextOnlyAccuracy,
    accuracy_of,
    linear_baseline,
    longest_option,
    most_like_others,
)

STANDS_OUT = 1.6
"""A right option gives itself away when it has this many times the characters of the longest wrong option, or when the
shortest wrong option has this many times its characters. This project's own rule."""

_LEAST_DIFFERENCE = 10
"""Characters by which the right option must differ as well: `up` against `down` is no cue."""

_EMPTY = frozenset(("the", "a", "an", "then", "and", "after", "that", "to", "at", "of"))
_TURNING = frozenset(("turn", "go"))

ALIKE = 0.8
"""Two words with this share of common letters or more (`difflib`) are spellings of one word: `doorway` and `doorways`,
never `left` and `right`. This project's own rule."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something wrong with a question. verdict: `drop` where it cannot be right, `review` where a person decides."""

    name: str
    verdict: Literal["drop", "review"]
    message: str


def wrong_option_problem(
    task: TaskKind, wrong: Items, truth: Items, others: Sequence[Items]
) -> Finding | None:
    """Why a wrong option does not fit the right one and the other wrong ones; None when it does.

    `also_right`: it says the truth, or a part of the truth in the same order and nothing else (a part is true of a walk
    as well, except for turns). `perhaps_also_right`: each of its names may be another name for the true thing.
    `duplicate_options`, `near_duplicate_options`: another wrong option says the same, or differs only in spelling.
    """
    if same_items(wrong, truth) or (task != "direction" and is_part(wrong, truth)):
        return Finding(
            "also_right", "drop", f"{_listed(wrong)} is true as well; the truth is {_listed(truth)}."
        )
    if len(wrong) == len(truth) and all(may_mean(a, b) for a, b in zip(wrong, truth, strict=True)):
        message = f"{_listed(wrong)} may name the same as the truth, {_listed(truth)}."
        return Finding("perhaps_also_right", "review", message)
    for other in others:
        if same_items(wrong, other):
            return Finding("duplicate_options", "drop", f"two options say {_listed(wrong)}.")
    for other in (*others, truth):
        if nearly_same(" ".join(wrong), " ".join(other)):
            message = f"{_listed(wrong)} and {_listed(other)} differ only in spelling."
            return Finding("near_duplicate_options", "review", message)
    return None


def check_draft(
    draft: Draft, annotations: Sequence[Annotation], drafts: Mapping[str, Draft]
) -> list[Finding]:
    """The problems of a draft.

    annotations: of its clip, by all annotators. drafts: all of the folder, by id.

    Drops: `stale_annotation` (the steps are gone or have changed), `wrong_answer` (the right option differs from the
    steps), `also_right`, `duplicate_options`, `too_few_options`, `empty_question`.
    Reviews: `perhaps_also_right`, `near_duplicate_options`, `text_differs` (an option's text does not say its items),
    `stands_out` (the right option, by its length), `ways_disagree` (mirrored, the other way's right option is not this
    one), `annotators_disagree` (on the turns), `route_differs` (a description has other turns than the steps).
    """
    own = next((a for a in annotations if a.annotator == draft.annotator), None)
    if own is None or annotation_sha256(own) != draft.annotation_sha256:
        message = f"the steps of {draft.annotator} have changed since. Run: egost construct questions"
        return [Finding("stale_annotation", "drop", message)]
    findings = []
    if not draft.question.strip():
        findings.append(Finding("empty_question", "drop", "the question is empty."))
    findings += _check_route(draft, own) if draft.task == "route" else _check_choice(draft, own, drafts)
    for other in annotations:
        if turns(other.steps(draft.way)) != turns(own.steps(draft.way)):
            message = (
                f"{own.annotator} has the turns {_listed(turns(own.steps(draft.way)))}, {other.annotator} has "
                f"{_listed(turns(other.steps(draft.way)))}."
            )
            findings.append(Finding("annotators_disagree", "review", message))
    return findings


def _check_route(draft: Draft, own: Annotation) -> list[Finding]:
    found, expected = read_route(draft.answer).turns, turns(own.steps(draft.way))
    if found == expected:
        return []
    message = f"the description has the turns {_listed(found)}, the steps have {_listed(expected)}."
    return [Finding("route_differs", "review", message)]


def _check_choice(draft: Draft, own: Annotation, drafts: Mapping[str, Draft]) -> list[Finding]:
    if len(draft.options) < 2:
        return [Finding("too_few_options", "drop", f"it has {len(draft.options)} options.")]
    truth = truth_of(own, draft.task, draft.way)
    findings = []
    if not same_items(draft.right.items, truth):
        message = f"option {draft.answer} says {_listed(draft.right.items)}, the steps say {_listed(truth)}."
        findings.append(Finding("wrong_answer", "drop", message))
    wrong = [option.items for option in draft.wrong]
    for k, items in enumerate(wrong):
        if problem := wrong_option_problem(draft.task, items, truth, wrong[:k]):
            findings.append(problem)
    for a, b in combinations((option.text for option in draft.options), 2):
        if a.strip().casefold() == b.strip().casefold():
            findings.append(Finding("duplicate_options", "drop", f"two options read {a!r}."))
    findings += [
        Finding("text_differs", "review", f"{option.text!r} does not say {_listed(option.items)}.")
        for option in draft.options
        if not reads_as(option.text, option.items)
    ]
    lengths = [len(option.text) for option in draft.wrong]
    length = len(draft.right.text)
    longer, shorter = length - max(lengths), min(lengths) - length
    if max(longer, shorter) >= _LEAST_DIFFERENCE and (
        length > STANDS_OUT * max(lengths) or length * STANDS_OUT < min(lengths)
    ):
        message = f"the right option has {length} characters, the others have {', '.join(map(str, lengths))}."
        findings.append(Finding("stands_out", "review", message))
    other = drafts.get(draft_id(draft.task, "reverse" if draft.way == "forward" else "forward", draft.clip))
    if other and other.options and draft.task != "landmark":
        turned = turned_round(draft.task, other.right.items)
        if not same_items(draft.right.items, turned):
            message = (
                f"it says {_listed(draft.right.items)}; the other way's right option means {_listed(turned)}."
            )
            findings.append(Finding("ways_disagree", "review", message))
    return findings


def _listed(items: Sequence[object]) -> str:
    return ", ".join(map(str, items)) or "none"


def normal_words(text: str) -> tuple[str, ...]:
    """The words that carry a text's meaning, in lower case, without articles, joining words and punctuation."""
    found = re.findall(r"\w+", text.casefold())
    return tuple(word for word in found if word not in _EMPTY) or tuple(found)


def may_mean(name: str, other: str) -> bool:
    """Whether two names may mean the same thing: one has all words of the other (`sofa`, `grey sofa`)."""
    a, b = set(normal_words(name)), set(normal_words(other))
    return a <= b or b <= a


def same_items(items: Sequence[str], others: Sequence[str]) -> bool:
    """Whether two options name the same in the same order."""
    return [normal_words(item) for item in items] == [normal_words(item) for item in others]


def is_part(items: Sequence[str], whole: Sequence[str]) -> bool:
    """Whether an option names only things of another option, in that option's order."""
    remaining = iter([normal_words(item) for item in whole])
    return all(any(words == normal_words(item) for words in remaining) for item in items)


def nearly_same(text: str, other: str) -> bool:
    """Whether two options differ only in spelling."""
    a, b = normal_words(text), normal_words(other)
    return len(a) == len(b) and all(x == y or _spelt_alike(x, y) for x, y in zip(a, b, strict=True))


def reads_as(text: str, items: Sequence[str]) -> bool:
    """Whether the text of an option says its items in their order, and nothing else."""
    said = [word for word in normal_words(text) if word not in _TURNING]
    meant = [word for word in chain(*map(normal_words, items)) if word not in _TURNING]
    return said == meant


def _spelt_alike(word: str, other: str) -> bool:
    return not word.isdigit() and SequenceMatcher(None, word, other).ratio() >= ALIKE


CueName = Literal[
    "letter_bias", "length_cue", "shortness_cue", "likeness_cue", "text_floor", "blind_above_chance"
]

Letters = Mapping[str, str | None]
"""The letters that a model chose, by the draft's id; None for a reply without a letter."""

FALSE_ALARMS = 0.05
"""Share of sets without any cue in which some check finds one."""

BY_LUCK = 0.05
"""A question that all blind runs answer rightly is doubtful where luck would do so less often than this."""


@dataclass(frozen=True, slots=True)
class Cue:
    """One check of a set of choices.

    of: `all`, one task, or the name of a blind run. questions, clips: numbers of those that were checked. accuracy,
    chance: of the guesser, 0 to 1. low, high: interval of the accuracy, clustered by clip; accuracy, low and high are
    None where there are too few clips. For `letter_bias`, accuracy is that of always choosing the most frequent right
    letter, and p tests whether the letters are evenly distributed (chi-squared); p is None for the other checks.
    found: whether the set gives its answers away in this manner.
    """

    name: CueName
    of: str
    questions: int
    clips: int
    accuracy: float | None
    chance: float
    low: float | None
    high: float | None
    p: float | None
    found: bool


@dataclass(frozen=True, slots=True)
class BlindRun:
    """What a model that saw no frame chose.

    name: of the run, for the report. choices: the questions that it was scored on, each with the letter that it chose;
    None for a reply without a letter.
    """

    name: str
    choices: tuple[tuple[Sample, str | None], ...]

    def letters(self, drafts: Sequence[Draft]) -> Letters:
        """The letters by the draft's id, where the run's question and options are those of the draft.

        Raises ConstructionError where there are none.
        """
        known = {draft.id: draft.sample() for draft in drafts if draft.options}
        letters: dict[str, str | None] = {}
        for asked, letter in self.choices:
            draft = known.get(name := draft_id(asked.task, asked.way, asked.clip))
            if draft and (draft.question, draft.options) == (asked.question, asked.options):
                letters[name] = letter
        if not letters:
            raise ConstructionError(
                f"{self.name} holds no answer to these questions. Expected a run on a release that was published from "
                "this folder."
            )
        return letters


def blind_cue(name: str, letters: Letters, drafts: Sequence[Draft]) -> Cue:
    """Whether a model that saw no frame is better than chance; a reply without a letter is wrong. name: of its run."""
    asked = [draft.sample() for draft in drafts if draft.id in letters]

    def guess(choices: Sequence[Sample]) -> NDArray[np.bool_]:
        return np.array([letters[choice.id] == choice.answer for choice in choices])

    return _measured("blind_above_chance", name, asked, guess, FALSE_ALARMS / 2)


def solved_blind(runs: Sequence[Letters], draft: Draft) -> Finding | None:
    """`solved_blind` where all runs have the right letter and luck would seldom (`BY_LUCK`) have given it to all."""
    said = [letters[draft.id] for letters in runs if draft.id in letters]
    luck = (1 / len(draft.options)) ** len(said) if draft.options else 1.0
    if said and luck < BY_LUCK and all(letter == draft.answer for letter in said):
        return Finding("solved_blind", "review", f"all {len(said)} blind runs answer it rightly.")
    return None


def check_set(drafts: Sequence[Draft]) -> list[Cue]:
    """All checks of the choices among some drafts, and the text-only baseline of each task."""
    choices = [draft.sample() for draft in drafts if draft.options]
    if not choices:
        return []
    guessers: list[tuple[CueName, Callable[[Sequence[Sample]], NDArray[np.bool_]]]] = [
        ("length_cue", longest_option),
        ("shortness_cue", _shortest_option),
        ("likeness_cue", most_like_others),
    ]
    groups: dict[str, list[Sample]] = {"all": choices}
    for task in CHOICE_TASKS:
        if found := [choice for choice in choices if choice.task == task]:
            groups[task] = found
    share = FALSE_ALARMS / (1 + len(guessers) + len(groups))
    cues = [_letters(choices, share)]
    cues += [_measured(name, "all", choices, guess, share) for name, guess in guessers]
    return cues + [_measured("text_floor", of, found, linear_baseline, share) for of, found in groups.items()]


def _letters(choices: Sequence[Sample], share: float) -> Cue:
    from scipy.stats import chisquare  # a second of CPU

    counts = Counter(choice.answer for choice in choices)
    expected = {
        letter: sum(1 / len(c.options) for c in choices if letter in c.letters)
        for letter in LETTERS
        if any(letter in c.letters for c in choices)
    }
    test = chisquare([counts[letter] for letter in expected], list(expected.values()))
    often = max(expected, key=lambda letter: counts[letter])
    guess = accuracy_of(choices, np.array([choice.answer == often for choice in choices]))
    interval = guess.low, guess.high
    return _cue("letter_bias", "all", guess, interval, float(test.pvalue), bool(test.pvalue < share))


def _measured(
    name: CueName,
    of: str,
    choices: Sequence[Sample],
    guesser: Callable[[Sequence[Sample]], NDArray[np.bool_]],
    share: float,
) -> Cue:
    """A guesser's check; share: of sets without a cue in which this check may raise a false alarm."""
    clips = len({choice.clip for choice in choices})
    if clips < FOLDS:
        chance = float(np.mean([1 / len(choice.options) for choice in choices]))
        return Cue(name, of, len(choices), clips, None, chance, None, None, None, False)
    guess = accuracy_of(choices, guesser(choices))
    # `accuracy_of` gives a 95 % interval; several intervals together must be wider.
    reach = (guess.accuracy - guess.low) * (NormalDist().inv_cdf(1 - share) / Z_95)
    interval = guess.accuracy - reach, guess.accuracy + reach
    return _cue(name, of, guess, interval, None, max(0.0, interval[0]) > guess.chance)


def _cue(
    name: CueName,
    of: str,
    guess: TextOnlyAccuracy,
    interval: tuple[float, float],
    p: float | None,
    found: bool,
) -> Cue:
    low, high = max(0.0, interval[0]), min(1.0, interval[1])
    return Cue(
        name, of, guess.questions, guess.clips, guess.accuracy, guess.chance, low, high, p, bool(found)
    )


def _shortest_option(choices: Sequence[Sample]) -> NDArray[np.bool_]:
    """Whether the option with the fewest characters is the right one; (questions,)."""
    shortest = [int(np.argmin([len(option) for option in choice.options])) for choice in choices]
    return np.array(
        [choice.letters[place] == choice.answer for place, choice in zip(shortest, choices, strict=True)]
    )
