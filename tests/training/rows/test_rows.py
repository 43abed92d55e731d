"""The 630 released rows: all of them recovered, with the figures that are known of them."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
from places import ROOT

from egost.tasks.sample import chance_level
from egost.tasks.scoring.choices import compat_choice, strict_choice
from egost.training import TrainingError
from egost.training.rows.released_rows import DATA, RELEASED_ROWS, read_rows, released_subset

SHARED = ROOT.parent / "shared" / "data" / "st_r1_train"
ROWS = read_rows()
RAW = [json.loads(line) for line in RELEASED_ROWS.read_text(encoding="utf-8").splitlines()]


def test_all_630_rows_are_recovered_with_their_known_counts() -> None:
    assert len(ROWS) == 630
    assert Counter(len(row.options) for row in ROWS) == {4: 511, 3: 102, 2: 16, 1: 1}
    assert Counter(row.letter for row in ROWS) == {"A": 218, "B": 152, "C": 129, "D": 131}
    assert len({row.clip for row in ROWS}) == 214
    assert Counter(row.source for row in ROWS) == {
        "adt": 320, "outdoor": 102, "sun3d": 92, "aria_everyday": 86, "nymeria": 30,
    }  # fmt: skip
    assert chance_level(len(row.options) for row in ROWS) == pytest.approx(0.271, abs=5e-4)


def test_rows_fall_into_three_tasks_and_two_ways() -> None:
    assert Counter((row.task, row.way) for row in ROWS) == {
        ("direction", "forward"): 143, ("direction", "reverse"): 143,
        ("landmark", "forward"): 92, ("landmark", "reverse"): 92,
        ("action", "forward"): 80, ("action", "reverse"): 80,
    }  # fmt: skip


def test_options_put_together_again_are_the_released_text() -> None:
    for row, raw in zip(ROWS, RAW, strict=True):
        listed = ", ".join(f"{letter}. {text}" for letter, text in zip("ABCD", row.options, strict=False))
        instruction = raw["problem"].partition("\n\n")[2]
        assert raw["problem"] in (
            f"{row.question}{space}Options: {listed}\n\n{instruction}" for space in (" ", "")
        )
        assert row.solution == raw["solution"]
        assert raw["video"].endswith(f"/{row.clip}")


def test_both_rules_read_the_right_letter_from_every_solution() -> None:
    for row, raw in zip(ROWS, RAW, strict=True):
        assert strict_choice(raw["solution"], row.options).letter == row.letter == raw["original_answer"]
        assert compat_choice(raw["solution"]) == row.letter


def test_strict_reads_each_option_s_own_letter_and_text() -> None:
    for row in ROWS:
        for letter, text in zip("ABCD", row.options, strict=False):
            assert strict_choice(f"{letter}. {text}", row.options).letter == letter
            assert strict_choice(f"The answer is {letter}.", row.options).letter == letter
            assert strict_choice(text, row.options).letter in (letter, None)


def test_subsets_nest_but_for_the_smallest_and_are_no_prefixes() -> None:
    sizes = (63, 126, 252, 378, 504)
    subsets = {size: set(released_subset(size)) for size in sizes}
    assert [len(subsets[size]) for size in sizes] == list(sizes)
    assert subsets[126] < subsets[252] < subsets[378] < subsets[504] < set(range(630))
    assert [len(subsets[63] - subsets[size]) for size in sizes] == [0, 2, 2, 1, 0]
    assert set(released_subset(63)) != set(range(63))
    with pytest.raises(TrainingError, match=r"100 rows.*63, 126, 252, 378, 504"):
        released_subset(100)


def test_the_licence_is_held_with_the_data() -> None:
    licence = (DATA / "LICENSE").read_text(encoding="utf-8")
    assert licence.startswith("MIT License") and "Copyright (c) 2025" in licence


@pytest.mark.skipif(not SHARED.is_dir(), reason="the released files are not beside this checkout")
def test_held_files_equal_the_released_ones() -> None:
    assert RELEASED_ROWS.read_bytes() == (SHARED / RELEASED_ROWS.name).read_bytes()
    for size in (63, 126, 252, 378, 504):
        released = (SHARED / f"total_test_mcq_{size}.jsonl").read_text(encoding="utf-8").splitlines()
        assert [RAW[i] for i in released_subset(size)] == [json.loads(line) for line in released]


GOOD = RAW[0]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ('{"problem": ', "not JSON"),
        ("[1, 2]", "expected an object"),
        (json.dumps({**GOOD, "video": None}), "expected an object with the texts"),
        (json.dumps({k: v for k, v in GOOD.items() if k != "solution"}), "solution"),
        (json.dumps({**GOOD, "problem": "Which way?"}), "Options: A"),
        (json.dumps({**GOOD, "problem": GOOD["problem"].replace("A. ", "a) ")}), "expected options"),
        (json.dumps({**GOOD, "problem": GOOD["problem"].replace("toy birdhouse", " ")}), "each with a text"),
        (json.dumps({**GOOD, "original_answer": "B"}), "original_answer"),
        (json.dumps({**GOOD, "solution": "<think>x</think> <answer>D</answer>", "original_answer": "D"}), "3 options"),
        (json.dumps({**GOOD, "solution": "<answer>A</answer>"}), "<think>"),
        (json.dumps({**GOOD, "problem": GOOD["problem"].replace("which landmarks", "how many")}), "about directions"),
        (json.dumps({**GOOD, "problem": GOOD["problem"].replace("your destination", "home")}), "starting point"),
    ],
)  # fmt: skip
def test_a_malformed_row_names_its_file_and_line(tmp_path: Path, line: str, says: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(GOOD) + "\n" + line + "\n", encoding="utf-8")
    with pytest.raises(TrainingError, match=r"rows\.jsonl, line 2") as caught:
        read_rows(path)
    assert says in str(caught.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"missing\.jsonl"):
        read_rows(tmp_path / "missing.jsonl")
