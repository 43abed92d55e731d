"""What a whole set of choices gives away without a frame, by rules and by runs of models that saw none.

Each check compares a guesser with chance; a set fails the check where the guesser's whole interval lies above chance.
All checks together raise a false alarm in 5 % of the sets that give nothing away (Bonferroni), not each check alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.stats import chisquare, norm

from egost.tasks.construction.drafts import CHOICE_TASKS, Draft, draft_id
from egost.tasks.construction.option_checks import Finding
from egost.tasks.errors import ConstructionError
from egost.tasks.sample import LETTERS, Sample
from egost.tasks.text_only_baseline import (
    FOLDS,
    Z_95,
    TextOnlyAccuracy,
    accuracy_of,
    linear_baseline,
    longest_option,
    most_like_others,
)

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
    reach = (guess.accuracy - guess.low) * (float(norm.isf(share)) / Z_95)
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
