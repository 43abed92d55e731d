"""Two runs side by side: which is better, by how much, how surely, and on which samples.

comparison = compare(read_run(Path("runs/a")), read_run(Path("runs/b")))
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass

from egost.results.intervals import DRAWS, Difference, estimate, paired
from egost.results.records import SampleRecord
from egost.results.run import Run
from egost.results.run_header import RunError, TaskHeader
from egost.tasks.json_text import without_nan
from egost.tasks.judging.judge import Judgement
from egost.tasks.text_files import csv_text

_Records = Mapping[tuple[str, str], SampleRecord]


_ALIKE = {
    "release": "release_revision",
    "release's files": "release_sha256",
    "frames protocol": "sampling_protocol",
    "fields of the task's YAML that are others": "overridden",
    "prompt": "prompt",
    "prompt's text": "prompt_sha256",
    "judge": "judge",
    "judge's prompt": "judge_prompt_sha256",
}
"""Fields of a task's header that two runs must have in common, by their names for people."""

_ASKED = "question as it was asked"


@dataclass(frozen=True, slots=True)
class Unlike:
    """One thing in which two runs differ. what: for example `frames protocol`; where: in which tasks, for people; a, b:
    what each has. tasks: the same as `where`, by their names.
    """

    what: str
    where: str
    a: str
    b: str
    tasks: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.what} of {self.where}: {self.a} against {self.b}"


@dataclass(frozen=True, slots=True)
class Flip:
    """A sample that the two runs have scored unlike, or that only one of them has scored.

    before, after: percent in run a and in run b; None where the run has it unscored, for the reason in `unscored`.
    """

    task: str
    sample: str
    clip: str
    before: float | None
    after: float | None
    unscored: str | None
    answer: str
    response_before: str
    response_after: str

    @property
    def gap(self) -> float:
        """Points that run b gained; 0 where one of the two has no score."""
        return 0.0 if self.before is None or self.after is None else self.after - self.before


@dataclass(frozen=True, slots=True)
class Compared:
    """One task, or a plain mean over several of them (`tasks`), of two runs.

    a, b: percent of each run over the pairs alone; difference: b - a.
    """

    name: str
    tasks: tuple[str, ...]
    a: float
    b: float
    difference: Difference


@dataclass(frozen=True, slots=True)
class Comparison:
    """rows: the tasks by name, then the means of the paper where all of their tasks are there, else one of all.

    flips: largest gap first, those with one score last. unlike: what differs apart from the model, if forced.
    alone_a, alone_b: samples that only one run asked, so that they count for nothing.
    """

    rows: tuple[Compared, ...]
    flips: tuple[Flip, ...]
    unlike: tuple[Unlike, ...]
    alone_a: int
    alone_b: int


def compare(
    a: Run, b: Run, tasks: Sequence[str] = (), *, force: bool = False, draws: int = DRAWS, seed: int = 0
) -> Comparison:
    """Compare run b with run a, paired by sample and clustered by clip (see `intervals.paired`).

    tasks: some of those that both have; all of them where none is named. Raises RunError where the runs differ
    in more than their model, unless forced, and where they have no sample in common that both have scored.
    """
    chosen = _chosen_tasks(a, b, tasks)
    ours = [record for record in a.records if record.task in chosen]
    theirs = [record for record in b.records if record.task in chosen]
    differing = unlike(a, b, chosen)
    if differing and not force:
        listed = "".join(f"\n  {one}" for one in differing)
        raise RunError(
            f"{a.results_file} and {b.results_file} were not made alike, so that their difference is not their "
            f"models' alone:{listed}\n{_remedy(differing)}Evaluate both in the same way, or add --force to compare "
            "them all the same."
        )
    rows = [_compared(name, part, ours, theirs, draws, seed) for name, part in _parts(chosen)]
    if not any(row.difference.n for row in rows):
        raise RunError(f"{a.results_file} and {b.results_file} share no sample that both have scored.")
    before, after = ({_key(record): record for record in records} for records in (ours, theirs))
    return Comparison(
        rows=tuple(rows),
        flips=tuple(_flips(before, after)),
        unlike=tuple(differing),
        alone_a=len(before.keys() - after.keys()),
        alone_b=len(after.keys() - before.keys()),
    )


def _remedy(differing: Sequence[Unlike]) -> str:
    if not any(one.what == "task version" for one in differing):
        return ""
    return "Read the responses of the older run again: egost rescore RUN. "


def unlike(a: Run, b: Run, tasks: Sequence[str]) -> list[Unlike]:
    """All differences of the runs in some tasks, except their model (see `_ALIKE`), and in how both were generated.

    Of the samples that both have, the prompt, the reference and the hash of the frames' pixels are compared, too.
    """
    by_task: dict[tuple[str, str, str], list[str]] = {}
    of_samples: list[Unlike] = []
    for task in tasks:
        ours = {r.sample.id: r for r in a.records if r.task == task}
        theirs = {r.sample.id: r for r in b.records if r.task == task}
        headers = a.header.tasks[task], b.header.tasks[task]
        headers_unlike = _unlike_headers(*headers, list(ours.values()), list(theirs.values()))
        # Another prompt is another text, asked otherwise: that is said once.
        implied = {"prompt's text", _ASKED} if "prompt" in {what for what, *_ in headers_unlike} else set()
        for what, one, other in headers_unlike:
            if what not in implied:
                by_task.setdefault((what, one, other), []).append(task)
        pairs = [(ours[name], theirs[name]) for name in sorted(ours.keys() & theirs.keys())]
        of_samples += [one for one in _unlike_samples(task, pairs) if one.what not in implied]
    of_tasks = [
        Unlike(
            what,
            f"all {len(found)} tasks" if 1 < len(found) == len(tasks) else ", ".join(found),
            one,
            other,
            tuple(found),
        )
        for (what, one, other), found in by_task.items()
    ]
    everywhere = [
        Unlike(what, "all tasks", one or "the tasks' own", other or "the tasks' own", tuple(tasks))
        for what, one, other in (
            ("generation arguments", a.header.gen_kwargs, b.header.gen_kwargs),
            ("system instruction", a.header.system_instruction, b.header.system_instruction),
        )
        if (one or "") != (other or "")
    ]
    return everywhere + of_tasks + of_samples


def as_json(comparison: Comparison) -> str:
    """All of a comparison, NaN as null."""
    return json.dumps(without_nan(asdict(comparison)), indent=2, ensure_ascii=False, allow_nan=False)


def flips_as_csv(comparison: Comparison) -> str:
    """The flips, one a line."""
    return csv_text(list(Flip.__dataclass_fields__), [asdict(flip) for flip in comparison.flips])


def _chosen_tasks(a: Run, b: Run, asked: Sequence[str]) -> list[str]:
    common = sorted(set(a.header.tasks) & set(b.header.tasks))
    if not common:
        raise RunError(
            f"{a.results_file} and {b.results_file} have no task in common: the one has "
            f"{', '.join(a.header.tasks) or 'none of ours'}, the other {', '.join(b.header.tasks) or 'none of ours'}."
        )
    if unknown := sorted(set(asked) - set(common)):
        raise RunError(
            f"{', '.join(unknown)} is no task that both runs have; expected some of {', '.join(common)}."
        )
    return sorted(set(asked)) or common


def _parts(tasks: Sequence[str]) -> list[tuple[str, tuple[str, ...]]]:
    """What is compared: each task by itself, then the means over several of them."""
    parts: list[tuple[str, tuple[str, ...]]] = [(task, (task,)) for task in tasks]
    spatiotemporal = tuple(task for task in tasks if "_route_" in task or "_direction_" in task)
    if len(spatiotemporal) == 4 and len(tasks) in (4, 8):
        parts.append(("Avg.(ST)", spatiotemporal))
    if len(tasks) == 8:
        parts.append(("Avg.(Total)", tuple(tasks)))
    elif len(tasks) > 1 and len(parts) == len(tasks):
        parts.append(("mean of the tasks", tuple(tasks)))
    return parts


def _compared(
    name: str,
    tasks: tuple[str, ...],
    ours: Sequence[SampleRecord],
    theirs: Sequence[SampleRecord],
    draws: int,
    seed: int,
) -> Compared:
    a = [record for record in ours if record.task in tasks]
    b = [record for record in theirs if record.task in tasks]
    scored = {_key(r) for r in a if r.percent is not None} & {_key(r) for r in b if r.percent is not None}
    mean_a, mean_b = (
        estimate([r for r in records if _key(r) in scored], draws=1).value for records in (a, b)
    )
    return Compared(name, tasks, mean_a, mean_b, paired(a, b, draws=draws, seed=seed))


def _flips(before: _Records, after: _Records) -> list[Flip]:
    both = [(before[key], after[key]) for key in before.keys() & after.keys()]
    flips = [_flip(one, other) for one, other in both if one.percent != other.percent]
    return sorted(flips, key=lambda flip: (-abs(flip.gap), flip.task, flip.sample))


def _flip(before: SampleRecord, after: SampleRecord) -> Flip:
    return Flip(
        task=after.task,
        sample=after.sample.id,
        clip=after.cluster,
        before=before.percent,
        after=after.percent,
        unscored=before.unscored or after.unscored,
        answer=after.sample.answer,
        response_before=before.response,
        response_after=after.response,
    )


def _key(record: SampleRecord) -> tuple[str, str]:
    return record.task, record.sample.id


def _unlike_headers(
    a: TaskHeader, b: TaskHeader, ours: Sequence[SampleRecord], theirs: Sequence[SampleRecord]
) -> list[tuple[str, str, str]]:
    pairs = [
        ("task version", _version(a), _version(b)),
        *[(what, _shown(getattr(a, field)), _shown(getattr(b, field))) for what, field in _ALIKE.items()],
        # The model behind a judge's server can be another under the same name.
        ("judge's snapshot", _snapshots(ours), _snapshots(theirs)),
    ]
    return [(what, one, other) for what, one, other in pairs if one != other]


def _unlike_samples(task: str, pairs: Sequence[tuple[SampleRecord, SampleRecord]]) -> list[Unlike]:
    checks: tuple[tuple[str, Callable[[SampleRecord], str]], ...] = (
        ("frames' pixels", lambda record: record.frames.pixels_sha256[:12] if record.frames else "no frames"),
        (_ASKED, lambda record: record.prompt),
        ("right answer", lambda record: record.sample.answer),
    )
    found = []
    for what, value in checks:
        differing = [(one, other) for one, other in pairs if value(one) != value(other)]
        if differing:
            one, other = differing[0]
            where = f"{len(differing)} of {len(pairs)} samples of {task}, first {one.sample.id}"
            found.append(Unlike(what, where, *_around_difference(value(one), value(other)), (task,)))
    return found


def _around_difference(a: str, b: str) -> tuple[str, str]:
    """Both texts from a little before the place where they part, short enough for a line."""
    alike = sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(a, b, strict=False)))
    start = max(alike - 10, 0)
    lead = "..." if start else ""
    return lead + repr(a[start : start + 40]), lead + repr(b[start : start + 40])


def _snapshots(records: Sequence[SampleRecord]) -> str:
    named = {
        r.judgement.snapshot for r in records if isinstance(r.judgement, Judgement) and r.judgement.snapshot
    }
    return ", ".join(sorted(named)) or "none"


def _version(task: TaskHeader) -> str:
    """The number before the dash: what follows it changes no figure."""
    return _shown(task.version).partition("-")[0]


def _shown(value: str | None) -> str:
    text = "not told" if value is None else value
    return f"{text[:12]}..." if len(text) == 64 else text
