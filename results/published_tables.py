"""The paper's Tables 1 to 4, as it prints them.

    table = published_table(3)
    for row in table.rows:
        print(row.model, row.labels["training"], row.figures["avg_forward"])

The figures are data, in `results/published/`. They are never corrected: where a printed mean is not the mean of its
printed parts, the row says so (`PublishedRow.misprinted`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from statistics import fmean
from typing import Any, Literal, get_args

from egost.tasks.text_files import read_yaml

TableNumber = Literal[1, 2, 3, 4]
TABLES: tuple[TableNumber, ...] = get_args(TableNumber)


@dataclass(frozen=True, slots=True)
class PublishedRow:
    """One row of a published table.

    model: as the paper names it. family: `proprietary` or `open` (Tables 1, 2), `base` or `trained` (Tables 3, 4).
    labels: the row's columns that hold words: `best` (Table 2), `training` (Table 3: rows trained on / tested on),
        `train` and `test` (Table 4: sources of the clips).
    figures: 0 to 100 by column. misprinted: columns whose printed mean is not the mean of its printed parts.
    tested: the day (ISO) on which the paper says the model was asked; empty where it gives none.
    """

    model: str
    family: str
    labels: Mapping[str, str]
    figures: Mapping[str, float]
    misprinted: frozenset[str]
    tested: str


@dataclass(frozen=True, slots=True)
class PublishedTable:
    """A published table. source: where the paper has it. columns: headings by column, in the paper's order.

    aggregates: for each column that is a mean, the columns that it is the plain mean of.
    """

    number: TableNumber
    title: str
    source: str
    columns: Mapping[str, str]
    aggregates: Mapping[str, tuple[str, ...]]
    rows: tuple[PublishedRow, ...]

    def recomputed(self, row: PublishedRow, column: str) -> float:
        """The mean of the parts of a column of `aggregates`, as the row prints them; percent, not rounded."""
        return fmean(row.figures[part] for part in self.aggregates[column])


@cache
def published_table(number: TableNumber) -> PublishedTable:
    """A table of the paper."""
    content = read_yaml((files(__package__) / f"published/table{number}.yaml").read_text(encoding="utf-8"))
    columns: dict[str, str] = content["columns"]
    return PublishedTable(
        number=number,
        title=content["title"],
        source=content["source"],
        columns=columns,
        aggregates={name: tuple(parts) for name, parts in content["aggregates"].items()},
        rows=tuple(_row(row, columns, content.get("tested", {})) for row in content["rows"]),
    )


def _row(content: dict[str, Any], columns: Mapping[str, str], tested: Mapping[str, str]) -> PublishedRow:
    return PublishedRow(
        model=content["model"],
        family=content["family"],
        labels=content.get("labels", {}),
        figures=dict(zip(columns, map(float, content["figures"]), strict=True)),
        misprinted=frozenset(content.get("misprinted", ())),
        tested=tested.get(content["family"], ""),
    )
