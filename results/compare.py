"""Two runs side by side: which is better, by how much, how surely, and on which samples.

comparison = compare(latest_run(Path("runs/a")), latest_run(Path("runs/b")))
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from egost.results.comparability import Unlike, unlike
from egost.results.intervals import DRAWS, Difference, estimate, paired
from egost.results.records import SampleRecord, our_tasks, read_records
from egost.results.run import Run
from egost.tasks.errors import EgostError

_Records = Mapping[tuple[str, str], SampleRecord]


class CompareError(EgostError):
    """Two runs have nothing in common that could be compared."""


class UnlikeRunsError(CompareError):
    """Two runs were not made alike, so that a difference says nothing of their models alone."""


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

    flips: largest gap first, those with one score last. unlike: what differs beside the model, if forced.
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
    """Compare run b with run a, paired by sample and clustered by clip (see `statistics.paired`).

    tasks: some of those that both have; all of them where none is named. Raises UnlikeRunsError where the runs differ
    in more than their model, unless forced; CompareError where they have no sample in common that both have scored.
    """
    chosen = _chosen_tasks(a, b, tasks)
    ours = [record for record in read_records(a) if record.task in chosen]
    theirs = [record for record in read_records(b) if record.task in chosen]
    differing = unlike(a, b, ours, theirs, chosen)
    if differing and not force:
        told = "".join(f"\n  {one}" for one in differing)
        raise UnlikeRunsError(
            f"{a.results_file} and {b.results_file} were not made alike, so that their difference is not their "
            f"models' alone:{told}\nEvaluate both in the same way, or add --force to compare them all the same."
        )
    rows = [_compared(name, part, ours, theirs, draws, seed) for name, part in _parts(chosen)]
    if not any(row.difference.n for row in rows):
        raise CompareError(f"{a.results_file} and {b.results_file} share no sample that both have scored.")
    before, after = ({_key(record): record for record in records} for records in (ours, theirs))
    return Comparison(
        rows=tuple(rows),
        flips=tuple(_flips(before, after)),
        unlike=tuple(differing),
        alone_a=len(before.keys() - after.keys()),
        alone_b=len(after.keys() - before.keys()),
    )


def as_json(comparison: Comparison) -> str:
    """All of a comparison, NaN as null."""
    return json.dumps(_plain(asdict(comparison)), indent=2, ensure_ascii=False, allow_nan=False)


def flips_as_csv(comparison: Comparison) -> str:
    """The flips, one a line."""
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(Flip.__dataclass_fields__), lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(flip) for flip in comparison.flips)
    return text.getvalue()


def _chosen_tasks(a: Run, b: Run, asked: Sequence[str]) -> list[str]:
    common = sorted(set(our_tasks(a)) & set(our_tasks(b)))
    if not common:
        raise CompareError(
            f"{a.results_file} and {b.results_file} have no task in common: the one has "
            f"{', '.join(our_tasks(a)) or 'none of ours'}, the other {', '.join(our_tasks(b)) or 'none of ours'}."
        )
    if unknown := sorted(set(asked) - set(common)):
        raise CompareError(
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


def _plain(value: Any) -> Any:
    """JSON has no NaN."""
    if isinstance(value, dict):
        return {name: _plain(one) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    return None if isinstance(value, float) and math.isnan(value) else value
