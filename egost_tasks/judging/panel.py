"""Several judges at once: each one's scores are kept, their median is the score.

judge = get_judge("gpt-4o,openai:MODEL@URL,offline")
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from loguru import logger

from egost.tasks.judging.judge import (
    ASPECTS,
    Judge,
    JudgeFailure,
    Judgement,
    JudgeStopped,
    JudgeUsage,
    RouteItem,
    Vote,
    percent_of,
    pooled_sd,
)

STOPPED = "judge_stopped"
"""Why a judge is absent whose server refuses or does not answer at all."""


class Panel:
    """Judges that vote on each description.

    A judge that fails on a sample is absent there, and so is one whose server refuses or does not answer at all. A
    sample is unscored where all of them are absent.
    """

    def __init__(self, judges: Sequence[Judge]) -> None:
        self.judges = tuple(judges)

    @property
    def name(self) -> str:
        """The judges' names, as `median of A & B`."""
        return "median of " + " & ".join(judge.name for judge in self.judges)

    @property
    def usage(self) -> JudgeUsage | None:
        """The accounts of the judges with a server, added up; None where there is none."""
        used = [used for judge in self.judges if (used := judge.usage)]
        return _together(self.name, used) if used else None

    def start(self, items: Sequence[RouteItem]) -> None:
        """Have each judge begin; see `Judge`."""
        for judge in self.judges:
            judge.start(items)

    def __call__(self, items: Sequence[RouteItem]) -> list[Judgement | JudgeFailure]:
        """The median of the verdicts on each item. Raises JudgeStopped when all judges have stopped."""
        self.start(items)
        columns, stopped = [], []
        for judge in self.judges:
            try:
                columns.append(judge(items))
            except JudgeStopped as error:
                stopped.append(error)
                _say_once(f"egost: {error} The other judges go on without it.")
                columns.append([_verdict_before(judge, item) for item in items])
        if len(stopped) == len(self.judges):
            raise stopped[0]
        return [
            _median(item, self.name, verdicts)
            for item, verdicts in zip(items, zip(*columns, strict=True), strict=True)
        ]


def _verdict_before(judge: Judge, item: RouteItem) -> Judgement | JudgeFailure:
    """What a judge said of an item before it stopped."""
    try:
        return judge([item])[0]
    except JudgeStopped:
        return JudgeFailure(item.sample_id, STOPPED, "", judge.name)


@cache
def _say_once(message: str) -> None:
    logger.warning(message)


def _median(
    item: RouteItem, name: str, verdicts: Sequence[Judgement | JudgeFailure]
) -> Judgement | JudgeFailure:
    judged = [verdict for verdict in verdicts if isinstance(verdict, Judgement)]
    if not judged:
        failed = [verdict for verdict in verdicts if isinstance(verdict, JudgeFailure)]
        reasons = {failure.reason for failure in failed}
        text = "\n".join(f"{failure.judge}: {failure.text or failure.reason}" for failure in failed)
        compat = statistics.median(failure.compat for failure in failed)
        return JudgeFailure(
            item.sample_id, reasons.pop() if len(reasons) == 1 else "all_failed", text, name, compat
        )
    direction, landmark, semantic = (
        _whole(statistics.median(getattr(one, aspect) for one in judged)) for aspect in ASPECTS
    )
    return Judgement(
        item.sample_id,
        direction,
        landmark,
        semantic,
        "; ".join(f"{one.judge}: {one.reasons}" for one in judged if one.reasons),
        name,
        empty=all(one.empty for one in judged),
        compat=None
        if all(one.compat is None for one in judged)
        else statistics.median(one.percent if one.compat is None else one.compat for one in judged),
        snapshot=" & ".join(dict.fromkeys(one.snapshot for one in judged if one.snapshot)),
        votes=tuple(_vote(verdict) for verdict in verdicts),
    )


def _vote(verdict: Judgement | JudgeFailure) -> Vote:
    if isinstance(verdict, JudgeFailure):
        return Vote(verdict.judge, None, verdict.reason)
    return Vote(verdict.judge, (int(verdict.direction), int(verdict.landmark), int(verdict.semantic)))


def _whole(score: float) -> float:
    return int(score) if score == int(score) else score


def _together(name: str, used: Sequence[JudgeUsage]) -> JudgeUsage:
    """One account of several; a price is known where each one's is. wall_s: of the longest, since they work at once."""

    def sum_of(field: str) -> int:
        return sum(getattr(one, field) for one in used)

    def joined(field: str) -> str:
        return " & ".join(dict.fromkeys(getattr(one, field) for one in used))

    prices = [one.usd for one in used]
    return JudgeUsage(
        judge=name,
        prompt=joined("prompt"),
        prompt_sha256=joined("prompt_sha256"),
        judged=sum_of("judged"),
        asked=joined("asked"),
        snapshots=tuple(dict.fromkeys(snapshot for one in used for snapshot in one.snapshots)),
        left_out=tuple(dict.fromkeys(parameter for one in used for parameter in one.left_out)),
        calls=sum_of("calls"),
        cached=sum_of("cached"),
        retries=sum_of("retries"),
        faults=dict(sum((Counter(one.faults) for one in used), Counter())),
        failures=dict(sum((Counter(one.failures) for one in used), Counter())),
        tokens_in=sum_of("tokens_in"),
        tokens_out=sum_of("tokens_out"),
        usd=None if None in prices else sum(price for price in prices if price is not None),
        prices_of=used[0].prices_of,
        prices={model: price for one in used for model, price in one.prices.items()},
        wall_s=max(one.wall_s for one in used),
    )


@dataclass(frozen=True, slots=True)
class PanelSpread:
    """How far the judges of a panel differ on a set of samples; percent points of the route score.

    means: each judge's mean over the samples that it scored. absent: how many samples each one gave no score to, by
    reason. samples: those that two judges or more scored. sample_sd: standard deviation of the judges' scores of one
    sample (pooled over these samples). same: share of them that all judges score alike, 0 to 1.
    """

    means: dict[str, float | None]
    absent: dict[str, dict[str, int]]
    samples: int
    sample_sd: float | None
    same: float | None


def panel_spread(judgements: Sequence[Judgement]) -> PanelSpread | None:
    """The spread among judges that voted; None where none did."""
    voted = [judgement.votes for judgement in judgements if judgement.votes]
    if not voted:
        return None
    names = list(dict.fromkeys(vote.judge for votes in voted for vote in votes))
    percents: dict[str, list[float]] = {name: [] for name in names}
    absent: dict[str, Counter[str]] = {name: Counter() for name in names}
    of_samples: list[list[tuple[int, int, int]]] = []
    for votes in voted:
        given = [vote.scores for vote in votes if vote.scores is not None]
        if len(given) > 1:
            of_samples.append(given)
        for vote in votes:
            if vote.scores is None:
                absent[vote.judge][vote.failed] += 1
            else:
                percents[vote.judge].append(percent_of(vote.scores))
    return PanelSpread(
        means={name: statistics.fmean(found) if found else None for name, found in percents.items()},
        absent={name: dict(reasons) for name, reasons in absent.items() if reasons},
        samples=len(of_samples),
        sample_sd=pooled_sd([[*map(percent_of, given)] for given in of_samples]) if of_samples else None,
        same=statistics.fmean(len(set(given)) == 1 for given in of_samples) if of_samples else None,
    )
