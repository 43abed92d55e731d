"""Rows files: what is written is read again, and what is wrong is named with its line."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from egost.tasks.sample import Sample
from egost.training import TrainingError
from egost.training.rows.training_rows import TrainingRow, read_training_rows, write_training_rows

CHOICE = Sample(
    "Part1/direction_forward/1", "direction", "forward", 1, "1.mp4", "Which?", ("left", "right"), "B"
)
ROUTE = Sample("Part1/route_reverse/1", "route", "reverse", 1, "1.mp4", "Describe.", (), "Turn left.")


def test_rows_come_back_as_they_were_written(tmp_path: Path) -> None:
    rows = (TrainingRow(CHOICE, "Back: left. So right.", "ab"), TrainingRow(ROUTE, "", "cd"))
    write_training_rows(tmp_path / "rows.jsonl", rows)
    assert read_training_rows(tmp_path / "rows.jsonl") == rows


def test_the_solution_has_tags_where_there_is_reasoning() -> None:
    assert TrainingRow(CHOICE, "Back.", "").solution == "<think>Back.</think> <answer>B</answer>"
    assert TrainingRow(CHOICE, "", "").solution == "B"
    assert TrainingRow(ROUTE, "", "").solution == "Turn left."


@pytest.mark.parametrize(
    ("second", "says"),
    [
        ("{", "line 2: it is not JSON"),
        ("[]", "line 2: expected an object"),
        (json.dumps({"sample": {}, "think": "", "clip_sha256": ""}), "line 2: `sample` is no sample"),
        (
            TrainingRow(replace(CHOICE, answer="C"), "", "").to_line(),
            "'C', none of its options' letters 'AB'",
        ),
        (TrainingRow(CHOICE, "a</think>b", "").to_line(), "holds a tag of its own"),
        (TrainingRow(CHOICE, "", "").to_line(), "occurs twice"),
        (
            TrainingRow(replace(CHOICE, way="up"), "", "").to_line(),
            "way: input should be 'forward' or 'reverse', found 'up'",
        ),  # type: ignore[arg-type]
    ],
)
def test_a_wrong_row_is_named(tmp_path: Path, second: str, says: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(f"{TrainingRow(CHOICE, '', '').to_line()}\n{second}\n")
    with pytest.raises(TrainingError, match=r"rows\.jsonl.*") as error:
        read_training_rows(path)
    assert says in str(error.value)


def test_a_file_without_rows_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").write_text("\n")
    with pytest.raises(TrainingError, match="holds no row"):
        read_training_rows(tmp_path / "empty.jsonl")
    with pytest.raises(TrainingError, match="cannot be read"):
        read_training_rows(tmp_path / "missing.jsonl")
