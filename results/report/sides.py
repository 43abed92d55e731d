"""The runs that a report is of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from egost.results.records import SampleRecord, read_records
from egost.results.run import Run


@dataclass(frozen=True)
class Side:
    """One of the runs.

    letter: `A` or `B`. alone: whether there is no other. label: the model's name. told: when it was made, as
    lmms-eval says it.
    """

    letter: str
    alone: bool
    label: str
    told: str
    run: Run
    records: tuple[SampleRecord, ...]

    @property
    def is_mini(self) -> bool:
        """Whether it is of the mini world, whose figures are no benchmark results."""
        return self.records[0].world == "mini"

    def named(self, text: str) -> str:
        """A text that tells which of two runs it is about."""
        begun = text[:1].upper() + text[1:]
        return begun if self.alone else f"{self.letter}: {begun}"


def read_sides(runs: Sequence[Run]) -> list[Side]:
    """One run, or two, with their samples. Raises RunError, see `read_records`."""
    return [_read(run, letter, len(runs) == 1) for run, letter in zip(runs, "AB", strict=False)]


def _read(run: Run, letter: str, alone: bool) -> Side:
    config = run.results.get("config", {})
    name = str(run.results.get("model_name") or config.get("model"))
    # Of a folder of somebody's machine the last part is the checkpoint's name.
    label = Path(name).name if Path(name).is_absolute() else name
    return Side(letter, alone, label, _time(str(run.results.get("date", ""))), run, read_records(run))


def _time(told: str) -> str:
    """lmms-eval's own form is 20261121_174500."""
    try:
        return datetime.strptime(told, "%Y%m%d_%H%M%S").strftime("%Y-%m-%d %H:%M")
    except ValueError:
        return told
