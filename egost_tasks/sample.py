"""One question of the benchmark, in the form that every part of the project uses."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import PurePosixPath
from typing import Any, Literal, get_args

TaskKind = Literal["route", "direction", "landmark", "action"]
Way = Literal["forward", "reverse"]
World = Literal["official", "mini"]
"""The benchmark's release, or the rendered world, whose figures are no benchmark results."""

TASK_KINDS: tuple[TaskKind, ...] = get_args(TaskKind)
WAYS: tuple[Way, ...] = get_args(Way)
LETTERS = "ABCDEFGHIJ"

_SOURCE_PREFIXES = (
    ("sun3d_", "sun3d"),
    ("ADT_", "adt"),
    ("AriaEverydayActivities_", "aria_everyday"),
    ("Nymeria_", "nymeria"),
)


@dataclass(frozen=True, slots=True)
class Sample:
    """One question about one clip.

    id: unique in a release, `PART/TASK_WAY/KEY`, for example `Part3/direction_reverse/17`.
    task, way: which of the eight tasks (paper, section 3.1) it belongs to.
    part: 1 to 4, the part of the release that holds it.
    clip: file name of the clip, without its folder.
    question: the question alone, without options or instruction.
    options: texts of the options in order, without their letters; empty for a route sample.
    answer: the right letter of a multiple-choice sample, or the reference route description.
    """

    id: str
    task: TaskKind
    way: Way
    part: int
    clip: str
    question: str
    options: tuple[str, ...]
    answer: str

    @property
    def letters(self) -> str:
        """The letters that the question has, for example `ABC` for three options."""
        return LETTERS[: len(self.options)]

    @property
    def source(self) -> str:
        """Where the clip was recorded, read from its file name (see `clip_source`)."""
        return clip_source(self.clip)

    def to_doc(self) -> dict[str, Any]:
        """A plain dictionary, the form that a `datasets.Dataset` row takes."""
        return asdict(self) | {"options": list(self.options)}

    @classmethod
    def from_doc(cls, doc: dict[str, Any]) -> Sample:
        """The sample of a row that `to_doc` made."""
        return cls(**{**doc, "options": tuple(doc["options"])})


def clip_source(clip: str) -> str:
    """Name the collection that a clip comes from by its file name.

    Returns `sun3d`, `adt`, `aria_everyday`, `nymeria`, `outdoor` (bare numbers: HUJI, DoMSEV and
    self-collected clips, which the release does not distinguish), `mini` or `other`.
    """
    name = PurePosixPath(clip).name
    for prefix, source in _SOURCE_PREFIXES:
        if name.startswith(prefix):
            return source
    if re.fullmatch(r"\d+\.\w+", name):
        return "outdoor"
    return "mini" if name.startswith("mini_") else "other"


def chance_level(option_counts: Iterable[int]) -> float:
    """Expected accuracy of a uniform guess, a fraction: the mean of 1/n over questions with n options.

    Raises ValueError when there is no question, or one without an option.
    """
    counts = list(option_counts)
    if not counts or min(counts) < 1:
        raise ValueError(f"chance_level needs at least one question, each with an option; got {counts[:10]}")
    return sum(1 / n for n in counts) / len(counts)
