"""`egost compare`: a real run against copies of it in which known samples came out otherwise."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from changed_runs import changed, with_results
from simulated_runs import TASKS, record
from typer.testing import CliRunner

from egost.main import app
from egost.results.compare import (
    Unlike,
    _around_difference,
    _compared,
    _flips,
    _parts,
    _remedy,
    _shown,
    _snapshots,
    compare,
)
from egost.results.run import Run
from egost.results.run_header import RunError
from egost.tasks.judging.judge import Judgement

TASK = "egost_mini_direction_forward"


def with_scores(run: Run, task: str, scores: dict[int, float | None]) -> Run:
    """The run with other scores of some samples, by their place in the file."""

    def change(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        for place, score in scores.items():
            told = rows[place]["percent"]
            told.pop("score", None)
            told["unscored"] = "generation_failed:timeout" if score is None else None
            if score is not None:
                told["score"] = score
        return rows

    return changed(run, task, change)


def egost_compare(*arguments: object) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["compare", *map(str, arguments)])
    return done.exit_code, done.output


def test_known_flips_are_counted_and_listed(demo_run: Run, copied_run: Run, tmp_path: Path) -> None:
    before = [r.percent for r in demo_run.records if r.task == TASK]
    won = [place for place, score in enumerate(before) if score == 0][:2]
    lost = [place for place, score in enumerate(before) if score == 100][:1]
    assert won and lost, "the checkpoint was taught letters at random"
    gone = next(place for place in range(len(before)) if place not in (*won, *lost))
    other = with_scores(
        copied_run, TASK, {**dict.fromkeys(won, 100.0), **dict.fromkeys(lost, 0.0), gone: None}
    )
    found = compare(demo_run, other, draws=500)
    rows = {row.name: row.difference for row in found.rows}
    n = len(before) - 1
    assert (rows[TASK].wins, rows[TASK].losses, rows[TASK].n) == (len(won), len(lost), n)
    assert rows[TASK].value == pytest.approx(100 * (len(won) - len(lost)) / n)
    assert rows["Avg.(ST)"].value == pytest.approx(rows[TASK].value / 4)
    assert rows["Avg.(Total)"].value == pytest.approx(rows[TASK].value / 8)
    assert {f.gap for f in found.flips} == {0.0, 100.0, -100.0}
    assert [f.unscored for f in found.flips if f.after is None] == ["generation_failed:timeout"]
    assert len(found.flips) == len(won) + len(lost) + 1 and found.unlike == ()

    code, said = egost_compare(demo_run.results_file, other.results_file, "--output", tmp_path / "flips.csv")
    assert code == 0, said
    assert (
        f"{len(found.flips)} samples are scored unlike:" in said
        and "unscored (generation_failed:timeout)" in said
    )
    listed = list(csv.DictReader((tmp_path / "flips.csv").open(encoding="utf-8")))
    assert [row["sample"] for row in listed] == [flip.sample for flip in found.flips]
    code, _ = egost_compare(demo_run.results_file, other.results_file, "--output", tmp_path / "all.json")
    content = json.loads((tmp_path / "all.json").read_text(encoding="utf-8"))
    assert code == 0 and [row["name"] for row in content["rows"]] == [
        *demo_run.header.tasks,
        "Avg.(ST)",
        "Avg.(Total)",
    ]
    code, said = egost_compare(demo_run.results_file, other.results_file, "--task", TASK)
    assert (
        code == 0
        and "Avg." not in said
        and "route" not in said.split("scored unlike")[0].rpartition("json")[2]
    )


def test_a_run_beside_itself(demo_run: Run) -> None:
    found = compare(demo_run, demo_run, draws=200)
    assert found.flips == () and all(row.difference.p_value == 1 and row.a == row.b for row in found.rows)
    code, said = egost_compare(demo_run.results_file, demo_run.results_file)
    assert code == 0 and "No sample is scored unlike." in said


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("release_revision", "mini-1 test seed 9 clips 4", "release of"),
        ("sampling_protocol", "ref-qwen", "frames protocol of"),
        ("prompt", "think-1", "prompt of"),
        ("prompt_sha256", "0" * 64, "prompt's text of"),
        ("judge", "gpt-4o-2024-08-06 route-1", "judge of"),
        ("version", "3-A", "task version of all 8 tasks: 2 against 3"),
        ("version", None, "task version of all 8 tasks: 2 against not told"),
    ],
)
def test_unlike_protocols_are_refused_and_named(
    demo_run: Run, copied_run: Run, key: str, value: str | None, said: str
) -> None:
    def change(results: dict[str, Any]) -> None:
        for task in copied_run.header.tasks:
            if key != "judge" or "_route_" in task:
                results["configs"][task]["metadata"][key] = value

    other = with_results(copied_run, change)
    with pytest.raises(RunError, match=f"\n  {said}") as raised:
        compare(demo_run, other)
    assert str(raised.value).count("\n  ") == 1, "one line for all tasks"
    assert key == "version" or str(value)[:12] in str(raised.value)
    assert len(compare(demo_run, other, force=True, draws=50).unlike) == 1


def test_the_letter_of_a_task_version_changes_no_figure(demo_run: Run, copied_run: Run) -> None:
    other = with_results(copied_run, lambda r: r["configs"][TASK]["metadata"].update(version="2-Z"))
    assert compare(demo_run, other, draws=50).unlike == ()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            lambda row: row["percent"]["frames"].update(pixels_sha256="0" * 64),
            r"frames' pixels of 1 of \d+ samples of .*: '[0-9a-f]{12}' against '0{12}'",
        ),
        (lambda row: row.update(input=row["input"] + " Now."), "question as it was asked of 1 of"),
        (lambda row: row.update(target="Z"), "right answer of 1 of"),
    ],
)
def test_unlike_samples_are_refused_and_named(demo_run: Run, copied_run: Run, change: Any, said: str) -> None:
    def first(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        change(rows[0])
        return rows

    other = changed(copied_run, TASK, first)
    code, output = egost_compare(demo_run.results_file, other.results_file)
    assert code == 2
    with pytest.raises(RunError, match=said):
        compare(demo_run, other)
    assert "--force" in output
    code, output = egost_compare(demo_run.results_file, other.results_file, "--force")
    assert code == 0 and "unlike " in output


def test_samples_that_one_run_alone_was_asked(demo_run: Run, copied_run: Run) -> None:
    fewer = changed(copied_run, TASK, lambda rows: rows[2:])
    fewer = with_results(
        fewer, lambda r: r["n-samples"][TASK].update(effective=r["n-samples"][TASK]["effective"] - 2)
    )
    found = compare(demo_run, fewer, draws=50)
    assert (found.alone_a, found.alone_b) == (2, 0)
    assert compare(fewer, demo_run, draws=50).alone_b == 2


def test_what_cannot_be_compared(demo_run: Run, tmp_path: Path) -> None:
    with pytest.raises(
        RunError, match=r"egost_nothing is no task that both runs have; expected some of egost_mini"
    ):
        compare(demo_run, demo_run, ["egost_nothing"])
    code, said = egost_compare(demo_run.results_file, tmp_path / "nowhere")
    assert code == 2 and "there is no" in said
    code, said = egost_compare(
        demo_run.results_file, demo_run.results_file, "--output", tmp_path / "flips.txt"
    )
    assert code == 2 and ".csv" in said


ST = tuple(task for task in TASKS if "route" in task or "direction" in task)


@pytest.mark.parametrize(
    ("tasks", "means"),
    [
        (TASKS, {"Avg.(ST)": ST, "Avg.(Total)": tuple(TASKS)}),
        (ST, {"Avg.(ST)": ST}),
        ((*ST, TASKS[4]), {"mean of the tasks": (*ST, TASKS[4])}),
        ((*ST[:3], TASKS[4]), {"mean of the tasks": (*ST[:3], TASKS[4])}),
        (TASKS[:2], {"mean of the tasks": tuple(TASKS[:2])}),
        (TASKS[:1], {}),
    ],
)
def test_the_means_of_the_paper_are_those_of_its_own_tasks(
    tasks: tuple[str, ...], means: dict[str, tuple[str, ...]]
) -> None:
    assert _parts(tasks) == [*((task, (task,)) for task in tasks), *means.items()]


def test_means_are_over_the_samples_that_both_have_scored() -> None:
    """Of five questions both have scored the first two: 50 against 100, whatever the others got."""
    a = [record(ST[0], k, f"{k}.mp4", score) for k, score in enumerate([100.0, 0.0, 100.0, None])]
    b = [record(ST[0], k, f"{k}.mp4", score) for k, score in enumerate([100.0, 100.0, None, 0.0, 0.0])]
    found = _compared("x", ST[:1], a, [*b, record(ST[1], 9, "9.mp4", 0.0)], draws=50, seed=0)
    assert (found.name, found.tasks, found.a, found.b) == ("x", ST[:1], 50, 100)
    assert (found.difference.value, found.difference.n, found.difference.wins) == (50, 2, 1)


def test_flips_are_listed_by_their_size_and_then_by_name() -> None:
    """Lost 60, won 20 (two tasks), one score alone; a sample that only one run has is no flip."""
    a = [record(ST[0], k, f"{k}.mp4", score) for k, score in enumerate([80.0, 20.0, None, 50.0])]
    b = [record(ST[0], k, f"{k}.mp4", score) for k, score in enumerate([20.0, 40.0, 0.0, 50.0, 9.0])]
    a.append(record(ST[1], 0, "0.mp4", 20.0))
    b.append(record(ST[1], 0, "0.mp4", 0.0))
    flips = _flips(*({(r.task, r.sample.id): r for r in records} for records in (a, b)))
    assert [(flip.task, flip.sample.split("/")[-1], flip.before, flip.after, flip.gap) for flip in flips] == [
        (ST[0], "0", 80, 20, -60),
        (ST[0], "1", 20, 40, 20),
        (ST[1], "0", 20, 0, -20),
        (ST[0], "2", None, 0, 0),
    ]
    assert (flips[0].clip, flips[0].answer, flips[0].unscored) == ("Part1/0.mp4", "A", None)
    assert (flips[0].response_before, flips[0].response_after) == ("A", "A")
    assert flips[3].unscored == "generation_failed:timeout"


def test_what_differs_is_shown_in_short() -> None:
    assert _around_difference("Which way now?", "Which way then?") == (
        "'Which way now?'",
        "'Which way then?'",
    )
    one, other = _around_difference("0123456789abc" + "x" * 50, "0123456789aby")
    assert (one, other) == ("...'23456789abc" + "x" * 29 + "'", "...'23456789aby'")
    assert _around_difference("same", "same longer") == ("'same'", "'same longer'")
    assert (_shown(None), _shown("a" * 63), _shown("b" * 64)) == ("not told", "a" * 63, "b" * 12 + "...")
    assert str(Unlike("prompt", "x", "a", "b")) == "prompt of x: a against b"
    judged = [
        replace(
            record(ST[0], 0, "0.mp4", 20.0), judgement=Judgement("s", 1, 1, 1, "", "j", snapshot=snapshot)
        )
        for snapshot in ("m-2", "", "m-1", "m-2")
    ]
    assert _snapshots(judged) == "m-1, m-2" and _snapshots(judged[1:2]) == _snapshots([]) == "none"
    assert _remedy([Unlike("prompt", "x", "a", "b")]) == ""
    assert "egost rescore" in _remedy([Unlike("prompt", "", "", ""), Unlike("task version", "", "1", "2")])
