"""Whether a run gives the paper's figures: published, ours, the difference, its interval, and a verdict.

    row = verify(read_entry(file), "qwen2-vl-7b", "Qwen2-VL-7B", "Qwen/Qwen2-VL-7B-Instruct", "qwen")
    print(row.figures[0].compat.verdict)    # `agrees`

A row is one JSON file. It holds the score of each sample, so that `read_row` works its figures out again.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal, NamedTuple, get_args

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from egost.results.intervals import interval, same_figure
from egost.results.leaderboard.entries import Entry
from egost.results.leaderboard.formats import aligned, in_markdown
from egost.results.leaderboard.rules import set_apart
from egost.results.published_tables import PublishedRow, PublishedTable, published_table
from egost.results.run_header import RunError
from egost.tasks.json_text import typed_json
from egost.tasks.provenance import MAX_UNSCORED_SHARE
from egost.tasks.sample import World

Verdict = Literal["agrees", "differs beyond the interval", "not comparable", "nothing published"]

NOT_RUN = "not run"

_ROUNDED = 0.05
"""Percentage points. The paper prints one digit, so that a figure of it may be off by so much."""
_MOST = 64 << 20
"""Bytes of a row's file. One of the whole release has half a million."""

_Percent = Annotated[float, Field(ge=0, le=100)]
_Compat = Annotated[float, Field(ge=0, le=1e9)]


class _Frozen(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class SampleScore(NamedTuple):
    """A sample: its id, its clip with the part, and what it scored by either scoring, percent; null where unscored."""

    id: Annotated[str, Field(pattern=r"^Part[1-9]/[a-z]+_[a-z]+/.")]
    clip: Annotated[str, Field(pattern=r"^Part[1-9]/.")]
    strict: _Percent | None
    compat: _Compat | None


class Outcome(_Frozen):
    """A figure by one scoring, percent. low, high: its 95 % interval by clips. difference: ours - published, points.

    None is not known, or not published.
    """

    ours: float | None
    low: float | None
    high: float | None
    difference: float | None
    verdict: Verdict


class Figure(_Frozen):
    """A column of the paper's table. n, of: samples scored by `strict`, of all. reasons: why it is not comparable."""

    column: str
    published: float | None
    n: int
    of: int
    strict: Outcome
    compat: Outcome
    reasons: tuple[str, ...]


class VerificationRow(_Frozen):
    """What `egost verify` saves of a run.

    name: in `egost models`. model, revision, engine: who answered, by what. paper_row, table: where its published
    figures stand; none of the mini world. as_published, limit, prompt, frames, judge, generation, trained_on, release,
    release_sha256, packages, commit: how it was made, as in an `Entry` and its header. samples: by task.
    """

    form: Literal["egost-verification-1"]
    name: str
    model: str
    revision: str
    engine: str
    paper_row: str | None
    table: Literal[1, 3]
    world: World
    date: str
    limit: float | None
    as_published: str
    prompt: str
    frames: str
    judge: str
    generation: str
    trained_on: str
    release: str
    release_sha256: str
    packages: Mapping[str, str]
    commit: str | None
    figures: tuple[Figure, ...]
    samples: Mapping[str, tuple[SampleScore, ...]]

    @property
    def differs(self) -> bool:
        """Whether a comparable figure, by the public code's rules, is not the paper's."""
        return any(figure.compat.verdict == "differs beyond the interval" for figure in self.figures)


_ROW = TypeAdapter(VerificationRow)


def published_as(paper_row: str) -> tuple[PublishedTable, PublishedRow]:
    """The table and the row that a model is held against: Table 1, or Table 3 for what was trained.

    Raises RunError where the paper has none.
    """
    for number in (1, 3):
        table = published_table(number)
        if rows := [row for row in table.rows if row.model == paper_row]:
            # Table 3 has ST-R1 once for each number of rows; the released checkpoint is the last.
            return table, rows[-1]
    raise RunError(f"the paper has no row '{paper_row}' in Table 1 or 3.")


def verify(entry: Entry, name: str, paper_row: str | None, model: str, word: str) -> VerificationRow:
    """The row of a run. model: hub id that should have answered; word: value of `EGOST_AS_PUBLISHED` for it.

    Raises RunError where the run has not all tasks of one column of the table.
    """
    mini = entry.world == "mini"
    table, published = (
        (published_table(1 if "route_forward" in entry.records else 3), None)
        if mini or paper_row is None
        else published_as(paper_row)
    )
    reasons = {task: list(set_apart(entry, table.number).get(task, ())) for task in entry.records}
    for found in reasons.values():
        if entry.as_published != word:
            found.append(
                f"not run as published ({word}), but by {entry.as_published or 'the egost protocol'}"
            )
        if not mini and entry.model.casefold() not in (model.casefold(), name):
            found.append(f"answered by {entry.model}, not by {model}")
    samples = {
        task: tuple(SampleScore(r.sample.id, r.cluster, r.percent, r.compat) for r in records)
        for task, records in entry.records.items()
    }
    figures = _figures(table, published, samples, lambda task, _: reasons[task])
    if not figures:
        raise RunError(
            f"{entry.file} has no whole column of Table {table.number}: evaluate the tasks of {name}."
        )
    header, trained = entry.run.header, entry.training
    return VerificationRow(
        form="egost-verification-1",
        name=name,
        model=entry.model,
        revision=entry.revision,
        engine=entry.engine,
        paper_row=None if mini else paper_row,
        table=1 if table.number == 1 else 3,
        world=entry.world,
        date=entry.date,
        limit=header.limit,
        as_published=entry.as_published,
        prompt=entry.prompt,
        frames=entry.frames,
        judge=entry.judge,
        generation=entry.generation,
        trained_on=trained.policy if trained else "",
        release=entry.release,
        release_sha256=entry.release_sha256,
        packages=header.packages,
        commit=header.first.commit,
        figures=figures,
        samples=samples,
    )


def read_row(file: Path) -> VerificationRow:
    """A row that somebody sent, its figures worked out again from its samples.

    Raises RunError with the file and the field where it is no such row, or says other than its samples and the paper.
    """
    try:
        row = typed_json(file.read_bytes(), _ROW, max_bytes=_MOST)
    except (OSError, ValueError) as error:
        raise RunError(f"{file} is no row of egost verify ({error}). Save it again.") from error
    for task, samples in row.samples.items():
        if len({sample.id for sample in samples}) < len(samples):
            raise RunError(f"{file}: {task} has a sample twice. Save the row again.")
        for sample in samples:
            part, of_task, _ = sample.id.split("/", 2)
            if of_task != task or not sample.clip.startswith(f"{part}/"):
                raise RunError(
                    f"{file}: sample {sample.id} of clip {sample.clip} stands in {task}. Save the row again."
                )
    table, published = (
        (published_table(row.table), None) if row.paper_row is None else published_as(row.paper_row)
    )
    if table.number != row.table or (row.world == "mini") != (row.paper_row is None):
        raise RunError(
            f"{file}: {row.name} of the {row.world} world as '{row.paper_row}' in Table {row.table} is no row of the "
            "paper. Save the row again."
        )
    told = {figure.column: figure for figure in row.figures}
    again = _figures(
        table, published, row.samples, lambda _, column: told[column].reasons if column in told else ()
    )
    if [figure.column for figure in again] != [*told] or len(told) < len(row.figures):
        raise RunError(f"{file} has figures of {', '.join(told) or 'nothing'}, its samples of others.")
    for figure in again:
        if other := _unlike(figure, told[figure.column]):
            raise RunError(f"{file}: {figure.column}: {other}. It was changed by hand: save the row again.")
        asked = [len(row.samples[task]) for task in table.aggregates.get(figure.column, (figure.column,))]
        if row.limit and max(asked) >= row.limit and not figure.reasons:
            raise RunError(
                f"{file}: {figure.column}: a part of the samples (limit {row.limit:g}) compares with no published "
                "figure. Evaluate without --limit."
            )
    return row


def _unlike(ours: Figure, told: Figure) -> str:
    """In what a figure differs from the one that its samples give; empty where in nothing."""
    for scoring in ("strict", "compat"):
        right, said = getattr(ours, scoring), getattr(told, scoring)
        for name in Outcome.model_fields:
            a, b = getattr(right, name), getattr(said, name)
            if a != b and not (isinstance(a, float) and isinstance(b, float) and same_figure(a, b)):
                return f"{scoring} {name} is said to be {b}, its samples give {a}"
    for name in ("published", "n", "of"):
        if getattr(ours, name) != getattr(told, name):
            return f"{name} is said to be {getattr(told, name)}, and is {getattr(ours, name)}"
    return ""


def _figures(
    table: PublishedTable,
    published: PublishedRow | None,
    samples: Mapping[str, Sequence[SampleScore]],
    reasons: Callable[[str, str], Iterable[str]],
) -> tuple[Figure, ...]:
    """The columns whose tasks are all there. reasons: of a task and a column."""
    figures = []
    for column in table.columns:
        tasks = table.aggregates.get(column, (column,))
        if not all(samples.get(task) for task in tasks):
            continue
        mine = [(task, sample) for task in tasks for sample in samples[task]]
        why = list(dict.fromkeys(reason for task in tasks for reason in reasons(task, column)))
        missing = sum(sample.strict is None for _, sample in mine)
        if missing > MAX_UNSCORED_SHARE * len(mine) and not why:
            why = [f"{missing} of {len(mine)} samples without a score"]
        scored = {
            name: [(task, s.clip, value) for task, s in mine if (value := getattr(s, name)) is not None]
            for name in ("strict", "compat")
        }
        intervals = {name: interval(rows) for name, rows in scored.items()}
        if not why and any(math.isnan(low) for _, low, _ in intervals.values()):
            why = ["on too few clips for an interval"]
        said = None if published is None else published.figures[column]
        figures.append(
            Figure(
                column=column,
                published=said,
                n=len(mine) - missing,
                of=len(mine),
                reasons=tuple(why),
                **{name: _outcome(found, said, bool(why)) for name, found in intervals.items()},
            )
        )
    return tuple(figures)


def _outcome(found: tuple[float, float, float], published: float | None, apart: bool) -> Outcome:
    value, low, high = (None if math.isnan(number) else number for number in found)
    verdict: Verdict
    if published is None:
        verdict = "nothing published"
    elif apart or low is None or high is None:
        verdict = "not comparable"
    elif low - _ROUNDED <= published <= high + _ROUNDED:
        verdict = "agrees"
    else:
        verdict = "differs beyond the interval"
    difference = None if value is None or published is None else value - published
    return Outcome(ours=value, low=low, high=high, difference=difference, verdict=verdict)


HEAD = (
    *("model", "figure", "published", "ours, compat (95 % interval)", "difference", "verdict"),
    *("ours, strict", "judge", "frames", "versions", "date"),
)


def table_of_rows(rows: Iterable[VerificationRow], models: Sequence[str]) -> str:
    """The headline figures of the paper's rows as a Markdown table, `not run` where no row of ours is there.

    models: names in the paper's tables, in the order of the table.
    """
    known = sorted(rows, key=lambda row: row.date)
    lines = []
    for model in models:
        table, published = published_as(model)
        headline = ("avg_total",) if table.number == 1 else ("avg_forward", "avg_reverse")
        for column in headline:
            begin = [model, table.columns[column], f"{published.figures[column]:.1f}"]
            found = [_cells(row, figure) for row, figure in _of(known, model, column)]
            lines += [[*begin, *cells] for cells in found or [[NOT_RUN, *[""] * (len(HEAD) - 4)]]]
    return aligned(HEAD, [[in_markdown(text) for text in line] for line in lines], words=2) + "\n"


def _of(rows: Iterable[VerificationRow], model: str, column: str) -> list[tuple[VerificationRow, Figure]]:
    return [(r, f) for r in rows if r.paper_row == model for f in r.figures if f.column == column]


def _cells(row: VerificationRow, figure: Figure) -> list[str]:
    comparable = [f for f in row.figures if f.compat.verdict in get_args(Verdict)[:2]]
    agree = sum(f.compat.verdict == "agrees" for f in comparable)
    return [
        outcome_text(figure.compat),
        gap_text(figure.compat),
        f"{figure.compat.verdict}; {agree} of {len(comparable)} figures agree",
        outcome_text(figure.strict),
        row.judge,
        row.frames,
        versions(row),
        row.date,
    ]


def outcome_text(outcome: Outcome) -> str:
    """A figure with its interval, for people; empty where it is not known."""
    if outcome.ours is None:
        return ""
    known = outcome.low is not None and outcome.high is not None
    return f"{outcome.ours:.1f}" + (f" ({outcome.low:.1f} to {outcome.high:.1f})" if known else "")


def gap_text(outcome: Outcome) -> str:
    return "" if outcome.difference is None else f"{outcome.difference:+.1f}"


def versions(row: VerificationRow) -> str:
    """Who answered, by what, with which versions."""
    known = [
        f"{name} {row.packages[name]}"
        for name in ("egost", "lmms-eval", "transformers")
        if name in row.packages
    ]
    return ", ".join(filter(None, [row.engine, row.revision[:12], *known]))
