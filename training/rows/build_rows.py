"""Builds training rows from a release: `egost train data`.

    built = build_rows(release, BuildPlan(rows=252, seed=0))
    write_rows(Path("rows"), built, command="egost train data ...")

The folder gets `rows.jsonl`, `split.json` (ids of the training rows, the test and what is neither), and the data card
as `card.json` and `README.md`.
"""

from __future__ import annotations

import difflib
import json
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from itertools import combinations
from pathlib import Path
from statistics import mean, median
from typing import Any

from egost.tasks.cache import cache_root, write_whole
from egost.tasks.errors import ReleaseError
from egost.tasks.file_hashes import source_sha256
from egost.tasks.release.release import Release
from egost.tasks.sample import Sample, TaskKind
from egost.tasks.text_files import filled
from egost.tasks.text_only_baseline import (
    FOLDS,
    accuracy_of,
    always_first,
    longest_option,
    text_only_accuracy,
)
from egost.training import TrainingError
from egost.training.rows.released_rows import StR1Row
from egost.training.rows.reverse_thinking import OTHER_WAY, names_an_option, think
from egost.training.rows.training_rows import (
    By,
    HoldOut,
    Split,
    TrainingRow,
    clips_of,
    split_rows,
    write_training_rows,
)

ROWS = "rows.jsonl"
CHOICE_TASKS: tuple[TaskKind, ...] = ("direction", "landmark", "action")

Thinks = Mapping[str, str]
"""Reasoning by the sample's id; a sample that is missing has none."""

Writer = Callable[[Sequence[tuple[Sample, Sample]]], tuple[Thinks, dict[str, str]]]
"""Writes reasoning for (sample, route of the other way), by the sample's id; and says why it could not, by the same."""


@dataclass(frozen=True)
class BuildPlan:
    """How rows are chosen and reasoned about.

    rows, seed, by, hold_out: see `split_rows`. tasks: which questions. routes: how many rows that tell a route come
    behind them. with_think: whether a row has reasoning (without it, Table 3's plain fine-tuning).
    """

    rows: int
    routes: int = 0
    seed: int = 0
    tasks: tuple[TaskKind, ...] = CHOICE_TASKS
    by: By = "rows"
    hold_out: HoldOut | None = None
    with_think: bool = True


@dataclass(frozen=True)
class Built:
    """Rows with their split.

    asked: how many rows were asked for. without_row: ids of what could not be made a row, by reason.
    """

    release: Release
    rows: tuple[TrainingRow, ...]
    split: Split
    reasoning: str
    seed: int
    asked: int
    without_row: dict[str, list[str]]


def build_rows(release: Release, plan: BuildPlan, writer: Writer | None = None, label: str = "") -> Built:
    """Choose the rows of a release and reason about each by the route of the other way.

    writer: writes the reasoning; by default the templates of `reverse_thinking`. label: its name, for the card.
    A sample whose clip has no route of the other way is not chosen, one that the writer fails on is left out; both
    are listed in `without_row`.
    Raises TrainingError where the release has too few samples, ClipError where a chosen clip is not there.
    """
    if plan.routes and (plan.by == "clips" or "route" in plan.tasks):
        raise TrainingError(
            "--routes adds rows that tell a route to those of other questions, each divided by itself: leave out "
            "--by clips and the task route."
        )
    asked = [(plan.tasks, plan.rows), *([(("route",), plan.routes)] if plan.routes else [])]
    samples = [s for s in release.index.samples if any(s.task in tasks for tasks, _ in asked)]
    routes = other_routes(release)
    splits = [
        split_rows(
            [s for s in samples if s.task in tasks],
            count,
            seed=plan.seed,
            by=plan.by,
            hold_out=plan.hold_out,
            usable=lambda s: not plan.with_think or _key(s) in routes,
        )
        for tasks, count in asked
    ]
    split = Split(*(tuple(s for one in splits for s in getattr(one, f.name)) for f in fields(Split)))
    without: defaultdict[str, list[str]] = defaultdict(list)
    if plan.with_think:
        without["no route of the other way"] = [s.id for s in samples if _key(s) not in routes]
    pairs = [(s, routes[_key(s)]) for s in split.train] if plan.with_think else []
    if writer is None:
        thinks: Thinks = {s.id: think(s, route, plan.seed) for s, route in pairs}
    else:
        thinks, failed = writer(pairs)
        for sample_id, reason in failed.items():
            without[reason].append(sample_id)
    chosen = [s for s in split.train if not plan.with_think or s.id in thinks]
    reasoning = (label or "templates") if plan.with_think else "none"
    return Built(
        release,
        tuple(TrainingRow(s, thinks.get(s.id, ""), clip_sha256(release, s)) for s in chosen),
        Split(tuple(chosen), split.test, split.left_out),
        reasoning,
        plan.seed,
        plan.rows + plan.routes,
        {reason: ids for reason, ids in without.items() if ids},
    )


def build_released(release: Release, released: Sequence[StR1Row], *, with_think: bool = True) -> Built:
    """The authors' rows as rows of a release, in their order; the rest of its multiple choice is the test.

    A row is a sample when clip, options and right letter are the same, and the question but for its introduction.
    Raises TrainingError, with all that did not match, where one of them is not found.
    """
    by_clip: defaultdict[str, list[Sample]] = defaultdict(list)
    choices = [s for s in release.index.samples if s.options]
    for sample in choices:
        by_clip[sample.clip].append(sample)
    matched: dict[str, tuple[Sample, StR1Row]] = {}
    faults = []
    for row in released:
        found = _match(row, by_clip[row.clip])
        if isinstance(found, str):
            faults.append(f"line {row.index + 1} ({row.clip}): {found}")
        elif found.id in matched:
            faults.append(
                f"line {row.index + 1} ({row.clip}): {found.id} is line {matched[found.id][1].index + 1} already"
            )
        else:
            matched[found.id] = (found, row)
    if faults:
        shown = "\n  ".join(faults[:20]) + ("\n  ..." if len(faults) > 20 else "")
        raise TrainingError(
            f"{len(faults)} of {len(released)} released rows are not in the {release.world} release (revision "
            f"{release.revision}):\n  {shown}\nName the release that they were cut from, or a copy of the file "
            "without these lines."
        )
    rows = tuple(
        TrainingRow(sample, row.think.strip() if with_think else "", clip_sha256(release, sample))
        for sample, row in matched.values()
    )
    split = Split(tuple(row.sample for row in rows), tuple(s for s in choices if s.id not in matched))
    return Built(release, rows, split, "as released" if with_think else "none", 0, len(released), {})


def write_rows(folder: Path, built: Built, *, command: str) -> dict[str, Any]:
    """Write the rows, their split and their card, and give the card. command: what made them, for the card."""
    card = data_card(
        built.rows,
        built.split,
        {
            "world": built.release.world,
            "release_revision": built.release.revision,
            "release_sha256": built.release.index.files_sha256,
            "seed": built.seed,
            "reasoning": built.reasoning,
            "command": command,
            "without_row": built.without_row,
        },
    )
    ids = {name: [s.id for s in getattr(built.split, name)] for name in ("train", "test", "left_out")}
    write_training_rows(folder / ROWS, built.rows)
    write_whole(folder / "split.json", _json(ids))
    write_whole(folder / "card.json", _json(card))
    write_whole(folder / "README.md", markdown(card).encode())
    return card


def other_routes(release: Release) -> dict[tuple[int, str, str], Sample]:
    """The route of the other way, by (part, clip, way of the question)."""
    return {
        (s.part, s.clip, OTHER_WAY[s.way]): s for s in reversed(release.index.samples) if s.task == "route"
    }


def clip_sha256(release: Release, sample: Sample) -> str:
    """Hash of the sample's clip file. Raises ClipError where it is not there."""
    return source_sha256(release.clip_path(sample).absolute(), cache_root() / "clips" / "sources")


_INTRODUCTION = re.compile(r"^please take an? egocentric view to understand the following questions?\W*")


def _match(row: StR1Row, candidates: Sequence[Sample]) -> Sample | str:
    """The sample that a released row was cut from, or why there is none."""
    if not candidates:
        return "no question is about this clip"
    same_options = [s for s in candidates if list(map(_plain, s.options)) == list(map(_plain, row.options))]
    if not same_options:
        return "no question about this clip has these options"
    found = [s for s in same_options if _question(s.question) == _question(row.question)]
    if not found:
        return f"{same_options[0].id} has these options, but asks {same_options[0].question!r:.120}"
    if len(found) > 1:
        return f"{found[0].id} and {found[1].id} are the same question"
    if found[0].answer != row.letter:
        return f"{found[0].id} has {found[0].answer} for the right option, the row {row.letter}"
    return found[0]


def _question(text: str) -> str:
    return _INTRODUCTION.sub("", _plain(text))


def _plain(text: str) -> str:
    return re.sub(r"\s+", " ", text).strip().rstrip(".").casefold()


def _key(sample: Sample) -> tuple[int, str, str]:
    return sample.part, sample.clip, sample.way


def _json(content: object) -> bytes:
    return (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode()


NEAR = 0.9
"""Similarity (difflib's ratio) from which two questions about one clip count as near-duplicates."""

_README = Path(__file__).with_name("card.md.jinja")
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
    return filled(_README, {**card, "near": NEAR, "shown": _SHOWN, "folds": FOLDS})


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
