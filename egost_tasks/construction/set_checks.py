"""What a whole set of choices gives away without a frame: right letters, lengths, likeness, wording.

Every check compares a guesser with chance; a set fails it where the guesser's whole interval lies above chance. The
intervals of the checks together are wrong in 5 % of the sets that give nothing away (Bonferroni), not each of them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.stats import chisquare, norm

from egost.tasks.construction.drafts import Draft
from egost.tasks.construction.writers import CHOICE_TASKS
from egost.tasks.sample import LETTERS, Sample
from egost.tasks.text_only_baseline import FOLDS, linear_guesser, longest_option, measured, most_like_others

CueName = Literal[
    "letter_bias", "length_cue", "shortness_cue", "likeness_cue", "text_floor", "blind_above_chance"
]

FALSE_ALARMS = 0.05
"""Share of sets without any cue in which some check finds one."""


@dataclass(frozen=True, slots=True)
class Cue:
    """One check of a set of choices.

    of: `all`, the task alone, or the folder of a blind run. questions, clips: how many were looked at. accuracy,
    chance: of the guesser, 0 to 1. low, high: interval of the accuracy, the questions of one clip taken together; all
    three are None where there are too few clips, and nothing is known then. For `letter_bias`, accuracy is that of
    always choosing the most frequent right letter, and p that of the letters' even distribution (chi-squared); p is
    None for the others. found: whether the set gives its answers away in this manner.
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


def check_set(drafts: Sequence[Draft]) -> list[Cue]:
    """All checks of the choices among some drafts; of all together, and the text-only floor of each task as well."""
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
    cues += [measured_cue(name, "all", choices, guess, share) for name, guess in guessers]
    return cues + [
        measured_cue("text_floor", of, found, linear_guesser, share) for of, found in groups.items()
    ]


def _letters(choices: Sequence[Sample], share: float) -> Cue:
    counts = Counter(choice.answer for choice in choices)
    expected = {
        letter: sum(1 / len(c.options) for c in choices if letter in c.letters)
        for letter in LETTERS
        if any(letter in c.letters for c in choices)
    }
    test = chisquare([counts[letter] for letter in expected], list(expected.values()))
    often = max(expected, key=lambda letter: counts[letter])
    floor = measured(choices, np.array([choice.answer == often for choice in choices]))
    return Cue(
        "letter_bias",
        "all",
        floor.questions,
        floor.clips,
        floor.accuracy,
        floor.chance,
        max(0.0, floor.low),
        min(1.0, floor.high),
        float(test.pvalue),
        bool(test.pvalue < share),
    )


def measured_cue(
    name: CueName,
    of: str,
    choices: Sequence[Sample],
    guess: Callable[[Sequence[Sample]], NDArray[np.bool_]],
    share: float,
) -> Cue:
    """A guesser's check; share: of sets without a cue in which this one check may find one."""
    if _clips(choices) < FOLDS:
        return _unmeasured(name, of, choices)
    floor = measured(choices, guess(choices))
    # `measured` gives an interval of 1.96 standard errors to each side; here several intervals are looked at together.
    wider = float(norm.isf(share)) / 1.96
    reach = (floor.accuracy - floor.low) * wider
    low, high = max(0.0, floor.accuracy - reach), min(1.0, floor.accuracy + reach)
    found = low > floor.chance
    return Cue(
        name,
        of,
        floor.questions,
        floor.clips,
        floor.accuracy,
        floor.chance,
        low,
        high,
        None,
        bool(found),
    )


def _unmeasured(name: CueName, of: str, choices: Sequence[Sample]) -> Cue:
    chance = float(np.mean([1 / len(choice.options) for choice in choices]))
    return Cue(name, of, len(choices), _clips(choices), None, chance, None, None, None, False)


def _shortest_option(choices: Sequence[Sample]) -> NDArray[np.bool_]:
    """Whether the option with the fewest characters is the right one; (questions,)."""
    shortest = [int(np.argmin([len(option) for option in choice.options])) for choice in choices]
    return np.array(
        [choice.letters[place] == choice.answer for place, choice in zip(shortest, choices, strict=True)]
    )


def _clips(choices: Sequence[Sample]) -> int:
    return len({choice.clip for choice in choices})
