"""What can be wrong with one question by the annotated steps and by its words; when two names mean the same."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import chain, combinations
from typing import Literal

from egost.tasks.construction.annotations import Annotation, turns
from egost.tasks.construction.drafts import Draft, Items, annotation_sha256, draft_id, truth_of, turned_round
from egost.tasks.judging.route_text import read_route
from egost.tasks.sample import TaskKind

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
