"""The tables behind a score: outcomes of the samples, chosen letters, forward against reverse, and what
`egost diagnose` wrote for the run: its text-only baselines and controls.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from egost.results.both_ways import BothWays, both_ways_by_kind
from egost.results.diagnosis.control_figures import consistency
from egost.results.diagnosis.controls import Consistency, Controls, Gap, controls_of
from egost.results.diagnosis.text_only import (
    TextOnly,
    TextOnlyScore,
    against_text_only,
    choices_together,
    not_solved_by_text,
    text_only_of,
)
from egost.results.intervals import Difference, Estimate
from egost.results.labels.corrected import Corrected, corrected_beside
from egost.results.records import SampleRecord
from egost.results.report.figures import Side, Statement
from egost.tasks.errors import EgostError
from egost.tasks.judging.judge import Judgement
from egost.tasks.sample import LETTERS


@dataclass(frozen=True)
class PlainTable:
    """A table of words and counts, the first cell of a row being its head."""

    title: str
    note: str
    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Shown:
    """tables: what was measured. statements: whether the score is more than what needs no seeing."""

    tables: tuple[PlainTable, ...]
    statements: tuple[Statement, ...]


def diagnostics(sides: Sequence[Side]) -> list[PlainTable]:
    """The tables that the saved samples give by themselves; those without a row are left out."""
    tables = [
        _replies(sides),
        _letters(sides),
        *map(_both_ways, sides),
        *map(_corrected, sides),
        *map(_consistency, sides),
    ]
    return [table for table in tables if table.rows]


def _replies(sides: Sequence[Side]) -> PlainTable:
    counts = [Counter(word for record in side.records for word in _fates(record)) for side in sides]
    words = list(dict.fromkeys(word for count in counts for word, _ in sorted(count.items())))
    return PlainTable(
        "What became of the samples",
        "A response that names no offered letter counts as wrong; an unscored sample counts as nothing.",
        ("", *("count" if side.alone else side.letter for side in sides)),
        (
            ("samples", *(str(len(side.records)) for side in sides)),
            *((word, *(str(count[word]) for count in counts)) for word in words),
        ),
    )


def _fates(record: SampleRecord) -> list[str]:
    found = [f"unscored: {record.unscored}" if record.unscored else "scored"]
    if record.frames and record.frames.complete is False:
        found.append("frames of an incomplete clip")
    if record.choice and record.choice.letter is None:
        found.append(f"no offered letter: {record.choice.how}")
    if record.generation and record.generation.truncated:
        found.append("cut at max_new_tokens")
    if isinstance(record.judgement, Judgement) and record.judgement.empty:
        found.append("empty route description")
    return found


def _letters(sides: Sequence[Side]) -> PlainTable:
    choices = [[r for r in side.records if r.choice is not None and r.percent is not None] for side in sides]
    right = Counter(record.sample.answer for record in choices[0])
    chosen = [Counter(r.choice.letter for r in records if r.choice) for records in choices]
    seen = [letter for letter in LETTERS if right[letter] or any(count[letter] for count in chosen)]
    return PlainTable(
        "Letters",
        "A model that looks at the options only often has a favourite place.",
        ("", "right", *("chosen" if side.alone else f"chosen by {side.letter}" for side in sides)),
        tuple((letter, str(right[letter]), *(str(count[letter]) for count in chosen)) for letter in seen),
    )


def _corrected(side: Side) -> PlainTable:
    try:
        found: dict[str, Corrected | str] = corrected_beside(side.run.results_file, side.records)
    except EgostError as error:
        found = {"labels": str(error)}
    return PlainTable(
        side.named("route score corrected by people's labels"),
        "The judge's scores of all routes and people's of some, taken together; 95 % intervals by clips.",
        (
            "",
            "corrected",
            "95 % interval",
            "judge alone",
            "labels alone",
            "95 % interval",
            "labelled",
            "clips",
        ),
        tuple(
            (task, score)
            if isinstance(score, str)
            else (
                task,
                f"{score.value:.1f}",
                f"{score.low:.1f} to {score.high:.1f}",
                f"{score.judge:.1f}",
                f"{score.people:.1f}",
                f"{score.people_low:.1f} to {score.people_high:.1f}",
                f"{score.labelled} of {score.n}",
                str(score.clips),
            )
            for task, score in found.items()
        ),
    )


def _both_ways(side: Side) -> PlainTable:
    return PlainTable(
        side.named("right both ways"),
        "Percent of the pairs of a forward and a reverse question on one clip; a guess: among the options of both.",
        ("", "both right", "95 % interval", "a guess", "pairs", "pairs unscored"),
        tuple(
            (
                kind,
                f"{both.value:.1f}",
                _reach(both),
                _number(both.chance),
                str(both.pairs),
                str(both.unscored),
            )
            for kind, both in both_ways_by_kind(side.records).items()
        ),
    )


def _number(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.1f}"


def _consistency(side: Side) -> PlainTable:
    choices = [record for record in side.records if record.sample.task != "route"]
    kinds = sorted({record.sample.task for record in choices})
    found = {kind: consistency([r for r in choices if r.sample.task == kind]) for kind in kinds}
    return PlainTable(
        side.named("forward and reverse on the same clip"),
        "Percent of the pairs. Whoever has understood the way answers both; by chance: how often both would be right "
        "if the two questions had nothing to do with each other.",
        ("", "pairs", "both right", "by chance", "forward alone", "reverse alone", "neither"),
        tuple(
            (kind, str(pairs.pairs), *(f"{share:.1f}" for share in _shares(pairs)))
            for kind, pairs in found.items()
            if pairs
        ),
    )


def _shares(pairs: Consistency) -> tuple[float, ...]:
    return pairs.both, pairs.by_chance, pairs.forward_only, pairs.reverse_only, pairs.neither


def controls_shown(side: Side) -> Shown:
    """Of one run. What was not measured, or cannot be read, is a statement that says what to do."""
    tables: list[PlainTable] = []
    said: list[Statement] = []
    if any(record.sample.options for record in side.records):
        try:
            if text_only := text_only_of(side.run):
                tables.append(_text_only_table(side, text_only))
                said.append(_above_text_only(side, text_only))
            else:
                said.append(
                    Statement(
                        "note", "Not measured: what text alone gets. Run egost diagnose RUN --text-only"
                    )
                )
        except EgostError as error:
            said.append(_unreadable(side, error))
    try:
        if controls := controls_of(side.run):
            tables.append(_controls_table(side, controls))
            said += _blind(controls)
        else:
            said.append(
                Statement("note", "Not measured: the score without the video. Run egost diagnose MODEL")
            )
    except EgostError as error:
        said.append(_unreadable(side, error))
    return Shown(tuple(tables), tuple(Statement(one.weight, side.named(one.text)) for one in said))


def _unreadable(side: Side, error: EgostError) -> Statement:
    """Why, without the folders of the machine that wrote the report."""
    folder = side.run.results_file.parent
    return Statement("warning", str(error).replace(f"{folder}/", "").replace(f"{folder.parent}/", ""))


def _above_text_only(side: Side, found: TextOnly) -> Statement:
    score = choices_together(side.records)
    baseline = found.trained.floor if found.trained else found.by_clip
    clearly_above = score.low > baseline.high
    return Statement("note" if clearly_above else "warning", against_text_only(score, baseline))


def _blind(controls: Controls) -> list[Statement]:
    if (arm := controls.arm("blind")) is None:
        return [Statement("note", "Not measured: the score without the video. Run egost diagnose MODEL")]
    return [Statement("note" if arm.overall.gap.low > 0 else "warning", arm.meaning)]


def _text_only_table(side: Side, found: TextOnly) -> PlainTable:
    rows = [("linear baseline, fitted on other clips", found.by_clip)]
    if found.trained:
        rows.append((f"the same, fitted on the {found.trained.rows} training rows", found.trained.floor))
    rows += [(f"{source} by the other sources", score) for source, score in found.by_source.items()]
    rows += list(found.rules.items())
    cells = [
        (name, f"{score.percent:.1f}", _reach(score), f"{score.chance:.1f}", str(score.n))
        for name, score in rows
    ]
    left = not_solved_by_text(side.records, found)
    cells.append(("this run, where text alone fails", f"{left.value:.1f}", _reach(left), "", str(left.n)))
    return PlainTable(
        side.named("what text alone gets"),
        "Percent right in the multiple-choice questions by baselines that see no frame.",
        ("", "percent", "95 % interval", "chance", "questions"),
        tuple(cells),
    )


def _controls_table(side: Side, controls: Controls) -> PlainTable:
    rows = [(arm.name, *_gap(arm.overall), arm.meaning) for arm in controls.arms]
    if circular := controls.circular:
        rows.append(
            (
                "right in all rotations of the options",
                "",
                f"{circular.circular.value:.1f} ({_reach(circular.circular)})",
                f"{circular.gap.value:+.1f} ({_reach(circular.gap)})",
                circular.meaning,
            )
        )
    for name, found in (("frames reversed", controls.turned), ("forward and reverse", controls.consistency)):
        if found:
            rows.append((name, "", "", "", found.meaning))
    return PlainTable(
        side.named("controls"),
        f"The same questions, asked otherwise ({controls.about.made_at}); gap is the score less the control, paired.",
        ("", "score", "control", "gap", "what it means"),
        tuple(rows),
    )


def _gap(found: Gap) -> tuple[str, str, str]:
    return (
        f"{found.score.value:.1f}",
        f"{found.control.value:.1f}",
        f"{found.gap.value:+.1f} ({_reach(found.gap)})",
    )


def _reach(found: TextOnlyScore | Estimate | Difference | BothWays) -> str:
    return "" if math.isnan(found.low) else f"{found.low:.1f} to {found.high:.1f}"
