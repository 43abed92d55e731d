"""Files that hold the text of strangers: JSON lines, and CSV that a spreadsheet may open.

In JSON lines a line feed alone ends a line. `str.splitlines` also breaks at U+0085, U+2028 and U+2029, which
responses of models hold and JSON leaves as they are.
"""

from __future__ import annotations

import csv
import io
import itertools
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from egost.tasks.cache import write_whole
from egost.tasks.json_text import MAX_BYTES, parse_json, without_halves


def json_lines(path: Path, max_bytes: int = MAX_BYTES, *, mend: bool = False) -> Iterator[tuple[int, Any]]:
    """The number of each line, from 1, and its value; blank lines are left out.

    max_bytes: of a line. mend: see `without_halves`. Raises OSError, and ValueError with the line's number.
    """
    for number, line in numbered_lines(path, max_bytes):
        if line.strip():
            try:
                yield number, parse_json(without_halves(line) if mend else line, max_bytes=max_bytes)
            except ValueError as error:
                raise ValueError(f"line {number}: {error}") from error


def numbered_lines(path: Path, max_bytes: int) -> Iterator[tuple[int, bytes]]:
    """The number of each line, from 1, and its bytes.

    Raises OSError, and ValueError with the line's number for one of more than `max_bytes`, which is never held whole.
    """
    with path.open("rb") as file:
        for number in itertools.count(1):
            line = file.readline(max_bytes + 1)
            if not line:
                return
            if (size := len(line)) > max_bytes:
                while not line.endswith(b"\n") and (line := file.readline(1 << 20)):
                    size += len(line)
                raise ValueError(f"line {number}: it has {size:,} bytes; egost reads {max_bytes:,} at most")
            yield number, line


def read_yaml(text: str) -> Any:
    """The value of a YAML text of ours. libyaml reads ten times as fast as PyYAML does without it."""
    return yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # both are safe


def csv_rows(path: Path, *, whole_lines: bool = False) -> list[dict[str, Any]]:
    """The rows of a CSV file by the names in its first line. Raises OSError, and ValueError with the line's number.

    whole_lines: a last line without an end is left out.
    """
    content = path.read_bytes()
    try:
        text = (content[: content.rfind(b"\n") + 1] if whole_lines else content).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"it is not UTF-8: byte {error.start}") from error
    reader = csv.DictReader(io.StringIO(text, newline=""))
    try:
        return list(reader)
    except csv.Error as error:
        raise ValueError(f"line {reader.line_num + 1}: {error}") from error


def write_json_lines(path: Path, values: Iterable[Any]) -> None:
    """Write a file whole, a line for each value. Raises CacheError."""
    write_whole(path, "".join(json.dumps(value, ensure_ascii=False) + "\n" for value in values).encode())


def csv_text(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> str:
    """A CSV file. A text that a spreadsheet would run as a formula begins with an apostrophe there."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _no_formula(value) for name, value in row.items()} for row in rows)
    return text.getvalue()


def _no_formula(value: Any) -> Any:
    runs = isinstance(value, str) and len(value) > 1 and value.startswith(("=", "+", "-", "@", "\t", "\r"))
    return f"'{value}" if runs else value


def filled(template: Path, values: Mapping[str, Any]) -> str:
    """The text that a Jinja template makes of some values. Raises jinja2.UndefinedError where one is missing."""
    import jinja2  # few commands fill one

    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    return environment.from_string(template.read_text(encoding="utf-8")).render(values)
