"""What lies behind a score: what became of the replies, which letters they chose, forward against reverse."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from egost.results.diagnosis.controls import Consistency, consistency
from egost.results.records import SampleRecord
from egost.results.report.sides import Side
from egost.tasks.judging.judge import Judgement
from egost.tasks.sample import LETTERS


@dataclass(frozen=True)
class PlainTable:
    """A table of words and counts, the first cell of a row being its head."""

    title: str
    note: str
    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def diagnostics(sides: Sequence[Side]) -> list[PlainTable]:
    """The tables that the saved samples give by themselves; those without a row are left out."""
    tables = [_replies(sides), _letters(sides), *map(_consistency, sides)]
    return [table for table in tables if table.rows]


def _replies(sides: Sequence[Side]) -> PlainTable:
    counts = [Counter(word for record in side.records for word in _fates(record)) for side in sides]
    words = list(dict.fromkeys(word for count in counts for word, _ in sorted(count.items())))
    return PlainTable(
        "What became of the samples",
        "A reply that names no offered letter counts as wrong; an unscored sample counts as nothing.",
        ("", *("count" if side.alone else side.letter for side in sides)),
        (
            ("samples", *(str(len(side.records)) for side in sides)),
            *((word, *(str(count[word]) for count in counts)) for word in words),
        ),
    )


def _fates(record: SampleRecord) -> list[str]:
    found = [f"unscored: {record.unscored}" if record.unscored else "scored"]
    if record.choice and record.choice.letter is None:
        found.append(f"no offered letter: {record.choice.how}")
    if record.generation and record.generation.truncated:
        found.append("cut where its room ended")
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
