"""Checks a judge: asks about every pair, compares its scores with what the rubric implies, and reports."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations, islice, zip_longest
from typing import Any

import numpy as np
from rich.console import Group
from rich.table import Table
from rich.text import Text

from egost.tasks.judging.judge import Judge, JudgeError, JudgeFailure, Judgement
from egost.tasks.judging.validity.pair_set import all_pairs
from egost.tasks.judging.validity.pairs import ValidityPair
from egost.tasks.progress import counted

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
    scores: tuple[float, float, float]
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
    def passed(self) -> bool | None:
        """Whether the judge can be believed: at least 90 % within bounds, and no injection paid.

        None where not all pairs were asked about: a first look has no verdict.
        """
        if self.n < len(all_pairs()):
            return None
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
    verdict = {
        True: Text("PASSED", "bold green"),
        False: Text("NOT PASSED", "bold red"),
        None: Text(f"NO VERDICT: {report.n} of {len(all_pairs())} pairs were asked about.", "bold"),
    }[report.passed]
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


BATCH = 8
"""Pairs whose verdicts are taken at a time; a judge behind a server is asked about all from the start."""

TIERS: tuple[tuple[str, ...], ...] = (
    ("identical", "paraphrase", "extra_landmark", "much_longer"),
    ("one_turn_flipped", "landmark_missing", "extra_turn", "steps_swapped"),
    ("all_turns_mirrored", "wrong_way"),
    ("wrong_route", "off_topic", "empty"),
)
"""Kinds from best to worst. Every kind of a tier scores more than every kind of a later one; within the first tier,
the reference itself scores no less than the rest of it. Other orders within a tier are not claimed. A language
that a judge may be unable to read, and injections, are left to the bounds."""

_TIER = {kind: tier for tier, kinds in enumerate(TIERS) for kind in kinds}
_DRAWS = 2000

Scored = tuple[ValidityPair, Judgement | JudgeFailure]


def check(
    judge: Judge, *, progress: bool = True, pairs: Sequence[ValidityPair] | None = None
) -> ValidityReport:
    """The validity report of a judge, on all pairs unless some are given; all are asked about at once.

    progress: show on standard error how far it has come.
    Raises JudgeError when the judge breaks its contract, and whatever the judge itself raises.
    """
    asked = all_pairs() if pairs is None else pairs
    judge.start([pair.item for pair in asked])
    scored: list[Scored] = []
    with counted(f"checking {judge.name}", "pairs", len(asked), progress) as advance:
        for start in range(0, len(asked), BATCH):
            batch = asked[start : start + BATCH]
            verdicts = judge([pair.item for pair in batch])
            if [v.sample_id for v in verdicts] != [pair.id for pair in batch]:
                raise JudgeError(
                    f"Judge {judge.name} was asked about {len(batch)} route descriptions and did not give one verdict "
                    f"for each in their order ({len(verdicts)} came back)."
                )
            for pair, verdict in zip(batch, verdicts, strict=True):
                scored.append((pair, verdict))
                advance()
    return _report(judge.name, scored)


def first_pairs(most: int) -> tuple[ValidityPair, ...]:
    """So many pairs for a first look, of as many kinds as they can be: one of each kind, then the next of each."""
    of_kind: dict[str, list[ValidityPair]] = defaultdict(list)
    for pair in all_pairs():
        of_kind[pair.kind].append(pair)
    in_turn = (pair for turn in zip_longest(*of_kind.values()) for pair in turn if pair is not None)
    return tuple(islice(in_turn, most))


def within_bounds(pair: ValidityPair, verdict: Judgement) -> bool:
    """Whether all three scores are within the pair's bounds."""
    return all(low <= s <= high for s, (low, high) in zip(_scores(verdict), pair.bounds, strict=True))


def rank_agreement(scored: Iterable[tuple[ValidityPair, Judgement]]) -> RankAgreement | None:
    """How far the judge's percentages follow `TIERS` within each reference; None where nothing can be compared."""
    of_base: dict[str, list[tuple[ValidityPair, Judgement]]] = defaultdict(list)
    for pair, verdict in scored:
        if pair.kind in _TIER:
            of_base[pair.base].append((pair, verdict))
    points = [
        [p for a, b in combinations(group, 2) if (p := _point(a, b)) is not None]
        for group in of_base.values()
    ]
    sums = np.array([sum(group) for group in points if group])
    counts = np.array([len(group) for group in points if group])
    if not len(counts):
        return None
    drawn = np.random.default_rng(0).integers(len(counts), size=(_DRAWS, len(counts)))
    low, high = np.percentile(sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1), [2.5, 97.5])
    return RankAgreement(
        float(sums.sum() / counts.sum()), float(low), float(high), int(counts.sum()), len(counts)
    )


def _point(a: tuple[ValidityPair, Judgement], b: tuple[ValidityPair, Judgement]) -> float | None:
    """1 for the intended order, 0.5 for a tie where one has to be better, 0 for the opposite; None for no order."""
    (better, high), (worse, low) = sorted(
        (a, b), key=lambda one: (_TIER[one[0].kind], one[0].kind != "identical")
    )
    if _TIER[better.kind] != _TIER[worse.kind]:
        return 0.5 if high.percent == low.percent else float(high.percent > low.percent)
    return float(high.percent >= low.percent) if better.kind == "identical" else None


def _report(judge: str, scored: Sequence[Scored]) -> ValidityReport:
    judged = [(pair, v) for pair, v in scored if isinstance(v, Judgement)]
    outside = [(pair, v) for pair, v in judged if not within_bounds(pair, v)]
    return ValidityReport(
        judge=judge,
        kinds=_grouped(scored, lambda pair: pair.kind),
        origins=_grouped(scored, lambda pair: pair.origin),
        outside=tuple(
            OutOfBounds(
                pair.id, pair.kind, _scores(v), tuple((low, high) for low, high in pair.bounds), v.reasons
            )
            for pair, v in outside
        ),
        paid=tuple(pair.id for pair, v in judged if pair.trick and _gained(pair, v)),
        injections=sum(bool(pair.trick) for pair, _ in judged),
        failures=dict(Counter(v.reason for _, v in scored if isinstance(v, JudgeFailure))),
        rank=rank_agreement(judged),
    )


def _gained(pair: ValidityPair, verdict: Judgement) -> bool:
    return any(s > bound.high for s, bound in zip(_scores(verdict), pair.bounds, strict=True))


def _grouped(scored: Sequence[Scored], key: Callable[[ValidityPair], str]) -> tuple[KindReport, ...]:
    groups: dict[str, list[Scored]] = defaultdict(list)
    for pair, verdict in scored:
        groups[key(pair)].append((pair, verdict))
    return tuple(_group(name, group) for name, group in groups.items())


def _group(name: str, group: Sequence[Scored]) -> KindReport:
    judged = [(pair, v) for pair, v in group if isinstance(v, Judgement)]
    means = np.mean([_scores(v) for _, v in judged], axis=0).tolist() if judged else [None] * 3
    return KindReport(
        name,
        len(judged),
        sum(within_bounds(pair, v) for pair, v in judged),
        len(group) - len(judged),
        *means,
    )


def _scores(verdict: Judgement) -> tuple[float, float, float]:
    return verdict.direction, verdict.landmark, verdict.semantic
