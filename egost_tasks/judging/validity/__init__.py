"""Validity of a judge of routes: how it scores pairs of which it is known what is right and wrong in them.

report = check(get_judge("offline"))
print(report.passed, report.within, report.paid)
console.print(render(report))
"""

from egost.tasks.judging.validity.check import (
    KindReport,
    RankAgreement,
    ValidityReport,
    check,
    first_pairs,
    render,
    to_json,
)
from egost.tasks.judging.validity.pair_set import all_pairs
from egost.tasks.judging.validity.pairs import Bounds, Facts, Implied, ValidityPair, implied_bounds

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
    "first_pairs",
    "implied_bounds",
    "render",
    "to_json",
]
