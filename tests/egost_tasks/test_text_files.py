"""Text of strangers in files: what ends a line, and what a spreadsheet would run."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
from places import ROOT

from egost.tasks.text_files import csv_text, json_lines, write_json_lines

# What `str.splitlines` takes for the end of a line and JSON does not escape, and a lone carriage return.
SEPARATORS = ["\x85", "\u2028", "\u2029", "\x0b", "\x0c", "\x1c", "\x1d", "\x1e", "\r"]


@pytest.mark.parametrize("separator", SEPARATORS, ids=ascii)
def test_json_lines_come_back_as_they_were_written(tmp_path: Path, separator: str) -> None:
    values = [{"response": f"left{separator}right"}, {"response": separator}, {"response": ""}]
    write_json_lines(tmp_path / "x.jsonl", values)
    assert [value for _, value in json_lines(tmp_path / "x.jsonl")] == values
    raw = "".join(json.dumps(value, ensure_ascii=True) + "\n" for value in values)
    (tmp_path / "theirs.jsonl").write_bytes(raw.encode()[:-1])
    assert [value for _, value in json_lines(tmp_path / "theirs.jsonl")] == values


def test_an_empty_file_has_no_line(tmp_path: Path) -> None:
    (tmp_path / "empty").write_bytes(b"")
    assert list(json_lines(tmp_path / "empty")) == []


def test_no_other_code_splits_the_text_of_a_file_into_lines() -> None:
    for folder in ("egost", "egost_tasks", "model_adapters", "results", "training"):
        for path in (ROOT / folder).rglob("*.py"):
            assert (
                'read_text(encoding="utf-8").splitlines()' not in path.read_text()
                or "/proc/" in path.read_text()
            ), path


@pytest.mark.parametrize("text", ["=1+1", "+1", "-2+3", "@SUM(A1)", "\t=1", '=HYPERLINK("x")'])
def test_a_spreadsheet_runs_no_text_of_a_model(text: str) -> None:
    written = csv_text(["response", "gap"], [{"response": text, "gap": -2.5}])
    [row] = csv.DictReader(io.StringIO(written))
    assert row == {"response": f"'{text}", "gap": "-2.5"}
