"""The samples of a saved run, typed: the question, the response, its score and the frames that the model saw.

    records = read_run(Path("runs")).records

Intervals, comparisons, the leaderboard, the gate and the report are computed from these.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, NotRequired

from pydantic import ConfigDict, Discriminator, Field, Tag, TypeAdapter
from typing_extensions import TypedDict

from egost.results.run_header import RunError
from egost.tasks.clips.manifest import ClipManifest
from egost.tasks.errors import EgostError
from egost.tasks.json_text import shown, typed_json, without_halves
from egost.tasks.judging.judge import JudgeFailure, Judgement
from egost.tasks.response_text import outside_thinking
from egost.tasks.sample import LETTERS, Sample, World
from egost.tasks.scoring.choices import Choice
from egost.tasks.scoring.generation_notes import Generation
from egost.tasks.task_names import TaskName
from egost.tasks.text_files import numbered_lines

_STRICT = ConfigDict(strict=True, allow_inf_nan=False)

_Text = Annotated[str, Field(min_length=1)]
_Percent = Annotated[float, Field(ge=0, le=100)]
_Compat = Annotated[float, Field(ge=0, le=1e9)]
"""The public code's reading of a judge's reply knows no upper limit; this one lets a mean be a number."""

_Verdict = Annotated[
    Annotated[JudgeFailure, Tag("failed")] | Annotated[Judgement, Tag("judged")],
    Discriminator(lambda saved: "failed" if isinstance(saved, dict) and "reason" in saved else "judged"),
]


class _Scored(TypedDict):
    """What our scorers note of a sample."""

    __pydantic_config__ = _STRICT  # type: ignore[misc]  # not a field: how pydantic reads the others

    sample_id: Annotated[str, Field(pattern=r"^Part[1-9]/[a-z]+_[a-z]+/.")]
    clip: _Text
    clip_id: NotRequired[_Text]
    question: NotRequired[str]
    options: NotRequired[Annotated[tuple[str, ...], Field(max_length=len(LETTERS))]]
    score: NotRequired[_Percent]
    unscored: _Text | None
    choice: Choice | None
    judgement: _Verdict | None
    frames: NotRequired[ClipManifest]
    clip_error: NotRequired[str | None]
    generation: Generation | None


class _Row(TypedDict):
    """A line of lmms-eval's samples file, as far as it is read; the last ones count where a run is scored again."""

    __pydantic_config__ = _STRICT  # type: ignore[misc]  # see `_Scored`

    target: str
    input: str
    filtered_resps: str | Annotated[list[str], Field(min_length=1)]
    percent: _Scored
    compat: _Compat | None
    spatiotemporal: NotRequired[_Percent | None]
    direction: NotRequired[_Compat | None]
    landmark: NotRequired[_Compat | None]
    semantic: NotRequired[_Compat | None]
    empty: NotRequired[_Percent | None]
    invalid: NotRequired[_Percent | None]
    n_scored: NotRequired[Annotated[int, Field(strict=True, ge=0, le=1)] | str | None]
    n_unscored: NotRequired[str | None]
    judge_failed: NotRequired[str | None]


_ROW = TypeAdapter(_Row)

MOST_OF_A_SAMPLE = 16 << 20
"""Bytes of a line. A response of 30,000 tokens has 150,000."""


@dataclass(frozen=True, slots=True)
class SampleRecord:
    """One sample of a saved run.

    task: registered name of its task, for example `egost_direction_reverse`. world: which release it is of.
    sample: the question with its reference; without options where the run is older than their recording.
    prompt: the text that the model was given. response: as it came, with its thinking.
    percent, compat: 0 to 100 by either scoring (a judge can go beyond in compat); None where that has no score.
    unscored: None, or why `percent` is None. clip_error: why the clip has no frames, for people.
    choice: what a multiple-choice response chose. judgement: the judge's verdict on a route.
    frames: what the model saw; None where the clip has no frames. generation: None where the adapter records nothing.
    """

    task: str
    world: World
    sample: Sample
    prompt: str
    response: str
    percent: float | None
    compat: float | None
    unscored: str | None
    choice: Choice | None
    judgement: Judgement | JudgeFailure | None
    frames: ClipManifest | None
    clip_error: str | None
    generation: Generation | None

    @property
    def cut_in_thinking(self) -> bool:
        """Whether the response ends inside its thinking: it holds no answer, however much it says."""
        if self.unscored and self.unscored.startswith(("decode_failed", "generation_failed")):
            return False
        apart = self.generation is not None and self.generation.reasoning is not None
        return (apart and not self.response.strip()) or outside_thinking(self.response) is None

    @property
    def cluster(self) -> str:
        """The clip with its part, `Part1/128.mp4`: samples of one clip are not independent."""
        return f"Part{self.sample.part}/{self.sample.clip}"


def read_samples(path: Path, task: TaskName, asked: int | None) -> list[SampleRecord]:
    """The samples of a task, in the order of its samples file.

    asked: how many the run had; None where it does not tell. Raises RunError where the file is cut, written by another
    version, holds a sample twice, a score that is no number from 0 to 100, or another number of samples.
    """
    records: list[SampleRecord] = []
    seen: set[str] = set()
    for number, line in _lines(path):
        try:
            record = _record(task, _read(line))
        except (ValueError, EgostError) as error:
            raise RunError(
                f"{path}, line {number}: the sample cannot be read ({error}). The file was cut, changed, or "
                "written by another version: evaluate again, or leave this run out."
            ) from error
        if record.sample.id in seen:
            raise RunError(f"{path}, line {number}: sample {record.sample.id} is there twice.")
        seen.add(record.sample.id)
        records.append(record)
    if asked is not None and asked != len(records):
        raise RunError(
            f"{path} holds {len(records)} samples, the run had {asked}: the file was cut or joined. Evaluate again; "
            "with the same settings the journal gives the responses back."
        )
    return records


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    try:
        yield from numbered_lines(path, MOST_OF_A_SAMPLE)
    except OSError as error:
        raise RunError(f"{path} cannot be read ({error}).") from error
    except ValueError as error:
        raise RunError(f"{path}, {error}. Evaluate again, or leave this run out.") from error


def _read(line: bytes) -> _Row:
    try:
        return typed_json(line, _ROW, max_bytes=MOST_OF_A_SAMPLE)
    except ValueError:
        if (whole := without_halves(line)) == line:
            raise
    return typed_json(whole, _ROW, max_bytes=MOST_OF_A_SAMPLE)


def _record(task: TaskName, row: _Row) -> SampleRecord:
    scored, response = row["percent"], row["filtered_resps"]
    record = SampleRecord(
        task=task.name,
        world=task.world,
        sample=_sample(task, scored, row["target"]),
        prompt=row["input"],
        response=response if isinstance(response, str) else response[0],
        percent=scored.get("score"),
        compat=row["compat"],
        unscored=scored["unscored"],
        choice=scored["choice"],
        judgement=scored["judgement"],
        frames=scored.get("frames"),
        clip_error=scored.get("clip_error"),
        generation=scored["generation"],
    )
    _check(record)
    return record


def _sample(task: TaskName, saved: _Scored, target: str) -> Sample:
    [(kind, way)] = task.tasks
    part, of_task, _ = saved["sample_id"].split("/", 2)
    if of_task != f"{kind}_{way}":
        raise ValueError(f"sample_id: {shown(saved['sample_id'])} is of another task")
    if "options" in saved and bool(saved["options"]) == (kind == "route"):
        raise ValueError(f"options: found {len(saved['options'])} of a {kind} question")
    return Sample(
        id=saved["sample_id"],
        task=kind,
        way=way,
        part=int(part.removeprefix("Part")),
        clip=saved["clip"],
        question=saved.get("question", ""),
        options=saved.get("options", ()),
        answer=target,
    )


def _check(record: SampleRecord) -> None:
    """Raises ValueError where two fields of a sample contradict each other, so that one of them was changed."""
    sample, letter = record.sample, record.choice and record.choice.letter
    if (record.percent is None) == (record.unscored is None):
        found = "neither a score nor" if record.unscored is None else "both a score and"
        raise ValueError(f"percent.unscored: found {found} a reason for being unscored")
    if letter is not None and letter not in tuple(sample.letters or LETTERS):
        raise ValueError(f"choice.letter: {shown(letter)} is none of {sample.letters or LETTERS}")
