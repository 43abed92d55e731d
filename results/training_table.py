"""Trained checkpoints in the form of the paper's Table 3, each with its controls.

    table = training_table([TrainedModel("mini-base", 0, records, controls), ...])
    print(markdown(table))

A gain after training says something about seeing only where the same checkpoint without the clip gains nothing
(on the released rows, text alone answers 93.8 % of the questions): so every row carries its blind control, and the
table the text-only baseline of its questions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from egost.results.intervals import Difference, Estimate, estimate, paired
from egost.results.published_tables import PublishedRow, published_table
from egost.results.records import SampleRecord
from egost.results.run_header import RunError
from egost.tasks.sample import WAYS
from egost.tasks.text_only_baseline import TextOnlyAccuracy, text_only_accuracy

Records = tuple[SampleRecord, ...]

COLUMNS = {"avg": "Avg.", "direction": "Direction (D)", "landmark": "Landmark (L)", "action": "Action (A)"}
CONTROLS = {"blind": "without the clip", "other": "with another walk's clip"}


@dataclass(frozen=True)
class TrainedModel:
    """A checkpoint's evaluation.

    label: its paradigm. rows: training rows that it has seen. records: its samples, of multiple-choice tasks.
    controls: the same samples by the name of a control (`blind`, `other`), with the replies and scores under it.
    """

    label: str
    rows: int
    records: Records
    controls: Mapping[str, Records]


@dataclass(frozen=True)
class TableRow:
    """One checkpoint.

    figures: percent by column (`avg_forward`, ...). whole: of all its samples, by plain mean of the tasks; kinds: of
    both ways of a kind. controls: the whole under each control.
    """

    label: str
    rows: int
    figures: Mapping[str, float]
    whole: Estimate
    kinds: Mapping[str, Estimate]
    controls: Mapping[str, Estimate]


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
    records = {model.label: model.records for model in models}
    samples = [record.sample for record in models[0].records]
    kinds = tuple(kind for kind in COLUMNS if any(sample.task == kind for sample in samples))
    return TrainingTable(
        rows=tuple(_row(model, kinds) for model in models),
        gains=tuple(Gain(a, b, paired(records[a], records[b])) for a, b in gains),
        published=published_table(3).rows,
        kinds=kinds,
        chance=_chance(models[0].records),
        chances={kind: _chance([r for r in models[0].records if r.sample.task == kind]) for kind in kinds},
        text_only=text_only_accuracy(samples) if len({sample.clip for sample in samples}) >= 10 else None,
    )


def targets(table: TrainingTable, base: str, final: str, aim: float) -> tuple[Target, ...]:
    """What came of each aim: the base sees, the final checkpoint has `aim` percent of each kind, training gains, and
    no figure comes from the text alone. base, final: labels."""
    found = []
    for kind, got in table.row(base).kinds.items():
        chance = table.chances[kind]
        found.append(Target(f"{base} is above chance on {kind}: {_result(got, chance)}.", got.low > chance))
    for kind, got in table.row(final).kinds.items():
        result = _result(got, table.chances[kind])
        found.append(Target(f"{final} has {aim:g} % on {kind}: {result}.", got.value >= aim))
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
    return tuple(found)


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


def controlled(table: TrainingTable) -> tuple[list[str], list[list[str]]]:
    """Head and rows of our checkpoints with and without the clip; each figure with its 95 % interval in brackets."""
    rows = [
        [
            row.label,
            _interval(row.whole),
            *(_interval(row.controls[name]) if name in row.controls else "" for name in CONTROLS),
        ]
        for row in table.rows
    ]
    return ["paradigm", "all tasks", *CONTROLS.values()], rows


def markdown(table: TrainingTable) -> str:
    """Both tables and their legend."""
    parts = []
    for head, rows in (form(table), controlled(table)):
        parts += ["\n".join("| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *rows)), ""]
    return "\n".join([*parts, legend(table), ""])


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


def _row(model: TrainedModel, kinds: Sequence[str]) -> TableRow:
    kind_of = {kind: [r for r in model.records if r.sample.task == kind] for kind in kinds}
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
        estimate(model.records),
        {kind: estimate(records) for kind, records in kind_of.items()},
        {name: estimate(records) for name, records in model.controls.items()},
    )


def _chance(records: Sequence[SampleRecord]) -> float:
    """Percent of guessing, averaged as the figures are: the plain mean of the tasks."""
    return estimate(records, score=lambda record: 100 / len(record.sample.options)).value


def _result(got: Estimate, chance: float) -> str:
    return f"{_interval(got)} % of {got.n} questions on {got.clips} clips, chance {chance:.1f} %"


def _interval(got: Estimate) -> str:
    return f"{got.value:.1f} ({got.low:.1f} to {got.high:.1f})"


def _ways(figures: Mapping[str, float], kind: str) -> str:
    return " / ".join(f"{figures[f'{kind}_{way}']:.1f}" for way in WAYS)
