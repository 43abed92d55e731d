"""What a real small language model said of pairs of the check, replayed: a judge that talks back and is no good."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from simulated_runs import record
from small_judge import NAME, recorded_pairs, recorded_verdicts, serve_recorded

from egost.results.labels.agreement import Pair, agreement
from egost.results.labels.corrected import Scored, estimate
from egost.results.labels.drawing import draw_labels
from egost.results.labels.label_file import Labels, Triple
from egost.results.records import SampleRecord
from egost.tasks.chat.endpoint import parse_endpoint
from egost.tasks.judging.judge import JudgeFailure, Judgement, percent_of
from egost.tasks.judging.openai_judge import OpenAIJudge
from egost.tasks.judging.validity import ValidityPair, check

RUNS = 200


def built(pair: ValidityPair) -> Triple:
    """What the scores of a pair are by its construction: the middle of the bounds, the lower one of two."""
    direction, landmark, semantic = ((low + high) // 2 for low, high in pair.bounds)
    return direction, landmark, semantic


def test_its_replies_over_http_are_read_as_they_are_and_fail(tmp_path: Path) -> None:
    pairs = recorded_pairs()
    with serve_recorded() as server:
        judge = OpenAIJudge(parse_endpoint(f"openai:{NAME}@{server.url}"), folder=tmp_path)
        report = check(judge, progress=False, pairs=pairs)
        verdicts = judge([pair.item for pair in pairs])
        judge.close()
    assert [_said(one) for one in verdicts] == [_said(verdict) for _, verdict in recorded_verdicts()]
    assert report.n == len(pairs) == 255
    # Far from the 90 % of a judge that passes, and near the 50 % of one that ranks by a coin.
    assert report.within < 0.6 and report.rank is not None and abs(report.rank.share - 0.5) < 0.15


def _said(verdict: Judgement | JudgeFailure) -> tuple[object, ...]:
    if isinstance(verdict, JudgeFailure):
        return verdict.reason, verdict.text
    return verdict.direction, verdict.landmark, verdict.semantic, verdict.reasons


@cache
def judged() -> list[tuple[ValidityPair, Judgement]]:
    """The pairs that it gave scores to."""
    return [(pair, verdict) for pair, verdict in recorded_verdicts() if isinstance(verdict, Judgement)]


def test_it_agrees_with_the_built_scores_no_more_than_dealt_scores_do() -> None:
    percent = _percent([(pair, verdict) for pair, verdict in judged() if not pair.trick])
    assert percent.n > 150 and abs(percent.kappa.value) < 0.05 and abs(percent.rho.value) < 0.15


def test_it_agrees_less_where_texts_ask_for_full_marks() -> None:
    """It pays some of them, whose built scores are 0, and little else."""
    assert _percent(judged()).kappa.high < 0


def _percent(verdicts: list[tuple[ValidityPair, Judgement]]) -> Pair:
    """Its agreement with the built scores in percent."""
    records = [_record(number, pair, verdict) for number, (pair, verdict) in enumerate(verdicts)]
    truths = {(one.sample.id, "built"): built(pair) for one, (pair, _) in zip(records, verdicts, strict=True)}
    labels = Labels(draw_labels(records, len(records)).routes, truths)
    percent = agreement(labels, {NAME: records}).judges[NAME]["percent"]
    assert percent.n == len(records)
    return percent


def _record(number: int, pair: ValidityPair, verdict: Judgement) -> SampleRecord:
    route = record(f"egost_route_{pair.item.way}", number, pair.base, verdict.percent)
    sample = replace(route.sample, options=(), question=pair.item.question, answer=pair.item.reference)
    return replace(route, sample=sample, response=pair.item.prediction, judgement=verdict)


def test_the_corrected_score_of_so_bad_a_judge_holds_the_truth() -> None:
    """Runs redrawn from what it said: 150 clips of a reference each, 3 of its pairs, about 60 of these labelled."""
    rng = np.random.default_rng(0)
    by_base = [
        np.array([(v.percent, percent_of(built(p))) for p, v in judged() if p.base == base])
        for base in sorted({pair.base for pair, _ in judged()})
    ]
    population = [both for both in by_base if len(both) >= 3]
    truth = float(np.mean([both[:, 1].mean() for both in population]))
    found = [estimate(_redrawn(population, rng)) for _ in range(RUNS)]
    held = np.mean([one.low <= truth <= one.high for one in found])
    # 95 %, give or take 2.6 standard errors of 200 runs.
    assert 0.91 <= held <= 0.99
    spread, alone = (np.std([getattr(one, name) for one in found]) for name in ("value", "people"))
    assert spread <= 1.05 * alone, "it costs no label"
    assert abs(np.mean([one.judge for one in found]) - truth) > 5, "alone it is far off"
    assert abs(np.mean([one.value for one in found]) - truth) < 3 * spread / RUNS**0.5


def _redrawn(population: list[NDArray[np.float64]], rng: np.random.Generator) -> Scored:
    drawn = [population[at] for at in rng.integers(len(population), size=150)]
    both = np.concatenate([pairs[rng.choice(len(pairs), 3, replace=False)] for pairs in drawn])
    stratum = np.digitize(both[:, 0], (20.001, 40.001, 60.001, 80.001))
    labelled, probability = np.zeros(len(both), bool), np.ones(len(both))
    for name in np.unique(stratum):
        there = np.flatnonzero(stratum == name)
        n = min(len(there), max(2, round(60 * len(there) / len(both))))
        labelled[rng.choice(there, n, replace=False)] = True
        probability[there] = n / len(there)
    people = np.where(labelled, both[:, 1], np.nan)
    return Scored(both[:, 0], people, probability, stratum, np.repeat(np.arange(150), 3))
