"""What others make of the choices: a model that saw no frame, and a model that sees the steps."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from egost_tasks.construction.annotations import Annotation
from egost_tasks.construction.drafts import Draft
from egost_tasks.construction.openai_writer import load_step_prompt, object_form
from egost_tasks.construction.option_checks import Finding
from egost_tasks.construction.set_checks import FALSE_ALARMS, Cue, measured_cue
from egost_tasks.construction.structured_calls import Nonsense, Question, ask_all
from egost_tasks.construction.writers import Unwritten, WriterStopped
from egost_tasks.errors import EgostError
from egost_tasks.openai_judge.asking import Role
from egost_tasks.openai_judge.endpoint import Endpoint
from egost_tasks.openai_judge.pacing import Pacing
from egost_tasks.openai_judge.usage import Tally
from egost_tasks.sample import LETTERS, Sample

BY_LUCK = 0.05
"""Blind runs that all answer a question rightly raise a doubt where luck would do so less often than this."""

_ROLE = Role("The option judge", "What was judged is kept", "--judge", WriterStopped)


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


def judge_choices(
    drafts: Sequence[Draft],
    annotations: Mapping[tuple[str, str], Annotation],
    endpoint: Endpoint,
    folder: Path,
    pacing: Pacing,
    tally: Tally,
) -> tuple[dict[str, Finding], dict[str, Unwritten]]:
    """What a model that sees the steps objects to, and what it could not judge; both by the draft's id.

    annotations: by clip and annotator. folder: where replies are kept.
    A finding is `judge_disagrees`: the options that are right by the model are not exactly the right one.
    Raises WriterStopped and CacheError.
    """
    choices = [draft for draft in drafts if draft.options]
    prompt = load_step_prompt("option-judge-1")
    letters = {"type": "array", "items": {"type": "string", "enum": list(LETTERS)}}
    form = object_form("right_options", {"right": letters, "why": {"type": "string"}})
    answers = ask_all(
        [
            Question(
                prompt.messages(_told(draft, annotations[draft.clip, draft.annotator])),
                form,
                functools.partial(_read, len(draft.options)),
            )
            for draft in choices
        ],
        endpoint,
        folder,
        _ROLE,
        pacing=pacing,
        tally=tally,
        doing="judging options",
    )
    findings, failed = {}, {}
    for draft, answer in zip(choices, answers, strict=True):
        if isinstance(answer, Unwritten):
            failed[draft.id] = answer
            continue
        right, why = answer.content
        if right != {draft.answer}:
            message = (
                f"by {answer.snapshot} the right options are {', '.join(sorted(right)) or 'none'}: {why}"
            )
            findings[draft.id] = Finding("judge_disagrees", "review", message)
    return findings, failed


def _told(draft: Draft, annotation: Annotation) -> dict[str, Any]:
    return {
        "way": "from A to B" if draft.way == "forward" else "back from B to A",
        "steps": [asdict(step) for step in annotation.steps(draft.way)],
        "question": draft.question,
        "options": {LETTERS[k]: option.text for k, option in enumerate(draft.options)},
    }


def _read(options: int, reply: dict[str, Any]) -> tuple[frozenset[str], str]:
    right, why = reply.get("right"), reply.get("why")
    if not isinstance(right, list) or not all(letter in list(LETTERS[:options]) for letter in right):
        raise Nonsense("no_letters", f"expected letters up to {LETTERS[options - 1]}, found {right!r:.100}")
    return frozenset(right), why if isinstance(why, str) else ""
