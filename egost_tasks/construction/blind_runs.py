"""What a model that saw no frame makes of the choices."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from egost.tasks.construction.drafts import Draft
from egost.tasks.construction.option_checks import Finding
from egost.tasks.construction.set_checks import FALSE_ALARMS, Cue, measured_cue
from egost.tasks.errors import EgostError
from egost.tasks.sample import Sample

BY_LUCK = 0.05
"""Blind runs that all answer a question rightly raise a doubt where luck would do so less often than this."""


class BlindRunError(EgostError):
    """A folder holds no run that can be used as a blind one."""


@dataclass(frozen=True, slots=True)
class BlindRun:
    """The letters that a model which saw no frame chose, by the draft's id; None for a reply without a letter."""

    folder: str
    letters: dict[str, str | None]


def read_blind_run(folder: Path, drafts: Sequence[Draft]) -> BlindRun:
    """The letters of a run on a release that was published from these drafts, saved with `--log_samples`.

    Samples of another clip, question or option text are not taken, nor are those without a score.
    Raises BlindRunError where none is left, or a samples file cannot be read.
    """
    known = {draft.id: draft for draft in drafts if draft.options}
    letters: dict[str, str | None] = {}
    for path in sorted(folder.rglob("*_samples_egost_*.jsonl")):
        try:
            records = [json.loads(line)["percent"] for line in path.read_text(encoding="utf-8").splitlines()]
            for record in records:
                task_way = record["sample_id"].split("/")[1]
                draft = known.get(f"{task_way}/{record['clip']}")
                if draft is None or not record["choice"] or record["unscored"]:
                    continue
                asked = (record["question"], tuple(record["options"]))
                if asked == (draft.question, tuple(option.text for option in draft.options)):
                    letters[draft.id] = record["choice"]["letter"]
        except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
            raise BlindRunError(
                f"{path} is no samples file of these tasks ({type(error).__name__}: {error})."
            ) from error
    if not letters:
        raise BlindRunError(
            f"{folder} holds no answer to these questions. Expected an --output_path of lmms-eval, run with "
            "--log_samples on a release that was published from this folder."
        )
    return BlindRun(str(folder), letters)


def blind_cue(run: BlindRun, drafts: Sequence[Draft]) -> Cue:
    """Whether a model that saw no frame is better than chance; a reply without a letter is wrong."""
    asked = [draft for draft in drafts if draft.id in run.letters]

    def guess(choices: Sequence[Sample]) -> NDArray[np.bool_]:
        return np.array([run.letters[choice.id] == choice.answer for choice in choices])

    return measured_cue(
        "blind_above_chance", run.folder, [d.sample() for d in asked], guess, FALSE_ALARMS / 2
    )


def solved_blind(runs: Sequence[BlindRun], draft: Draft) -> Finding | None:
    """`solved_blind` where all runs have the right letter and luck would seldom (`BY_LUCK`) have given it to all."""
    said = [run.letters[draft.id] for run in runs if draft.id in run.letters]
    luck = (1 / len(draft.options)) ** len(said) if draft.options else 1.0
    if said and luck < BY_LUCK and all(letter == draft.answer for letter in said):
        return Finding("solved_blind", "review", f"{len(said)} blind runs of {len(said)} answer it rightly.")
    return None
