"""Training rows: questions with the reasoning to be taught, one JSON object a line, and their clips.

    {"sample": {"id": "Part3/direction_reverse/17", ...}, "think": "Going back, ...", "clip_sha256": "4f1c..."}

The clips themselves are not in the file: `row_clips` finds them in the release and checks by `clip_sha256` that they
are still the ones that the rows were made from.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from egost.tasks.cache import write_whole
from egost.tasks.clips.clips import Clip, build_clips
from egost.tasks.clips.protocols import Protocol
from egost.tasks.errors import ClipError
from egost.tasks.release.release import Release
from egost.tasks.sample import TASK_KINDS, WAYS, Sample
from egost.tasks.text_files import lines_of
from egost.training import TrainingError

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

    Raises TrainingError, with the file and the line, for a file that cannot be read, holds no row, or holds one that is
    not of this form, whose answer is none of its options, or that occurs twice.
    """
    try:
        lines = lines_of(path)
    except (OSError, UnicodeDecodeError) as error:
        raise TrainingError(
            f"{path}: cannot be read as UTF-8 text ({error}). Give a JSONL file that `egost train data` wrote."
        ) from error
    rows = tuple(_row(line, f"{path}, line {number}") for number, line in enumerate(lines, 1) if line.strip())
    if not rows:
        raise TrainingError(f"{path}: holds no row. Give a JSONL file that `egost train data` wrote.")
    seen: set[str] = set()
    for row in rows:
        if row.sample.id in seen:
            raise TrainingError(f"{path}: sample {row.sample.id} occurs twice. Keep one of the rows.")
        seen.add(row.sample.id)
    return rows


def write_training_rows(path: Path, rows: Iterable[TrainingRow]) -> None:
    """Write a rows file whole. Raises OSError."""
    write_whole(path, "".join(f"{row.to_line()}\n" for row in rows).encode())


def _row(line: str, where: str) -> TrainingRow:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise TrainingError(f"{where}: not JSON ({error}). Each line has to be one object.") from error
    if not isinstance(row, dict) or set(row) != _KEYS:
        found = sorted(row) if isinstance(row, dict) else type(row).__name__
        raise TrainingError(f"{where}: expected an object with {', '.join(sorted(_KEYS))}; found {found}.")
    if not isinstance(row["think"], str) or not isinstance(row["clip_sha256"], str):
        raise TrainingError(f"{where}: `think` and `clip_sha256` have to be texts.")
    try:
        sample = Sample.from_doc(row["sample"])
    except (TypeError, KeyError, ValueError) as error:
        raise TrainingError(
            f"{where}: `sample` is no sample ({error!r}); found {row['sample']!r:.200}."
        ) from error
    if sample.task not in TASK_KINDS or sample.way not in WAYS:
        raise TrainingError(f"{where}: sample {sample.id} is of no known task: {sample.task}_{sample.way}.")
    if sample.task != "route" and sample.answer not in tuple(sample.letters):
        raise TrainingError(
            f"{where}: the answer of sample {sample.id} is {sample.answer!r}, none of its options' letters "
            f"{sample.letters!r}."
        )
    if _TAG.search(row["think"]):
        raise TrainingError(
            f"{where}: the reasoning of sample {sample.id} holds a tag of its own: {row['think']!r:.200}. Its tags are "
            "put around it; keep <think> and <answer> out of it."
        )
    return TrainingRow(sample, row["think"], row["clip_sha256"])


def row_clips(rows: Sequence[TrainingRow], release: Release, protocol: Protocol) -> list[Clip]:
    """The clip of each row, in their order, from the cache or decoded on all cores before the first step.

    Raises TrainingError, which names the samples, for clips that are missing, do not decode or are not the files
    that the rows were made from.
    """
    faults: dict[str, str] = {}
    sources = {}
    for row in rows:
        try:
            sources[row.sample.id] = release.clip_path(row.sample)
        except ClipError as error:
            faults[row.sample.id] = str(error)
    outcomes = dict(zip(sources, build_clips(list(sources.values()), protocol), strict=True))
    clips = []
    for row in rows:
        clip = outcomes.get(row.sample.id)
        if isinstance(clip, ClipError):
            faults[row.sample.id] = str(clip)
        elif clip is not None and clip.manifest.source_sha256 != row.clip_sha256:
            faults[row.sample.id] = (
                f"{row.sample.clip} is another file than the one that the rows were made of (sha256 "
                f"{clip.manifest.source_sha256[:12]}, expected {row.clip_sha256[:12] or 'one'})"
            )
        elif clip is not None:
            clips.append(clip)
    if faults:
        some = "; ".join(f"{sample}: {fault}" for sample, fault in list(faults.items())[:3])
        raise TrainingError(
            f"{len(faults)} of {len(rows)} rows cannot be shown to a model. {some}. Point EGOST_DATA "
            f"(or EGOST_MINI_DATA) to the {release.world} release that the rows were made of, or build the rows again."
        )
    return clips
