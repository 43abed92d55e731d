from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
from report_record import FRAMES, choice_record, route_record

from egost.results.report.diagnostics import diagnostics
from egost.results.report.figures import Side, averages, breakdowns, by_task, compat, route_aspects
from egost.results.report.sample_rows import folded, outcome, sample_rows
from egost.results.run import Run
from egost.tasks.judging.judge import JudgeFailure
from egost.tasks.scoring.choices import Choice


@pytest.mark.parametrize(
    ("response", "thinking"),
    [
        ("B", []),
        ("<think>left, right</think> <answer>B</answer>", ["<think>left, right</think>"]),
        ("left, right</think>\nB", ["left, right</think>"]),
        ("<think>never ends\n", ["<think>never ends\n"]),
        ("a <THINKING>b</THINKING> c <think>d</think> e", ["<THINKING>b</THINKING>", "<think>d</think>"]),
        ("a</think> b <think>c</think> d", ["a</think>", "<think>c</think>"]),
        ("", []),
    ],
)
def test_thinking_is_folded_and_nothing_of_the_response_is_lost(response: str, thinking: list[str]) -> None:
    pieces = folded(response)
    assert "".join(text for _, text in pieces) == response
    assert [text for folds, text in pieces if folds] == thinking


def test_outcomes() -> None:
    assert outcome(choice_record(1)) == "right"
    assert outcome(choice_record(1, 0.0)) == "wrong"
    assert outcome(choice_record(1, 0.0, choice=Choice(None, "ambiguous"))) == "invalid"
    assert outcome(choice_record(1, None)) == "unscored"
    assert outcome(route_record(1, (5, 5, 5))) == "right"
    assert outcome(route_record(1, (5, 0, 0))) == "partly"
    assert outcome(route_record(1, (0, 0, 0))) == "wrong"


def test_one_run_keeps_its_order_and_all_that_was_said() -> None:
    failed = replace(
        route_record(3, (1, 1, 1)),
        percent=None,
        judgement=JudgeFailure("x", "no_numbers", "I would rather not", "judge-1"),
    )
    rows = sample_rows([choice_record(2), choice_record(1, 0.0), failed], None)
    assert [row["id"] for row in rows] == [
        "Part3/direction_forward/2",
        "Part3/direction_forward/1",
        "Part3/route_forward/3",
    ]
    assert (rows[1]["answer"], rows[1]["a"]["letter"], rows[1]["b"]) == ("B", "A", None)
    assert rows[0]["a"]["frames"]["times"] == list(FRAMES.timestamps)
    assert rows[2]["a"]["judged"] == {
        "judge": "judge-1",
        "failure": "no_numbers",
        "text": "I would rather not",
    }


def test_of_two_runs_flips_come_first_and_nothing_is_left_out() -> None:
    a = [
        choice_record(1),
        choice_record(2),
        choice_record(3, None),
        route_record(4, (3, 3, 3)),
        choice_record(5),
    ]
    b = [
        choice_record(1),
        choice_record(2, 0.0),
        choice_record(3),
        route_record(4, (3, 3, 4)),
        choice_record(6),
    ]
    rows = sample_rows(a, b)
    assert [int(row["id"].split("/")[-1]) for row in rows] == [2, 4, 3, 1, 5, 6]
    assert rows[0]["change"] == -100
    assert rows[1]["change"] == pytest.approx(20 / 3)
    assert rows[2]["change"] is None, "a sample that only one run has scored has no difference"
    assert (rows[4]["b"], rows[5]["a"]) == (None, None)


def test_averages_are_the_papers_only_where_all_their_tasks_are() -> None:
    direction = [
        choice_record(k, 100.0 * (k < 3), f"direction_{way}")
        for k in range(4)
        for way in ("forward", "reverse")
    ]
    routes = [route_record(k, (5, 0, 0), way) for k in range(4) for way in ("forward", "reverse")]
    assert [line.label for line in averages(direction, None).lines] == ["Mean of the 2 tasks of this run"]
    lines = averages([*direction, *routes], None).lines
    assert [line.label for line in lines] == ["Mean of the 4 tasks of this run", "Avg.(ST)"]
    assert lines[1].a.value == pytest.approx((75 + 75 + 100 / 3 * 2) / 4)
    assert averages(direction[::2], None).lines == (), "the mean of one task is the task's own line"


def test_tasks_stand_in_the_papers_order_with_chance_and_by_either_scoring() -> None:
    records = [
        choice_record(1, task="landmark_forward"),
        choice_record(1, 0.0, compat=100.0),
        route_record(1, (5, 4, 0)),
    ]
    lines = by_task(records, None).lines
    assert [line.label for line in lines] == ["Route F", "Direction F", "Landmark F"]
    assert [line.chance for line in lines] == [None, pytest.approx(100 / 3), pytest.approx(100 / 3)]
    assert [line.a.value for line in lines] == [60.0, 0.0, 100.0]
    assert [line.a.value for line in by_task(records, None, compat).lines] == [60.0, 100.0, 100.0]
    aspects = route_aspects(records, None).lines
    assert [(line.label, line.a.value) for line in aspects] == [
        ("Direction (D) F", 100.0),
        ("Landmark (L) F", 80.0),
        ("Semantic (S) F", 0.0),
    ]


def test_two_runs_differ_over_what_both_have_scored() -> None:
    a = [choice_record(k, 0.0) for k in range(8)]
    b = [choice_record(k, 100.0 * (k % 2)) for k in range(7)] + [choice_record(9, None)]
    [line] = by_task(a, b).lines
    assert line.b is not None
    assert line.difference is not None
    assert (line.difference.value, line.difference.n, line.difference.wins) == (pytest.approx(300 / 7), 7, 3)
    assert (line.b.n, line.b.unscored) == (7, 1)
    [line] = by_task(a, []).lines
    assert line.b is not None
    assert math.isnan(line.b.value)


def test_breakdowns_pool_the_tasks() -> None:
    long = replace(FRAMES, duration=70.0)
    records = [
        choice_record(1),
        choice_record(2, 0.0),
        choice_record(3, 0.0, "landmark_reverse", frames=long),
        choice_record(4, 0.0, "landmark_reverse", frames=None),
    ]
    source, options, length = breakdowns(records, None)
    assert [(line.label, line.a.value, line.a.n) for line in source.lines] == [("sun3d", 25.0, 4)]
    assert [(line.label, line.a.n) for line in options.lines] == [("3 options", 4)]
    assert [(line.label, line.a.n) for line in length.lines] == [
        ("5 to 15 s", 2),
        ("60 to 120 s", 1),
        ("unknown: no frames", 1),
    ]
    assert [table.title for table in breakdowns([route_record(1, (1, 1, 1))], None)] == [
        "Route score by source",
        "Route score by clip length",
    ]


def test_forward_and_reverse_on_the_same_clip() -> None:
    records = [choice_record(k, 100.0 * (k < 6), "direction_forward") for k in range(8)]
    records += [choice_record(k, 100.0 * (k % 2), "direction_reverse") for k in range(8)]
    records += [
        choice_record(9),
        choice_record(1, None, "landmark_forward"),
        choice_record(1, task="landmark_reverse"),
    ]
    side = Side("A", True, "org/model", "", Run(Path("run_results.json"), (), {}), tuple(records))
    [table] = [
        table for table in diagnostics([side]) if table.title == "Forward and reverse on the same clip"
    ]
    assert table.rows == (("direction", "8", "37.5", "37.5", "37.5", "12.5", "12.5"),)
    [table] = [table for table in diagnostics([side]) if table.title == "Right both ways"]
    [row] = table.rows
    assert (*row[:2], *row[4:]) == ("direction", "37.5", "8", "0")
    assert len(records[0].sample.options) == 3 and row[3] == "11.1", "one of three times one of three"
    low, _, high = row[2].partition(" to ")
    assert float(low) < 37.5 < float(high)
