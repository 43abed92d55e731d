"""Drafts that a person has to decide on, and what was decided.

A row of `review.jsonl`: `id`, `reasons` (name and message each), `draft` as it was written, `draft_sha256`, `verdict`
(null, `accept`, `edit` or `reject`) and `edited` (the whole draft as it should be, with `edit`; else null). Who decides
fills in `verdict` and `edited`, by hand or through a page, and runs the calibration again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from egost_tasks.construction.drafts import Draft, draft_from_json, drafts_sha256
from egost_tasks.construction.option_checks import Finding
from egost_tasks.construction.workfolder import WorkFolder, WorkFolderError, read_lines, write_lines

Verdict = Literal["accept", "edit", "reject"]


@dataclass(frozen=True, slots=True)
class Decision:
    """What a person decided about a draft in one state; edited: the draft as it should be, with `edit`."""

    draft_sha256: str
    verdict: Verdict
    edited: Draft | None


def read_decisions(folder: WorkFolder) -> dict[str, Decision]:
    """The decisions in a working folder by the draft's id; none where nothing was to be reviewed.

    Raises WorkFolderError for a row that is none, an unknown verdict, or an edit that changes what the draft is about.
    """
    if not folder.review.is_file():
        return {}
    decisions = {}
    for number, row in enumerate(read_lines(folder.review), 1):
        where = f"{folder.review}, line {number}"
        verdict = row.get("verdict")
        if verdict is None:
            continue
        if verdict not in get_args(Verdict):
            raise WorkFolderError(
                f"{where}: the verdict is {verdict!r}; expected null, accept, edit or reject."
            )
        draft = draft_from_json(row.get("draft") or {}, where)
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
        decisions[draft.id] = Decision(drafts_sha256([draft]), verdict, edited)
    return decisions


def write_reviews(
    folder: WorkFolder,
    reviews: Iterable[tuple[Draft, Sequence[Finding]]],
    decisions: Mapping[str, Decision],
) -> None:
    """Write the drafts that have to be decided on, and those that were, with the decisions kept. Raises OSError."""
    rows: list[dict[str, Any]] = []
    for draft, findings in reviews:
        decision = decision_on(draft, decisions)
        rows.append(
            {
                "id": draft.id,
                "reasons": [{"name": finding.name, "message": finding.message} for finding in findings],
                "draft": asdict(draft),
                "draft_sha256": drafts_sha256([draft]),
                "verdict": decision.verdict if decision else None,
                "edited": asdict(decision.edited) if decision and decision.edited else None,
            }
        )
    write_lines(folder.review, rows)


def decision_on(draft: Draft, decisions: Mapping[str, Decision]) -> Decision | None:
    """What was decided about a draft; None where it has changed since."""
    decision = decisions.get(draft.id)
    return decision if decision and decision.draft_sha256 == drafts_sha256([draft]) else None
