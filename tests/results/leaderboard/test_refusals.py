"""Each rule of the leaderboard by itself, on entries with samples made by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from simulated_runs import record

from egost.results.leaderboard.entries import Entry, read_entry
from egost.results.leaderboard.rules import (
    Column,
    deviations,
    ood_refusal,
    refusals,
    train_label,
    whole_release,
)
from egost.results.published_tables import TableNumber
from egost.results.records import SampleRecord
from egost.results.run import Run
from egost.results.run_header import TrainedOn
from egost.tasks.judging.judge import Judgement
from egost.tasks.scoring.generation_notes import Generation

ROUTE, LANDMARK = "route_forward", "landmark_forward"
N = 100
OF_THE_PAPER = Column(1, "official", ("1" * 64, "r1"), {})


def samples(task: str, n: int = N, **changes: Any) -> tuple[SampleRecord, ...]:
    return tuple(replace(record(f"egost_{task}", k, f"{k}.mp4", 20.0), **changes) for k in range(n))


@pytest.fixture(scope="module")
def entry(demo_run: Run) -> Entry:
    """100 routes and 100 landmark questions of an official release, all scored, the routes by gpt-4o."""
    saved = read_entry(demo_run.results_file)
    headers = {
        task: replace(saved.headers[task], judge=judge, available=N)
        for task, judge in ((ROUTE, "gpt-4o-2024-08-06+route-judge-1"), (LANDMARK, None))
    }
    return replace(
        saved,
        world="official",
        records={task: samples(task) for task in headers},
        headers=headers,
        release="r1",
        release_sha256="1" * 64,
        generation="",
        training=None,
    )


def headed(entry: Entry, **changes: Any) -> Entry:
    return replace(entry, headers={task: replace(h, **changes) for task, h in entry.headers.items()})


def holding(entry: Entry, task: str, records: tuple[SampleRecord, ...]) -> Entry:
    return replace(entry, records={**entry.records, task: records})


def trained(policy: Any, overlap: dict[str, int], parts: dict[str, int] | None = None) -> TrainedOn:
    return TrainedOn(policy, 630, overlap, parts, None)


def test_what_was_made_as_the_papers_figures_were_is_shown(entry: Entry) -> None:
    for task in (ROUTE, LANDMARK):
        assert refusals(entry, task, OF_THE_PAPER) == ()


@pytest.mark.parametrize(
    ("judge", "snapshots", "shown"),
    [
        ("gpt-4o+route-judge-1", [""], True),
        ("gpt-4o", [""], True),
        ("gpt-4o-2024-05-13+route-judge-compat-2", [""], True),
        ("gpt-4o-mini+route-judge-1", [""], False),
        ("gpt-4o-2024-05+route-judge-1", [""], False),
        ("not-gpt-4o+route-judge-1", [""], False),
        ("openai:gpt-4o@http://x/v1+route-judge-1", ["gpt-4o-2024-08-06"], False),
        # An Azure deployment may have any name: the model that it says it is counts, in each of its judgements.
        ("azure:mine@https://x+route-judge-1", ["gpt-4o-2024-08-06", "", "gpt-4o"], True),
        ("azure:mine@https://x+route-judge-1", ["gpt-4o-2024-08-06", "gpt-4o-mini-2024-07-18"], False),
        ("azure:gpt-4o@https://x+route-judge-1", ["", ""], False),
        ("", [""], False),
    ],
)
def test_the_papers_judge(entry: Entry, judge: str, snapshots: list[str], shown: bool) -> None:
    verdicts = [Judgement("s", 1, 1, 1, "", judge, snapshot=s) for s in (*snapshots, snapshots[0])]
    judged = tuple(
        replace(sample, judgement=verdict)
        for sample, verdict in zip(samples(ROUTE, len(verdicts)), verdicts, strict=True)
    )
    run = headed(holding(entry, ROUTE, judged), judge=judge, available=len(judged))
    said = f"routes judged by {judge or 'nobody known'}, the paper's by gpt-4o"
    assert refusals(run, ROUTE, OF_THE_PAPER) == (() if shown else (said,))
    assert refusals(headed(entry, judge=judge), LANDMARK, OF_THE_PAPER) == (), "nobody judges letters"


def test_the_mini_world_has_a_judge_of_its_own(entry: Entry) -> None:
    mini = replace(entry, world="mini")
    column = replace(OF_THE_PAPER, world="mini")
    said = "routes judged by gpt-4o-2024-08-06+route-judge-1, the others' by offline-rubric-3"
    assert refusals(mini, ROUTE, column) == (said,)
    assert refusals(headed(mini, judge="offline-rubric-3"), ROUTE, column) == ()
    assert refusals(headed(mini, judge="offline-rubric-2"), ROUTE, column) != (), (
        "another version is another judge"
    )
    [world] = refusals(entry, LANDMARK, column)
    assert world == "of the benchmark"
    [world] = refusals(mini, LANDMARK, OF_THE_PAPER)
    assert world == "of the mini world, whose figures are no results of the benchmark"


def test_a_run_with_fewer_samples_than_another_of_the_release(entry: Entry) -> None:
    whole = replace(OF_THE_PAPER, whole={ROUTE: N + 3, LANDMARK: N})
    assert refusals(entry, ROUTE, whole) == ("3 of 103 samples missing",)
    assert refusals(entry, LANDMARK, whole) == ()
    assert refusals(headed(entry, available=N + 1), LANDMARK, whole) == ("1 of 101 samples missing",)
    config = {**entry.run.results["config"], "limit": 2.0}
    limited = replace(entry, run=replace(entry.run, results={**entry.run.results, "config": config}))
    assert refusals(limited, ROUTE, whole) == ("3 of 103 samples missing (--limit 2)",)
    other = holding(entry, ROUTE, samples(ROUTE, N + 3))
    assert whole_release([entry, other, entry]) == {ROUTE: N + 3, LANDMARK: N}
    left_out = replace(other, training=trained("leave-out", {ROUTE: 4}))
    assert whole_release([entry, left_out]) == {ROUTE: N, LANDMARK: N}, "it does not tell how many there are"
    assert whole_release([replace(left_out, training=trained("allow", {ROUTE: 4}))])[ROUTE] == N + 3


@pytest.mark.parametrize(
    ("unscored", "reasons"),
    [
        (["decode_failed:empty"] * 2, ()),
        (
            ["decode_failed:empty"] * 2 + ["generation_failed"],
            ("3 of 100 samples without a score (2 decode_failed:empty, 1 generation_failed), at most 2% allowed",),
        ),
        (["judge_failed:timeout"] * 2, ()),
        (["judge_failed:timeout"] * 3, ("3 of 100 routes that the judge failed on, at most 2% allowed",)),
        (
            ["judge_failed:x"] * 2 + ["decode_failed:empty"],
            ("3 of 100 samples without a score (2 judge_failed:x, 1 decode_failed:empty), at most 2% allowed",),
        ),
    ],
)  # fmt: skip
def test_at_most_two_of_a_hundred_have_no_score(
    entry: Entry, unscored: list[str], reasons: tuple[str, ...]
) -> None:
    lost = tuple(
        replace(sample, percent=None, unscored=reason)
        for sample, reason in zip(samples(ROUTE, len(unscored)), unscored, strict=True)
    )
    run = holding(entry, ROUTE, (*lost, *samples(ROUTE)[len(lost) :]))
    assert refusals(run, ROUTE, OF_THE_PAPER) == reasons


def test_releases_and_versions(entry: Entry) -> None:
    other = replace(OF_THE_PAPER, release=("2" * 64, "r2"))
    assert refusals(entry, LANDMARK, other) == ("of release r1, this table is of r2",)
    unnamed = refusals(replace(entry, release=""), LANDMARK, replace(other, release=("2" * 64, "")))
    assert unnamed == ("of release unknown, this table is of another",)
    own = replace(entry, release="walks constructed abc", release_sha256="1" * 64)
    assert "benchmark of its own (walks constructed abc)" in refusals(own, LANDMARK, OF_THE_PAPER)[0]
    assert refusals(headed(entry, version="2-Z"), LANDMARK, OF_THE_PAPER) == ()
    for version in ("1-A", "22-A", None):
        [said] = refusals(headed(entry, version=version), LANDMARK, OF_THE_PAPER)
        assert (
            said.startswith(f"made by task version {version}; figures of version 2-A")
            and str(entry.file) in said
        )
    own = replace(headed(entry, prompt_sha256="0"), prompt="mine-1")
    assert refusals(own, ROUTE, OF_THE_PAPER) == ("asked by a prompt of its own (mine-1)",)
    unknown = refusals(replace(own, prompt=""), ROUTE, OF_THE_PAPER)
    assert unknown == ("asked by a prompt of its own (unknown)",)


def test_training_rows_among_the_samples(entry: Entry) -> None:
    def said(policy: str, table: TableNumber, task: str = LANDMARK) -> tuple[str, ...]:
        run = replace(entry, training=trained(policy, {LANDMARK: 5}))
        if policy == "leave-out":
            run = holding(run, LANDMARK, samples(LANDMARK, N - 5))
            run = replace(
                run, headers={**run.headers, LANDMARK: replace(run.headers[LANDMARK], available=N - 5)}
            )
        return refusals(run, task, replace(OF_THE_PAPER, table=table, whole={LANDMARK: N}))

    assert said("allow", 3) == said("allow", 1) == ("trained on 5 of the samples it is tested on",)
    assert said("leave-out", 3) == said("leave-out", 4) == said("leave-out", 1, ROUTE) == ()
    for table in (1, 2):
        [reason] = said("leave-out", table)
        assert reason.startswith("trained on 5 questions of this task and asked the others only")
    assert said("allow", 1, ROUTE) == ()


def test_what_a_reader_has_to_know(entry: Entry) -> None:
    assert deviations(entry, 1) == ()
    tested = "tested on all 100 questions; the paper leaves its training rows out for every model"
    assert deviations(entry, 3) == (tested,)
    assert deviations(replace(entry, world="mini"), 3) == ()
    left_out = replace(entry, training=trained("leave-out", {LANDMARK: 5, ROUTE: 2}))
    assert deviations(left_out, 3) == ("trained on 7 questions of this release, which were left out",)
    allowed = replace(entry, training=trained("allow", {LANDMARK: 5}))
    assert deviations(allowed, 3) == ("trained on 5 questions of this release", tested)
    elsewhere = replace(entry, training=trained("refuse", {}))
    assert deviations(elsewhere, 1) == ("trained on 630 rows, none of them of this release",)
    thinking = replace(entry, generation="temperature=1", prompt="think-1")
    assert deviations(thinking, 1) == (
        "generation arguments changed: temperature=1",
        "asked to think before it answers; the paper asks so of its own models alone",
    )
    # The tasks are of one release, so that each counts all of its entries that cannot be asked: 3, not 6.
    excluded = headed(entry, excluded_entries={"no options": 2, "no answer": 1})
    assert deviations(excluded, 1) == ("3 entries of the release cannot be asked and are not counted",)
    made = Generation("e", "m", None, {}, "stop", False, None, None, None, False, None)
    cut = (*samples(ROUTE, 2, generation=replace(made, truncated=True)), *samples(ROUTE, 3, generation=made))
    [said] = deviations(holding(entry, ROUTE, cut), 1)
    assert said == "2 responses were cut at max_new_tokens and are scored as they are"


def test_sources_that_a_checkpoint_was_trained_on(entry: Entry) -> None:
    def of(parts: dict[str, int] | None) -> Entry:
        return replace(entry, training=trained("leave-out", {}, parts))

    assert train_label(entry) == train_label(of({})) == "-"
    assert train_label(of(None)) == "630 rows"
    assert train_label(of({"Part4": 1, "Part2": 1, "Part1": 3})) == "HUJI+Self+Aria"
    assert train_label(of({"Part3": 1, "Part9": 1})) == "SUN3D+Part9"
    outdoor = of({"Part1": 3, "Part2": 4, "Part4": 9})
    said = "trained on 7 rows of HUJI+Self itself: not out of distribution"
    assert (ood_refusal(outdoor, "HUJI+Self"), ood_refusal(outdoor, "SUN3D")) == (said, None)
    assert ood_refusal(entry, "SUN3D") is None
    assert ood_refusal(of(None), "SUN3D") == "which parts of the release it was trained on is not recorded"


@pytest.mark.parametrize(
    ("frames", "size", "reason"),
    [
        ("uniform8", (704, 704), ""),
        ("uniform8+224x224", (224, 224), ""),
        ("uniform8+448x448", (448, 448), ""),
        (
            "uniform8+448x224",
            (448, 224),
            "frames of 448 x 224 pixels, the paper's closed models and InternVL saw 224 x 224 or 448 x 448",
        ),
        ("uniform8+cap153664", (392, 392), ""),
        ("uniform8+cap151200", (364, 364), ""),
        ("uniform8+cap151199", (364, 364), "frames of at most 151199 pixels"),
        ("uniform8+cap151200", (392, 392), "frames of a size that"),
        ("uniform8+cap151200", (364, 360), "frames of a size that"),
        ("uniform8+cap100352-151200", (364, 364), ""),
        ("uniform8+cap100353-151200", (364, 364), "frames enlarged to 100353 pixels"),
        ("uniform8/reversed", (364, 364), "frames by 'uniform8/reversed', not 8 of the whole clip"),
        ("", (364, 364), "frames by 'an unknown protocol'"),
    ],
)
def test_frames_that_the_paper_may_have_shown(
    entry: Entry, demo_run: Run, frames: str, size: tuple[int, int], reason: str
) -> None:
    saved = next(r.frames for r in demo_run.records if r.frames)
    seen = replace(saved, protocol=frames, width=size[0], height=size[1])
    run = replace(holding(entry, LANDMARK, samples(LANDMARK, frames=seen)), frames=frames)
    said = refusals(run, LANDMARK, OF_THE_PAPER)
    assert (not said) == (not reason) and "".join(said).startswith(reason)


def test_a_model_that_takes_videos_saw_larger_ones_in_the_paper(entry: Entry) -> None:
    made = Generation("e", "m", None, {"frames": "video"}, "stop", False, None, None, None, False, None)
    run = holding(replace(entry, frames="uniform8+224x224"), ROUTE, samples(ROUTE, generation=made))
    [said] = refusals(run, ROUTE, OF_THE_PAPER)
    assert said == "frames of 224 x 224 pixels for a model that the paper showed larger videos"
    assert refusals(run, LANDMARK, OF_THE_PAPER) == (), "its own samples count"
