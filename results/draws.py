"""Several answers to each question: their mean, the best of them, their majority, and how far they agree.

found = drawn([read_run(Path("runs/m/sample1")), read_run(Path("runs/m/sample2"))])
found.overall.majority.value      # percent right by vote
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from statistics import fmean

from egost.results.intervals import Estimate, estimate
from egost.results.records import SampleRecord
from egost.results.run import Run
from egost.results.run_header import RunError
from egost.tasks.json_text import without_nan

Draws = tuple[SampleRecord, ...]
"""One question in each of the runs, in their order."""


@dataclass(frozen=True, slots=True)
class Figures:
    """What some questions are worth, percent; a question counts where each of its answers has a score.

    mean: of the answers. best: the best answer of a question, which is pass@K of multiple choice. majority: right by
    vote, see `vote`; agreement: of the pairs of answers to a question, those that choose the same option. Both are of
    multiple choice alone, None where there is none.
    """

    mean: Estimate
    best: Estimate
    majority: Estimate | None
    agreement: Estimate | None


@dataclass(frozen=True, slots=True)
class Drawn:
    """samples: answers to each question. overall: the mean of the tasks' means. by_task: by registered name."""

    samples: int
    overall: Figures
    by_task: Mapping[str, Figures]


def drawn(runs: Sequence[Run]) -> Drawn:
    """The figures of runs that asked the same questions, each with a seed of its own.

    Raises RunError where they asked other questions, or cannot be read.
    """
    for run in runs:
        run.check_figures()
    by_run = [{(record.task, record.sample.id): record for record in run.records} for run in runs]
    for run, found in zip(runs, by_run, strict=True):
        if found.keys() != by_run[0].keys():
            raise RunError(
                f"{run.results_file} holds other questions than {runs[0].results_file}: draw both in one "
                "egost run --samples, with the same tasks and limit."
            )
    questions = [tuple(found[key] for found in by_run) for key in by_run[0]]
    tasks = sorted({draws[0].task for draws in questions})
    return Drawn(
        len(runs),
        _figures(questions),
        {task: _figures([draws for draws in questions if draws[0].task == task]) for task in tasks},
    )


def as_json(found: Drawn) -> str:
    """All of it, NaN as null."""
    return json.dumps(without_nan(asdict(found)), indent=2, allow_nan=False)


def vote(draws: Draws) -> str | None:
    """The letter that most answers choose; of several the one that was chosen first; None where no answer chose."""
    letters = [record.choice.letter for record in draws if record.choice and record.choice.letter]
    return Counter(letters).most_common(1)[0][0] if letters else None


def _figures(questions: Sequence[Draws]) -> Figures:
    choices = [draws for draws in questions if draws[0].sample.task != "route"]
    return Figures(
        mean=_estimate(questions, lambda draws: fmean(_scores(draws))),
        best=_estimate(questions, lambda draws: max(_scores(draws))),
        majority=_estimate(choices, lambda d: 100.0 * (vote(d) == d[0].sample.answer)) if choices else None,
        agreement=_estimate(choices, _agreement) if choices else None,
    )


def _estimate(questions: Sequence[Draws], value: Callable[[Draws], float]) -> Estimate:
    by_id = {(draws[0].task, draws[0].sample.id): draws for draws in questions}

    def score(record: SampleRecord) -> float | None:
        draws = by_id[record.task, record.sample.id]
        return None if any(one.percent is None for one in draws) else value(draws)

    return estimate([draws[0] for draws in questions], score=score)


def _scores(draws: Draws) -> list[float]:
    return [record.percent for record in draws if record.percent is not None]


def _agreement(draws: Draws) -> float:
    letters = [record.choice.letter if record.choice else None for record in draws]
    return 100.0 * fmean(a is not None and a == b for a, b in combinations(letters, 2))
