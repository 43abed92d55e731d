"""Agreement of raters and judges: against known noise, scikit-learn, the krippendorff package, and words by hand."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from simulated_labels import judged
from typer.testing import CliRunner

from egost.main import app
from egost.results.labels.agreement import Agreement, agreement, interval_alpha, judges_of, quadratic_kappa
from egost.results.labels.agreement_report import lines, meaning, to_json
from egost.results.labels.drawing import draw_labels
from egost.results.labels.label_file import Labels, Triple
from egost.results.records import SampleRecord
from egost.results.run import Run, read_run
from egost.results.run_header import RunError
from egost.tasks.judging.judge import ASPECTS, JudgeFailure, Judgement, Vote

Scores = NDArray[np.int64]
CLIPS = 700


def world(clips: int, seed: int = 0) -> tuple[Scores, np.random.Generator]:
    """What routes are worth, 1 to 4 each alike often, shape (clips, 3); noise of -1, 0, 1 leaves no scale."""
    rng = np.random.default_rng(seed)
    return rng.integers(1, 5, (clips, 3)), rng


def run_of(scores: Scores, words: int = 5) -> list[SampleRecord]:
    return [
        judged(
            number,
            f"{number}.mp4",
            (int(row[0]), int(row[1]), int(row[2])),
            ("forward", "reverse")[number % 2],
            f"{number} " + "left " * (words + number % 7),
        )
        for number, row in enumerate(scores)
    ]


def labels_of(records: list[SampleRecord], **raters: Scores) -> Labels:
    """Labels of all records by each rater."""
    given: dict[tuple[str, str], Triple] = {
        (record.sample.id, rater): (int(row[0]), int(row[1]), int(row[2]))
        for rater, scores in raters.items()
        for record, row in zip(records, scores, strict=True)
    }
    return replace(draw_labels(records, len(records)), labels=given)


def simulated() -> Agreement:
    """Two raters and a judge, each with noise of its own."""
    true, rng = world(CLIPS)
    anna, ben, judge = (true + rng.integers(-1, 2, true.shape) for _ in range(3))
    records = run_of(judge)
    return agreement(labels_of(records, anna=anna, ben=ben), {"judge": records})


def test_known_noise_gives_the_known_figures() -> None:
    """Worth has a variance of 1.25, noise of 2/3: two raters share 1.25 / 1.917 = 0.652 of what they say."""
    found = simulated()
    for aspect in (*ASPECTS, "percent"):
        pair = found.raters["anna, ben"][aspect]
        for figure in (pair.kappa, pair.alpha, found.alpha[aspect]):
            assert figure.value == pytest.approx(1.25 / (1.25 + 2 / 3), abs=0.06)
            assert figure.low < 1.25 / (1.25 + 2 / 3) < figure.high and figure.high - figure.low < 0.12
        assert pair.difference.low < 0 < pair.difference.high and pair.n == pair.clips == CLIPS
        # The mean of two raters has half the noise: 2 * 1.25 / (1.25 + 1/3 + 1.25 + 2/3) = 0.714.
        of_judge = found.judges["judge"][aspect]
        assert of_judge.kappa.value == pytest.approx(2.5 / 3.5, abs=0.06)
        # 1.25 / sqrt((1.25 + 1/3) (1.25 + 2/3)) = 0.718, were ranks as far from each other as scores.
        assert of_judge.rho.value == pytest.approx(0.718, abs=0.07)


def test_a_judge_that_flatters_is_noticed_and_by_how_much() -> None:
    true, rng = world(CLIPS)
    judge = true + 1
    records = run_of(judge)
    anna = true + rng.integers(-1, 2, true.shape)
    found = agreement(labels_of(records, anna=anna), {"judge": records}).judges["judge"]
    assert found["direction"].difference.value == pytest.approx(1, abs=0.1)
    assert found["percent"].difference.value == pytest.approx(20, abs=2)
    # 2 * 1.25 / (1.25 + 1.917 + 1) for each aspect.
    assert found["semantic"].kappa.value == pytest.approx(2.5 / (1.25 + 1.25 + 2 / 3 + 1), abs=0.06)
    for part in ("forward", "reverse", "short", "long"):
        assert 15 < found[part].difference.low < found[part].difference.high < 25, part
    assert found["forward"].n == found["reverse"].n == 350
    # 3 of 7 lengths lie above the median, which is that of the fourth.
    assert (found["long"].n, found["short"].n) == (300, 400)


def test_as_scikit_learn_and_krippendorff_compute_them() -> None:
    import krippendorff
    from sklearn.metrics import cohen_kappa_score

    true, rng = world(200)
    x, y = (true[:, 0] + rng.integers(-1, 2, 200) for _ in range(2))
    weights = np.vstack([np.ones(200), rng.multinomial(200, np.full(200, 1 / 200), 4)]).astype(float)
    ours = quadratic_kappa(x.astype(float), y.astype(float), weights)
    alphas = interval_alpha(list(zip(map(float, x), map(float, y), strict=True)), weights)
    for row, kappa, alpha in zip(weights, ours, alphas, strict=True):
        theirs = cohen_kappa_score(x, y, weights="quadratic", labels=range(6), sample_weight=row)
        assert kappa == pytest.approx(theirs)
        times = row.astype(int)
        drawn = np.vstack([np.repeat(x, times), np.repeat(y, times)]).astype(float)
        assert alpha == pytest.approx(krippendorff.alpha(drawn, level_of_measurement="interval"))
    # Three raters, of whom the third came to half of the samples.
    third = np.where(np.arange(200) % 2, true[:, 0], np.nan)
    table = np.vstack([x, y, third])
    several = [[float(score) for score in column if np.isfinite(score)] for column in table.T]
    assert interval_alpha(several, np.ones((1, 200)))[0] == pytest.approx(
        krippendorff.alpha(table, level_of_measurement="interval")
    )


def test_the_interval_is_by_clips() -> None:
    """Each clip twice, its samples alike: as wide as with one of them, and 1.4 times as wide as with clips apart."""
    true, rng = world(150)
    anna, judge = (np.repeat(true + rng.integers(-1, 2, true.shape), 2, axis=0) for _ in range(2))
    records = run_of(judge)
    on_clips = [
        replace(record, sample=replace(record.sample, clip=f"{number // 2}.mp4"))
        for number, record in enumerate(records)
    ]

    def width(of: list[SampleRecord]) -> float:
        kappa = agreement(labels_of(of, anna=anna), {"judge": of}).judges["judge"]["percent"].kappa
        return kappa.high - kappa.low

    assert 1.2 < width(on_clips) / width(records) < 1.6


def test_a_route_weighs_as_many_as_it_was_drawn_from() -> None:
    """Of 100 routes 40 are contested and all drawn, of the other 60 every second one: these count twice."""
    true, _ = world(100)
    judge = np.where(np.arange(100)[:, None] < 40, 0, true)
    records = run_of(judge)
    labels = labels_of(records, anna=true)
    drawn = {
        name: replace(route, probability=1.0 if number < 40 else 0.5)
        for number, (name, route) in enumerate(labels.routes.items())
    }
    half = {key: scores for k, (key, scores) in enumerate(labels.labels.items()) if k < 40 or k % 2}
    of_half = agreement(replace(labels, routes=drawn, labels=half), {"judge": records}).judges["judge"][
        "percent"
    ]
    assert of_half.n == 70
    # 40 of 100, not of 70, are 0 with the judge.
    assert of_half.difference.value == pytest.approx(-(true[:40].sum(axis=1) * 20 / 3).sum() / 100)


def test_the_sentences() -> None:
    found = simulated()
    people, judge = meaning(found)
    assert people.startswith("anna and ben agree with an alpha of 0.6")
    assert "too few labels to tell whether their labels are worth" in people
    assert judge.startswith("judge: substantial agreement with people on 700 routes of 700 clips, kappa 0.7")
    assert (
        "tentative" in judge or "too few labels to tell" in judge
    ) and "Whether it flatters cannot be told" in judge
    true, rng = world(400)
    exact, random = run_of(true), run_of(rng.integers(0, 6, true.shape))
    lenient = run_of(np.minimum(true + 1, 5))
    alone = labels_of(exact, anna=true)
    told = meaning(agreement(alone, {"exact": exact, "random": random, "lenient": lenient}))
    assert told[0].startswith("anna labelled alone: how far people agree is not known. A second rater tells")
    assert "almost perfect agreement" in told[1] and "its scores can be relied on" in told[1]
    assert "slight agreement" in told[2] or "poor agreement" in told[2]
    assert "its scores are not worth ranking models by" in told[2]
    assert "It flatters: 20.0 (20.0 to 20.0) points above people." in told[3]


def test_the_sentences_where_nothing_can_be_told() -> None:
    true, rng = world(30)
    records = run_of(true)
    five = labels_of(records, anna=true)
    five = replace(five, labels=dict([*five.labels.items()][:5]))
    assert (
        "5 routes of 5 clips are too few to tell anything" in meaning(agreement(five, {"judge": records}))[1]
    )
    alike = np.full_like(true, 3)
    found = agreement(labels_of(records, anna=alike, ben=alike), {"judge": records})
    assert meaning(found)[0].startswith("anna and ben gave all routes one score")
    assert "gave all of 30 routes of 30 clips one score" in meaning(found)[1]
    apart = labels_of(records, anna=true, ben=true)
    apart = replace(
        apart,
        labels={
            key: scores
            for key, scores in apart.labels.items()
            if (key[1] == "anna") == (int(key[0].rpartition("/")[2]) < 15)
        },
    )
    found = agreement(apart, {"judge": records})
    assert (
        meaning(found)[0]
        == "anna and ben have labelled no route in common yet: how far people agree is not known."
    )
    json.dumps(to_json(found), allow_nan=False)
    assert [line[0] for line in lines(found)] == ["people, judge"] * 8
    noisy = agreement(
        labels_of(records, anna=np.clip(true + rng.integers(-1, 2, true.shape), 0, 5)), {"judge": records}
    )
    assert "too few labels to tell whether its scores are worth ranking models by" in meaning(noisy)[1]


def test_what_is_refused() -> None:
    true, _ = world(20)
    records = run_of(true)
    labels = labels_of(records, anna=true)
    with pytest.raises(RunError, match="nothing is labelled yet"):
        agreement(replace(labels, labels={}), {"judge": records})
    with pytest.raises(RunError, match="has another response there"):
        agreement(labels, {"judge": [replace(record, response="elsewhere") for record in records]})
    with pytest.raises(RunError, match="none of their samples is there"):
        agreement(labels, {"judge": []})
    failed = [
        replace(record, judgement=JudgeFailure(record.sample.id, "timeout", "", "late"), percent=None)
        for record in records
    ]
    with pytest.raises(RunError, match="late has scored none of the 20 labelled routes"):
        agreement(labels, {"judge": records, "late": failed})


def labelled_run(run: Run, rng: np.random.Generator) -> Path:
    """A file of labels beside the run, by two raters, of all of its routes."""
    routes = [record for record in run.records if record.sample.task == "route"]
    drawn = draw_labels(routes, len(routes))
    given: dict[tuple[str, str], Triple] = {}
    for name in drawn.drawn:
        for rater in ("anna", "ben"):
            a, b, c = map(int, rng.integers(0, 6, 3))
            given[name, rater] = (a, b, c)
    path = run.results_file.with_name(f"{run.results_file.name.removesuffix('_results.json')}_labels.csv")
    replace(drawn, labels=given).write(path)
    return path


def test_the_command_and_its_files(copied_run: Run, tmp_path: Path) -> None:
    labels = labelled_run(copied_run, np.random.default_rng(0))
    run = str(copied_run.results_file)
    done = CliRunner().invoke(app, ["judge", "agree", str(labels), run, run])
    assert done.exit_code == 0, done.output
    assert "anna, ben" in done.output and "people, offline-rubric-3" in done.output
    assert "12 routes of 6 clips are too few to tell anything; 10 clips are the least" in done.output
    picture = labels.with_name(f"{labels.name.removesuffix('_labels.csv')}_agreement.png")
    figures = json.loads(picture.with_suffix(".json").read_bytes())
    assert figures["judges"]["offline-rubric-3"]["percent"]["n"] == 12 and len(figures["meaning"]) == 3
    assert len(figures["judges"]) == 2, "a judge that comes twice keeps both"
    with Image.open(picture) as shown:
        assert shown.width == 1200
    elsewhere = tmp_path / "a.png"
    assert CliRunner().invoke(app, ["judge", "agree", str(labels), run, "-o", str(elsewhere)]).exit_code == 0
    assert elsewhere.is_file() and elsewhere.with_suffix(".json").is_file()
    missing = CliRunner().invoke(app, ["judge", "agree", str(tmp_path / "no.csv"), run])
    assert missing.exit_code == 2 and "no.csv cannot be read" in missing.output


def test_each_judge_of_a_panel_stands_by_itself(demo_run: Run) -> None:
    def voted(record: SampleRecord) -> SampleRecord:
        if not isinstance(own := record.judgement, Judgement):
            return record
        votes = (Vote("strict", (0, 1, 2)), Vote("late", None, "timeout"))
        return replace(record, judgement=replace(own, votes=votes))

    run = read_run(demo_run.results_file)
    run.__dict__["records"] = tuple(map(voted, run.records))
    found = judges_of([run])
    assert [*found] == ["offline-rubric-3", "strict", "late"]
    assert {record.percent for record in found["strict"]} == {20.0} and len(found["strict"]) == 12
    assert all(isinstance(record.judgement, JudgeFailure) for record in found["late"])
    assert all(math.isfinite(record.percent or 0) for record in found["offline-rubric-3"])
