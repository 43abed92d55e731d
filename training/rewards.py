"""What a completion earns: the score that an evaluation would give it, from 0 to 1.

    rewards = Rewards(rows, judge)
    rewards.accuracy(prompts=..., completions=["<think>...</think> <answer>B</answer>"], row=[0])   -> [1.0]

A reward is None where it does not apply (accuracy for a route, the judge for a choice) or where there is none to be
had (a judgement that failed): TRL then leaves the completion out of its group instead of counting it as 0.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, Literal

from egost.tasks.judging.judge import Judge
from egost.tasks.sample import Sample
from egost.tasks.scoring.scores import Response, score_choice, score_route
from egost.training.rows.training_rows import TrainingRow

Reward = Callable[..., list[float | None]]
LogMetric = Callable[[str, float], None]
Accuracy = Literal["strict", "as_released"]

_FORMAT = re.compile(r"\s*<think>(?P<think>.+?)</think>\s*<answer>(?P<answer>.+?)</answer>\s*", re.DOTALL)
_TAG = re.compile(r"</?(?:think|answer)>")
_ANSWER = re.compile(r"<answer>(.*?)</answer>", re.DOTALL)


class Rewards:
    """The rewards of one run, as TRL calls them: with `row`, the place of each completion's row.

    judge: scores the routes; None where no row is a route. reads: how `accuracy` reads a choice: as the evaluation
    does, or as the released code (`released_choice`).
    """

    def __init__(self, rows: Sequence[TrainingRow], judge: Judge | None, reads: Accuracy = "strict") -> None:
        self.rows = rows
        self.judge = judge
        self.reads = reads

    def accuracy(
        self, *, completions: Sequence[str], row: Sequence[int], log_metric: LogMetric, **_: Any
    ) -> list[float | None]:
        """1 for the right option, 0 for a wrong or invalid reply; None for a route."""
        asked = [
            None if sample.task == "route" else (sample, self._letter(sample, text))
            for sample, text in self._pairs(row, completions)
        ]
        log_metric("completions/invalid", sum(letter is None for _, letter in filter(None, asked)))
        return [None if one is None else float(one[1] == one[0].answer) for one in asked]

    def _letter(self, sample: Sample, text: str) -> str | None:
        if self.reads == "as_released":
            return released_choice(text)
        choice = score_choice(sample, Response(text)).choice
        return choice.letter if choice else None

    def format(self, *, completions: Sequence[str], row: Sequence[int], **_: Any) -> list[float | None]:
        """1 where the reply is `<think>...</think> <answer>...</answer>` and nothing else, else 0."""
        return [float(follows_format(sample, text)) for sample, text in self._pairs(row, completions)]

    def route(
        self, *, completions: Sequence[str], row: Sequence[int], log_metric: LogMetric, **_: Any
    ) -> list[float | None]:
        """The judge's score of a route (`score_route`), 0 to 1; None for a choice and for a judgement that failed.

        Raises JudgeStopped where the judge cannot go on at all (a wrong key, a server that is gone).
        """
        rewards: list[float | None] = [None] * len(completions)
        asked = [i for i, (sample, _) in enumerate(self._pairs(row, completions)) if sample.task == "route"]
        if self.judge is None or not asked:
            return rewards
        samples = [self.rows[row[i]].sample for i in asked]
        scores = score_route(samples, [Response(completions[i]) for i in asked], self.judge)
        for i, score in zip(asked, scores, strict=True):
            rewards[i] = _share(score.percent)
        log_metric("completions/judge_failed", sum(score.percent is None for score in scores))
        return rewards

    def _pairs(self, row: Sequence[int], completions: Sequence[str]) -> list[tuple[Sample, str]]:
        return [(self.rows[i].sample, text) for i, text in zip(row, completions, strict=True)]


def released_choice(text: str) -> str | None:
    """What the released code's reward takes for the letter: the first character of the first `<answer>...</answer>`.

    Thinking that never closes does not matter to it. Its mathematical comparison, which comes before and takes
    numbers of the reasoning for answers, is left out.
    """
    found = _ANSWER.search(text)
    return (found[1].strip()[:1] or None) if found else None


def follows_format(sample: Sample, text: str) -> bool:
    """Whether a reply has the form that the prompt `think` asks for: each tag once, something in each.

    The answer to a multiple-choice question has to be one of its letters alone.
    """
    found = _FORMAT.fullmatch(text)
    if found is None or len(_TAG.findall(text)) != 4 or not found["think"].strip():
        return False
    answer = found["answer"].strip()
    return answer in tuple(sample.letters) if sample.options else bool(answer)


def _share(percent: float | None) -> float | None:
    return None if percent is None else percent / 100
