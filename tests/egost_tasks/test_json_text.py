"""JSON of strangers: what is read, and what is refused with one sentence."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from egost.tasks.json_text import MAX_DEPTH, parse_json, read_json


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 100_000, "nested 100,000 deep"),
        ('{"a":' * 100_000, "nested 100,000 deep"),
        ("[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1), f"nested {MAX_DEPTH + 1} deep"),
        (b'{"a": "\xff"}', "not UTF-8: byte 7 is 0xff"),
        ('{"a": "\\ud800"}', "half a surrogate pair"),
        ('{"\\udfff": 1}', "half a surrogate pair"),
        ("1" * 5_000, "more digits than Python reads"),
        ('{"a":', "not JSON: Expecting value: line 1 column 6"),
        ("", "not JSON: Expecting value"),
        (b"[" + b" " * 99 + b"]", "it has 101 bytes; egost reads 100 at most"),
    ],
    ids=lambda value: ascii(value[:20]),
)
def test_what_is_refused(text: str | bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message) as raised:
        parse_json(text, max_bytes=100 if len(text) == 101 else 1_000_000)
    assert len(str(raised.value)) < 200


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("[" * MAX_DEPTH + "]" * MAX_DEPTH, json.loads("[" * MAX_DEPTH + "]" * MAX_DEPTH)),
        (json.dumps("[" * 100_000), "[" * 100_000),
        (json.dumps('"[\\"{' * 1_000), '"[\\"{' * 1_000),
        (json.dumps([[]] * 1_000), [[]] * 1_000),
        ('"\\ud83d\\ude00"', "\U0001f600"),
        ('"\\\\ud800"', "\\ud800"),
        (b"\xef\xbb\xbf[1]", [1]),
    ],
    ids=range(7),
)
def test_what_is_read(tmp_path: Path, text: str | bytes, value: object) -> None:
    assert parse_json(text) == value
    (tmp_path / "a.json").write_bytes(text if isinstance(text, bytes) else text.encode())
    assert read_json(tmp_path / "a.json") == value


def test_a_file_is_measured_before_it_is_read(tmp_path: Path) -> None:
    with (tmp_path / "a.json").open("wb") as file:
        file.truncate(1 << 40)  # a sparse file of a terabyte
    with pytest.raises(ValueError, match="1,099,511,627,776 bytes"):
        read_json(tmp_path / "a.json")
