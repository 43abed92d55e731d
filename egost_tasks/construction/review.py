"""Drafts that a person has to decide on, and what was decided.

A row of `review.jsonl`: `id`, `reasons` (name and message each), `draft` as it was written, `draft_sha256`, `verdict`
(null, `accept`, `edit` or `reject`) and `edited` (the whole draft as it should be, with `edit`; else null). Who decides
fills in `verdict` and `edited`, by hand or through a page, and runs the calibration again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from egost.tasks.construction.drafts import Draft, draft_from_json, drafts_sha256
from egost.tasks.construction.option_checks import Finding
from egost.tasks.construction.workfolder import WorkFolder, WorkFolderError, read_lines, write_lines

Verdict = Literal["accept", "edit", "reject"]


@dataclass(frozen=True, slots=True)
class Decision:
    """What a person decided about a draft in one state; edited: the draft as it should be, with `edit`."""

    draft_sha256: str
    verdict: Verdict
    edited: Draft | None


@dataclass(frozen=True, slots=True)
class Review:
    """A row of `review.jsonl`. reasons: name and message of each. decision: None while it waits for one."""

    draft: Draft
    reasons: tuple[tuple[str, str], ...]
    decision: Decision | None

    @property
    def revision(self) -> str:
        """Hash of the draft and of what was decided about it."""
        return hashlib.sha256(repr((self.draft, self.decision)).encode()).hexdigest()


def read_reviews(folder: WorkFolder) -> list[Review]:
    """The rows of a working folder in their order; none where nothing was to be reviewed.

    Raises WorkFolderError for a row that is none, an unknown verdict, or an edit that changes what the draft is about.
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
        raise WorkFolderError(
            f"{where}: no reasons ({type(error).__name__}: {error}). Run: egost construct calibrate"
        ) from error
    verdict = row.get("verdict")
    if verdict is None:
        return Review(draft, reasons, None)
    if verdict not in get_args(Verdict):
        raise WorkFolderError(f"{where}: the verdict is {verdict!r}; expected null, accept, edit or reject.")
    edited = None
    if verdict == "edit":
        edited = draft_from_json(row.get("edited") or {}, f"{where}, edited")
        if (edited.id, edited.clip, edited.task, edited.way) != (
            draft.id,
            draft.clip,
            draft.task,
            draft.way,
        ):
            raise WorkFolderError(f"{where}: an edit must leave id, clip, task and way as they are.")
    return Review(draft, reasons, Decision(drafts_sha256([draft]), verdict, edited))


def read_decisions(folder: WorkFolder) -> dict[str, Decision]:
    """The decisions in a working folder by the draft's id. Raises WorkFolderError as `read_reviews` does."""
    return {review.draft.id: review.decision for review in read_reviews(folder) if review.decision}


def write_reviews(
    folder: WorkFolder,
    reviews: Iterable[tuple[Draft, Sequence[Finding]]],
    decisions: Mapping[str, Decision],
) -> None:
    """Write the drafts that have to be decided on, and those that were, with the decisions kept. Raises OSError."""
    write_rows(
        folder,
        [
            Review(draft, tuple((f.name, f.message) for f in findings), decision_on(draft, decisions))
            for draft, findings in reviews
        ],
    )


def write_rows(folder: WorkFolder, reviews: Iterable[Review]) -> None:
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
                "edited": asdict(review.decision.edited)
                if review.decision and review.decision.edited
                else None,
            }
            for review in reviews
        ],
    )


def decision_on(draft: Draft, decisions: Mapping[str, Decision]) -> Decision | None:
    """What was decided about a draft; None where it has changed since."""
    decision = decisions.get(draft.id)
    return decision if decision and decision.draft_sha256 == drafts_sha256([draft]) else None


def as_decided(draft: Draft, decisions: Mapping[str, Decision]) -> Draft:
    """A draft as a person edited it, or as it is."""
    decision = decision_on(draft, decisions)
    return decision.edited if decision and decision.edited else draft
