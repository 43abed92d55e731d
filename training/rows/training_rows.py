"""Training rows: a question with the reasoning that is to be taught, one JSON object a line.

    {"sample": {"id": "Part3/direction_reverse/17", ...}, "think": "Going back, ...", "clip_sha256": "4f1c..."}

The clips themselves are not in the file: the release finds them (`Release.clip_path`), and `clip_sha256` tells
whether they are still the ones that the rows were made of.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from egost.tasks.cache import write_whole
from egost.tasks.sample import TASK_KINDS, WAYS, Sample
from egost.training.rows.rows import RowError

_KEYS = {"sample", "think", "clip_sha256"}
_TAG = re.compile(r"</?(?:think|answer)>", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class TrainingRow:
    """One question to learn from.

    sample: the question, with its right letter or its reference route.
    think: the reasoning that comes before the answer, without its tags; empty for a row without one.
    clip_sha256: hash of the clip file's bytes.
    """

    sample: Sample
    think: str
    clip_sha256: str

    @property
    def solution(self) -> str:
        """The text that is taught: reasoning and answer in their tags, or the answer alone (paper, section 4)."""
        if not self.think:
            return self.sample.answer
        return f"<think>{self.think}</think> <answer>{self.sample.answer}</answer>"

    def to_line(self) -> str:
        """The row as a line of a rows file, without its end."""
        row = {"sample": self.sample.to_doc(), "think": self.think, "clip_sha256": self.clip_sha256}
        return json.dumps(row, ensure_ascii=False)


def read_training_rows(path: Path) -> tuple[TrainingRow, ...]:
    """All rows of a file, in its order.

    Raises RowError, with the file and the line, for a file that cannot be read, holds no row, or holds one that is
    not of this form, whose answer is none of its options, or that stood there before.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise RowError(
            f"{path}: cannot be read as UTF-8 text ({error}). Give a JSONL file that `egost train data` wrote."
        ) from error
    rows = tuple(_row(line, f"{path}, line {number}") for number, line in enumerate(lines, 1) if line.strip())
    if not rows:
        raise RowError(f"{path}: holds no row. Give a JSONL file that `egost train data` wrote.")
    seen: set[str] = set()
    for row in rows:
        if row.sample.id in seen:
            raise RowError(f"{path}: sample {row.sample.id} stands there twice. Keep one of the rows.")
        seen.add(row.sample.id)
    return rows


def write_training_rows(path: Path, rows: Iterable[TrainingRow]) -> None:
    """Write a rows file whole. Raises OSError."""
    write_whole(path, "".join(f"{row.to_line()}\n" for row in rows).encode())


def _row(line: str, where: str) -> TrainingRow:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise RowError(f"{where}: not JSON ({error}). Each line has to be one object.") from error
    if not isinstance(row, dict) or set(row) != _KEYS:
        found = sorted(row) if isinstance(row, dict) else type(row).__name__
        raise RowError(f"{where}: expected an object with {', '.join(sorted(_KEYS))}; found {found}.")
    if not isinstance(row["think"], str) or not isinstance(row["clip_sha256"], str):
        raise RowError(f"{where}: `think` and `clip_sha256` have to be texts.")
    try:
        sample = Sample.from_doc(row["sample"])
    except (TypeError, KeyError, ValueError) as error:
        raise RowError(
            f"{where}: `sample` is no sample ({error!r}); found {row['sample']!r:.200}."
        ) from error
    if sample.task not in TASK_KINDS or sample.way not in WAYS:
        raise RowError(f"{where}: sample {sample.id} is of no known task: {sample.task}_{sample.way}.")
    if sample.task != "route" and sample.answer not in tuple(sample.letters):
        raise RowError(
            f"{where}: the answer of sample {sample.id} is {sample.answer!r}, none of its options' letters "
            f"{sample.letters!r}."
        )
    if _TAG.search(row["think"]):
        raise RowError(
            f"{where}: the reasoning of sample {sample.id} holds a tag of its own: {row['think']!r:.200}. Its tags are "
            "put around it; keep <think> and <answer> out of it."
        )
    return TrainingRow(sample, row["think"], row["clip_sha256"])
