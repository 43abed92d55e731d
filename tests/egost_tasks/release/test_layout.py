from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from release_files import OPTIONS, choice_entry

from egost.tasks.errors import ReleaseError
from egost.tasks.release.layout import (
    QUESTION_FILES,
    is_question_file,
    question_files,
    read_questions,
    write_question_files,
)
from egost.tasks.sample import Sample

NAME = "Part3_forward_mcq.json"


def read(tmp_path: Path, content: Any, name: str = NAME) -> tuple[list[Sample], list[Any]]:
    path = tmp_path / name
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return read_questions({name: path})


def test_the_release_has_26_files() -> None:
    assert len(QUESTION_FILES) == 26
    assert "Part4_reverse_mcq_action.json" in QUESTION_FILES
    assert "Part3_reverse_mcq_action.json" not in QUESTION_FILES


def test_a_whole_release_gives_every_task(questions: Callable[..., Path]) -> None:
    root = questions()
    samples, excluded = read_questions({name: root / name for name in sorted(QUESTION_FILES)})
    assert len(samples) == 52 and not excluded
    assert len({s.id for s in samples}) == 52
    assert {f"{s.task}_{s.way}" for s in samples if s.part != 4} == {
        f"{task}_{way}" for task in ("route", "direction", "landmark") for way in ("forward", "reverse")
    }
    assert sum(s.task == "action" for s in samples) == 4


def test_what_is_written_is_read_back(questions: Callable[..., Path], tmp_path: Path) -> None:
    root = questions()
    samples, _ = read_questions({name: root / name for name in sorted(QUESTION_FILES)})
    write_question_files(tmp_path / "again", question_files(samples))
    again = {path.name: path for path in (tmp_path / "again").iterdir()}
    assert set(again) == QUESTION_FILES
    assert sorted(read_questions(again)[0], key=lambda s: s.id) == sorted(samples, key=lambda s: s.id)


def test_a_multiple_choice_entry(tmp_path: Path) -> None:
    [sample], _ = read(tmp_path, {"17": choice_entry("forward", "sun3d_17.mp4")})
    assert sample == Sample(
        id="Part3/direction_forward/17",
        task="direction",
        way="forward",
        part=3,
        clip="sun3d_17.mp4",
        question="Which turns did you take?",
        options=("turn left, then right", "turn right, then left", "walk straight on", "turn round"),
        answer="B",
    )
    assert sample.source == "sun3d" and sample.letters == "ABCD"


def test_the_outer_question_counts_where_the_inner_is_missing(tmp_path: Path) -> None:
    entry = choice_entry("forward", "1.mp4")
    del entry["forward_mcq"]["question"]
    [sample], _ = read(tmp_path, {"1": entry})
    assert sample.question == "Which way did you go?"


def test_a_route_entry(tmp_path: Path) -> None:
    entry = {"video": "ADT_x.mp4", "question": "How do you get back?", "reverse_answer": "Turn left."}
    [sample], _ = read(tmp_path, {"5": entry}, "Part4_reverse_qa.json")
    assert (sample.task, sample.way, sample.answer, sample.options) == ("route", "reverse", "Turn left.", ())


@pytest.mark.parametrize(
    "key", ["answer", "correct_answer", "correct_option", "correct", "gt", "ground_truth"]
)
@pytest.mark.parametrize("place", ["inside", "beside"])
def test_names_of_the_answer(tmp_path: Path, key: str, place: str) -> None:
    entry = choice_entry("forward", "1.mp4")
    del entry["forward_mcq"]["answer"]
    (entry["forward_mcq"] if place == "inside" else entry)[key] = "C"
    [sample], _ = read(tmp_path, {"1": entry})
    assert sample.answer == "C"


@pytest.mark.parametrize(
    "value",
    ["B", "b", "B.", "(B)", "B. turn right, then left", "B: Turn right, then left.", "turn right, then left"],
)
def test_forms_of_the_answer(tmp_path: Path, value: str) -> None:
    [sample], _ = read(tmp_path, {"1": choice_entry("forward", "1.mp4", answer=value)})
    assert sample.answer == "B"


@pytest.mark.parametrize(("values", "letters"), [((0, 1), "AB"), (("1", 4), "AD"), ((3, 0), "DA")])
def test_indices_whose_base_is_certain(tmp_path: Path, values: tuple[Any, Any], letters: str) -> None:
    entries = {str(i): choice_entry("forward", "1.mp4", answer=value) for i, value in enumerate(values)}
    samples, _ = read(tmp_path, entries)
    assert "".join(s.answer for s in samples) == letters


@pytest.mark.parametrize("values", [(1, 2), (0, 4)])
def test_indices_whose_base_is_a_guess_stop_the_load(tmp_path: Path, values: tuple[int, int]) -> None:
    entries = {str(i): choice_entry("forward", "1.mp4", answer=value) for i, value in enumerate(values)}
    with pytest.raises(ReleaseError, match="begin at 0 or at 1"):
        read(tmp_path, entries)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"answer": "E"}, "not among the options"),
        ({"answer": "fly over it"}, "not among the options"),
        ({"answer": "B. walk straight on"}, "option B reads"),
        ({"answer": None}, "expected a letter"),
        ({"answer": True}, "expected a letter"),
        ({"answer": ["B"]}, "expected a letter"),
        ({"answer": ""}, "expected a letter"),
        ({"answer": "B", "correct": "C"}, "disagree: B, C"),
        ({"options": "A. x"}, "list of strings"),
        ({"options": ["A. x", "C. y"]}, "begins with 'B.'"),
        ({"options": ["x", "y"]}, "begins with 'A.'"),
        ({"question": 3, "options": OPTIONS}, "expected a text in 'question'"),
    ],
)
def test_what_cannot_be_read_with_certainty_stops_the_load(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ReleaseError, match=message) as caught:
        read(tmp_path, {"17": choice_entry("forward", "1.mp4", **changes)})
    assert f"{NAME}, id 17" in str(caught.value)


def test_an_unknown_answer_field_names_file_id_and_keys(tmp_path: Path) -> None:
    entry = choice_entry("forward", "1.mp4")
    entry["forward_mcq"]["solution"] = entry["forward_mcq"].pop("answer")
    with pytest.raises(ReleaseError) as caught:
        read(tmp_path, {"17": entry})
    for part in (NAME, "id 17", "'solution'", "'video'", "correct_answer"):
        assert part in str(caught.value)


def test_empty_options_and_empty_routes_are_counted(tmp_path: Path) -> None:
    samples, excluded = read(
        tmp_path, {"1": choice_entry("forward", "1.mp4", options=[]), "2": choice_entry("forward", "2.mp4")}
    )
    assert [s.id for s in samples] == ["Part3/direction_forward/2"]
    assert [(item.where, item.reason) for item in excluded] == [(f"{NAME}, id 1", "empty_options")]
    route = {"9": {"video": "1.mp4", "question": "How?", "forward_answer": " "}}
    assert read(tmp_path, route, "Part1_forward_qa.json")[1][0].reason == "empty_reference"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "no readable JSON"),
        pytest.param('{"1": ' * 100_000, "no readable JSON", id="deep"),
        ("[1]", "object keyed by sample id"),
        ('{"1": {}, "1": {}}', "'1' occurs twice"),
        ('{"1": 5}', "id 1: expected an object"),
        ('{"1": {"video": "a.mp4"}}', "expected an object in 'forward_mcq'"),
    ],
)
def test_broken_files(tmp_path: Path, content: str, message: str) -> None:
    with pytest.raises(ReleaseError, match=message) as caught:
        read(tmp_path, content)
    assert NAME in str(caught.value)


def test_a_byte_order_mark_is_no_part_of_the_json(tmp_path: Path) -> None:
    content = json.dumps({"1": choice_entry("forward", "1.mp4")})
    assert read(tmp_path, "\ufeff" + content) == read(tmp_path, content)


@pytest.mark.parametrize(
    "name", ["Part5_forward_qa.json", "Part1_sideways_mcq.json", "Part1_forward_mcq_action.json"]
)
def test_an_unknown_part_is_an_error(name: str) -> None:
    with pytest.raises(ReleaseError, match="no file of the release"):
        is_question_file(name)


def test_other_files_are_let_be() -> None:
    assert not is_question_file("README.json") and not is_question_file("egost_mini.json")
