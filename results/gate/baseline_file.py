"""A baseline as one file that can be read and committed.

    write_baseline(Path("golden.jsonl"), baseline_of(read_run(Path("runs"))))
    was = read_baseline(Path("golden.jsonl"))

JSON lines, one thing a line: who replied; each group and task with its figures and settings; each wording of the prompt
once; the frames of each clip once; each sample. Sorted, so that what changed shows as changed lines.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from egost.results.gate.baseline import (
    Baseline,
    Figures,
    GroupFigures,
    Model,
    TaskFigures,
    miscounts,
    wording,
)
from egost.results.records import SampleRecord
from egost.results.run_header import RunError
from egost.tasks.cache import write_whole
from egost.tasks.clips.manifest import ClipManifest
from egost.tasks.errors import EgostError
from egost.tasks.json_text import parse_json, shown, typed_json, without_nan
from egost.tasks.judging.judge import JudgeFailure, Judgement
from egost.tasks.sample import Sample
from egost.tasks.scoring.choices import Choice, Found, Invalid
from egost.tasks.task_names import parse_task_name

FORMAT = 1
"""Raised whenever older files cannot be read any more."""

_Numbers = dict[str, float | None]
"""Figures; None for NaN, which JSON does not have."""


class _Line(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class _Head(_Line):
    line: Literal["baseline"] = "baseline"
    format: int
    models: tuple[Model, ...]
    packages: dict[str, str]


class _Group(_Line):
    line: Literal["group"] = "group"
    group: str
    tasks: tuple[str, ...]
    figures: _Numbers


class _Task(_Line):
    line: Literal["task"] = "task"
    task: str
    figures: _Numbers
    settings: dict[str, str]
    generation: dict[str, Any]


class _Wording(_Line):
    line: Literal["wording"] = "wording"
    wording: int
    text: str


class _Clip(_Line):
    line: Literal["clip"] = "clip"
    clip: str
    frames: ClipManifest


class _Choice(_Line):
    letter: str | None
    how: Found | Invalid


class _Judged(_Line):
    """What the judge said: its three scores, or why it failed."""

    direction: int | float | None = None
    landmark: int | float | None = None
    semantic: int | float | None = None
    empty: bool = False
    failed: str | None = None


class _Sample(_Line):
    line: Literal["sample"] = "sample"
    task: str
    sample: str
    clip: str
    seen: bool
    question: str
    options: tuple[str, ...]
    answer: str
    wording: int
    response: str
    percent: Annotated[float, Field(ge=0, le=100)] | None = None
    compat: Annotated[float, Field(allow_inf_nan=False)] | None = None
    unscored: str | None = None
    choice: _Choice | None = None
    judged: _Judged | None = None


_AnyLine = Annotated[_Head | _Group | _Task | _Wording | _Clip | _Sample, Field(discriminator="line")]
_ANY: TypeAdapter[Any] = TypeAdapter(_AnyLine)


def write_baseline(path: Path, baseline: Baseline) -> None:
    """Write a baseline. Raises RunError where its figures do not follow from its samples, CacheError as `write_whole`.

    A file that defines what is right must not hold a fault of the aggregation.
    """
    if wrong := miscounts(baseline):
        raise RunError(
            f"no baseline is written: the run stores {wrong[0].metric} {wrong[0].stored:g} of {wrong[0].name}, but its "
            f"samples give {wrong[0].counted:g} ({len(wrong)} such figures). The aggregation is at fault, or its files "
            "were changed."
        )
    lines = [_dumped(line) for line in _lines(baseline)]
    write_whole(path, "".join(f"{line}\n" for line in lines).encode())


def read_baseline(path: Path) -> Baseline:
    """The baseline of a file. Raises RunError where it is cut, edited, of another format or none at all."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise RunError(
            f"there is no baseline {path}. Make it of a run that is right: egost regress RUN --baseline {path} --update"
        ) from None
    except OSError as error:
        raise RunError(f"the baseline {path} cannot be read ({error}).") from error
    lines = [(number, line) for number, line in enumerate(content.split(b"\n"), 1) if line]
    if lines:
        _check_format(path, lines[0][1])
    baseline = _assembled(path, [_parsed(path, number, line) for number, line in lines])
    if wrong := miscounts(baseline):
        raise _damaged(
            path,
            f"it stores {wrong[0].metric} {wrong[0].stored:g} of {wrong[0].name}, its samples give "
            f"{wrong[0].counted:g}: lines were lost or edited",
        )
    return baseline


def _damaged(path: Path, what: str) -> RunError:
    return RunError(
        f"the baseline {path} is damaged: {what}. Get it again as it was committed, or write it anew with --update."
    )


def _check_format(path: Path, line: bytes) -> None:
    try:
        head = parse_json(line)
    except ValueError as error:
        raise _damaged(path, f"line 1: {error}") from error
    if isinstance(head, dict) and head.get("line") == "baseline" and head.get("format") != FORMAT:
        raise RunError(
            f"the baseline {path} is of format {shown(head.get('format'))}, this version reads {FORMAT}. Write it "
            "anew with --update."
        )


def _parsed(path: Path, number: int, line: bytes) -> _Line:
    try:
        parsed: _Line = typed_json(line, _ANY)
    except (ValueError, EgostError) as error:
        raise _damaged(path, f"line {number}: {error}") from error
    return parsed


def _lines(baseline: Baseline) -> Iterator[_Line]:
    yield _Head(format=FORMAT, models=baseline.models, packages=dict(baseline.packages))
    for name, group in baseline.groups.items():
        yield _Group(group=name, tasks=group.tasks, figures=without_nan(group.figures))
    for name, task in baseline.tasks.items():
        yield _Task(
            task=name,
            figures=without_nan(task.figures),
            settings=dict(task.settings),
            generation=dict(task.generation),
        )
    records = list(baseline.records.values())
    numbers = {text: number for number, text in enumerate(sorted({wording(r) for r in records}), 1)}
    yield from (_Wording(wording=number, text=text) for text, number in numbers.items())
    frames = {record.cluster: record.frames for record in records if record.frames}
    yield from (_Clip(clip=clip, frames=seen) for clip, seen in sorted(frames.items()))
    yield from (_line_of(record, numbers[wording(record)]) for record in records)


def _line_of(record: SampleRecord, number: int) -> _Sample:
    return _Sample(
        task=record.task,
        sample=record.sample.id,
        clip=record.cluster,
        seen=record.frames is not None,
        question=record.sample.question,
        options=record.sample.options,
        answer=record.sample.answer,
        wording=number,
        response=record.response,
        percent=record.percent,
        compat=record.compat,
        unscored=record.unscored,
        choice=_Choice(**asdict(record.choice)) if record.choice else None,
        judged=_judged(record.judgement),
    )


def _judged(judgement: Judgement | JudgeFailure | None) -> _Judged | None:
    if judgement is None:
        return None
    if isinstance(judgement, JudgeFailure):
        return _Judged(failed=judgement.reason)
    return _Judged(
        direction=judgement.direction,
        landmark=judgement.landmark,
        semantic=judgement.semantic,
        empty=judgement.empty,
    )


def _dumped(line: _Line) -> str:
    content = {name: value for name, value in line.model_dump(mode="json").items() if value is not None}
    return json.dumps(content, ensure_ascii=False, allow_nan=False)


def _with_nan(figures: Mapping[str, float | None]) -> Figures:
    return {name: math.nan if value is None else value for name, value in figures.items()}


def _assembled(path: Path, lines: list[_Line]) -> Baseline:
    heads = [line for line in lines if isinstance(line, _Head)]
    if len(heads) != 1 or lines[0] is not heads[0]:
        raise _damaged(path, "its first line is no head of a baseline, or it has several")
    tasks = {line.task: line for line in lines if isinstance(line, _Task)}
    wordings = {line.wording: line.text for line in lines if isinstance(line, _Wording)}
    clips = {line.clip: line.frames for line in lines if isinstance(line, _Clip)}
    records: dict[tuple[str, str], SampleRecord] = {}
    for line in lines:
        if not isinstance(line, _Sample):
            continue
        try:
            judge = tasks[line.task].settings.get("judge", "")
            records[line.task, line.sample] = _record(line, wordings[line.wording], clips, judge)
        except (KeyError, ValueError, EgostError) as error:
            raise _damaged(
                path, f"sample {line.sample} of {line.task} does not fit the rest ({error!r})"
            ) from error
    if len(records) != sum(isinstance(line, _Sample) for line in lines):
        raise _damaged(path, "a sample is there twice")
    return Baseline(
        models=heads[0].models,
        packages=heads[0].packages,
        groups={
            line.group: GroupFigures(_with_nan(line.figures), line.tasks)
            for line in lines
            if isinstance(line, _Group)
        },
        tasks={
            name: TaskFigures(_with_nan(line.figures), line.settings, line.generation)
            for name, line in tasks.items()
        },
        records=records,
    )


def _record(line: _Sample, text: str, clips: Mapping[str, ClipManifest], judge: str) -> SampleRecord:
    if (task := parse_task_name(line.task)) is None or task.is_group:
        raise ValueError(f"'{line.task}' is no task of Ego-ST Bench")
    [(kind, way)] = task.tasks
    part, _, clip = line.clip.partition("/")
    sample = Sample(
        id=line.sample,
        task=kind,
        way=way,
        part=int(part.removeprefix("Part")),
        clip=clip,
        question=line.question,
        options=line.options,
        answer=line.answer,
    )
    return SampleRecord(
        task=line.task,
        world=task.world,
        sample=sample,
        prompt=_in_full(text, sample),
        response=line.response,
        percent=line.percent,
        compat=line.compat,
        unscored=line.unscored,
        choice=Choice(line.choice.letter, line.choice.how) if line.choice else None,
        judgement=_judgement(line, judge),
        frames=clips[line.clip] if line.seen else None,
        clip_error=None,
        generation=None,
    )


def _in_full(text: str, sample: Sample) -> str:
    """The prompt that `wording` made the text of."""
    for letter, option in zip(sample.letters, sample.options, strict=True):
        text = text.replace(f"{letter}. $option", f"{letter}. {option}", 1)
    return text.replace("$question", sample.question, 1)


def _judgement(line: _Sample, judge: str) -> Judgement | JudgeFailure | None:
    judged = line.judged
    if judged is None:
        return None
    if judged.failed is not None:
        return JudgeFailure(line.sample, judged.failed, "", judge)
    if judged.direction is None or judged.landmark is None or judged.semantic is None:
        raise ValueError("a judgement lacks a score")
    return Judgement(
        line.sample, judged.direction, judged.landmark, judged.semantic, "", judge, empty=judged.empty
    )
