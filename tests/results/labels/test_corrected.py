"""The corrected score: against worlds whose truth is known, ppi-python, and cases done by hand."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from official_runs import as_official
from scipy.special import stdtrit
from simulated_labels import JUDGES, LabelledWorld, judged
from typer.testing import CliRunner

from egost.main import app
from egost.results.labels.corrected import Scored, corrected_beside, corrected_score, estimate
from egost.results.labels.drawing import draw_labels
from egost.results.labels.label_file import Labels, Route, labels_path, response_hash
from egost.results.records import SampleRecord
from egost.results.run import Run, read_run
from egost.results.run_header import RunError

RUNS = 200


def evenly_drawn(judge: list[float], people: list[float], clip: list[int]) -> Scored:
    """One stratum; people: NaN where nobody labelled."""
    labelled = np.isfinite(people).sum()
    n = len(judge)
    return Scored(
        np.array(judge), np.array(people), np.full(n, labelled / n), np.zeros(n, int), np.array(clip)
    )


@pytest.mark.parametrize("finished", [1.0, 0.75])
@pytest.mark.parametrize("judge", JUDGES)
def test_the_interval_holds_the_truth_and_no_label_is_wasted(judge: str, finished: float) -> None:
    world, rng = LabelledWorld(judge, finished=finished), np.random.default_rng(0)
    truth = world.truth()
    found = [estimate(world.draw(rng)) for _ in range(RUNS)]
    held = np.mean([one.low <= truth <= one.high for one in found])
    # 95 %, give or take 2.6 standard errors of 200 runs; `make bench` has 2,000 and takes 93 to 97.
    assert 0.91 <= held <= 0.99
    spread, alone = (np.std([getattr(one, name) for one in found]) for name in ("value", "people"))
    assert spread <= alone * {"good": 0.97, "bad": 1.03, "biased": 1.0}[judge]
    assert all(one.high - one.low <= one.people_high - one.people_low + 1e-9 for one in found)
    assert abs(np.mean([one.value for one in found]) - truth) < 3 * spread / math.sqrt(RUNS)
    judged_alone = np.mean([one.judge for one in found])
    assert abs(judged_alone - truth) < 1 if judge == "good" else abs(judged_alone - truth) > 8


@pytest.mark.parametrize(("seed", "n", "others"), [(0, 40, 400), (1, 100, 300), (2, 60, 1000)])
def test_without_clips_and_with_equal_weights_as_ppi_python(seed: int, n: int, others: int) -> None:
    """Its interval takes 1.96 and n, and forgets that the weight was chosen on the same labels. The rest is alike."""
    from ppi_py import ppi_mean_ci, ppi_mean_pointestimate

    rng = np.random.default_rng(seed)
    y = rng.integers(0, 16, n + others) / 15 * 100
    f = np.clip(np.round((y + rng.normal(0, 20 + 20 * seed, n + others)) / 100 * 15), 0, 15) / 15 * 100
    value = ppi_mean_pointestimate(y[:n], f[:n], f[n:]).item()
    low, high = (end.item() for end in ppi_mean_ci(y[:n], f[:n], f[n:], alpha=0.05))
    labelled = np.arange(n + others) < n
    found = estimate(evenly_drawn([*f], [*np.where(labelled, y, np.nan)], [*range(n + others)]))
    wider = -stdtrit(n - 1, 0.025) / 1.959964 * math.sqrt(n / (n - 1) * n / (n - 2))
    assert found.value == pytest.approx(value, abs=0.1)
    assert (found.high - found.low) / wider == pytest.approx(high - low, rel=0.005)
    assert found.people == pytest.approx(y[:n].mean()) and found.judge == pytest.approx(f.mean())


def test_a_constant_judge_leaves_the_labels_alone() -> None:
    """Strata of 30 and 10: 3/4 of the first's mean 40, 1/4 of the second's mean 80, however many were labelled."""
    people = [20.0, 40.0, 60.0] + [math.nan] * 27 + [70.0, 75.0, 80.0, 85.0, 90.0] + [math.nan] * 5
    found = estimate(
        Scored(
            np.full(40, 33.3),
            np.array(people),
            np.array([0.1] * 30 + [0.5] * 10),
            np.array([0] * 30 + [1] * 10),
            np.arange(40),
        )
    )
    assert found.value == found.people == pytest.approx(50) and found.weight == 0
    # A stratum brings its size times (its mean - 50)^2, and (size / labels)^2 n / (n - 1) times its squared distances.
    between, first, second = 30 * 10**2 + 10 * 30**2, 10**2 * 1.5 * 800, 2**2 * 1.25 * 250
    variance = between + first + second
    freedom = variance**2 / (between**2 / 7 + first**2 / 2 + second**2 / 4)
    assert found.high - found.value == pytest.approx(-stdtrit(freedom, 0.025) * math.sqrt(variance) / 40)
    assert found.share_of_labels == pytest.approx((first + second) / variance)


def test_a_perfect_judge_that_flatters_by_ten_points() -> None:
    """The judge says 10 points more of each: people's mean is the judge's less 10, and labels cost nothing."""
    judge = [30.0, 50.0, 70.0, 90.0] * 25
    people = [score - 10 if number % 5 == 0 else math.nan for number, score in enumerate(judge)]
    found = estimate(evenly_drawn(judge, people, [*range(100)]))
    assert (
        found.judge == 60 and found.value == pytest.approx(50) and found.weight == pytest.approx(1, rel=0.01)
    )
    assert found.share_of_labels < 0.001 and found.labels_for_half is None


def test_a_clip_counts_once_however_many_questions_it_has() -> None:
    judge, people = [30.0, 50.0, 70.0, 90.0] * 10, [20.0, 60.0, 60.0, 90.0] * 5 + [math.nan] * 20
    alone = estimate(evenly_drawn(judge, people, [*range(40)]))
    doubled = estimate(evenly_drawn(judge * 2, people * 2, [*range(40)] * 2))
    apart = estimate(evenly_drawn(judge * 2, people * 2, [*range(80)]))
    assert doubled.value == pytest.approx(alone.value) == apart.value
    assert doubled.clips == alone.clips == 20
    width, twice, half = (found.high - found.low for found in (alone, doubled, apart))
    # 20 labels or 40 of a stratum: n / (n - 1) differs.
    assert twice == pytest.approx(width, rel=0.03) and half < 0.75 * width


def test_strata_without_enough_labels_are_taken_together() -> None:
    people = [50.0, 70.0, *[math.nan] * 8, 90.0, *[math.nan] * 9, *[math.nan] * 10, 10.0]
    scored = Scored(
        np.full(31, 50.0),
        np.array(people),
        np.array([0.2] * 10 + [0.1] * 20 + [1.0]),
        np.array([0] * 10 + [1] * 10 + [2] * 10 + [3]),
        np.arange(31),
    )
    # Strata 1 and 2 have one label between them, so that they join stratum 0, with weights of 5, 5 and 10: mean 75.
    # Stratum 3 is one sample, labelled: 10.
    assert estimate(scored).people == pytest.approx((30 * (5 * 50 + 5 * 70 + 10 * 90) / 20 + 10) / 31)


def test_as_many_labels_as_are_said_halve_the_interval() -> None:
    world = replace(LabelledWorld("bad"), clips=4000, labels=6)
    first = [estimate(world.draw(np.random.default_rng(seed))) for seed in range(20)]
    more = [one.labels_for_half for one in first if one.labels_for_half]
    assert len(more) == 20
    per_stratum = round(np.median(more) / 10)
    second = [
        estimate(replace(world, labels=per_stratum).draw(np.random.default_rng(seed))) for seed in range(20)
    ]
    width, later = (np.median([one.high - one.low for one in found]) for found in (first, second))
    assert later == pytest.approx(width / 2, rel=0.07)


def run_of(clips: int, seed: int = 0) -> list[SampleRecord]:
    rng = np.random.default_rng(seed)
    return [
        judged(clip, f"{clip}.mp4", (*map(int, rng.integers(0, 6, 3)),), way, f"walk {clip} {way}")  # type: ignore[arg-type]
        for clip in range(clips)
        for way in ("forward", "reverse")
    ]


def labelled(records: list[SampleRecord], n: int, less: int = 1) -> Labels:
    """Labels of n routes, each score lower than the judge's by `less`, and not below 0."""
    drawn = draw_labels(records, n)
    by_id = {record.sample.id: record.judgement for record in records}
    return replace(
        drawn,
        labels={
            (name, "anna"): tuple(  # type: ignore[misc]
                max(0, getattr(by_id[name], aspect) - less)
                for aspect in ("direction", "landmark", "semantic")
            )
            for name in drawn.drawn
        },
    )


def test_a_run_is_corrected_by_its_labels() -> None:
    records = run_of(100)
    people = np.mean(
        [p for p in labelled(records, 200).by_sample().values() for p in [np.mean([*p.values()])]]
    )
    found = corrected_score(labelled(records, 60), records)
    assert (found.n, found.labelled) == (200, 60) and found.judge == pytest.approx(
        np.mean([record.percent for record in records])
    )
    assert found.low < people * 20 < found.high and abs(found.value - people * 20) < 2
    # With all of them labelled it is the mean of the labels.
    assert corrected_score(labelled(records, 200), records).value == pytest.approx(people * 20)


def test_an_empty_description_is_nothing_to_everybody() -> None:
    records = run_of(50)
    silent = [judged(100 + n, f"{n}.mp4", (0, 0, 0), "forward", "") for n in range(100)]
    labels = labelled(records, 100, less=0)
    alone, with_silent = corrected_score(labels, records), corrected_score(labels, [*records, *silent])
    assert alone.value == pytest.approx(alone.judge) and with_silent.value == pytest.approx(alone.value / 2)
    assert with_silent.labelled == alone.labelled == 100 and with_silent.n == 200


def test_what_corrects_no_score() -> None:
    records = run_of(40)
    few = replace(
        (labels := labelled(records, 60)),
        labels={key: scores for key, scores in labels.labels.items() if int(key[0].rpartition("/")[2]) < 9},
    )
    with pytest.raises(RunError, match=r"labels of \d clips correct no score: 10 are the least"):
        corrected_score(few, records)
    other = [replace(record, response="another walk") for record in records]
    with pytest.raises(RunError, match="has another response there"):
        corrected_score(labels, other)


def test_labels_are_found_beside_the_run_that_they_are_of(tmp_path: Path) -> None:
    records, file = run_of(60), tmp_path / "b_results.json"
    assert corrected_beside(file, records) == {}
    labelled(records, 60).write(tmp_path / "b_labels.csv")
    found = corrected_beside(file, records)
    # A copy of the run that another judge scored has the same responses and the same labels.
    assert corrected_beside(tmp_path / "b-judged-20260101_000000_results.json", records) == found
    assert [*found] == ["egost_route_forward", "egost_route_reverse"]
    forward = found["egost_route_forward"]
    assert not isinstance(forward, str) and forward.n == 60
    assert str(forward).startswith(
        f"{forward.value:.1f} ({forward.low:.1f} to {forward.high:.1f}); the judge alone"
    )
    with pytest.raises(RunError, match="the labels are not of this run"):
        corrected_beside(file, [replace(record, response="another walk") for record in records])
    Labels(labelled(records, 60).routes, {}).write(tmp_path / "b_labels.csv")
    assert "labels of 0 clips correct no score" in str(corrected_beside(file, records)["egost_route_forward"])
    (tmp_path / "b_labels.csv").write_text("sample\n", encoding="utf-8")
    with pytest.raises(RunError, match=r"b_labels\.csv"):
        corrected_beside(file, records)


def test_labels_of_another_version_of_the_judge_count_alike() -> None:
    """The strata are those of the drawing, whatever a second judge says."""
    records = run_of(100)
    labels = labelled(records, 100)
    other = [
        judged(i // 2, f"{i // 2}.mp4", (3, 3, 3), r.sample.way, r.response) for i, r in enumerate(records)
    ]
    found = corrected_score(labels, other)
    assert found.judge == 60 and found.weight == 0 and found.value == found.people
    assert found.people == pytest.approx(corrected_score(labels, records).people)
    route = labels.routes[records[0].sample.id]
    assert route == Route(
        route.sample, response_hash(other[0]), route.stratum, route.probability, route.drawn
    )


def more_routes(task: str, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """40 routes of 40 clips, of which the judge says what their numbers say."""
    if not task.startswith("route"):
        return rows
    made = []
    for number in range(40):
        row = json.loads(json.dumps(rows[number % len(rows)]))
        scores = dict(
            zip(("direction", "landmark", "semantic"), (number % 6, number % 4, 2 + number % 3), strict=True)
        )
        row["percent"] |= {
            "sample_id": f"Part1/{task}/{number}",
            "clip": f"{number}.mp4",
            "score": sum(scores.values()) * 20 / 3,
        }
        row["percent"]["judgement"] |= {"sample_id": row["percent"]["sample_id"], **scores}
        made.append(row | {"compat": row["percent"]["score"], "filtered_resps": [f"walk {number}"]})
    return made


@pytest.fixture
def labelled_file(demo_run: Run, tmp_path: Path) -> Path:
    """A run of the benchmark's name, 25 of its 80 routes labelled, each score lower than the judge's by 1."""
    file = as_official(demo_run, tmp_path / "run", rows=more_routes)
    routes = [record for record in read_run(file).records if record.sample.task == "route"]
    labelled(routes, 25).write(labels_path(file))
    return file


def test_the_corrected_score_stands_beside_the_judges_own(labelled_file: Path, tmp_path: Path) -> None:
    score = corrected_beside(labelled_file, read_run(labelled_file).records)["egost_route_forward"]
    assert not isinstance(score, str) and score.judge - 20 < score.value < score.judge - 10
    told = f"corrected by people's labels: {score}"
    summary = CliRunner().invoke(app, ["summary", str(labelled_file)]).output
    assert f"egost_route_forward, {told}" in summary and "egost_route_reverse, corrected" in summary
    board = json.loads(
        CliRunner().invoke(app, ["leaderboard", str(labelled_file), "--format", "json"]).output
    )
    rows = [row for table in board["tables"] for row in table["rows"] if row["origin"] == "run"]
    cells = [row["cells"]["route_forward"] for row in rows if "route_forward" in row["cells"]]
    assert [cell["notes"] for cell in cells] == [[told]] and cells[0]["percent"] == pytest.approx(score.judge)
    [of_table_2] = [
        row for table in board["tables"] if table["number"] == 2 for row in table["rows"] if row in rows
    ]
    assert of_table_2["cells"]["avg_forward"]["notes"] == [told]
    assert of_table_2["cells"]["direction_forward"]["notes"] == []
    page = tmp_path / "page.html"
    assert CliRunner().invoke(app, ["report", str(labelled_file), "-o", str(page)]).exit_code == 0
    shown = page.read_text(encoding="utf-8")
    assert "Route score corrected by people&#39;s labels" in shown
    assert f"<td>{score.low:.1f} to {score.high:.1f}</td>" in shown


def test_without_labels_nothing_is_said_of_them(labelled_file: Path, tmp_path: Path) -> None:
    labels_path(labelled_file).unlink()
    summary = CliRunner().invoke(app, ["summary", str(labelled_file)])
    board = CliRunner().invoke(app, ["leaderboard", str(labelled_file), "--format", "json"])
    page = tmp_path / "page.html"
    CliRunner().invoke(app, ["report", str(labelled_file), "-o", str(page)])
    for text in (summary.output, board.output, page.read_text(encoding="utf-8")):
        assert text and "people" not in text


def test_damaged_labels_cost_nothing_but_the_correction(labelled_file: Path, tmp_path: Path) -> None:
    labels_path(labelled_file).write_text("sample,rater\n", encoding="utf-8")
    page = tmp_path / "page.html"
    for words in (["summary"], ["leaderboard"], ["report", "-o", str(page)]):
        done = CliRunner().invoke(app, [words[0], str(labelled_file), *words[1:]])
        assert done.exit_code == 0, done.output
        text = page.read_text(encoding="utf-8") if words[0] == "report" else done.output
        assert "it is no file of labels" in " ".join(text.split())


def test_how_many_labels_halve_the_interval(labelled_file: Path) -> None:
    score = corrected_beside(labelled_file, read_run(labelled_file).records)["egost_route_forward"]
    assert not isinstance(score, str)
    done = CliRunner().invoke(app, ["power", str(labelled_file), "--labels"])
    assert done.exit_code == 0 and str(score) in done.output
    # The judge is off by 1 each time, but for what is 0 already: nearly all of the width is that of 40 clips.
    assert (
        score.labels_for_half is None and "no number of labels halves its interval, which is" in done.output
    )
    assert f"all 40 would leave {score.half_interval(40):.1f}" in done.output
    plenty = replace(score, share_of_labels=1.0, labelled=10)
    assert plenty.labels_for_half == 40 and plenty.half_interval(40) == pytest.approx(
        (score.high - score.low) / 4
    )
    labels_path(labelled_file).unlink()
    done = CliRunner().invoke(app, ["power", str(labelled_file), "--labels"])
    assert done.exit_code == 2 and "no labels of this run lie beside" in done.output
    assert CliRunner().invoke(app, ["power", "--labels"]).exit_code == 2
