"""The answers of a control as records, scored by the functions that score a run."""

from __future__ import annotations

from collections.abc import Sequence

from egost.results.records import SampleRecord
from egost.tasks.judging.judge import Judge
from egost.tasks.scoring.generation_notes import Answer
from egost.tasks.scoring.scores import Response, Score, score_choice, score_route


def scored(answers: Sequence[Answer], judge: Judge | None) -> list[SampleRecord]:
    """One record for each answer, in their order. judge: of the routes; None where there are none.

    Raises JudgeError, JudgeStopped and CacheError, as the judge does.
    """
    responses = [Response.read(answer.reply, answer.clip) for answer in answers]
    routes = [place for place, answer in enumerate(answers) if answer.sample.task == "route"]
    scores: dict[int, Score] = {}
    if judge and routes:
        judged = score_route([answers[k].sample for k in routes], [responses[k] for k in routes], judge)
        scores = dict(zip(routes, judged, strict=True))
    return [
        _record(
            answer, responses[place].text, scores.get(place) or score_choice(answer.sample, responses[place])
        )
        for place, answer in enumerate(answers)
    ]


def by_rotation(answers: Sequence[Answer], judge: Judge | None) -> list[list[SampleRecord]]:
    """The records of answers to rotated options, by how far the options were moved on: 1, 2, ..."""
    most = max((answer.rotation for answer in answers), default=0)
    return [scored([a for a in answers if a.rotation == by], judge) for by in range(1, most + 1)]


def _record(answer: Answer, response: str, score: Score) -> SampleRecord:
    return SampleRecord(
        task=answer.task,
        world=answer.world,
        sample=answer.sample,
        prompt=answer.prompt,
        response=response,
        percent=score.percent,
        compat=score.compat,
        unscored=score.unscored,
        choice=score.choice,
        judgement=score.judgement,
        frames=answer.clip.manifest if answer.clip else None,
        clip_error=None,
        generation=answer.generation,
    )
