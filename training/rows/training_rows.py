"""Training rows: questions with the reasoning to be taught, one JSON object a line, and their clips.

    {"sample": {"id": "Part3/direction_reverse/17", ...}, "think": "Going back, ...", "clip_sha256": "4f1c..."}

The clips themselves are not in the file: `row_clips` finds them in the release and checks by `clip_sha256` that they
are still the ones that the rows were made from.

    split = split_rows(samples, 252, seed=0)      # the 252 hold the 126 of the same seed, and so on
    split.train, split.test

The paper divides the benchmark's multiple-choice questions into 630 rows of training and 3582 of test (section 5.3,
Table 3: "1:6"; 4212 together) and trains on growing subsets of the 630; Table 4 holds a source out altogether.
"""

from __future__ import annotations

import json
import random
import re
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import TypeAdapter, ValidationError

from egost.tasks.cache import write_whole
from egost.tasks.clips.clips import Clip, build_clips
from egost.tasks.clips.protocols import Protocol
from egost.tasks.errors import ClipError
from egost.tasks.json_text import shown, wrong_field
from egost.tasks.release.release import Release
from egost.tasks.sample import Sample
from egost.tasks.text_files import json_lines
from egost.training import TrainingError

_SAMPLE = TypeAdapter(Sample)
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
        rows = tuple(_row(row, f"{path}, line {number}") for number, row in json_lines(path))
    except (OSError, ValueError) as error:
        raise TrainingError(
            f"{path}, {error}: the rows cannot be read. Give a JSONL file that `egost train data` wrote."
        ) from error
    if not rows:
        raise TrainingError(f"{path}: holds no row. Give a JSONL file that `egost train data` wrote.")
    seen: set[str] = set()
    for row in rows:
        if row.sample.id in seen:
            raise TrainingError(f"{path}: sample {row.sample.id} occurs twice. Keep one of the rows.")
        seen.add(row.sample.id)
    return rows


def write_training_rows(path: Path, rows: Iterable[TrainingRow]) -> None:
    """Write a rows file whole. Raises CacheError."""
    write_whole(path, "".join(f"{row.to_line()}\n" for row in rows).encode())


def _row(row: Any, where: str) -> TrainingRow:
    if not isinstance(row, dict) or set(row) != _KEYS:
        found = shown(sorted(row) if isinstance(row, dict) else row)
        raise TrainingError(f"{where}: expected an object with {', '.join(sorted(_KEYS))}; found {found}.")
    if not isinstance(row["think"], str) or not isinstance(row["clip_sha256"], str):
        raise TrainingError(f"{where}: `think` and `clip_sha256` have to be texts.")
    try:
        sample = _SAMPLE.validate_json(json.dumps(row["sample"]), strict=True)
    except ValidationError as error:
        raise TrainingError(f"{where}: `sample` is no sample ({wrong_field(error)}).") from error
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


SUBSETS = (63, 126, 252, 378, 504, 630)
"""Numbers of training rows in Table 3."""

HoldOut = Literal["sun3d", "outdoor"]
"""Sources that Table 4 holds out: SUN3D, or HUJI, DoMSEV and self-collected clips, which have one kind of name."""

By = Literal["rows", "clips"]

T = TypeVar("T")


@dataclass(frozen=True)
class Split:
    """train: samples to train on, in the order of the nesting. test: samples to evaluate on, in the release's order.

    left_out: samples that are neither: questions about clips of the training rows where clips are divided, and
    training sources' questions where a source is held out.
    """

    train: tuple[Sample, ...]
    test: tuple[Sample, ...]
    left_out: tuple[Sample, ...] = ()

    @property
    def shared_clips(self) -> int:
        """Number of clips with questions on both sides."""
        return len({_clip(s) for s in self.train} & {_clip(s) for s in self.test})


def split_rows(
    samples: Sequence[Sample],
    rows: int,
    *,
    seed: int,
    by: By = "rows",
    hold_out: HoldOut | None = None,
    usable: Callable[[Sample], bool] = lambda sample: True,
) -> Split:
    """Divide samples; of the same samples and seed, fewer rows are always a part of more rows.

    rows: number of training rows. by: `rows` as the paper has it (a clip may then have questions on both sides,
    different ones), or `clips`. hold_out: a source that is the test, none of which is trained on. usable: whether a
    training row can be made of a sample; one that is not may still be tested on.

    Every prefix of the training rows holds tasks, ways and sources (with `by="clips"`: sources) in the proportions of
    the whole.
    Raises TrainingError where there are fewer samples than rows, or nothing is held out.
    """
    pool = [s for s in samples if s.source != hold_out]
    if hold_out and len(pool) == len(samples):
        raise TrainingError(
            f"no clip of this release is of the source '{hold_out}': there is nothing to hold out."
        )
    candidates = [s for s in pool if usable(s)]
    if len(candidates) < rows or rows < 1:
        raise TrainingError(
            f"{rows} training rows were asked for; {len(candidates)} of this release's {len(samples)} samples can be "
            f"trained on{f' without {hold_out}' if hold_out else ''}. Ask for 1 to {len(candidates)}."
        )
    if by == "rows":
        ordered = stratified(candidates, lambda s: (s.task, s.way, s.source), seed)
    else:
        clips = stratified(
            list({_clip(s): s for s in candidates}.values()), lambda s: (s.part, s.source), seed
        )
        rank = {_clip(s): place for place, s in enumerate(clips)}
        ordered = sorted(
            stratified(candidates, lambda s: (s.task, s.way), seed), key=lambda s: rank[_clip(s)]
        )
    train = tuple(ordered[:rows])
    taken = {s.id for s in train}
    taken_clips = {_clip(s) for s in train} if by == "clips" else set()
    rest = [s for s in samples if s.id not in taken]
    test = [s for s in rest if _clip(s) not in taken_clips and (not hold_out or s.source == hold_out)]
    tested = {s.id for s in test}
    return Split(train, tuple(test), tuple(s for s in rest if s.id not in tested))


def stratified(items: Sequence[T], stratum: Callable[[T], Hashable], seed: int) -> list[T]:
    """The items in an order of which every prefix holds the strata in their proportions, each within one or so.

    An item at place k of n in its shuffled stratum comes at (k + u) / n of the whole, with one u in [0, 1) for each
    stratum, drawn by the seed.
    """
    strata: defaultdict[Hashable, list[T]] = defaultdict(list)
    for item in items:
        strata[stratum(item)].append(item)
    draw = random.Random(seed)
    placed: list[tuple[float, int, T]] = []
    for members in (strata[key] for key in sorted(strata, key=str)):
        draw.shuffle(members)
        start = draw.random()
        placed += [((k + start) / len(members), len(placed) + k, item) for k, item in enumerate(members)]
    return [item for _, _, item in sorted(placed, key=lambda entry: entry[:2])]


def clips_of(samples: Iterable[Sample]) -> int:
    """Number of different clips."""
    return len({_clip(s) for s in samples})


def _clip(sample: Sample) -> tuple[int, str]:
    return sample.part, sample.clip
