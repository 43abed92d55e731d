"""The samples of a saved run, typed: what was asked, what came back, what it is worth, which frames were seen.

    records = read_records(latest_run(Path("runs")))

Everything that is said of a run (intervals, comparisons, the leaderboard, the gate, the report) is computed from these.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from egost.results.run import Run, RunError
from egost.tasks.clips.manifest import ClipManifest
from egost.tasks.judging.judge import JudgeFailure, Judgement
from egost.tasks.sample import TASK_KINDS, WAYS, Sample, TaskKind, Way, World
from egost.tasks.scoring.choices import Choice
from egost.tasks.scoring.generation_notes import Generation

_TASK = re.compile(rf"egost(_mini)?_({'|'.join(TASK_KINDS)})_({'|'.join(WAYS)})")


@dataclass(frozen=True, slots=True)
class SampleRecord:
    """One sample of a saved run.

    task: registered name of its task, for example `egost_direction_reverse`. world: which release it is of.
    sample: the question with its reference; without options where the run is older than their recording.
    prompt: the text that the model was asked. response: its reply as it came, with its thinking.
    percent, compat: 0 to 100 by either scoring; None where that scoring has no score.
    unscored: None, or why `percent` is None. clip_error: why the clip has no frames, for people.
    choice: what a multiple-choice reply chose. judgement: what the judge said of a route.
    frames: what the model saw; None where the clip has no frames. generation: None for an adapter that tells nothing.
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


def our_tasks(run: Run) -> list[str]:
    """Registered names of the single tasks of Ego-ST Bench in a run, sorted."""
    return sorted(name for name in run.results["configs"] if _TASK.fullmatch(name))


def task_of(name: str) -> tuple[TaskKind, Way]:
    """Kind and way of a single task of ours. Raises ValueError where the name is none."""
    if not _TASK.fullmatch(name):
        raise ValueError(f"'{name}' is no task of Ego-ST Bench")
    kind, way = name.rsplit("_", 2)[-2:]
    return cast(TaskKind, kind), cast(Way, way)


def read_records(run: Run) -> tuple[SampleRecord, ...]:
    """All samples of a run, by task and in the order of the run.

    Raises RunError where the run has no samples of ours, or where its files are cut, written by another version,
    hold a sample twice, a score that is no number from 0 to 100, fewer samples than the run asked, or tasks of two
    releases.
    """
    tasks = our_tasks(run)
    if not tasks:
        raise RunError(f"{run.results_file} has no task of Ego-ST Bench.")
    _check_one_release(run, tasks)
    return tuple(record for task in tasks for record in _of_task(run, task))


def _check_one_release(run: Run, tasks: Sequence[str]) -> None:
    releases = {
        (metadata.get("release_revision"), metadata.get("release_sha256"))
        for task in tasks
        if (metadata := run.results["configs"][task].get("metadata"))
    }
    if len(releases) > 1:
        told = ", ".join(sorted(str(revision) for revision, _ in releases))
        raise RunError(
            f"{run.results_file} mixes tasks of {len(releases)} releases ({told}): evaluate them on one release."
        )


def _of_task(run: Run, task: str) -> list[SampleRecord]:
    path = run.samples_file(task)
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
            raise RunError(f"{path}, line {number}: sample {record.sample.id} stands there twice.")
        seen.add(record.sample.id)
        records.append(record)
    expected = run.results.get("n-samples", {}).get(task, {}).get("effective")
    if expected is not None and expected != len(records):
        raise RunError(
            f"{path} holds {len(records)} samples, the run had {expected}: the file was cut or joined. Evaluate again; "
            "with the same settings the journal gives the replies back."
        )
    return records


def _rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            yield number, json.loads(line)
        except ValueError as error:
            raise RunError(
                f"{path}, line {number}: no whole JSON ({error}). The file was cut; evaluate again."
            ) from error


def _record(task: str, row: dict[str, Any]) -> SampleRecord:
    told = row["percent"]
    response = row["filtered_resps"]
    return SampleRecord(
        task=task,
        world="mini" if task.startswith("egost_mini") else "official",
        sample=_sample(task, told, row["target"]),
        prompt=row["input"],
        response=response if isinstance(response, str) else response[0],
        percent=_percent(told.get("score")),
        compat=_percent(row["compat"]),
        unscored=told["unscored"],
        choice=Choice(**told["choice"]) if told["choice"] else None,
        judgement=_judgement(told["judgement"]),
        frames=_frames(told["frames"]) if "frames" in told else None,
        clip_error=told.get("clip_error"),
        generation=Generation(**told["generation"]) if told["generation"] else None,
    )


def _sample(task: str, told: dict[str, Any], target: str) -> Sample:
    kind, way = task_of(task)
    return Sample(
        id=told["sample_id"],
        task=kind,
        way=way,
        part=int(told["sample_id"].split("/")[0].removeprefix("Part")),
        clip=told["clip"],
        question=told.get("question", ""),
        options=tuple(told.get("options", ())),
        answer=target,
    )


def _percent(value: Any) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 100:
        raise ValueError(f"a score is {value!r}, not a number from 0 to 100")
    return float(value)


def _judgement(told: dict[str, Any] | None) -> Judgement | JudgeFailure | None:
    if told is None:
        return None
    if "reason" in told:
        return JudgeFailure(**told)
    return Judgement(**{**told, "repeats": tuple(tuple(scores) for scores in told["repeats"])})


def _frames(told: dict[str, Any]) -> ClipManifest:
    return ClipManifest(
        **{**told, "indices": tuple(told["indices"]), "timestamps": tuple(told["timestamps"])}
    )
