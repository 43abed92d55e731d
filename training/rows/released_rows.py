"""The multiple-choice rows that ST-R1 was trained on, as its authors released them.

    rows = read_rows()
    rows[0].clip     -> "ADT_Lite_release_recognition_BirdHouseToy_seq030_61283_preview_rgb.mp4"
    rows[0].options  -> ("toy birdhouse", "ornamental birdfeeder", "two-story treehouse")

The 630 rows are in `data/st_r1/`, with their licence (MIT). They are cut from the benchmark itself, so
no checkpoint trained on them may be evaluated on their clips' questions.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from egost.tasks.json_text import shown
from egost.tasks.sample import LETTERS, Sample, TaskKind, Way, clip_source
from egost.tasks.scoring.choices import strict_choice
from egost.tasks.text_files import json_lines
from egost.training import TrainingError
from egost.training.rows.training_rows import SUBSETS, read_training_rows

DATA = Path(__file__).parents[1] / "data" / "st_r1"
RELEASED_ROWS = DATA / "total_test_mcq_630.jsonl"
SUBSETS_FILE = DATA / "subsets.json"
RELEASED = "st-r1-rows"
"""Name of the 630 rows where an option takes a file."""

_KEYS = ("problem", "solution", "video", "original_question", "original_answer")
_PROBLEM = re.compile(r"(?P<question>.+?) ?Options: (?P<options>.+)\n\nInstructions: .+", re.DOTALL)
_SOLUTION = re.compile(r"<think>(?P<think>.*)</think>\s*<answer>[A-Z]</answer>", re.DOTALL)


@dataclass(frozen=True, slots=True)
class StR1Row:
    """One released training row.

    index: place of the row in its file, from 0.
    problem: the whole prompt as released: question, options and instruction.
    question: the question alone. options: their texts in order, without letters (1 to 4 of them).
    letter: the right option. think: the reasoning that the row teaches, without its tags.
    clip: file name of the clip, without a folder. task, way: see `_task` and `_way`.
    """

    index: int
    problem: str
    question: str
    options: tuple[str, ...]
    letter: str
    think: str
    clip: str
    task: TaskKind
    way: Way

    @property
    def source(self) -> str:
        """The collection that the clip comes from, read from its file name."""
        return clip_source(self.clip)

    @property
    def solution(self) -> str:
        """The target text, in the form that the release gives it."""
        return f"<think>{self.think}</think> <answer>{self.letter}</answer>"


def read_rows(path: Path = RELEASED_ROWS) -> tuple[StR1Row, ...]:
    """All rows of a file in the released form, in its order.

    Raises TrainingError, with the file and the line, for a row that is not of that form.
    """
    try:
        return tuple(_row(row, i, f"{path}, line {line}") for i, (line, row) in enumerate(json_lines(path)))
    except (OSError, ValueError) as error:
        raise TrainingError(
            f"{path}, {error}: the rows cannot be read. Give a JSONL file of rows."
        ) from error


def released_subset(size: int) -> tuple[int, ...]:
    """Indices into the 630 rows of the released subset of a size, in the subset's own order.

    There are subsets of 63, 126, 252, 378 and 504 rows. From 126 on each holds the one before; of the 63, two rows
    lie outside the 126 and the 252, and one outside the 378. None is a prefix of the 630.
    Raises TrainingError for a size that was not released.
    """
    subsets: dict[str, list[int]] = json.loads(SUBSETS_FILE.read_text(encoding="utf-8"))
    if str(size) not in subsets:
        raise TrainingError(
            f"No released subset has {size} rows; there are those of {', '.join(subsets)} rows."
        )
    return tuple(subsets[str(size)])


def released_subset_rows(size: int) -> list[StR1Row]:
    """The rows of the released subset of a size (63 to 630), in its order. Raises TrainingError for another size."""
    rows = read_rows()
    return list(rows) if size == len(rows) else [rows[k] for k in released_subset(size)]


def rows_file(named: str) -> Path:
    """The file that `st-r1-rows` or a path names."""
    return RELEASED_ROWS if named == RELEASED else Path(named)


def rows_as_samples(named: str) -> list[Sample]:
    """The questions of some rows, for guessers that learn from them without a video.

    named: `st-r1-rows`, the size of a released subset (63 to 630), or a JSONL file, either in the released form or one
    that `egost train data` wrote. Questions of the released form get the ids `st-r1/INDEX` and part 0, since they
    do not say where in the release they are. Raises TrainingError for anything else.
    """
    if named.isdecimal():
        return _as_samples(released_subset_rows(int(named)))
    path = rows_file(named)
    try:
        _, first = next(json_lines(path), (0, None))
    except (OSError, ValueError) as error:
        raise TrainingError(
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


def _row(row: Any, index: int, where: str) -> StR1Row:
    if not isinstance(row, dict) or any(not isinstance(row.get(key), str) for key in _KEYS):
        found = shown(sorted(row) if isinstance(row, dict) else row)
        raise TrainingError(f"{where}: expected an object with the texts {', '.join(_KEYS)}; found {found}.")
    problem, solution = _PROBLEM.fullmatch(row["problem"]), _SOLUTION.fullmatch(row["solution"])
    if problem is None:
        raise TrainingError(
            f"{where}: `problem` is not 'question Options: A. ... Instructions: ...': {row['problem'][:200]!r}"
        )
    options = _options(problem["options"], where)
    letter = strict_choice(row["solution"], options).letter
    if solution is None or letter is None or letter != row["original_answer"]:
        raise TrainingError(
            f"{where}: expected `solution` to be <think>...</think> <answer>X</answer> with X the same as "
            f"`original_answer` ({row['original_answer']!r}) and one of {len(options)} options; found "
            f"{row['solution'][-80:]!r}."
        )
    return StR1Row(
        index=index,
        problem=row["problem"],
        question=problem["question"],
        options=options,
        letter=letter,
        think=solution["think"],
        clip=PurePosixPath(row["video"]).name,
        task=_task(problem["question"], solution["think"], where),
        way=_way(problem["question"], where),
    )


def _options(text: str, where: str) -> tuple[str, ...]:
    """Split `A. one, B. two`. The texts hold commas and full stops, so each letter has to be the next one."""
    labels: list[tuple[int, int]] = []
    for letter in LETTERS:
        label = f"{letter}. " if letter == "A" else f", {letter}. "
        at = text.find(label, labels[-1][1] if labels else 0)
        if at < 0:
            break
        labels.append((at, at + len(label)))
    ends = [start for start, _ in labels[1:]] + [len(text)]
    options = tuple(text[start:end] for (_, start), end in zip(labels, ends, strict=False))
    if not labels or labels[0][0] > 0 or any(not option.strip() for option in options):
        raise TrainingError(
            f"{where}: expected options 'A. ..., B. ...', each with a text; found {text[:200]!r}."
        )
    return options


def _task(question: str, think: str, where: str) -> TaskKind:
    """Which task a row belongs to, by what is asked.

    The released forward action rows ask in words about landmarks; only the question that their reasoning
    repeats at its end ("And then think about which actions ...") separates the two.
    """
    if "what directions" in question:
        return "direction"
    if "which actions" in question or "which actions" in think.rpartition("And then think about")[2]:
        return "action"
    if "which landmarks" in question:
        return "landmark"
    raise TrainingError(
        f"{where}: expected a question about directions, landmarks or actions; found {question!r}."
    )


def _way(question: str, where: str) -> Way:
    if "your destination" in question:
        return "forward"
    if "starting point" in question:
        return "reverse"
    raise TrainingError(
        f"{where}: expected a question about 'your destination' or the 'starting point'; found {question!r}."
    )
