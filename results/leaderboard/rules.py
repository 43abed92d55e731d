"""The reasons to refuse a figure, and the remarks on one that is shown.

A figure is shown under a column only if it was made as the column's figures were: on the whole release, at the paper's
frames, by a prompt of this project or the authors', with the routes judged by GPT-4o (paper, section 5.1 and appendix
A.2), by a checkpoint that was not trained on the samples. The mini world's tables have these rules but for the judge.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache

from egost.results.leaderboard.entries import Entry
from egost.results.published_tables import TableNumber
from egost.tasks.clips.protocols import N_FRAMES, parse_protocol
from egost.tasks.errors import SettingError
from egost.tasks.judging.judge import Judgement
from egost.tasks.judging.rubric import NAME as RUBRIC
from egost.tasks.prompts import AUTHORS, SHIPPED, load_prompt
from egost.tasks.provenance import MAX_UNSCORED_SHARE, TASK_VERSION
from egost.tasks.release import BENCHMARK, CONSTRUCTED, release_name
from egost.tasks.sample import World

PAPER_JUDGE = re.compile(r"gpt-4o(-\d{4}-\d{2}-\d{2})?")
"""Models that the paper's judge, `gpt-4o` without a date, can have been (paper, section 5.1)."""


PAPER_SIZES = ((224, 224), (448, 448))
"""Width and height in pixels of the frames of closed models and of InternVL (paper, appendix A.2)."""

PAPER_LEAST_CAP = 360 * 420
"""The lowest limit of pixels a frame that the paper asks a model with: ST-R1."""

REFERENCE_LEAST = 128 * 28 * 28
"""Pixels to which the released code enlarges smaller frames of the Qwen models."""

PARTS_OF_TEST: Mapping[str, tuple[int, ...]] = {"SUN3D": (3,), "HUJI+Self": (1, 2)}
"""Parts of the release by the paper's names of the sources that it tests on in Table 4."""

_NAMES_OF_PARTS = {"Part1": "HUJI+Self", "Part2": "HUJI+Self", "Part3": "SUN3D", "Part4": "Aria"}

TELL_BOUNDS_ABOVE = 0.01
"""Share of unscored samples above which the bounds of a figure are shown."""


@dataclass(frozen=True, slots=True)
class Column:
    """What the columns of one table are. release: sha256 and revision of the one that its runs are compared on.

    whole: samples of that release by task, as far as the runs at hand tell. judge: of the table's routes, where that is
    not the paper's. own: whether it holds the runs on a release that is not the paper's, and no published row.
    """

    table: TableNumber
    world: World
    release: tuple[str, str]
    whole: Mapping[str, int]
    judge: str | None = None
    own: bool = False


def refusals(entry: Entry, task: str, column: Column) -> tuple[str, ...]:
    """Why the figure of a task is not comparable with its column; empty if it is."""
    return tuple(
        reason
        for reason in (
            _other_world(entry, column),
            _overridden(entry, task),
            _other_version(entry, task),
            _other_release(entry, column),
            _missing(entry, task, column),
            _judge_failed(entry, task),
            _unscored(entry, task),
            _trained_on(entry, task, column),
            _other_frames(entry, task),
            _other_prompt(entry, task),
            _other_judge(entry, task, column),
        )
        if reason
    )


def set_apart(entry: Entry, table: TableNumber = 1) -> dict[str, tuple[str, ...]]:
    """Why the figures of a run's tasks may not stand next to published ones, or to others of the mini world.

    The tasks without a reason are left out. The run is held against its own release.
    """
    column = Column(table, entry.world, (entry.release_sha256, entry.release), {})
    return {task: found for task in entry.records if (found := refusals(entry, task, column))}


def set_apart_in_words(entry: Entry) -> str:
    """The reasons of `set_apart`, each with its tasks, for people; empty where there is none."""
    apart = set_apart(entry)
    by_reason: dict[str, list[str]] = {}
    for task, reasons in apart.items():
        for reason in reasons:
            by_reason.setdefault(reason, []).append(task)
    return "; ".join(
        reason if len(tasks) == len(entry.records) else f"{reason} ({', '.join(tasks)})"
        for reason, tasks in by_reason.items()
    )


def ood_refusal(entry: Entry, test: str) -> str | None:
    """Why a run is no out-of-distribution test on a source of Table 4; None if it is one."""
    if entry.training is None:
        return None
    if entry.training.parts is None:
        return "which parts of the release it was trained on is not recorded"
    rows = sum(entry.training.parts.get(f"Part{part}", 0) for part in PARTS_OF_TEST[test])
    return f"trained on {rows} rows of {test} itself: not out of distribution" if rows else None


def deviations(entry: Entry, table: TableNumber) -> tuple[str, ...]:
    """What a reader of a run's figures has to know."""
    remarks = ["figures by the public code's rules (compat)"] if entry.as_published else []
    if any(header.prompt_sha256 in AUTHORS.values() for header in entry.headers.values()):
        remarks.append("asked in the authors' wording")
    if entry.generation:
        remarks.append(f"generation arguments changed: {entry.generation}")
    if entry.prompt.startswith("think"):
        remarks.append("asked to think before it answers; the paper asks so of its own models alone")
    if (training := entry.training) and (overlap := sum(training.overlap.values())):
        left_out = ", which were left out" if training.leaves_out else ""
        who = "" if training.rows else "not trained itself; ST-R1 was "
        remarks.append(f"{who}trained on {overlap} questions of this release{left_out}")
    elif entry.training:
        remarks.append(f"trained on {entry.training.rows} rows, none of them of this release")
    excluded = Counter[str]()
    for header in entry.headers.values():
        excluded |= Counter(header.excluded_entries)
    if count := sum(excluded.values()):
        remarks.append(f"{count} entries of the release cannot be asked and are not counted")
    truncated = [
        r for rows in entry.records.values() for r in rows if r.generation and r.generation.truncated
    ]
    if truncated:
        remarks.append(f"{len(truncated)} responses were cut at max_new_tokens and are scored as they are")
    of_paper = release_name(entry.world, entry.release) == BENCHMARK
    if table == 3 and of_paper and not (entry.training and entry.training.leaves_out):
        tested = sum(len(rows) for task, rows in entry.records.items() if not task.startswith("route"))
        remarks.append(
            f"tested on all {tested} questions; the paper leaves its training rows out for every model"
        )
    return tuple(remarks)


def train_label(entry: Entry) -> str:
    """The sources that a checkpoint was trained on, as Table 4 writes them; `-` for none."""
    if entry.training is None:
        return "-"
    if entry.training.parts is None:
        return f"{entry.training.rows} rows"
    return (
        "+".join(dict.fromkeys(_NAMES_OF_PARTS.get(part, part) for part in sorted(entry.training.parts)))
        or "-"
    )


def whole_release(entries: Iterable[Entry]) -> dict[str, int]:
    """Samples of a release by task: the most that any run of it had that left none out."""
    whole: Counter[str] = Counter()
    for entry in entries:
        whole |= Counter({task: len(r) for task, r in entry.records.items() if not _left_out(entry, task)})
    return dict(whole)


def _left_out(entry: Entry, task: str) -> int:
    trained = entry.training
    return trained.overlap.get(task, 0) if trained and trained.leaves_out else 0


def _other_world(entry: Entry, column: Column) -> str | None:
    if entry.world == column.world:
        return None
    return (
        "of the mini world, whose figures are no results of the benchmark"
        if entry.world == "mini"
        else "of the benchmark"
    )


def _other_version(entry: Entry, task: str) -> str | None:
    version = str(entry.headers[task].version)
    if version.partition("-")[0] == TASK_VERSION.partition("-")[0]:
        return None
    return (
        f"made by task version {version}; figures of version {TASK_VERSION} cannot be compared with it. Read its "
        f"responses again: egost rescore {entry.file}"
    )


def _overridden(entry: Entry, task: str) -> str | None:
    changed = entry.headers[task].overridden
    return changed and f"a YAML of somebody's own replaced the task ({changed})"


def _other_release(entry: Entry, column: Column) -> str | None:
    sha256, revision = column.release
    if CONSTRUCTED in entry.release and not column.own:
        return f"of a benchmark of its own ({entry.release}), not of the paper's release"
    if sha256 and entry.release_sha256 != sha256:
        return f"of release {entry.release or 'unknown'}, this table is of {revision or 'another'}"
    if column.own or column.world == "mini" or release_name(column.world, revision) == BENCHMARK:
        return None
    return (
        f"of a release whose revision is not recorded ({revision or 'none'}), so that nobody knows whether it is the "
        "paper's; egost data download gets that"
    )


def _missing(entry: Entry, task: str, column: Column) -> str | None:
    left_out = _left_out(entry, task)
    whole = max(column.whole.get(task, 0), entry.headers[task].available + left_out)
    missing = whole - left_out - len(entry.records[task])
    limit = entry.run.header.limit
    if missing > 0:
        return f"{missing} of {whole} samples missing" + (f" (--limit {limit:g})" if limit else "")
    # An older run does not tell how many there are.
    return f"only a part of the samples was asked (--limit {limit:g})" if limit and not whole else None


def _judge_failed(entry: Entry, task: str) -> str | None:
    failed = sum(n for reason, n in _reasons(entry, task).items() if reason.startswith("judge_failed"))
    return _too_many(failed, len(entry.records[task]), "routes that the judge failed on")


def _unscored(entry: Entry, task: str) -> str | None:
    reasons = _reasons(entry, task)
    if all(reason.startswith("judge_failed") for reason in reasons):
        return None
    listed = ", ".join(f"{count} {reason}" for reason, count in reasons.most_common(3))
    return _too_many(sum(reasons.values()), len(entry.records[task]), f"samples without a score ({listed})")


@cache
def _reasons(entry: Entry, task: str) -> Counter[str]:
    """Why samples of a task have no score."""
    return Counter(r.unscored for r in entry.records[task] if r.unscored)


def _too_many(count: int, n: int, what: str) -> str | None:
    # The run's own threshold is not asked for: whoever wrote the file could have set it to anything.
    if count <= MAX_UNSCORED_SHARE * n:
        return None
    return f"{count} of {n} {what}, at most {MAX_UNSCORED_SHARE:.0%} allowed"


def _trained_on(entry: Entry, task: str, column: Column) -> str | None:
    trained = entry.training
    overlap = trained.overlap.get(task, 0) if trained else 0
    if trained is None or overlap == 0:
        return None
    if not trained.leaves_out:
        return f"trained on {overlap} of the samples it is tested on"
    if column.table in (1, 2):
        who = "" if trained.rows else "ST-R1 was "
        return f"{who}trained on {overlap} questions of this task and asked the others only (see Table 3)"
    return None


def _other_frames(entry: Entry, task: str) -> str | None:
    protocol = None
    with suppress(SettingError):
        protocol = parse_protocol(entry.frames)
    if protocol is None or protocol.n_frames != N_FRAMES:
        return f"frames by '{entry.frames or 'an unknown protocol'}', not 8 of the whole clip as the paper"
    size, most, least, side = protocol.size, protocol.max_pixels, protocol.min_pixels, protocol.patch
    records = entry.records[task]
    if size and size not in PAPER_SIZES:
        sizes = " or ".join(f"{width} x {height}" for width, height in PAPER_SIZES)
        return f"frames of {size[0]} x {size[1]} pixels, the paper's closed models and InternVL saw {sizes}"
    if size and any(r.generation and r.generation.settings.get("frames") == "video" for r in records):
        return f"frames of {size[0]} x {size[1]} pixels for a model that the paper showed larger videos"
    if most and most < PAPER_LEAST_CAP:
        return (
            f"frames of at most {most} pixels, the paper's of at most {PAPER_LEAST_CAP} (360 x 420) or more"
        )
    if least and least > REFERENCE_LEAST:
        return f"frames enlarged to {least} pixels, the reference's to {REFERENCE_LEAST}"
    kept = ((r.frames.width, r.frames.height) for r in records if r.frames)
    if most and any(w % side or h % side or w * h > most for w, h in kept):
        return f"frames of a size that {entry.frames} gave before decoding rules 3. Evaluate again"
    return None


def _other_prompt(entry: Entry, task: str) -> str | None:
    known = {*AUTHORS.values(), *(load_prompt(name).sha256 for name in SHIPPED)}
    if entry.headers[task].prompt_sha256 in known:
        return None
    return f"asked by a prompt of its own ({entry.prompt or 'unknown'})"


def _other_judge(entry: Entry, task: str, column: Column) -> str | None:
    if not task.startswith("route"):
        return None
    judge = entry.headers[task].judge
    if others := RUBRIC if column.world == "mini" else column.judge:
        return None if judge == others else f"routes judged by {judge}, the others' by {others}"
    if _is_papers_judge(entry, task, judge or ""):
        return None
    return f"routes judged by {judge or 'nobody known'}, the paper's by gpt-4o"


def _is_papers_judge(entry: Entry, task: str, judge: str) -> bool:
    label = judge.partition("+")[0]
    if label.startswith("azure:"):
        # A deployment has any name; Azure says which model it is.
        judged = {r.judgement.snapshot for r in entry.records[task] if isinstance(r.judgement, Judgement)} - {
            ""
        }
        return bool(judged) and all(PAPER_JUDGE.fullmatch(snapshot.partition("+")[0]) for snapshot in judged)
    # `openai:gpt-4o@http://...`, a server of somebody's own, may be any model.
    return PAPER_JUDGE.fullmatch(label) is not None
