"""What can be had of a run's questions without seeing: the figures that stand beside its score."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from egost.results.diagnosis.controls import Arm, Gap, controls_of
from egost.results.diagnosis.text_only import (
    Floor,
    TextOnly,
    TextOnlyError,
    against_floor,
    not_solved_by_text,
    release_of,
    text_only,
    text_only_of,
)
from egost.results.intervals import Estimate, estimate
from egost.results.leaderboard.entries import Entry
from egost.results.records import SampleRecord
from egost.tasks.clips.controls import ControlError
from egost.tasks.text_only_baseline import FloorError

RELEASED_ROWS_FLOOR = (
    "trained on questions of the benchmark; of the 630 released ones a linear model that sees no frame answers 93 % "
    "(measured by this project, not by the paper)"
)

_SOURCE_OF_TEST = {"SUN3D": "sun3d", "HUJI+Self": "outdoor"}
"""Table 4's names of the test sets, and the sources of the clips in them."""


@dataclass(frozen=True, slots=True)
class Floors:
    """text: what a linear guesser without frames gets of the row's multiple-choice samples; None where not measured.

    not_solved: the score where text alone fails. blind: the same model without the video; None where it was not asked.
    verdicts: sentences on score and floor, or why a floor cannot be told.
    """

    text: Floor | None
    not_solved: Estimate | None
    blind: Gap | None
    verdicts: tuple[str, ...]


def floors(entry: Entry, records: Sequence[SampleRecord], test: str | None) -> Floors:
    """What `egost diagnose` wrote beside a run; the text-only floor of a checkpoint that was trained on the
    benchmark is measured here where nobody has.

    records: multiple-choice samples of the row. test: Table 4's name of their set; there the guesser has learned from
    the other sources.
    """
    verdicts: list[str] = []
    text: Floor | None = None
    not_solved: Estimate | None = None
    blind: Gap | None = None
    try:
        if records and (found := _text_only(entry)):
            if text := _floor(found, test):
                verdicts.append(against_floor(estimate(records), text))
            not_solved = not_solved_by_text(records, found)
    except (TextOnlyError, FloorError) as error:
        verdicts.append(str(error))
    try:
        if arm := _blind(entry):
            blind = arm.overall
            if not blind.gap.low > 0:
                verdicts.append(arm.meaning)
    except ControlError as error:
        verdicts.append(str(error))
    return Floors(text, not_solved, blind, tuple(verdicts))


def _floor(found: TextOnly, test: str | None) -> Floor | None:
    if test:
        return found.by_source.get(_SOURCE_OF_TEST[test])
    return found.trained.floor if found.trained else found.by_clip


@cache
def _text_only(entry: Entry) -> TextOnly | None:
    written = text_only_of(entry.run)
    if written or entry.training is None or not sum(entry.training.overlap.values()):
        return written
    samples = [r.sample for rows in entry.records.values() for r in rows]
    return text_only(samples, release_of(entry.run))


def _blind(entry: Entry) -> Arm | None:
    """The blind control of the run's own checkpoint: a folder may hold runs of several."""
    found = controls_of(entry.run)
    if found is None:
        return None
    asked = {
        (r.generation.model, r.generation.revision)
        for rows in entry.records.values()
        for r in rows
        if r.generation
    }
    model = (found.about.model.get("model"), found.about.model.get("revision"))
    return found.arm("blind") if not asked or model in asked else None
