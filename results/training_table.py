"""Trained checkpoints in the form of the paper's Tables 1 to 4, each with its controls.

    table = training_table([TrainedModel("mini-base", 0, records, controls), ...])
    print(markdown(table))
    print(markdown_table(*tasks_table(models)))

A gain after training says something about seeing only where the same checkpoint without the clip gains nothing
(on the released rows, text alone answers 93.8 % of the questions): so every row carries its blind control, and the
table the text-only baseline of its questions.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from egost.results.intervals import Difference, Estimate, estimate, paired
from egost.results.published_tables import PublishedRow, published_table
from egost.results.records import SampleRecord
from egost.results.report.figures import route_aspects
from egost.results.run_header import RunError
from egost.tasks.cache import write_picture
from egost.tasks.sample import TASK_KINDS, WAYS
from egost.tasks.text_only_baseline import (
    FOLDS,
    TextOnlyAccuracy,
    accuracy_of,
    linear_baseline,
    text_only_accuracy,
)

Records = tuple[SampleRecord, ...]

COLUMNS = {"avg": "Avg.", "direction": "Direction (D)", "landmark": "Landmark (L)", "action": "Action (A)"}
CONTROLS = {"blind": "without the clip", "other": "with another walk's clip"}
OUT_OF_DOMAIN = ("direction", "landmark")  # Table 4's kinds of question.
_UNREAD = "where text alone fails"


@dataclass(frozen=True)
class TrainedModel:
    """A checkpoint's evaluation.

    label: its paradigm. rows: training rows that it has seen. records: its samples.
    controls: the same samples by the name of a control (`blind`, `other`), with the replies and scores under it.
    """

    label: str
    rows: int
    records: Records
    controls: Mapping[str, Records]


@dataclass(frozen=True)
class TableRow:
    """One checkpoint on multiple choice.

    figures: percent by column (`avg_forward`, ...). whole: of all its samples, by plain mean of the tasks; kinds: of
    both ways of a kind. controls: the whole under each control. unread: the whole of what the linear model of the
    options' wording gets wrong; None for too few clips.
    """

    label: str
    rows: int
    figures: Mapping[str, float]
    whole: Estimate
    kinds: Mapping[str, Estimate]
    controls: Mapping[str, Estimate]
    unread: Estimate | None


@dataclass(frozen=True)
class Gain:
    """How much better `after` is than `before` on the same samples, in percentage points."""

    before: str
    after: str
    difference: Difference


@dataclass(frozen=True)
class Target:
    """Something that was aimed at: the sentence that says what came out, and whether it was reached."""

    sentence: str
    reached: bool

    def __str__(self) -> str:
        return f"{'Reached' if self.reached else 'Missed'}: {self.sentence}"


@dataclass(frozen=True)
class TrainingTable:
    """All rows, over the same questions.

    published: the paper's rows, as it prints them. chance: percent that a guess among the options gets; chances: the
    same by kind.
    text_only: accuracy of a linear model of the options' wording, without a clip; None for too few clips.
    """

    rows: tuple[TableRow, ...]
    gains: tuple[Gain, ...]
    published: tuple[PublishedRow, ...]
    kinds: tuple[str, ...]
    chance: float
    chances: Mapping[str, float]
    text_only: TextOnlyAccuracy | None

    def row(self, label: str) -> TableRow:
        return next(row for row in self.rows if row.label == label)


def training_table(models: Sequence[TrainedModel], gains: Sequence[tuple[str, str]]) -> TrainingTable:
    """The table of some checkpoints; `gains`: pairs of labels, before and after.

    Raises RunError where they were not asked the same questions.
    """
    asked = {frozenset(record.sample.id for record in model.records) for model in models}
    if len(asked) != 1:
        raise RunError("the checkpoints of a table have to be asked the same questions; evaluate them anew.")
    records = {model.label: _choices(model.records) for model in models}
    first = records[models[0].label]
    samples = [record.sample for record in first]
    kinds = tuple(kind for kind in COLUMNS if any(sample.task == kind for sample in samples))
    solved = linear_baseline(samples) if len({sample.clip for sample in samples}) >= FOLDS else None
    unread = (
        None if solved is None else {s.id for s, by_text in zip(samples, solved, strict=True) if not by_text}
    )
    return TrainingTable(
        rows=tuple(_row(model, kinds, unread) for model in models),
        gains=tuple(Gain(a, b, paired(records[a], records[b])) for a, b in gains),
        published=published_table(3).rows,
        kinds=kinds,
        chance=_chance(first),
        chances={kind: _chance([r for r in first if r.sample.task == kind]) for kind in kinds},
        text_only=None if solved is None else accuracy_of(samples, solved),
    )


def targets(table: TrainingTable, base: str, final: str, aims: Mapping[str, float]) -> tuple[Target, ...]:
    """What came of each aim: the base sees, the final checkpoint has the percent of `aims` by kind, training gains,
    and no figure comes from the text alone. base, final: labels."""
    found = []
    for kind, got in table.row(base).kinds.items():
        chance = table.chances[kind]
        found.append(Target(f"{base} is above chance on {kind}: {_result(got, chance)}.", got.low > chance))
    for kind, got in table.row(final).kinds.items():
        result = _result(got, table.chances[kind])
        found.append(Target(f"{final} has {aims[kind]:g} % on {kind}: {result}.", got.value >= aims[kind]))
    return (*found, *_gains_and_controls(table))


def targets_out_of_domain(table: TrainingTable, source: str, final: str) -> tuple[Target, ...]:
    """What came of it on a source that the training left out: whether the checkpoint `final` is above chance there."""
    got = table.row(final).whole
    above = Target(f"{final} is above chance: {_result(got, table.chance)}.", got.low > table.chance)
    where = f"on {source}, left out of the training: "
    return tuple(replace(aim, sentence=where + aim.sentence) for aim in (above, *_gains_and_controls(table)))


def _gains_and_controls(table: TrainingTable) -> list[Target]:
    found = []
    for gain in table.gains:
        d = gain.difference
        found.append(
            Target(
                f"{gain.before} < {gain.after} beyond the paired interval: {d.value:+.1f} points ({d.low:+.1f} to "
                f"{d.high:+.1f}), {d.wins} questions won, {d.losses} lost, {d.n} questions on {d.clips} clips.",
                d.low > 0,
            )
        )
    for row in table.rows:
        for name, got in row.controls.items():
            sentence = f"{row.label} {CONTROLS[name]} is not above chance: {_result(got, table.chance)}."
            found.append(Target(sentence, got.low <= table.chance))
    if table.text_only:
        low, high = 100 * table.text_only.low, 100 * table.text_only.high
        sentence = (
            f"the options' wording alone is not above chance: {100 * table.text_only.accuracy:.1f} % ({low:.1f} to "
            f"{high:.1f}), chance {100 * table.text_only.chance:.1f} %."
        )
        found.append(Target(sentence, not table.text_only.above_chance))
    return found


def as_json(table: TrainingTable, aims: Sequence[Target]) -> dict[str, Any]:
    """All figures, fit for JSON."""
    return {
        "chance": table.chance,
        "text_floor": asdict(table.text_only) if table.text_only else None,
        "rows": [asdict(row) for row in table.rows],
        "gains": [asdict(gain) for gain in table.gains],
        "targets": [{"reached": aim.reached, "sentence": aim.sentence} for aim in aims],
        "published": [
            {"model": row.model, "training": row.labels["training"], "figures": dict(row.figures)}
            for row in table.published
        ],
    }


def form(table: TrainingTable) -> tuple[list[str], list[list[str]]]:
    """Head and rows in Table 3's form: our rows, then the paper's. Two figures are forward / reverse."""
    shown = ("avg", *table.kinds)
    ours = [
        [row.label, str(row.rows), str(row.whole.n), *(_ways(row.figures, kind) for kind in shown)]
        for row in table.rows
    ]
    theirs = [
        [
            f"{row.model} (published)",
            *row.labels["training"].split("/"),
            *(_ways(row.figures, kind) for kind in shown),
        ]
        for row in table.published
    ]
    return ["paradigm", "rows", "n", *(COLUMNS[kind] for kind in shown)], [*ours, *theirs]


def out_of_domain(tables: Mapping[str, TrainingTable]) -> tuple[list[str], list[list[str]]]:
    """Head and rows in Table 4's form. tables: by the source that was held out, the base and the trained checkpoint."""
    kinds = ("avg", *OUT_OF_DOMAIN)
    head = ["", "tested on", "n", *(COLUMNS[kind] for kind in kinds), "all", CONTROLS["blind"], _UNREAD]
    rows = [
        [
            f"{row.label} without {source}" if row.rows else row.label,
            source,
            str(row.whole.n),
            *(_ways(row.figures, kind) for kind in kinds),
            *(_interval(got) if got else "" for got in (row.whole, row.controls.get("blind"), row.unread)),
        ]
        for source, table in tables.items()
        for row in table.rows
    ]
    return head, rows


def controlled(table: TrainingTable) -> tuple[list[str], list[list[str]]]:
    """Head and rows of our checkpoints with and without the clip; each figure with its 95 % interval in brackets."""
    rows = [
        [
            row.label,
            _interval(row.whole),
            *(_interval(row.controls[name]) if name in row.controls else "" for name in CONTROLS),
            _interval(row.unread) if row.unread else "",
        ]
        for row in table.rows
    ]
    return ["paradigm", "all tasks", *CONTROLS.values(), _UNREAD], rows


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of Markdown, without a line's end."""
    return "\n".join("| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *rows))


def markdown(table: TrainingTable) -> str:
    """Both tables and their legend."""
    return "\n\n".join(
        [*(markdown_table(*part) for part in (form(table), controlled(table))), legend(table), ""]
    )


def tasks_table(models: Sequence[TrainedModel]) -> tuple[list[str], list[list[str]]]:
    """Head and rows in Table 1's form: each model as asked and under its controls, then a guess and the options'
    wording alone (both ways of a kind together); each with its 95 % interval in brackets."""
    tasks = [(kind, way) for kind in TASK_KINDS for way in WAYS]
    rows = [
        [label, asked, *(_interval(estimate(of)) if (of := _of(records, *task)) else "" for task in tasks)]
        for label, asked, records in _as_asked_and_not(models)
    ]
    text: list[str] = []
    chance: list[str] = []
    for kind, way in tasks:
        samples = [r.sample for w in WAYS for r in _of(models[0].records, kind, w) if r.sample.options]
        told = text_only_accuracy(samples) if len({s.clip for s in samples}) >= FOLDS else None
        text.append(
            f"{100 * told.accuracy:.1f} ({100 * told.low:.1f} to {100 * told.high:.1f})" if told else ""
        )
        chance.append(f"{_chance(_of(models[0].records, kind, way)):.1f}" if samples else "")
    rows += [["a guess", "", *chance], ["a linear model", "the options' wording", *text]]
    return ["", "asked", *(f"{kind.capitalize()} {way[0].upper()}" for kind, way in tasks)], rows


def aspects_table(models: Sequence[TrainedModel]) -> tuple[list[str], list[list[str]]]:
    """Head and rows in Table 2's form: direction, landmark and semantic of the routes, as asked and under controls."""
    rows = [
        [label, asked, *(_interval(line.a) for line in route_aspects(records, None).lines)]
        for label, asked, records in _as_asked_and_not(models)
    ]
    head = [f"{letter} {way[0].upper()}" for letter in "DLS" for way in WAYS]
    return ["", "asked", *head], rows


def draw_figure_1(models: Sequence[TrainedModel], out: Path) -> None:
    """Draw the models over the tasks, as the paper's Figure 1 does, each in its 95 % interval, and write the PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    tasks = [(kind, way) for kind in TASK_KINDS for way in WAYS if _of(models[0].records, kind, way)]
    angles = [2 * math.pi * place / len(tasks) for place in range(len(tasks) + 1)]
    figure = Figure(figsize=(7.6, 5.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot(projection="polar")
    chance = [_chance(of) if (of := _choices(_of(models[0].records, *task))) else 0.0 for task in tasks]
    axes.plot(angles, [*chance, chance[0]], color="0.4", linestyle=":", label="a guess")
    for number, model in enumerate(models):
        found = [estimate(_of(model.records, *task)) for task in tasks]
        around = [*found, found[0]]
        colour = f"C{number}"
        axes.plot(angles, [one.value for one in around], color=colour, label=model.label)
        axes.fill_between(
            angles, [one.low for one in around], [one.high for one in around], color=colour, alpha=0.15
        )
    axes.set_xticks(angles[:-1], [f"{kind.capitalize()} {way[0].upper()}" for kind, way in tasks])
    axes.set_ylim(0, 100)
    axes.legend(loc="center left", bbox_to_anchor=(1.15, 0.5), frameon=False)
    write_picture(out, figure, dpi=130)


def _as_asked_and_not(models: Sequence[TrainedModel]) -> Iterator[tuple[str, str, Records]]:
    for model in models:
        yield model.label, "with the clip", model.records
        for name, records in model.controls.items():
            yield model.label, CONTROLS[name], records


def _of(records: Records, kind: str, way: str) -> Records:
    return tuple(r for r in records if (r.sample.task, r.sample.way) == (kind, way))


def _choices(records: Records) -> Records:
    return tuple(record for record in records if record.sample.task != "route")


def legend(table: TrainingTable) -> str:
    """What the table's cells hold, in words."""
    text_only = (
        f"; a linear model of the options' wording gets {100 * table.text_only.accuracy:.1f} % "
        f"({100 * table.text_only.low:.1f} to {100 * table.text_only.high:.1f})"
        if table.text_only
        else ""
    )
    published = (
        " Rows marked published are the paper's Table 3, on the real benchmark (its averages have the action questions "
        "in them): not comparable with the others, shown for their form."
        if table.published
        else ""
    )
    return (
        "Percent, forward / reverse; in brackets 95 % intervals, clustered by clip. rows: training rows seen; n: "
        f"questions; all tasks: their plain mean, by which the controls are measured, too. Chance is "
        f"{table.chance:.1f} %{text_only}.{published}"
    )


def _row(model: TrainedModel, kinds: Sequence[str], unread: set[str] | None) -> TableRow:
    choices = _choices(model.records)
    kind_of = {kind: [r for r in choices if r.sample.task == kind] for kind in kinds}
    figures = {
        f"{kind}_{way}": estimate([r for r in kind_of[kind] if r.sample.way == way]).value
        for kind in kinds
        for way in WAYS
    }
    for way in WAYS:
        figures[f"avg_{way}"] = sum(figures[f"{kind}_{way}"] for kind in kinds) / len(kinds)
    return TableRow(
        model.label,
        model.rows,
        figures,
        estimate(choices),
        {kind: estimate(records) for kind, records in kind_of.items()},
        {name: estimate(_choices(records)) for name, records in model.controls.items()},
        estimate([r for r in choices if r.sample.id in unread]) if unread else None,
    )


def _chance(records: Sequence[SampleRecord]) -> float:
    """Percent of guessing, averaged as the figures are: the plain mean of the tasks."""
    return estimate(records, score=lambda record: 100 / len(record.sample.options)).value


def _result(got: Estimate, chance: float) -> str:
    return f"{_interval(got)} % of {got.n} questions on {got.clips} clips, chance {chance:.1f} %"


def _interval(got: Estimate) -> str:
    """Without the interval where a task is about one clip alone, and nothing where one has no sample."""
    if math.isnan(got.low):
        return "" if math.isnan(got.value) else f"{got.value:.1f}"
    return f"{got.value:.1f} ({got.low:.1f} to {got.high:.1f})"


def _ways(figures: Mapping[str, float], kind: str) -> str:
    return " / ".join(f"{figures[f'{kind}_{way}']:.1f}" for way in WAYS)
