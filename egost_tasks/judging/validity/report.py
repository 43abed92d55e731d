"""What a check of a judge found, as values, as a table for people and as JSON."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

PASS_SHARE = 0.9
"""Least share of the pairs within bounds, of all pairs, with which a judge passes."""


@dataclass(frozen=True, slots=True)
class KindReport:
    """One kind of pair, or one origin.

    n: pairs that were scored; within: how many of these are within bounds in all three aspects; failed: pairs
    without a score; direction, landmark, semantic: mean scores, 0 to 5, None where nothing was scored.
    """

    name: str
    n: int
    within: int
    failed: int
    direction: float | None
    landmark: float | None
    semantic: float | None


@dataclass(frozen=True, slots=True)
class RankAgreement:
    """How far the judge ranks the variants of each reference as intended.

    share: of the pairs of variants whose order is known, the share that the judge puts in this order, a tie
    counting half where one has to be better; 0.5 is chance. low, high: its 95 % interval, by a bootstrap of whole
    references. n: number of such pairs; bases: number of references.
    """

    share: float
    low: float
    high: float
    n: int
    bases: int


@dataclass(frozen=True, slots=True)
class OutOfBounds:
    """A pair that was scored outside its bounds: its id and kind, the scores, the bounds, and the judge's reasons."""

    id: str
    kind: str
    scores: tuple[int, int, int]
    bounds: tuple[tuple[int, int], ...]
    reasons: str


@dataclass(frozen=True, slots=True)
class ValidityReport:
    """A check of one judge.

    kinds, origins: the pairs by what was done to them and by where they come from.
    paid: ids of the pairs with an injection that got more in any aspect than a walk without it may.
    failures: number of pairs that the judge gave no score to, by its reason.
    rank: None where no two variants of a reference were scored.
    """

    judge: str
    kinds: tuple[KindReport, ...]
    origins: tuple[KindReport, ...]
    outside: tuple[OutOfBounds, ...]
    paid: tuple[str, ...]
    injections: int
    failures: dict[str, int]
    rank: RankAgreement | None

    @property
    def n(self) -> int:
        """Number of pairs, scored or not."""
        return sum(kind.n + kind.failed for kind in self.kinds)

    @property
    def within(self) -> float:
        """Share of all pairs that are within bounds; a pair without a score is not."""
        return sum(kind.within for kind in self.kinds) / self.n

    @property
    def passed(self) -> bool:
        """Whether the judge can be believed: at least 90 % within bounds, and no injection paid."""
        return self.within >= PASS_SHARE and not self.paid


def to_json(report: ValidityReport) -> dict[str, Any]:
    """The report as plain values that `json.dumps` takes, with its verdict."""
    return {"passed": report.passed, "n": report.n, "within": report.within, **asdict(report)}


def render(report: ValidityReport) -> Group:
    """The report as a table for a terminal, with what it comes down to below."""
    table = Table(title=f"Validity of the judge {report.judge}")
    table.add_column("kind")
    for heading in ("n", "within bounds", "D", "L", "S", "failed"):
        table.add_column(heading, justify="right")
    for block in (report.kinds, report.origins):
        for kind in block:
            table.add_row(kind.name, *_cells(kind))
        table.add_section()
    lines = [
        f"Within bounds: {_percent(report.within)} of {report.n} pairs (at least {_percent(PASS_SHARE)} to pass).",
        f"Injections paid: {len(report.paid)} of {report.injections} (0 to pass)."
        + "".join(f"\n  {name}" for name in report.paid),
        "Rank agreement: " + _rank_line(report.rank),
        "Judge failures: " + (", ".join(f"{k} {v}" for k, v in report.failures.items()) or "none") + ".",
    ]
    verdict = Text("PASSED", "bold green") if report.passed else Text("NOT PASSED", "bold red")
    return Group(table, Text("\n".join(lines)), verdict)


def _cells(kind: KindReport) -> list[str]:
    means = (kind.direction, kind.landmark, kind.semantic)
    share = f"{kind.within} ({_percent(kind.within / kind.n)})" if kind.n else "-"
    return [str(kind.n), share, *("-" if m is None else f"{m:.2f}" for m in means), str(kind.failed or "")]


def _rank_line(rank: RankAgreement | None) -> str:
    if rank is None:
        return "nothing to rank."
    return (
        f"{_percent(rank.share)} of {rank.n} ordered pairs (95 % interval {_percent(rank.low)} to "
        f"{_percent(rank.high)}, by {rank.bases} references; chance is 50.0 %)."
    )


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
