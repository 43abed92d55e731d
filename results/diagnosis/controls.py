"""The controls of a model: the same questions asked without video, with shuffled, reversed or single frames, or with
rotated options, and the file that keeps their figures.

    controls_of(run).arm("blind").overall.gap            # points that the score loses without the video

The file `controls.json` is one object in the form of `Controls`; all figures are percent or points, 0 to 100.
`control_figures` computes them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import TypeAdapter

from egost.results.diagnosis.text_only import Subject, release_of
from egost.results.intervals import Difference, Estimate
from egost.results.records import SampleRecord
from egost.results.run import Run
from egost.results.run_header import RunError
from egost.tasks.cache import write_whole
from egost.tasks.json_text import typed_json

CONTROLS_FILE = "controls.json"
"""Name of the file in a run's folder."""

SAMPLES_FILE = "controls_samples.jsonl"
"""Name of the file next to it: one line for each response under each control."""

AS_ASKED = "as asked"

Records = Sequence[SampleRecord]


@dataclass(frozen=True, slots=True)
class About:
    """What was asked, of whom.

    model: the engine's identity (engine, model, revision, settings). adapter, model_args: as lmms-eval takes them.
    protocol, prompt, judge: as the results of a run name them; judge is empty without routes. tasks: as they were asked
    for. limit: of samples a task; room: most tokens of a reply; None for all, and for what the prompt says.
    left_out: samples whose clips give no frames. made_at: UTC, ISO.
    """

    model: Mapping[str, Any]
    adapter: str
    model_args: str
    release: Subject
    protocol: str
    prompt: str
    judge: str
    tasks: str
    limit: int | None
    room: int | None
    left_out: int
    made_at: str


@dataclass(frozen=True, slots=True)
class Gap:
    """score: as asked, on the samples of the control. control: under the control. gap: score - control, paired."""

    score: Estimate
    control: Estimate
    gap: Difference


@dataclass(frozen=True, slots=True)
class Arm:
    """One control. name: `blind`, `shuffled`, `reversed`, `middle`, or a guesser's, which asks no model (`guesser`).

    overall: all samples that it was run on. by_task: the same by registered task. meaning: one sentence.
    """

    name: str
    guesser: bool
    overall: Gap
    by_task: Mapping[str, Gap]
    meaning: str


@dataclass(frozen=True, slots=True)
class Circular:
    """The same question with its options in each of their rotations.

    circular: right in all of them. gap: score as asked - circular, paired. every_place: mean over the rotations.
    same_text: percent of the questions with two options or more to which the same option's text was chosen each time.
    """

    circular: Estimate
    every_place: Estimate
    gap: Difference
    same_text: float
    meaning: str


@dataclass(frozen=True, slots=True)
class Turned:
    """Whether reversing the frames turns the forward answer into the reverse one, and the other way round.

    n: questions whose options hold the right answer of the other way of the same clip, by its words. own_*,
    other_*: percent that chose their own way's right option or the other way's, with the frames in order and reversed.
    """

    n: int
    own_in_order: float
    other_in_order: float
    own_reversed: float
    other_reversed: float
    meaning: str


@dataclass(frozen=True, slots=True)
class Consistency:
    """The forward and the reverse question of a task on the same clip, both scored (multiple choice).

    pairs: clip and task. both, forward_only, reverse_only, neither: percent right. by_chance: percent that would be
    right in both if the two had nothing to do with each other.
    """

    pairs: int
    both: float
    forward_only: float
    reverse_only: float
    neither: float
    by_chance: float
    meaning: str


@dataclass(frozen=True, slots=True)
class Controls:
    """All controls of one model on one set of questions.

    letters: percent of the replies to multiple-choice questions that chose each letter; `invalid` for none.
    chance: percent of a guess by the number of options; None without multiple-choice questions.
    """

    about: About
    score: Estimate
    chance: float | None
    letters: Mapping[str, float]
    arms: tuple[Arm, ...]
    circular: Circular | None
    turned: Turned | None
    consistency: Consistency | None
    version: Literal[1] = 1

    def arm(self, name: str) -> Arm | None:
        """The control of a name; None where it was not run."""
        return next((arm for arm in self.arms if arm.name == name), None)


_FILE = TypeAdapter(Controls)


def write_controls(
    folder: Path, found: Controls, replies: Mapping[str, Records], rotations: Sequence[Records]
) -> Path:
    """Write the figures and the records behind them into a folder, each file whole or not at all. Raises CacheError."""
    named = {**replies, **{f"rotated {by}": records for by, records in enumerate(rotations, 1)}}
    lines = (
        _line({"control": name, **asdict(record)}) for name, records in named.items() for record in records
    )
    write_whole(folder / SAMPLES_FILE, b"".join(lines))
    # Not by pydantic, which writes a number that is none as null and then does not take null for a number.
    write_whole(folder / CONTROLS_FILE, (json.dumps(asdict(found), indent=1) + "\n").encode())
    return folder / CONTROLS_FILE


def read_controls_file(path: Path) -> Controls:
    """What `write_controls` wrote. Raises RunError where it cannot be read."""
    try:
        return typed_json(path.read_bytes(), _FILE)
    except (OSError, ValueError) as error:
        raise RunError(
            f"{path} holds no controls of this version ({error}). Run them again (the replies are "
            "journaled): egost diagnose MODEL"
        ) from error


def controls_of(run: Run) -> Controls | None:
    """The controls that were run for a run's model on its release; None where there are none.

    Looked for next to the results file and in the folder above, an `--output_path`; a file of another release, protocol
    or prompt counts for nothing. Raises RunError for a file that cannot be read.
    """
    of = release_of(run)
    ways = {(t.sampling_protocol, t.prompt) for t in run.header.tasks.values() if t.sampling_protocol}
    for folder in (run.results_file.parent, run.results_file.parent.parent):
        if (path := folder / CONTROLS_FILE).is_file():
            about = (found := read_controls_file(path)).about
            if about.release.release_sha256 == of.release_sha256 and (about.protocol, about.prompt) in ways:
                return found
    return None


def _line(value: Mapping[str, Any]) -> bytes:
    # ASCII alone: a reply may hold half of a surrogate pair, which no UTF-8 has.
    return (json.dumps(value) + "\n").encode()
