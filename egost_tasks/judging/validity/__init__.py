"""Validity of a judge of routes: how it scores pairs of which it is known what is right and wrong in them.

report = check(get_judge("offline"))
print(report.passed, report.within, report.paid)
console.print(render(report))
"""

from egost.tasks.judging.validity.bounds import Bounds, Facts, Implied, implied_bounds
from egost.tasks.judging.validity.check import check
from egost.tasks.judging.validity.pair_set import all_pairs
from egost.tasks.judging.validity.pairs import ValidityPair
from egost.tasks.judging.validity.report import KindReport, RankAgreement, ValidityReport, render, to_json

__all__ = [
    "Bounds",
    "Facts",
    "Implied",
    "KindReport",
    "RankAgreement",
    "ValidityPair",
    "ValidityReport",
    "all_pairs",
    "check",
    "implied_bounds",
    "render",
    "to_json",
]
