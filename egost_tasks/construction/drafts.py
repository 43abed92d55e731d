"""Questions before and after calibration, with the annotation and the writer that each one comes from.

A person decides on some of them. A row of `review.jsonl`: `id`, `reasons` (each with name and message), `draft` as it
was written, `draft_sha256`, `verdict` (null, `accept`, `edit` or `reject`) and `edited` (with `edit` the whole draft as
it should be, else null). A person fills in `verdict` and `edited`, by hand or through a page, and runs the calibration
again.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import TypeAdapter, ValidationError

from egost.tasks.construction.annotations import MIRROR, Annotation, actions, landmarks, to_json, turns
from egost.tasks.construction.spec import PART_OF_SCENE, Scene
from egost.tasks.construction.workfolder import WorkFolder, read_lines, write_lines
from egost.tasks.errors import ConstructionError
from egost.tasks.json_text import shown, wrong_field
from egost.tasks.sample import LETTERS, Sample, TaskKind, Way

CHOICE_TASKS: tuple[TaskKind, ...] = ("direction", "landmark", "action")

Items = tuple[str, ...]
"""What an option says: directions, landmarks or actions in order."""


@dataclass(frozen=True, slots=True)
class Draft:
    """One question about one clip.

    id: unique in a working folder, `TASK_WAY/CLIP`. options: in their order, none for a route. answer: the right
    letter, or the reference description of the route. annotator, annotation_sha256: the annotation that it was written
    from. writer: who wrote the wrong options, with version; snapshot: the model that the writer's server named, else
    empty.
    """

    id: str
    clip: str
    task: TaskKind
    way: Way
    scene: Scene
    question: str
    options: tuple[Option, ...]
    answer: str
    annotator: str
    annotation_sha256: str
    writer: str
    snapshot: str

    @property
    def right(self) -> Option:
        """The right option of a choice."""
        return self.options[LETTERS.index(self.answer)]

    @property
    def wrong(self) -> tuple[Option, ...]:
        """The other options of a choice."""
        return tuple(option for k, option in enumerate(self.options) if LETTERS[k] != self.answer)

    def sample(self) -> Sample:
        """The question as a sample of the benchmark, with the draft's id."""
        texts = tuple(option.text for option in self.options)
        part = PART_OF_SCENE[self.scene]
        return Sample(self.id, self.task, self.way, part, self.clip, self.question, texts, self.answer)


@dataclass(frozen=True, slots=True)
class Option:
    """One option: the text that people read, and the items that it says."""

    text: str
    items: Items


_DRAFT = TypeAdapter(Draft)


def draft_id(task: TaskKind, way: Way, clip: str) -> str:
    """The id of a draft."""
    return f"{task}_{way}/{clip}"


def truth_of(annotation: Annotation, task: TaskKind, way: Way) -> Items:
    """The items of the right option of a choice, by the annotated steps."""
    steps = annotation.steps(way)
    if task == "direction":
        return turns(steps)
    return landmarks(steps) if task == "landmark" else actions(steps)


def turned_round(task: TaskKind, items: Items) -> Items:
    """The items of an option for the way back, from its items for the way there."""
    if task != "direction":
        return items[::-1]
    return tuple(MIRROR[item] for item in reversed(items))


def annotation_sha256(annotation: Annotation) -> str:
    """Hash of the content of an annotation."""
    return hashlib.sha256(json.dumps(to_json(annotation), sort_keys=True).encode()).hexdigest()


def drafts_sha256(drafts: Iterable[Draft]) -> str:
    """Hash of drafts in their order."""
    return hashlib.sha256(repr(list(drafts)).encode()).hexdigest()


def draft_from_json(row: dict[str, Any], where: str) -> Draft:
    """The draft in a row that `dataclasses.asdict` made. Raises ConstructionError for anything else."""
    try:
        draft = _DRAFT.validate_python(row)
    except ValidationError as error:
        raise _no_draft(where, wrong_field(error)) from error
    if draft.options and draft.answer not in tuple(LETTERS[: len(draft.options)]):
        raise _no_draft(where, f"answer: {shown(draft.answer)} is the letter of no option")
    return draft


def _no_draft(where: str, why: str) -> ConstructionError:
    return ConstructionError(f"{where}: no draft of a question ({why}). Run: egost construct questions")


def read_drafts(path: Path) -> list[Draft]:
    """The drafts of a JSONL file. Raises ConstructionError for anything else."""
    return [draft_from_json(row, f"{path}, line {number}") for number, row in enumerate(read_lines(path), 1)]


def written_drafts(folder: WorkFolder) -> list[Draft]:
    """The drafts as they were written. Raises ConstructionError where there are none, or two have the same id."""
    again = f"Run: egost construct questions {folder.root}"
    if not folder.questions.is_file():
        raise ConstructionError(
            f"{folder.root} has no questions ({folder.questions.name} is missing). {again}"
        )
    drafts = read_drafts(folder.questions)
    if twice := [name for name, n in Counter(draft.id for draft in drafts).items() if n > 1]:
        raise ConstructionError(f"{folder.questions} has {twice[0]} twice. {again}")
    return drafts


Verdict = Literal["accept", "edit", "reject"]


@dataclass(frozen=True, slots=True)
class Decision:
    """A person's decision on a draft. edited: with `edit`, the draft as it should be."""

    verdict: Verdict
    edited: Draft | None


Decisions = Mapping[Draft, Decision]
"""Decisions by the draft as it was written."""


@dataclass(frozen=True, slots=True)
class Review:
    """A row of `review.jsonl`. reasons: name and message of each. decision: None while there is none."""

    draft: Draft
    reasons: tuple[tuple[str, str], ...]
    decision: Decision | None

    @property
    def revision(self) -> str:
        """Hash of the draft and the decision."""
        return hashlib.sha256(repr((self.draft, self.decision)).encode()).hexdigest()


def read_reviews(folder: WorkFolder) -> list[Review]:
    """The rows of `review.jsonl` in their order; empty where the file is missing.

    Raises ConstructionError for a malformed row, an unknown verdict, or an edit that changes id, clip, task or way.
    """
    if not folder.review.is_file():
        return []
    return [
        _review(row, f"{folder.review}, line {number}")
        for number, row in enumerate(read_lines(folder.review), 1)
    ]


def _review(row: Mapping[str, Any], where: str) -> Review:
    draft = draft_from_json(row.get("draft") or {}, where)
    try:
        reasons = tuple((str(reason["name"]), str(reason["message"])) for reason in row["reasons"])
    except (KeyError, TypeError) as error:
        raise ConstructionError(
            f"{where}: no reasons ({type(error).__name__}: {error}). Run: egost construct calibrate"
        ) from error
    verdict = row.get("verdict")
    if verdict is None:
        return Review(draft, reasons, None)
    if verdict not in get_args(Verdict):
        raise ConstructionError(
            f"{where}: the verdict is {shown(verdict)}; expected null, accept, edit or reject."
        )
    edited = None
    if verdict == "edit":
        edited = draft_from_json(row.get("edited") or {}, f"{where}, edited")
        kept = (draft.id, draft.clip, draft.task, draft.way)
        if (edited.id, edited.clip, edited.task, edited.way) != kept:
            raise ConstructionError(f"{where}: an edit must leave id, clip, task and way as they are.")
    return Review(draft, reasons, Decision(verdict, edited))


def decisions_in(reviews: Iterable[Review]) -> Decisions:
    """The decisions by the draft that each is on: a draft that has changed since has none."""
    return {review.draft: review.decision for review in reviews if review.decision}


def write_reviews(folder: WorkFolder, reviews: Iterable[Review]) -> None:
    """Write all rows, whole. Raises CacheError."""
    write_lines(
        folder.review,
        [
            {
                "id": review.draft.id,
                "reasons": [{"name": name, "message": message} for name, message in review.reasons],
                "draft": asdict(review.draft),
                "draft_sha256": drafts_sha256([review.draft]),
                "verdict": review.decision.verdict if review.decision else None,
                "edited": asdict(edited) if (edited := review.decision and review.decision.edited) else None,
            }
            for review in reviews
        ],
    )


def as_decided(draft: Draft, decisions: Decisions) -> Draft:
    """A draft as a person edited it, or as it was written."""
    decision = decisions.get(draft)
    return decision.edited if decision and decision.edited else draft
