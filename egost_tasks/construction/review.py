"""Drafts that a person must decide on, and the decisions.

A row of `review.jsonl`: `id`, `reasons` (each with name and message), `draft` as it was written, `draft_sha256`,
`verdict` (null, `accept`, `edit` or `reject`) and `edited` (with `edit` the whole draft as it should be, else null). A
person fills in `verdict` and `edited`, by hand or through a page, and runs the calibration again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from egost.tasks.construction.drafts import Draft, draft_from_json, drafts_sha256
from egost.tasks.construction.workfolder import WorkFolder, read_lines, write_lines
from egost.tasks.errors import ConstructionError

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
            f"{where}: the verdict is {verdict!r}; expected null, accept, edit or reject."
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
    """Write all rows, whole. Raises OSError."""
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
