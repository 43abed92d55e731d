"""What has moved of single samples, and at which stage: by comparing two runs, and by scoring stored replies again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

from egost.results.gate.baseline import Baseline, is_whole, wording
from egost.results.gate.recount import same_figure
from egost.results.records import SampleRecord
from egost.tasks.judging.choose import JUDGES, get_judge
from egost.tasks.judging.judge import JudgeFailure, Judgement
from egost.tasks.scoring.scores import Response, Score, score_choice, score_route

Stage = Literal["data", "frames", "prompt", "model", "scoring", "aggregation"]
STAGES: tuple[Stage, ...] = get_args(Stage)
"""In the order in which a figure is made."""


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that is not what it was. was, now: as a person would read them."""

    stage: Stage
    what: str
    was: str
    now: str


@dataclass(frozen=True, slots=True)
class MovedSample:
    """A sample that is not what it was. stage: the first that differs; changes: all that differs, in their order.

    pixels: hash of the 8 frames before and now, where there are any.
    """

    task: str
    sample: str
    clip: str
    stage: Stage
    changes: tuple[Change, ...]
    pixels: tuple[str | None, str | None]


def moved_samples(was: Baseline, now: Baseline) -> Iterator[MovedSample]:
    """Samples of a run that are not what they were; one that is lacking, or new in its task, has moved by its data."""
    for key, before in was.records.items():
        after = now.records.get(key)
        if after is None:
            yield _moved(before, None, [Change("data", "sample", "there", "missing")])
            continue
        asked_alike = was.tasks[before.task].generation == now.tasks[after.task].generation
        if changes := list(_changes(before, after, asked_alike)):
            yield _moved(before, after, changes)
    for key, added in now.records.items():
        if key not in was.records and added.task in was.tasks:
            yield _moved(added, added, [Change("data", "sample", "missing", "there")])


def _moved(before: SampleRecord, after: SampleRecord | None, changes: Sequence[Change]) -> MovedSample:
    stage = min((change.stage for change in changes), key=STAGES.index)
    frames = [record.frames if record else None for record in (before, after)]
    pixels = [seen.pixels_sha256 if seen else None for seen in frames]
    return MovedSample(
        before.task, before.sample.id, before.cluster, stage, tuple(changes), (pixels[0], pixels[1])
    )


def _changes(was: SampleRecord, now: SampleRecord, asked_alike: bool) -> Iterator[Change]:
    """All that differs between two records of a sample. asked_alike: whether replies had the same limits."""
    for what in ("question", "options", "answer", "clip"):
        before, after = getattr(was.sample, what), getattr(now.sample, what)
        if before != after:
            yield Change("data", what, _told(before), _told(after))
    yield from _frames_changes(was, now)
    if wording(was) != wording(now):
        yield Change("prompt", "prompt", wording(was), wording(now))
    if was.response != now.response:
        yield Change("model" if asked_alike else "prompt", "reply", was.response, now.response)
    yield from _score_changes(was, now)


def _frames_changes(was: SampleRecord, now: SampleRecord) -> Iterator[Change]:
    if was.frames is None or now.frames is None:
        if was.frames is not now.frames:
            # A clip that is not there is no fault of the decoder.
            missing = any(record.unscored == "decode_failed:missing" for record in (was, now))
            told = [str(record.unscored) if record.frames is None else "8 frames" for record in (was, now)]
            yield Change("data" if missing else "frames", "clip", told[0], told[1])
        return
    if was.frames.source_sha256 != now.frames.source_sha256:
        yield Change("data", "clip's file", was.frames.source_sha256, now.frames.source_sha256)
    for what in ("indices", "width", "height", "pixels_sha256"):
        before, after = getattr(was.frames, what), getattr(now.frames, what)
        if before != after:
            yield Change("frames", what.removesuffix("_sha256"), _told(before), _told(after))


def _score_changes(was: SampleRecord, now: SampleRecord) -> Iterator[Change]:
    before, after = _scores(was), _scores(now)
    for what, value in before.items():
        other = after[what]
        numbers = isinstance(value, float) and isinstance(other, float)
        if not (same_figure(value, other) if numbers else value == other):  # type: ignore[arg-type]
            yield Change("scoring", what, _told(value), _told(other))


def _scores(record: SampleRecord) -> dict[str, object]:
    judged = record.judgement
    aspects = (
        (judged.direction, judged.landmark, judged.semantic, judged.empty)
        if isinstance(judged, Judgement)
        else None
    )
    return {
        "percent": record.percent,
        "compat": record.compat,
        "unscored": record.unscored,
        "choice": (record.choice.letter or "none", record.choice.how) if record.choice else None,
        "judgement": aspects,
    }


def _told(value: object) -> str:
    if value is None:
        return "none"
    if isinstance(value, tuple):
        return (
            " | ".join(map(str, value)) if any(isinstance(part, str) for part in value) else _numbers(value)
        )
    return f"{value:g}" if isinstance(value, float) else str(value)


def _numbers(values: tuple[object, ...]) -> str:
    return " ".join(map(str, values))


def rescored(was: Baseline) -> Iterator[MovedSample]:
    """Baseline samples that the installed scorer gives another score, whatever the run's model has said to them."""
    records = [
        record
        for record in was.records.values()
        if is_whole(record.response)
        and (record.unscored is None or isinstance(record.judgement, JudgeFailure))
    ]
    for record, score in zip(records, _scored_again(records), strict=True):
        if score is None:
            continue
        again = replace(
            record,
            percent=score.percent,
            compat=score.compat,
            unscored=score.unscored,
            choice=score.choice,
            judgement=score.judgement,
        )
        if changes := list(_score_changes(record, again)):
            yield _moved(record, again, changes)


def _scored_again(records: Sequence[SampleRecord]) -> Iterator[Score | None]:
    """None for a route of a judge that is not the installed one, or that has a server to be paid."""
    offline = {judge.name: judge for name in JUDGES for judge in [get_judge(name)]}
    for record in records:
        response = Response(record.response)
        if record.sample.task != "route":
            yield score_choice(record.sample, response)
        elif record.judgement is not None and (judge := offline.get(record.judgement.judge)):
            yield score_route([record.sample], [response], judge)[0]
        else:
            yield None
