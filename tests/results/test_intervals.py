"""Intervals over clips: against a population whose truth is known, scipy, and cases done by hand."""

from __future__ import annotations

import itertools
import math
import random
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import bootstrap, sem
from simulated_runs import MINI, OFFICIAL, TASKS, Population, record

from egost.results.intervals import (
    Difference,
    Estimate,
    clustered_error,
    estimate,
    paired,
    paired_rows,
    same_figure,
    scored_rows,
)
from egost.results.records import SampleRecord
from egost.results.run_header import RunError
from egost.tasks.json_text import without_nan

TASK, OTHER = "egost_direction_forward", "egost_direction_reverse"


def scored(task: str, scores: dict[str, list[float | None]]) -> list[SampleRecord]:
    """Samples of a task by clip."""
    places = [(clip, score) for clip, values in scores.items() for score in values]
    return [record(task, number, f"{clip}.mp4", score) for number, (clip, score) in enumerate(places)]


UNEQUAL = scored(
    TASK,
    {
        "a": [100.0, 100.0, 0.0],
        "b": [0.0],
        "c": [100.0],
        "d": [0.0, 0.0],
        "e": [100.0, 0.0, 100.0, 100.0],
        "f": [0.0, 100.0],
    },
)


def test_the_interval_holds_the_truth_in_95_of_100_runs() -> None:
    rng, truth, held = np.random.default_rng(0), MINI.truth(), []
    for repeat in range(500):
        [run] = MINI.draw(rng)
        found = estimate(run, draws=500, seed=repeat)
        held.append(found.low <= truth.mean() <= found.high)
    assert 0.93 <= sum(held) / 500 <= 0.97


def test_a_plain_mean_of_the_tasks_whatever_their_sizes() -> None:
    records = [*scored(TASK, {"a": [100.0], "b": [100.0]}), *scored(OTHER, {c: [0.0] for c in "abcdef"})]
    found = estimate(records)
    assert (found.value, found.n, found.clips, found.unscored) == (50.0, 8, 6, 0)


def test_the_error_is_the_sandwich_of_one_task() -> None:
    """Clip sums of the residuals from 7/13, times clips / (clips - 1)."""
    mean = 7 / 13
    sums = [2 - 3 * mean, -mean, 1 - mean, -2 * mean, 3 - 4 * mean, 1 - 2 * mean]
    by_hand = 100 * math.sqrt(6 / 5 * sum(s * s for s in sums)) / 13
    assert estimate(UNEQUAL).error == pytest.approx(by_hand, rel=1e-12)


def test_the_error_without_clusters_is_that_of_scipy() -> None:
    scores = [100.0, 0.0, 60.0, 20.0, 100.0, 0.0, 0.0, 80.0, 40.0]
    records = scored(TASK, {str(number): [score] for number, score in enumerate(scores)})
    assert estimate(records).error == pytest.approx(sem(scores), rel=1e-12)


def test_the_interval_is_that_of_scipys_bootstrap() -> None:
    """On clips of one size; scipy draws as many clips as there are, which is too narrow by sqrt((n - 1) / n)."""
    rng = np.random.default_rng(4)
    clips = {str(clip): [float(s) for s in 20 * rng.integers(0, 6, 3)] for clip in range(60)}
    means = np.array([np.mean(values) for values in clips.values()])
    found = estimate(scored(TASK, clips))
    theirs = bootstrap(
        (means,), np.mean, method="percentile", n_resamples=20_000, random_state=rng
    ).confidence_interval
    widened = math.sqrt(60 / 59) * 2.0010 / 1.9600  # Student's t at 59 degrees of freedom, in place of z.
    assert found.low == pytest.approx(found.value + (theirs.low - found.value) * widened, abs=0.35)
    assert found.high == pytest.approx(found.value + (theirs.high - found.value) * widened, abs=0.35)
    assert (found.high - found.low) / 2 == pytest.approx(2.0010 * found.error, rel=0.03)


def test_a_clip_counts_once_for_all_of_its_tasks() -> None:
    """Two tasks that agree on each clip tell no more than one; on clips of their own they do."""
    rng = np.random.default_rng(2)
    clips = {f"{clip}": [100.0 * float(rng.random() < 0.5)] for clip in range(200)}
    once = estimate(scored(TASK, clips))
    twice = estimate([*scored(TASK, clips), *scored(OTHER, clips)])
    apart = estimate([*scored(TASK, clips), *scored(OTHER, {f"other{c}": v for c, v in clips.items()})])
    assert twice.error == pytest.approx(once.error)
    assert apart.error == pytest.approx(once.error / math.sqrt(2))
    assert twice.high - twice.low == pytest.approx(once.high - once.low, rel=0.05)
    assert apart.high - apart.low == pytest.approx((once.high - once.low) / math.sqrt(2), rel=0.05)


@pytest.mark.parametrize(
    ("score", "low", "high"), [(0.0, 0.0, 8.81), (100.0, 91.19, 100.0), (60.0, 54.7, 63.5)]
)
def test_all_alike_is_not_certain(score: float, low: float, high: float) -> None:
    """0 of 40 clips right: with more than 8.8 % of them right, one in 40 such runs would show none."""
    found = estimate(scored(TASK, {str(clip): [score] for clip in range(40)}))
    assert (found.value, found.error) == (score, 0)
    assert (found.low, found.high) == (pytest.approx(low, abs=0.05), pytest.approx(high, abs=0.05))


def test_where_nothing_can_be_said() -> None:
    one_clip = estimate(scored(TASK, {"a": [100.0, 0.0]}))
    assert (one_clip.value, one_clip.n, one_clip.clips) == (50.0, 2, 1)
    assert math.isnan(one_clip.low) and math.isnan(one_clip.high) and math.isnan(one_clip.error)
    unscored = estimate([*UNEQUAL, *scored(OTHER, {"a": [None, None]})])
    assert (
        math.isnan(unscored.value) and math.isnan(unscored.low) and (unscored.n, unscored.unscored) == (13, 2)
    )
    assert (unscored.least, unscored.most) == (pytest.approx(100 * 7 / 26), pytest.approx(100 * 7 / 26 + 50))
    none = estimate([])
    assert math.isnan(none.value) and math.isnan(none.most) and none.n == none.clips == 0
    assert math.isnan(paired(UNEQUAL, scored(OTHER, {"a": [100.0]})).p_value)


def test_unscored_samples_give_bounds() -> None:
    records = [*scored(TASK, {str(c): [100.0, 0.0] for c in range(49)}), record(TASK, 98, "0.mp4", None)]
    found = estimate(records)
    assert (found.value, found.n, found.unscored) == (50.0, 98, 1)
    assert (found.least, found.most) == (pytest.approx(4900 / 99), pytest.approx(5000 / 99))
    assert found.bounds_matter and not estimate([*records, record(TASK, 99, "0.mp4", 0.0)]).bounds_matter


def test_other_scores_than_the_headline() -> None:
    records = [replace(r, compat=20.0 * number) for number, r in enumerate(UNEQUAL[:5])]
    assert estimate(records, score=lambda r: r.compat).value == 40.0
    assert paired(UNEQUAL, records, score=lambda r: r.compat).n == 5


def test_a_sample_counts_once() -> None:
    with pytest.raises(RunError, match="Part1/direction_forward/0 of egost_direction_forward comes twice"):
        estimate([*UNEQUAL, UNEQUAL[0]])
    with pytest.raises(RunError, match="twice"):
        paired(UNEQUAL, [*UNEQUAL, UNEQUAL[3]])


def test_neither_order_nor_shards_change_a_figure() -> None:
    rng = random.Random(5)
    a, b = MINI.draw(np.random.default_rng(5), (0.0, 0.4))
    a = [
        replace(r, percent=None) if rng.random() < 0.05 else replace(r, percent=100 * rng.random()) for r in a
    ]
    whole, gap, error = estimate(a), paired(a, b), clustered_error(scored_rows(a))
    for _ in range(5):
        mixed, others = rng.sample(a, len(a)), rng.sample(b, len(b))
        cut = sorted(rng.sample(range(len(a)), 3))
        shards = [mixed[start:end] for start, end in itertools.pairwise([0, *cut, len(a)])]
        rng.shuffle(shards)
        assert estimate([r for shard in shards for r in shard]) == whole
        assert paired(mixed, others) == gap
        assert clustered_error(scored_rows(mixed)) == error


def test_a_difference_turned_round() -> None:
    a, b = MINI.draw(np.random.default_rng(6), (0.0, 0.5))
    forth, back = paired(a, b), paired(b, a)
    assert forth.value == pytest.approx(-back.value) and forth.error == pytest.approx(back.error)
    assert (forth.wins, forth.losses, forth.ties) == (back.losses, back.wins, back.ties)
    assert (forth.low, forth.high) == (pytest.approx(-back.high), pytest.approx(-back.low))
    assert forth.p_value == pytest.approx(back.p_value, abs=0.01)


def test_only_samples_that_both_have_scored_are_paired() -> None:
    b = [replace(r, percent=None) if number == 1 else r for number, r in enumerate(UNEQUAL[:6])]
    found = paired(UNEQUAL, [*b, record(TASK, 99, "z.mp4", 100.0)])
    assert (found.n, found.clips, found.ties, found.value, found.p_value) == (5, 4, 5, 0.0, 1.0)


@pytest.mark.parametrize("n", [3, 5, 8])
def test_the_p_value_of_few_clips_is_that_of_all_turnings(n: int) -> None:
    rng = np.random.default_rng(n)
    before = {str(clip): [float(v) for v in 20 * rng.integers(0, 6, 2)] for clip in range(n)}
    after = {str(clip): [float(v) for v in 20 * rng.integers(1, 6, 2)] for clip in range(n)}
    gaps = [sum(after[clip]) - sum(before[clip]) for clip in before]
    turned = [
        abs(sum(s * g for s, g in zip(signs, gaps, strict=True)))
        for signs in itertools.product((1, -1), repeat=n)
    ]
    exact = np.mean([total >= abs(sum(gaps)) - 1e-9 for total in turned])
    assert paired(scored(TASK, before), scored(TASK, after)).p_value == pytest.approx(exact, abs=0.02)


@pytest.mark.parametrize(
    ("gain", "low", "high"),
    # 1 - 0.025 ** (1 / 40) = 8.81 % of clips may differ: by 100 - gain more, or by 100 + gain less.
    [(0.0, -8.81, 8.81), (20.0, 9.43, 27.05), (-100.0, -100.0, -82.38)],
)
def test_the_same_difference_everywhere_is_not_certain(gain: float, low: float, high: float) -> None:
    before = {str(clip): [100.0 if gain < 0 else 0.0] for clip in range(40)}
    after = {clip: [values[0] + gain] for clip, values in before.items()}
    found = paired(scored(TASK, before), scored(TASK, after))
    assert (found.value, found.error, found.n, found.clips) == (gain, 0, 40, 40)
    assert (found.low, found.high) == (pytest.approx(low, abs=0.01), pytest.approx(high, abs=0.01))
    assert (found.wins, found.losses, found.ties) == (40 * (gain > 0), 40 * (gain < 0), 40 * (gain == 0))
    assert found.p_value == (1.0 if gain == 0 else pytest.approx(1 / 10_001))


def test_pairs_and_rows_by_hand() -> None:
    a = [*scored(TASK, {"x": [0.0, None], "y": [40.0]}), *scored(OTHER, {"x": [100.0]})]
    b = [*scored(OTHER, {"x": [20.0, 60.0]}), *scored(TASK, {"x": [100.0, 20.0], "y": [40.0 + 1e-12]})]
    assert scored_rows(a) == [
        (TASK, "Part1/x.mp4", 0.0),
        (TASK, "Part1/y.mp4", 40.0),
        (OTHER, "Part1/x.mp4", 100.0),
    ]
    assert [(task, clip, round(gap)) for task, clip, gap in paired_rows(a, b)] == [
        (TASK, "Part1/x.mp4", 100),
        (TASK, "Part1/y.mp4", 0),
        (OTHER, "Part1/x.mp4", -80),
    ]
    found = paired(a, b)
    # The tasks' mean gaps are 50 and -80; the second task has one clip alone, so that nothing is known of others.
    assert (found.value, found.wins, found.losses, found.ties) == (pytest.approx(-15), 1, 1, 1)
    assert (found.n, found.clips) == (3, 2) and math.isnan(found.low) and math.isnan(found.error)


def test_figures_that_are_the_same_and_figures_for_json() -> None:
    assert same_figure(0.0, 1e-10) and same_figure(1e6, 1e6 + 1e-4) and same_figure(math.nan, math.nan)
    assert not same_figure(0.0, 1e-8) and not same_figure(math.nan, 1.0) and not same_figure(1.0, math.nan)
    value = {"a": (math.nan, [math.inf, 1.5]), "b": "nan", "c": {"d": -math.inf, "e": 0}}
    assert without_nan(value) == {"a": [None, [None, 1.5]], "b": "nan", "c": {"d": None, "e": 0}}


def test_one_more_than_a_hundredth_unscored_matters() -> None:
    whole = estimate(UNEQUAL)
    assert [replace(whole, n=n, unscored=u).bounds_matter for n, u in ((99, 1), (98, 1), (0, 1), (5, 0))] == [
        False,
        True,
        True,
        False,
    ]


def test_draws_in_several_batches_are_those_of_one() -> None:
    """Two clips are better and no other differs: the mean is as far from 0 when both or none are turned, 1 in 2."""
    before = {str(clip): [0.0] for clip in range(401)}
    found = paired(scored(TASK, before), scored(TASK, {**before, "0": [100.0], "1": [100.0]}))
    assert found.p_value == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize(
    ("population", "before"),
    [
        (
            MINI,
            {
                "average": "0x1.9dd3610b34f3ap+5 0x1.52aae19a6e392p+5 0x1.e940085d2421ap+5",
                "bounds": "0x1.951927f5d1e63p+5 0x1.a603cda02c8bep+5",
                TASKS[0]: "0x1.5aaaaaaaaaaabp+5 0x1.cd0456c797dd5p+4 0x1.d2aaaaaaaaaabp+5",
                TASKS[7]: "0x1.da12f684bda13p+5 0x1.2f72c234f72c2p+5 0x1.4745d1745d174p+6",
                "difference": "-0x1.3de10dc7ab877p+1 -0x1.edc27ba8149cep+2 0x1.8ee135bf0afebp+1",
            },
        ),
        (
            OFFICIAL,
            {
                "average": "0x1.97f65ebc71dddp+5 0x1.870c03173ffa5p+5 0x1.a95760990c280p+5",
                "bounds": "0x1.8fdf8dca23b0dp+5 0x1.a03d903ddc544p+5",
                TASKS[0]: "0x1.28122b7a5269cp+5 0x1.0d0918b0bb208p+5 0x1.43a2e5a30ce40p+5",
                TASKS[7]: "0x1.14d843bedc2c5p+6 0x1.0229cbc14e5e1p+6 0x1.26e5e0a72f054p+6",
                "difference": "0x1.bd6f089864e81p+1 0x1.f16114c34d8a0p+0 0x1.422f48f6c04dbp+2",
            },
        ),
    ],
)
def test_figures_are_those_of_the_version_that_drew_clips_for_each_of_them(
    population: Population, before: dict[str, str]
) -> None:
    """Bit for bit: scores of 0 and 100 add up exactly, in whatever order a machine adds."""
    a, b = population.draw(np.random.default_rng(7), (0.0, 0.2))
    a = [
        replace(r, percent=None, unscored="judge_failed:timeout") if not k % 50 else r
        for k, r in enumerate(a)
    ]
    average, difference = estimate(a), paired(a, b, draws=3000)
    found = {"average": ends(average), "bounds": f"{average.least.hex()} {average.most.hex()}"}
    found |= {task: ends(estimate([r for r in b if r.task == task], seed=3)) for task in (TASKS[0], TASKS[7])}
    assert found | {"difference": ends(difference)} == before


def ends(found: Estimate | Difference) -> str:
    return " ".join(figure.hex() for figure in (found.value, found.low, found.high))


def test_clips_are_drawn_once_for_all_figures_over_so_many_clips(monkeypatch: pytest.MonkeyPatch) -> None:
    begun, begin = [], np.random.default_rng
    monkeypatch.setattr(np.random, "default_rng", lambda seed: begun.append(seed) or begin(seed))
    [run] = MINI.draw(begin(0))
    each = [estimate([r for r in run if r.task == task], draws=200, seed=41) for task in TASKS[:6]]
    assert {found.clips for found in each} == {MINI.clips} and len({found.low for found in each}) > 1
    assert begun == [41]
    estimate(run, draws=200, seed=42)
    estimate([r for r in run if r.sample.clip != "0.mp4"], draws=200, seed=42)
    assert begun == [41, 42, 42], "another seed, and another number of clips"


def test_a_difference_that_is_not_there_is_seen_in_5_of_100_runs() -> None:
    rng, seen = np.random.default_rng(7), []
    for repeat in range(300):
        a, b = replace(MINI, easiness=(0.0, 0.5)).draw(rng, (0.0, 0.0))
        seen.append(paired(a, b, draws=400, seed=repeat).p_value < 0.05)
    assert 0.02 <= sum(seen) / 300 <= 0.085


def test_tasks_of_unlike_sizes_keep_their_weights() -> None:
    """A task that stands on 2 of 60 clips moves the average as much as the other; draws that miss it are made again."""
    rare = {"0": [0.0] * 3, "1": [100.0] * 3}
    often = {str(clip): [100.0 * (clip % 2)] for clip in range(60)}
    found = estimate([*scored(TASK, often), *scored(OTHER, rare)])
    assert found.value == 50.0 and found.high - found.low > 50.0
    assert isinstance(paired(scored(TASK, often), scored(TASK, often)), Difference) and len(TASKS) == 8
