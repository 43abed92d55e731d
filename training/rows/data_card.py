"""The data card of training rows: what is in them, and how many of them text alone answers."""

from __future__ import annotations

import difflib
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from itertools import combinations
from statistics import mean, median
from typing import Any

from egost.tasks.errors import ReleaseError
from egost.tasks.sample import Sample
from egost.tasks.text_only_baseline import (
    FOLDS,
    accuracy_of,
    always_first,
    longest_option,
    text_only_accuracy,
)
from egost.training.rows.reverse_thinking import names_an_option
from egost.training.rows.training_rows import Split, TrainingRow, clips_of

NEAR = 0.9
"""Similarity (difflib's ratio) from which two questions about one clip count as near-duplicates."""

_SHOWN = 10


def data_card(rows: Sequence[TrainingRow], split: Split, made: dict[str, Any]) -> dict[str, Any]:
    """The content of the card, ready for JSON. made: how the rows were made (world, release, seed, writer, ...)."""
    samples = [row.sample for row in rows]
    choices = [s for s in samples if s.options]
    lengths = [len(row.think.split()) for row in rows if row.think]
    return {
        **made,
        "rows": len(rows),
        "clips": clips_of(samples),
        "test_samples": len(split.test),
        "left_out_samples": len(split.left_out),
        "clips_on_both_sides": split.shared_clips,
        "tasks": _counts(s.task for s in samples),
        "directions": _counts(s.way for s in samples),
        "sources": _counts(s.source for s in samples),
        "letters": _counts(s.answer for s in choices),
        "options": _counts(str(len(s.options)) for s in choices),
        "think_words": (
            {
                "min": min(lengths),
                "median": median(lengths),
                "mean": round(mean(lengths), 1),
                "max": max(lengths),
            }
            if lengths
            else None
        ),
        "rows_with_think": len(lengths),
        "think_names_an_option": sum(
            bool(row.sample.options and names_an_option(row.think, len(row.sample.options))) for row in rows
        ),
        "near_duplicates": {
            "within_rows": [list(pair) for pair in near_duplicates(samples)],
            "with_test": [list(pair) for pair in near_duplicates(samples, split.test)],
        },
        "text_only": _text_only(choices),
    }


def near_duplicates(
    samples: Sequence[Sample], others: Sequence[Sample] | None = None
) -> list[tuple[str, str]]:
    """Ids of questions about the same clip that read alike, options included, whatever their order.

    others: compare each sample with these instead of with each other.
    """
    by_clip: defaultdict[tuple[int, str], tuple[list[Sample], list[Sample]]] = defaultdict(lambda: ([], []))
    for s in samples:
        by_clip[s.part, s.clip][0].append(s)
    for s in others or ():
        by_clip[s.part, s.clip][1].append(s)
    pairs: list[tuple[str, str]] = []
    for mine, theirs in by_clip.values():
        compared = combinations(mine, 2) if others is None else ((a, b) for a in mine for b in theirs)
        pairs += [(a.id, b.id) for a, b in compared if _alike(_plain_words(a), _plain_words(b))]
    return pairs


def markdown(card: dict[str, Any]) -> str:
    """The card as a README."""
    text_only, near = card["text_only"], card["near_duplicates"]
    lines = [
        f"# {card['rows']} training rows of the {card['world']} release",
        "",
        f"Release `{card['release_revision']}`, seed {card['seed']}, reasoning: {card['reasoning']}.",
        f"Made by `{card['command']}`.",
        f"{card['clips']} clips; {card['test_samples']} samples are the test, {card['left_out_samples']} are neither.",
        "",
        *_warnings(card),
        "| what | rows |",
        "|---|---|",
        *(
            f"| {name} {value} | {count} |"
            for name in ("tasks", "directions", "sources", "letters", "options")
            for value, count in card[name].items()
        ),
        "",
        f"Reasoning: {card['rows_with_think']} rows have one"
        + (
            f", of {card['think_words']['min']} to {card['think_words']['max']} words "
            f"(median {card['think_words']['median']:g})."
            if card["think_words"]
            else "."
        ),
        f"{card['think_names_an_option']} of them name an option by its letter.",
        "",
        "## Near-duplicates",
        "",
        f"Questions about one clip that read alike (similarity of {NEAR} or more, options included): "
        f"{len(near['within_rows'])} pairs within the rows, {len(near['with_test'])} pairs of a row and a test sample.",
        *(f"- {a} and {b}" for a, b in (near["within_rows"] + near["with_test"])[:_SHOWN]),
        "",
        "## What text alone gets",
        "",
        *_text_only_lines(text_only),
    ]
    return "\n".join(lines) + "\n"


def _warnings(card: dict[str, Any]) -> list[str]:
    lines = []
    if card["clips_on_both_sides"]:
        lines += [
            f"**{card['clips_on_both_sides']} clips have questions on both sides**, different ones, as in the paper's "
            "split by rows; `--by clips` keeps them apart.",
            "",
        ]
    for reason, ids in card["without_row"].items():
        lines += [f"{len(ids)} samples could not be made rows ({reason}): {', '.join(ids[:_SHOWN])}", ""]
    return lines


def _text_only_lines(measured: dict[str, Any]) -> list[str]:
    if "not_measured" in measured:
        return [f"Not measured: {measured['not_measured']}"]
    linear = measured["linear"]
    return [
        "| without the video | right % |",
        "|---|---|",
        f"| chance | {100 * linear['chance']:.1f} |",
        f"| always the first option | {100 * measured['always_first']:.1f} |",
        f"| the longest option | {100 * measured['longest_option']:.1f} |",
        f"| linear model of the options' wording, {FOLDS} folds by clip | {100 * linear['accuracy']:.1f} "
        f"({100 * linear['low']:.1f} to {100 * linear['high']:.1f}) |",
        "",
        "Report this with every figure of a model that was trained on these rows, and the same model's figure "
        "without the video.",
    ]


def _text_only(choices: Sequence[Sample]) -> dict[str, Any]:
    try:
        linear = text_only_accuracy(choices)
    except ReleaseError as error:
        return {"not_measured": str(error)}
    return {
        "linear": asdict(linear),
        "always_first": accuracy_of(choices, always_first(choices)).accuracy,
        "longest_option": accuracy_of(choices, longest_option(choices)).accuracy,
    }


def _alike(a: str, b: str) -> bool:
    if a == b:
        return True
    matcher = difflib.SequenceMatcher(None, a, b, autojunk=False)
    return matcher.real_quick_ratio() >= NEAR and matcher.quick_ratio() >= NEAR and matcher.ratio() >= NEAR


def _plain_words(sample: Sample) -> str:
    parts = [sample.question, *sorted(sample.options)]
    return " | ".join(re.sub(r"\W+", " ", part).strip().casefold() for part in parts)


def _counts(values: Iterable[str]) -> dict[str, int]:
    return dict(sorted(Counter(values).items()))
