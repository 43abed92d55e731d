"""What can be wrong with one question, by the steps and by its own words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

from egost.tasks.construction.annotations import Annotation, turns
from egost.tasks.construction.drafts import Draft, Items, annotation_sha256, draft_id, truth_of, turned_round
from egost.tasks.construction.normal_words import is_part, nearly_same, reads_as, same_items, tells
from egost.tasks.judging.route_text import read_route
from egost.tasks.sample import TaskKind

Verdict = Literal["drop", "review"]

STANDS_OUT = 1.6
"""A right option that is so many times as long as the longest other one, in characters, gives itself away, and so does
one that is as many times shorter than the shortest. This project's own rule."""

_LEAST_DIFFERENCE = 10
"""Characters by which it must differ as well: `up` beside `down` is no cue."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something wrong with a question. verdict: `drop` where it cannot be right, `review` where a person must look."""

    name: str
    verdict: Verdict
    message: str


def wrong_option_problem(
    task: TaskKind, wrong: Items, truth: Items, others: Sequence[Items]
) -> Finding | None:
    """Why a wrong option cannot stand beside the right one and other wrong ones; None when it can.

    `also_right`: it says the truth, or a part of it in its order and nothing else (which is true of a walk, too, but
    for turns). `perhaps_also_right`: each thing that it names may be another name of the true one. `duplicate_options`,
    `near_duplicate_options`: another wrong one says the same, or differs in spelling alone.
    """
    if same_items(wrong, truth) or (task != "direction" and is_part(wrong, truth)):
        return Finding("also_right", "drop", f"{_told(wrong)} is true as well; the truth is {_told(truth)}.")
    if len(wrong) == len(truth) and all(tells(a, b) for a, b in zip(wrong, truth, strict=True)):
        message = f"{_told(wrong)} may name the same as the truth, {_told(truth)}."
        return Finding("perhaps_also_right", "review", message)
    for other in others:
        if same_items(wrong, other):
            return Finding("duplicate_options", "drop", f"two options say {_told(wrong)}.")
    for other in (*others, truth):
        if nearly_same(" ".join(wrong), " ".join(other)):
            message = f"{_told(wrong)} and {_told(other)} differ in spelling alone."
            return Finding("near_duplicate_options", "review", message)
    return None


def check_draft(
    draft: Draft, annotations: Sequence[Annotation], drafts: Mapping[str, Draft]
) -> list[Finding]:
    """All that is wrong with a draft.

    annotations: of its clip, by all annotators. drafts: all of the folder, by id.

    Drops: `stale_annotation` (the steps are not there any more or have changed), `wrong_answer` (the right option is
    not what the steps say), `also_right`, `duplicate_options`, `too_few_options`, `empty_question`.
    Reviews: `perhaps_also_right`, `near_duplicate_options`, `text_differs` (an option's text does not say what it is
    meant to), `stands_out` (the right option by its length), `ways_disagree` (the other way's right option is not this
    one turned round), `annotators_disagree` (on the turns), `route_differs` (a description has other turns than the
    steps).
    """
    own = next((a for a in annotations if a.annotator == draft.annotator), None)
    if own is None or annotation_sha256(own) != draft.annotation_sha256:
        message = f"the steps of {draft.annotator} have changed since. Run: egost construct questions"
        return [Finding("stale_annotation", "drop", message)]
    findings = []
    if not draft.question.strip():
        findings.append(Finding("empty_question", "drop", "it asks nothing."))
    findings += _check_route(draft, own) if draft.task == "route" else _check_choice(draft, own, drafts)
    for other in annotations:
        if turns(other.steps(draft.way)) != turns(own.steps(draft.way)):
            message = (
                f"{own.annotator} has the turns {_told(turns(own.steps(draft.way)))}, {other.annotator} has "
                f"{_told(turns(other.steps(draft.way)))}."
            )
            findings.append(Finding("annotators_disagree", "review", message))
    return findings


def _check_route(draft: Draft, own: Annotation) -> list[Finding]:
    found, expected = read_route(draft.answer).turns, turns(own.steps(draft.way))
    if found == expected:
        return []
    message = f"the description has the turns {_told(found)}, the steps have {_told(expected)}."
    return [Finding("route_differs", "review", message)]


def _check_choice(draft: Draft, own: Annotation, drafts: Mapping[str, Draft]) -> list[Finding]:
    if len(draft.options) < 2:
        return [Finding("too_few_options", "drop", f"it has {len(draft.options)} options.")]
    truth = truth_of(own, draft.task, draft.way)
    findings = []
    if not same_items(draft.right.items, truth):
        message = f"option {draft.answer} says {_told(draft.right.items)}, the steps say {_told(truth)}."
        findings.append(Finding("wrong_answer", "drop", message))
    wrong = [option.items for option in draft.wrong]
    for k, items in enumerate(wrong):
        if problem := wrong_option_problem(draft.task, items, truth, wrong[:k]):
            findings.append(problem)
    for a, b in combinations((option.text for option in draft.options), 2):
        if a.strip().casefold() == b.strip().casefold():
            findings.append(Finding("duplicate_options", "drop", f"two options read {a!r}."))
    findings += [
        Finding("text_differs", "review", f"{option.text!r} does not say {_told(option.items)}.")
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
                f"it says {_told(draft.right.items)}; the other way's right option means {_told(turned)}."
            )
            findings.append(Finding("ways_disagree", "review", message))
    return findings


def _told(items: Sequence[object]) -> str:
    return ", ".join(map(str, items)) or "none"
