"""Has a run moved away from its baseline, and which thing has moved it?

    verdict = regression(read_baseline(path), baseline_of(read_run(Path("runs"))))
    verdict.failed, verdict.moved          # True, ("frames",)

A figure is made in stages, each from the one before: data, frames, prompt, model, scoring, aggregation. A sample
belongs to the first stage at which it differs; later differences follow from that one. Scoring and aggregation are
checked on their own, too: the installed scorer scores the baseline's responses, and the run's figures are counted again
from its samples, so that two faults at once are both named.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

from egost.results.gate.baseline import Baseline, Miscount, is_whole, miscounts, wording
from egost.results.intervals import Difference, paired, same_figure
from egost.results.records import SampleRecord
from egost.results.run_header import RunError
from egost.tasks.judging.choose import JUDGES, get_judge
from egost.tasks.judging.judge import JudgeFailure, Judgement
from egost.tasks.provenance import MAX_UNSCORED_SHARE
from egost.tasks.scoring.scores import Response, Score, score_choice, score_route

Stage = Literal["data", "frames", "prompt", "model", "scoring", "aggregation"]
STAGES: tuple[Stage, ...] = get_args(Stage)
"""In the order in which a figure is made."""


SIGNIFICANT = 0.05

_STAGE_OF_SETTING: dict[str, Stage] = {
    "release_sha256": "data",
    "sampling_protocol": "frames",
    "prompt_sha256": "prompt",
    "judge": "scoring",
    "judge_model_asked": "scoring",
    "judge_prompt_sha256": "scoring",
}


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

    pixels: hash of the frames before and now, where there are any.
    """

    task: str
    sample: str
    clip: str
    stage: Stage
    changes: tuple[Change, ...]
    pixels: tuple[str | None, str | None]


@dataclass(frozen=True, slots=True)
class MovedFigure:
    """The figure of a task or group, percent 0 to 100, that is not what it was."""

    name: str
    metric: str
    was: float
    now: float


@dataclass(frozen=True, slots=True)
class Drop:
    """How far a score has moved, sample by sample. name: a task, or `average` for the plain mean over all of them.

    too_far: whether it is lower by more than the tolerance, and more than chance explains.
    """

    name: str
    difference: Difference
    too_far: bool


@dataclass(frozen=True)
class Verdict:
    """What became of a run, held against its baseline.

    compared: number of samples in both. settings: what has changed for whole tasks. samples: those that moved.
    rescored: baseline samples whose stored response the installed scorer scores differently. groups: those that average
    other tasks. miscounts: figures of the run that its samples do not give. figures: that differ from the baseline's.
    drops: the scores' differences where a tolerance was given, else empty. unpublishable: tasks with too many unscored
    samples, where a tolerance was given. notes: what differs and moves nothing by itself.
    moved: stages that have moved, in their order; not_allowed: those of them that must not. failed: whether any has
    that must not, or a score fell too far, or a task cannot be published.
    """

    compared: int
    settings: tuple[Change, ...]
    samples: tuple[MovedSample, ...]
    rescored: tuple[MovedSample, ...]
    groups: tuple[Change, ...]
    miscounts: tuple[Miscount, ...]
    figures: tuple[MovedFigure, ...]
    drops: tuple[Drop, ...]
    unpublishable: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def moved(self) -> tuple[Stage, ...]:
        found = {change.stage for change in (*self.settings, *self.groups)}
        found |= {sample.stage for sample in (*self.samples, *self.rescored)}
        if self.miscounts:
            found.add("aggregation")
        return tuple(stage for stage in STAGES if stage in found)

    @property
    def not_allowed(self) -> tuple[Stage, ...]:
        return tuple(stage for stage in self.moved if stage != "model" or not self.drops)

    @property
    def failed(self) -> bool:
        return bool(self.not_allowed or self.unpublishable or any(drop.too_far for drop in self.drops))


def regression(was: Baseline, now: Baseline, tolerance: float | None = None) -> Verdict:
    """Hold a run against its baseline.

    tolerance: None for a model that must say the same to every sample. Else the points by which a score may fall
    because the model has changed: other responses are allowed, as long as neither the average over all tasks nor a
    task falls further than that *and* further than chance explains (95 % interval over clips below 0 for the
    average; for the tasks the p-values by Bonferroni's rule). All other stages are held as strictly as without.

    Raises RunError where the two share no sample.
    """
    shared = [key for key in was.records if key in now.records]
    if not shared:
        raise RunError(
            f"the run has no sample of the baseline: it has {_listed(now.tasks)}, the baseline {_listed(was.tasks)}. "
            "Compare runs of the same tasks."
        )
    drops = () if tolerance is None else tuple(_drops(was, now, tolerance))
    return Verdict(
        compared=len(shared),
        settings=tuple(_moved_settings(was, now)),
        samples=tuple(_moved_samples(was, now)),
        rescored=tuple(rescored(was)),
        groups=tuple(_moved_groups(was, now)),
        miscounts=tuple(miscounts(now)),
        figures=tuple(_moved_figures(was, now)),
        drops=drops,
        unpublishable=tuple(_unpublishable(now)) if drops else (),
        notes=tuple(_notes(was, now)),
    )


def _listed(names: Mapping[str, object]) -> str:
    return ", ".join(sorted(names)) or "none"


# --- single samples ---------------------------------------------------------------------------------------


def _moved_samples(was: Baseline, now: Baseline) -> Iterator[MovedSample]:
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
            yield Change("data", what, _shown(before), _shown(after))
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
            states = [str(record.unscored) if record.frames is None else "frames" for record in (was, now)]
            yield Change("data" if missing else "frames", "clip", states[0], states[1])
        return
    if was.frames.source_sha256 != now.frames.source_sha256:
        yield Change("data", "clip's file", was.frames.source_sha256, now.frames.source_sha256)
    for what in ("indices", "width", "height", "pixels_sha256"):
        before, after = getattr(was.frames, what), getattr(now.frames, what)
        if before != after:
            yield Change("frames", what.removesuffix("_sha256"), _shown(before), _shown(after))


def _score_changes(was: SampleRecord, now: SampleRecord) -> Iterator[Change]:
    before, after = _scores(was), _scores(now)
    for what, value in before.items():
        other = after[what]
        numbers = isinstance(value, float) and isinstance(other, float)
        if not (same_figure(value, other) if numbers else value == other):  # type: ignore[arg-type]
            yield Change("scoring", what, _shown(value), _shown(other))


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


def _shown(value: object) -> str:
    if value is None:
        return "none"
    if isinstance(value, tuple):
        between = " | " if any(isinstance(part, str) for part in value) else " "
        return between.join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


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


# --- whole tasks and groups -------------------------------------------------------------------------------


def _moved_settings(was: Baseline, now: Baseline) -> Iterator[Change]:
    before, after = _identities(was), _identities(now)
    if before and after and before != after:
        yield Change("model", "model", before, after)
    found: dict[Change, None] = {}
    for task, old in was.tasks.items():
        if (new := now.tasks.get(task)) is None:
            continue
        for name, stage in _STAGE_OF_SETTING.items():
            if old.settings.get(name) != new.settings.get(name):
                label = name.removesuffix("_sha256")
                values = [_with_hash(settings, name) for settings in (old.settings, new.settings)]
                found[Change(stage, label.replace("_", " "), values[0], values[1])] = None
        for name in sorted({*old.generation, *new.generation}):
            if old.generation.get(name) != new.generation.get(name):
                values = [str(generation.get(name)) for generation in (old.generation, new.generation)]
                found[Change("prompt", name, values[0], values[1])] = None
    yield from sorted(found, key=lambda change: STAGES.index(change.stage))


def _identities(baseline: Baseline) -> str:
    return ", ".join(
        sorted({" ".join(filter(None, (m.model, m.revision, m.snapshot))) for m in baseline.models})
    )


def _with_hash(settings: Mapping[str, str], name: str) -> str:
    """A setting that is a hash, after its name for people."""
    value = settings.get(name, "none")
    named = {"release_sha256": "release_revision", "prompt_sha256": "prompt"}.get(name)
    return f"{settings.get(named, '')} ({value[:12]})" if named else value


def _moved_groups(was: Baseline, now: Baseline) -> Iterator[Change]:
    for name, old in was.groups.items():
        new = now.groups.get(name)
        if new and new.tasks != old.tasks:
            yield Change("aggregation", f"tasks of {name}", ", ".join(old.tasks), ", ".join(new.tasks))


def _moved_figures(was: Baseline, now: Baseline) -> Iterator[MovedFigure]:
    for before, after in ((was.groups, now.groups), (was.tasks, now.tasks)):
        for name, old in before.items():
            new = after.get(name)
            for metric, value in old.figures.items():
                figure = new.figures.get(metric, math.nan) if new else math.nan
                if not same_figure(value, figure):
                    yield MovedFigure(name, metric, value, figure)


def _drops(was: Baseline, now: Baseline, tolerance: float) -> Iterator[Drop]:
    tasks = [task for task in was.tasks if task in now.tasks]
    whole = paired(list(was.records.values()), list(now.records.values()))
    yield Drop("average", whole, -whole.value > tolerance and whole.high < 0)
    for task in tasks if len(tasks) > 1 else ():
        difference = paired(was.of_task(task), now.of_task(task))
        significant = difference.p_value * len(tasks) < SIGNIFICANT
        yield Drop(task, difference, -difference.value > tolerance and significant)


def _unpublishable(now: Baseline) -> Iterator[str]:
    for task in now.tasks:
        records = now.of_task(task)
        if sum(record.unscored is not None for record in records) > MAX_UNSCORED_SHARE * len(records):
            yield task


# --- what moves nothing by itself -----------------------------------------------------------------------


def _notes(was: Baseline, now: Baseline) -> Iterator[str]:
    for name in sorted({*was.packages, *now.packages}):
        if was.packages.get(name) != now.packages.get(name):
            yield f"{name} {was.packages.get(name, 'none')} -> {now.packages.get(name, 'none')}"
    engines = [_engines(baseline) for baseline in (was, now)]
    for name in sorted({*engines[0], *engines[1]}):
        if engines[0].get(name) != engines[1].get(name):
            yield f"engine: {name} {engines[0].get(name, 'none')} -> {engines[1].get(name, 'none')}"
    versions = [
        {task: found.settings.get("version", "none") for task, found in baseline.tasks.items()}
        for baseline in (was, now)
    ]
    for before, after in sorted({(v, versions[1][t]) for t, v in versions[0].items() if t in versions[1]}):
        if before != after:
            yield f"task version {before} -> {after} (a run of an older version: egost rescore RUN)"
    if extra := sorted(set(now.tasks) - set(was.tasks)):
        yield f"not in the baseline, so not compared: {', '.join(extra)}"


def _engines(baseline: Baseline) -> dict[str, str]:
    """Engines and their settings by name; several values of one setting are joined."""
    found: dict[str, set[str]] = {}
    for model in baseline.models:
        for name, value in {"name": model.engine, **model.settings}.items():
            found.setdefault(name, set()).add(str(value))
    return {name: ", ".join(sorted(values)) for name, values in found.items()}
