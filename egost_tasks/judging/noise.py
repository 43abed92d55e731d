"""How far a judge's judgements of one and the same text differ."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from egost.tasks.judging.judge import BEST, Judgement


@dataclass(frozen=True, slots=True)
class JudgeNoise:
    """A judge's own noise on a set of samples, all figures in percent points of the route score.

    samples: how many have two judgements or more; the others say nothing of noise and are left out.
    repeats: most judgements of a sample.
    mean: mean over samples of each one's mean over its judgements.
    sample_sd: standard deviation of the judgements of one sample (pooled over the samples).
    run_sd: standard deviation of the task's figure from one run of the judge to the next, for these samples:
        `sample_sd` divided by the root of their number.
    same: share of samples whose judgements are all alike, 0 to 1.
    """

    samples: int
    repeats: int
    mean: float
    sample_sd: float
    run_sd: float
    same: float


def judge_noise(judgements: Sequence[Judgement]) -> JudgeNoise | None:
    """The noise that repeated judgements show; None where no sample has two."""
    percents = [
        [sum(triple) / 3 * 100 / BEST for triple in judgement.repeats]
        for judgement in judgements
        if len(judgement.repeats) > 1
    ]
    if not percents:
        return None
    squares = sum((len(p) - 1) * statistics.variance(p) for p in percents)
    sample_sd = (squares / sum(len(p) - 1 for p in percents)) ** 0.5
    return JudgeNoise(
        samples=len(percents),
        repeats=max(len(p) for p in percents),
        mean=statistics.fmean(statistics.fmean(p) for p in percents),
        sample_sd=sample_sd,
        run_sd=sample_sd / len(percents) ** 0.5,
        same=statistics.fmean(len(set(j.repeats)) == 1 for j in judgements if len(j.repeats) > 1),
    )
