"""The samples of a saved run, typed: the question, the response, its score and the frames that the model saw.

    records = read_run(Path("runs")).records

Intervals, comparisons, the leaderboard, the gate and the report are computed from these.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from egost.results.run_header import RunError
from egost.tasks.clips.manifest import ClipManifest
from egost.tasks.judging.judge import JudgeFailure, Judgement
from egost.tasks.sample import Sample, World
from egost.tasks.scoring.choices import Choice
from egost.tasks.scoring.generation_notes import Generation
from egost.tasks.task_names import TaskName
from egost.tasks.text_files import lines_of


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
    for number, row in _rows(path):
        try:
            record = _record(task, row)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise RunError(
                f"{path}, line {number}: the sample cannot be read ({type(error).__name__}: {error}). It was written "
                "by another version, or was changed: evaluate again, or leave this run out."
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


def _rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(lines_of(path), 1):
        try:
            yield number, json.loads(line)
        except ValueError as error:
            raise RunError(
                f"{path}, line {number}: no whole JSON ({error}). The file was cut; evaluate again."
            ) from error


def _record(task: TaskName, row: dict[str, Any]) -> SampleRecord:
    scored = row["percent"]
    response = row["filtered_resps"]
    return SampleRecord(
        task=task.name,
        world=task.world,
        sample=_sample(task, scored, row["target"]),
        prompt=row["input"],
        response=response if isinstance(response, str) else response[0],
        percent=_percent(scored.get("score")),
        compat=_number(row["compat"]),
        unscored=scored["unscored"],
        choice=Choice(**scored["choice"]) if scored["choice"] else None,
        judgement=_judgement(scored["judgement"]),
        frames=_frames(scored["frames"]) if "frames" in scored else None,
        clip_error=scored.get("clip_error"),
        generation=Generation(**scored["generation"]) if scored["generation"] else None,
    )


def _sample(task: TaskName, saved: dict[str, Any], target: str) -> Sample:
    [(kind, way)] = task.tasks
    return Sample(
        id=saved["sample_id"],
        task=kind,
        way=way,
        part=int(saved["sample_id"].split("/")[0].removeprefix("Part")),
        clip=saved["clip"],
        question=saved.get("question", ""),
        options=tuple(saved.get("options", ())),
        answer=target,
    )


def _percent(value: Any) -> float | None:
    number = _number(value)
    if number is not None and not 0 <= number <= 100:
        raise ValueError(f"a score is {value!r}, not a number from 0 to 100")
    return number


def _number(value: Any) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ValueError(f"a score is {value!r}, not a number")
    return float(value)


def _judgement(saved: dict[str, Any] | None) -> Judgement | JudgeFailure | None:
    if saved is None:
        return None
    if "reason" in saved:
        return JudgeFailure(**saved)
    return Judgement(**{**saved, "repeats": tuple(tuple(scores) for scores in saved["repeats"])})


def _frames(saved: dict[str, Any]) -> ClipManifest:
    return ClipManifest(
        **{**saved, "indices": tuple(saved["indices"]), "timestamps": tuple(saved["timestamps"])}
    )
