"""What can be had of a run's questions without seeing: the figures that stand beside its score."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from egost_tasks.text_floor import FloorError
from results.leaderboard.entries import Entry
from results.records import SampleRecord
from results.statistics import Estimate, estimate
from results.text_only import (
    Floor,
    TextOnly,
    TextOnlyError,
    against_floor,
    not_solved_by_text,
    release_of,
    text_only,
    text_only_of,
)

RELEASED_ROWS_FLOOR = (
    "trained on questions of the benchmark; of the 630 released ones a linear model that sees no frame answers 93 % "
    "(measured by this project, not by the paper)"
)

_SOURCE_OF_TEST = {"SUN3D": "sun3d", "HUJI+Self": "outdoor"}
"""Table 4's names of the test sets, and the sources of the clips in them."""


@dataclass(frozen=True, slots=True)
class TextFloors:
    """Of the multiple-choice samples of a row.

    text: what a linear guesser without frames gets; None where not measured. verdict: a sentence on score and floor,
    or why there is none; empty where nobody measured it. not_solved: the score where text alone fails.
    """

    text: Floor | None
    verdict: str
    not_solved: Estimate | None


def text_floors(entry: Entry, records: Sequence[SampleRecord], test: str | None) -> TextFloors:
    """The floor that `egost diagnose --text-only` wrote beside the run; measured here where the checkpoint was trained
    on questions of the benchmark and nobody has. test: Table 4's name of the row's test set; there the guesser has
    learned from the other sources.
    """
    try:
        found = _found(entry)
        if found is None or not records:
            return TextFloors(None, "", None)
        floor = _floor(found, test)
        verdict = against_floor(estimate(records), floor) if floor else ""
        return TextFloors(floor, verdict, not_solved_by_text(records, found))
    except (TextOnlyError, FloorError) as error:
        return TextFloors(None, str(error), None)


def _floor(found: TextOnly, test: str | None) -> Floor | None:
    if test:
        return found.by_source.get(_SOURCE_OF_TEST[test])
    return found.trained.floor if found.trained else found.by_clip


@cache
def _found(entry: Entry) -> TextOnly | None:
    written = text_only_of(entry.run)
    if written or entry.training is None or not sum(entry.training.overlap.values()):
        return written
    samples = [r.sample for rows in entry.records.values() for r in rows]
    return text_only(samples, release_of(entry.run))
