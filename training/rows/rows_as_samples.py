"""Training rows as the questions that they are, for guessers that learn from them without a video."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from egost.tasks.sample import Sample
from egost.training.rows.rows import RELEASED_ROWS, RowError, StR1Row, read_rows, released_subset
from egost.training.rows.splits import SUBSETS
from egost.training.rows.training_rows import read_training_rows

RELEASED = "st-r1-rows"
"""What the 630 rows are called where a file could stand."""


def rows_file(named: str) -> Path:
    """The file that `st-r1-rows` or a path names."""
    return RELEASED_ROWS if named == RELEASED else Path(named)


def rows_as_samples(named: str) -> list[Sample]:
    """The questions of some rows.

    named: `st-r1-rows`, the size of a released subset (63 to 630), or a JSONL file, either in the released form or one
    that `egost train data` wrote. Questions of the released form are called `st-r1/INDEX` and have part 0, since they
    do not tell where in the release they stand. Raises RowError for anything else.
    """
    if named.isdecimal():
        rows = read_rows()
        return _as_samples(
            rows if int(named) == len(rows) else [rows[k] for k in released_subset(int(named))]
        )
    path = rows_file(named)
    try:
        first = json.loads(path.read_text(encoding="utf-8").partition("\n")[0])
    except (OSError, UnicodeDecodeError, ValueError) as error:
        raise RowError(
            f"{named} names no training rows ({error}); expected {RELEASED}, a size of {', '.join(map(str, SUBSETS))}, "
            "or a JSONL file of rows."
        ) from error
    if isinstance(first, dict) and "sample" in first:
        return [row.sample for row in read_training_rows(path)]
    return _as_samples(read_rows(path))


def released_subsets() -> dict[int, list[Sample]]:
    """The questions of each released subset, by its size."""
    return {size: rows_as_samples(str(size)) for size in SUBSETS}


def _as_samples(rows: Sequence[StR1Row]) -> list[Sample]:
    return [
        Sample(f"st-r1/{row.index}", row.task, row.way, 0, row.clip, row.question, row.options, row.letter)
        for row in rows
    ]
