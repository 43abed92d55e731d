"""The one scorer, which evaluation and training rewards share: from a response to its score and a task's figure.

There are two scores. `percent` is the sound one and the headline. `compat` repeats the rules of the reference code,
so that a figure can be compared with the paper's.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from egost.tasks.clips.clips import Clip
from egost.tasks.errors import ClipError
from egost.tasks.judging.judge import Judge, JudgeFailure, Judgement, RouteItem
from egost.tasks.response_text import route_prediction
from egost.tasks.sample import Sample, chance_level
from egost.tasks.scoring.choices import (
    Choice,
    compat_choice,
    strict_choice,
)
from egost.tasks.scoring.generation_notes import Generation

GENERATION_FAILED = ("[GENERATION_FAILED]", "[LMMS_EVAL_REQUEST_FAILED")
"""How the text begins that an adapter returns where it got no response."""

_FAILURE = re.compile(re.escape(GENERATION_FAILED[0]) + r" ([a-z_]+): ")
"""How our adapters name what failed (see `failed_reply`)."""

NO_REPLY = f"{GENERATION_FAILED[0]} the adapter returned no reply"
STOPPED = "judge_stopped"
"""Reason of a route that could not be judged because the judge had to stop (key, server, full disk)."""


@dataclass(frozen=True)
class Response:
    """What came back for a sample: the model's text, or the reason why there is none.

    unscored: None, or `decode_failed:REASON` (the clip has no frames), or `generation_failed:REASON`, without the
        reason where the adapter did not give one.
    """

    text: str
    unscored: str | None = None

    @classmethod
    def read(cls, reply: str, clip: Clip | ClipError | None) -> Response:
        """The response in what an adapter returned, given the clip that it was shown; None: none on purpose."""
        if isinstance(clip, ClipError):
            return cls(reply, f"decode_failed:{clip.reason}")
        if reply.startswith(GENERATION_FAILED):
            named = _FAILURE.match(reply)
            return cls(reply, f"generation_failed:{named[1]}" if named else "generation_failed")
        return cls(reply)


def failed_reply(reason: str, message: str) -> str:
    """The text that an adapter returns where it got no response.

    reason: a short stable word of lower-case letters and `_`, counted next to the scores; message: for people.
    """
    return f"{GENERATION_FAILED[0]} {reason}: {message}"


@dataclass(frozen=True)
class Score:
    """The score of one sample.

    percent: 0 to 100; None where the sample is unscored.
    compat: 0 to 100 by the reference's rules, beyond where its judge went beyond 0 to 5; None where the reference
        leaves the sample out.
    unscored: why there is no score, else None.
    choice: what a multiple-choice reply chose; compat_letter: what the reference's rule reads.
    judgement: what the judge said of a route.
    """

    percent: float | None
    compat: float | None
    unscored: str | None = None
    choice: Choice | None = None
    compat_letter: str | None = None
    judgement: Judgement | JudgeFailure | None = None


def score_choice(sample: Sample, response: Response) -> Score:
    """Score a multiple-choice reply: right or wrong (paper, section 5.1, accuracy by exact matching).

    An invalid reply is wrong, and also counted as invalid. The reference scores a failed generation as wrong.
    """
    if response.unscored:
        return Score(None, 0.0, response.unscored)
    choice = strict_choice(response.text, sample.options)
    compat = compat_choice(response.text)
    return Score(
        percent=100.0 * (choice.letter == sample.answer),
        compat=100.0 * (compat == sample.answer),
        choice=choice,
        compat_letter=compat,
    )


def score_route(samples: Sequence[Sample], responses: Sequence[Response], judge: Judge) -> list[Score]:
    """Score route descriptions in one call of the judge (paper, section 5.1 and Table 2).

    The reference scores an error as 0 and leaves an empty prediction out of the mean; the sound rule is
    the other way round, since a failure says nothing of the model and silence does.
    """
    verdicts = iter(judge(route_items(samples, responses)))
    return [_failed(r.unscored) if r.unscored else _judged(next(verdicts)) for r in responses]


def judge_stopped(sample: Sample, judge: Judge, error: Exception) -> Score:
    """The score of a route that could not be judged because the judge had to stop."""
    return _judged(JudgeFailure(sample.id, STOPPED, str(error), judge.name))


def route_items(samples: Sequence[Sample], responses: Sequence[Response]) -> list[RouteItem]:
    """What a judge is asked: one item for each sample that has a response."""
    return [
        RouteItem(s.id, s.question, s.answer, route_prediction(r.text), s.way)
        for s, r in zip(samples, responses, strict=True)
        if not r.unscored
    ]


def as_metrics(
    sample: Sample, score: Score, clip: Clip | ClipError, generation: Generation | None
) -> dict[str, Any]:
    """The sample's entries in lmms-eval's results: the metrics of the task YAML, as plain values.

    `percent` carries the whole record, since lmms-eval's samples file keeps nothing else of a sample: its
    `score` is left out where the sample is unscored, and `clip_id` is the cluster of its standard error. `n_scored`
    is 1 or 0, `n_unscored` and `judge_failed` the reason or None.
    `score` is the plain number that lmms-eval's `--baseline` looks for: it takes the first name with `score` in it.
    generation: what the adapter noted, None where it was not one of ours. A truncated reply is scored as it is.
    """
    truncated = generation.truncated if generation else None
    metrics: dict[str, Any] = {
        "percent": _record(sample, score, clip, generation),
        "compat": score.compat,
        "score": share(score),
        "truncated": None if truncated is None else 100.0 * truncated,
        "n_scored": int(score.unscored is None),
        "n_unscored": score.unscored,
    }
    if sample.task in ("route", "direction"):
        metrics["spatiotemporal"] = score.percent
    if sample.task == "route":
        return {**metrics, **judged_metrics(score)}
    metrics["chance"] = None if score.unscored else 100 * chance_level([len(sample.options)])
    metrics["invalid"] = None if score.choice is None else 100.0 * (score.choice.letter is None)
    return metrics


def share(score: Score) -> float | None:
    """The score from 0 to 1."""
    return None if score.percent is None else score.percent / 100


def judged_metrics(score: Score) -> dict[str, Any]:
    """The metrics that only a route has: the judge's three scores, whether the text was empty, failures."""
    judged = score.judgement if isinstance(score.judgement, Judgement) else None
    failed = score.judgement if isinstance(score.judgement, JudgeFailure) else None
    return {
        "direction": judged and judged.direction,
        "landmark": judged and judged.landmark,
        "semantic": judged and judged.semantic,
        "empty": judged and 100.0 * judged.empty,
        "judge_failed": failed and failed.reason,
    }


def _failed(reason: str) -> Score:
    return Score(None, 0.0, reason)


def _judged(verdict: Judgement | JudgeFailure) -> Score:
    if isinstance(verdict, JudgeFailure):
        # A judge that had to stop is known to this project alone.
        failed = None if verdict.reason == STOPPED else verdict.compat
        return Score(None, failed, f"judge_failed:{verdict.reason}", judgement=verdict)
    counted = verdict.percent if verdict.compat is None else verdict.compat
    compat = None if verdict.empty else counted
    return Score(verdict.percent, compat, judgement=verdict)


def _record(
    sample: Sample, score: Score, clip: Clip | ClipError, generation: Generation | None
) -> dict[str, Any]:
    record: dict[str, Any] = {
        "sample_id": sample.id,
        "clip": sample.clip,
        "clip_id": f"Part{sample.part}/{sample.clip}",
        "source": sample.source,
        "question": sample.question,
        "options": list(sample.options),
        "choice": asdict(score.choice) if score.choice else None,
        "compat_letter": score.compat_letter,
        "generation": generation.as_record() if generation else None,
        **score_record(score),
    }
    if isinstance(clip, Clip):
        record["frames"] = asdict(clip.manifest)
    else:
        record["clip_error"] = str(clip)
    return record


def score_record(score: Score) -> dict[str, Any]:
    """The part of a record with the score: `score` (percent) where there is one, else why there is none."""
    record: dict[str, Any] = {
        "unscored": score.unscored,
        "judgement": score.judgement.as_record() if score.judgement else None,
    }
    if score.percent is not None:
        record["score"] = score.percent
    return record


# --- what lmms-eval calls for each metric of a task, from the samples' values to the task's figure ------


def mean_of_scored(items: Sequence[Any]) -> float:
    """Mean over the samples that have a number; NaN where none has."""
    found = (item.get("score") if isinstance(item, dict) else item for item in items)
    numbers = [number for number in found if number is not None]
    return sum(numbers) / len(numbers) if numbers else float("nan")


def total(items: Sequence[dict[str, float]]) -> float:
    """Sum over all samples."""
    return sum(item["n"] for item in items)


def count_scored(items: Sequence[int]) -> int:
    """How many samples are scored: the sum of 1 and 0."""
    return int(sum(items))


def count_with_reason(items: Sequence[str | None]) -> int:
    """How many samples the reason holds for, for example that they are unscored."""
    return sum(reason is not None for reason in items)
