"""Which routes people are asked about: how many of each stratum, from which clips, with which probability."""

from __future__ import annotations

import statistics
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from planted_run import planted
from report_record import route_record

from egost.results.labels.drawing import draw_labels, judged_routes, most_contested, opened_labels
from egost.results.labels.label_file import labels_path, read_labels
from egost.results.records import SampleRecord
from egost.results.rejudge import rejudge
from egost.results.run import Run, read_run
from egost.results.run_header import RunError
from egost.tasks.judging.choose import get_judge
from egost.tasks.judging.judge import Judgement, Vote


def clips(number: int) -> list[SampleRecord]:
    """Two routes of each clip; the forward ones get 0, 0, 3, the reverse ones 5, 5, 5: two strata."""
    return [
        route_record(key, scores, way)
        for key in range(number)
        for way, scores in (("forward", (0, 0, 3)), ("reverse", (5, 5, 5)))
    ]


def test_each_stratum_gets_two_and_then_its_share() -> None:
    # Of 12, 10 and 1: 2, 2 and 1 are 5; the other 10 go by the room of 10, 8 and 0: 5.56 and 4.44.
    records = [route_record(key, (5, 5, 5)) for key in range(12)]
    records += [route_record(key, (0, 0, 0), "reverse") for key in range(20, 30)]
    records += [route_record(40, (2, 2, 2))]
    labels = draw_labels(records, 15)
    drawn = Counter(labels.routes[sample].stratum for sample in labels.drawn)
    assert drawn == {"forward 80-100": 8, "reverse 0-20": 6, "forward 20-40": 1}


@pytest.mark.parametrize("n", [1, 2, 3, 4, 7, 20, 59, 60, 1000])
def test_as_many_are_drawn_as_were_asked_for(n: int) -> None:
    labels = draw_labels(clips(30), n)
    assert len(labels.drawn) == min(n, 60)
    for route in labels.routes.values():
        members = [other for other in labels.routes.values() if other.stratum == route.stratum]
        assert route.probability == sum(other.drawn for other in members) / len(members) > 0


def test_every_route_of_a_stratum_is_as_likely_as_its_probability() -> None:
    """Three questions of one clip, beside clips with one: 2,000 drawings, 4 standard deviations about 2 of 5."""
    records = [route_record(k, (5, 5, 5)) for k in range(5)]
    one = records[0].sample.clip
    records[1:3] = [replace(r, sample=replace(r.sample, clip=one)) for r in records[1:3]]
    times = Counter(sample for seed in range(2000) for sample in draw_labels(records, 2, seed).drawn)
    assert all(abs(times[record.sample.id] - 800) < 4 * (2000 * 0.4 * 0.6) ** 0.5 for record in records)


def test_the_routes_come_from_as_many_clips_as_can_be() -> None:
    """40 of 80 routes of 40 clips: independent drawings would leave a quarter of the clips out, 10."""
    found = []
    for seed in range(20):
        labels = draw_labels(records := clips(40), 40, seed)
        found.append(len({r.cluster for r in records if labels.routes[r.sample.id].drawn}))
    assert sum(found) / 20 > 35


def test_another_seed_draws_others_and_the_same_one_the_same() -> None:
    records = clips(30)
    assert draw_labels(records, 20, 1) == draw_labels(records, 20, 1) != draw_labels(records, 20, 2)


def test_what_says_nothing_or_is_unjudged_is_not_asked_about() -> None:
    records = clips(3)
    assert records[0].judgement and isinstance(records[0].judgement, Judgement)
    records[0] = replace(records[0], judgement=replace(records[0].judgement, empty=True))
    records[1] = replace(records[1], judgement=None, percent=None, unscored="judge_failed:timeout")
    assert set(draw_labels(records, 60).routes) == {r.sample.id for r in records[2:]}
    with pytest.raises(RunError, match=r"no judged route.*egost judge RUN --judge NAME"):
        draw_labels(records[:2], 60)


def voted(record: SampleRecord, *percents: int) -> SampleRecord:
    """The record with a vote of each judge: 20 percent points a score."""
    assert isinstance(record.judgement, Judgement)
    votes = tuple(Vote(f"judge-{k}", (p // 20,) * 3) for k, p in enumerate(percents))
    return replace(record, judgement=replace(record.judgement, votes=votes))


class Judged(Run):
    """Records in the place of a run's files."""

    def __init__(self, records: Sequence[SampleRecord]) -> None:
        object.__setattr__(self, "records", tuple(records))


def test_the_most_contested_are_those_whose_judges_differ_most() -> None:
    records = [route_record(k, (2, 2, 2)) for k in range(5)]
    apart = [(0, 100), (40, 40), (20, 60, 40), (60,), (80, 100)]
    run = Judged([voted(record, *percents) for record, percents in zip(records, apart, strict=True)])
    ids = [record.sample.id for record in records]
    assert most_contested([run], 10) == [ids[0], ids[2], ids[4]]
    assert most_contested([run], 2) == [ids[0], ids[2]]


def test_contested_routes_are_a_stratum_of_their_own_all_drawn() -> None:
    records = clips(20)
    first = [record.sample.id for record in records[:5]]
    for seed in range(10):
        labels = draw_labels(records, 15, seed, contested=first)
        assert len(labels.drawn) == 15 and set(first) <= set(labels.drawn)
        by_stratum = defaultdict(list)
        for route in labels.routes.values():
            by_stratum[route.stratum].append(route)
        assert [r.sample for r in by_stratum["contested"]] == first
        assert {r.probability for r in by_stratum["contested"]} == {1.0}
        # What keeps the corrected score without bias: each drawn route stands for 1 / p of the run, all 40 together.
        assert sum(1 / labels.routes[name].probability for name in labels.drawn) == pytest.approx(40)
    with pytest.raises(RunError, match="5 labels, all of them contested"):
        draw_labels(records, 5, contested=first)


def test_a_mean_that_is_weighted_by_probability_has_no_bias() -> None:
    """People give 0 to the contested routes, 20 to 100 to the others by their clip; 500 drawings of 12 of 40."""
    records = clips(20)
    contested = [record.sample.id for record in records[:6]]
    people = {r.sample.id: 0.0 if k < 6 else 20.0 * (1 + k // 2 % 5) for k, r in enumerate(records)}
    truth = sum(people.values()) / 40
    found = []
    for seed in range(500):
        labels = draw_labels(records, 12, seed, contested)
        found.append(sum(people[name] / labels.routes[name].probability for name in labels.drawn) / 40)
    error = statistics.stdev(found) / 500**0.5
    assert abs(statistics.fmean(found) - truth) < 4 * error and error < 1
    # Unweighted, the contested ones, half of the labels, would halve the mean.
    assert truth > 40


def test_a_run_that_two_judges_scored_one_after_the_other(demo_run: Run, tmp_path: Path) -> None:
    """The planted scores of one judge, the rules' of the other; the labels stay when a third one comes."""
    run = planted(demo_run, tmp_path / "run", times=2)
    for path in run.samples_files:
        path.write_text(path.read_text().replace("offline-rubric", "another-judge"))
    run = read_run(run.results_file)
    with pytest.raises(RunError, match="one judge alone has scored the run"):
        opened_labels(run, 12, 4)
    before = {r.sample.id: r.percent for r in judged_routes(run.records)}
    again = read_run(rejudge(run, get_judge("offline")))
    after = {r.sample.id: r.percent for r in judged_routes(again.records)}
    differences = sorted((abs((before[name] or 0) - (after[name] or 0)) for name in after), reverse=True)
    file = opened_labels(again, 12, 4)
    assert file == labels_path(run.results_file) == labels_path(again.results_file)
    labels = read_labels(file)
    contested = [route.sample for route in labels.routes.values() if route.stratum == "contested"]
    found = sorted((abs((before[name] or 0) - (after[name] or 0)) for name in contested), reverse=True)
    assert found == pytest.approx(differences[:4]) and len(labels.drawn) == 12
    labels.with_label(contested[0], "anna", (1, 2, 3)).write(file)
    third = read_run(rejudge(again, get_judge("offline")))
    for n, contested_n in ((None, None), (12, None), (12, 4)):
        assert opened_labels(third, n, contested_n) == file
    assert read_labels(file).raters == ["anna"]
    with pytest.raises(RunError, match="holds 12 drawn routes, not 13"):
        opened_labels(third, 13, None)
