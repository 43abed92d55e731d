"""Whether two runs were made alike: a difference between them is the models' alone only if nothing else differs."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from egost.results.records import SampleRecord
from egost.results.run import Run
from egost.tasks.judging.judge import Judgement

_TOLD: tuple[tuple[str, str], ...] = (
    ("release", "release_revision"),
    ("release's files", "release_sha256"),
    ("frames protocol", "sampling_protocol"),
    ("prompt", "prompt"),
    ("prompt's text", "prompt_sha256"),
    ("judge", "judge"),
    ("judge's prompt", "judge_prompt_sha256"),
)
"""What a task's metadata must tell alike, and under which key."""


@dataclass(frozen=True, slots=True)
class Unlike:
    """One thing in which two runs differ. what: for example `frames protocol`; where: tasks; a, b: what each has."""

    what: str
    where: str
    a: str
    b: str

    def __str__(self) -> str:
        return f"{self.what} of {self.where}: {self.a} against {self.b}"


def unlike(
    a: Run, b: Run, records_a: Sequence[SampleRecord], records_b: Sequence[SampleRecord], tasks: Sequence[str]
) -> list[Unlike]:
    """All in which the runs differ in some tasks beside their model: release, frames, prompt, judge, task version.

    Of the samples that both have, what was asked, the reference and the hash of the frames' pixels are compared, too.
    """
    by_task: dict[tuple[str, str, str], list[str]] = {}
    of_samples: list[Unlike] = []
    for task in tasks:
        ours = {r.sample.id: r for r in records_a if r.task == task}
        theirs = {r.sample.id: r for r in records_b if r.task == task}
        for what, one, other in _told_unlike(a, b, task, list(ours.values()), list(theirs.values())):
            by_task.setdefault((what, one, other), []).append(task)
        pairs = [(ours[name], theirs[name]) for name in sorted(ours.keys() & theirs.keys())]
        of_samples += _unlike_samples(task, pairs)
    of_tasks = [
        Unlike(
            what, f"all {len(found)} tasks" if 1 < len(found) == len(tasks) else ", ".join(found), one, other
        )
        for (what, one, other), found in by_task.items()
    ]
    return of_tasks + of_samples


def _told_unlike(
    a: Run, b: Run, task: str, ours: Sequence[SampleRecord], theirs: Sequence[SampleRecord]
) -> list[tuple[str, str, str]]:
    told_a, told_b = _metadata(a, task), _metadata(b, task)
    pairs = [
        ("task version", _version(told_a), _version(told_b)),
        *[(what, _shown(told_a.get(key)), _shown(told_b.get(key))) for what, key in _TOLD],
        # The model behind a judge's server can be another under the same name.
        ("judge's snapshot", _snapshots(ours), _snapshots(theirs)),
    ]
    return [(what, one, other) for what, one, other in pairs if one != other]


def _unlike_samples(task: str, pairs: Sequence[tuple[SampleRecord, SampleRecord]]) -> list[Unlike]:
    checks: tuple[tuple[str, Callable[[SampleRecord], str]], ...] = (
        ("frames' pixels", lambda record: record.frames.pixels_sha256[:12] if record.frames else "no frames"),
        ("question as it was asked", lambda record: record.prompt),
        ("right answer", lambda record: record.sample.answer),
    )
    found = []
    for what, value in checks:
        differing = [(one, other) for one, other in pairs if value(one) != value(other)]
        if differing:
            one, other = differing[0]
            where = f"{len(differing)} of {len(pairs)} samples of {task}, first {one.sample.id}"
            found.append(Unlike(what, where, *_around_difference(value(one), value(other))))
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


def _metadata(run: Run, task: str) -> dict[str, Any]:
    return run.results["configs"][task].get("metadata") or {}


def _version(metadata: dict[str, Any]) -> str:
    """The number before the dash: what stands behind it changes no figure."""
    return _shown(metadata.get("version")).partition("-")[0]


def _shown(value: object) -> str:
    text = "not told" if value is None else str(value)
    return f"{text[:12]}..." if len(text) == 64 else text
