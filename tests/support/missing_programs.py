"""Which tests did not run for want of a program that the machine has not, such as Chromium or TeX."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

MARK = "on this machine"
"""What the reason of such a skip says: no PROGRAM on this machine (how to get it)."""


def not_run(reports: Iterable[pytest.TestReport]) -> list[str]:
    """For each missing program, how many tests were skipped, why, and their names."""
    skipped: dict[str, list[str]] = {}
    for report in reports:
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else ""
        if MARK in reason:
            name = report.nodeid.rpartition("::")[2]
            skipped.setdefault(reason.removeprefix("Skipped: "), []).append(name)
    return [
        f"not run: {len(names)} {'test' if len(names) == 1 else 'tests'}, {reason}: {', '.join(sorted(names))}"
        for reason, names in sorted(skipped.items())
    ]
