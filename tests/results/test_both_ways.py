"""Right both ways: pairs, shares and chance worked out by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from simulated_runs import record
from typer.testing import CliRunner

from egost.main import app
from egost.results.both_ways import both_ways, both_ways_by_kind
from egost.results.records import SampleRecord
from egost.results.run import Run


def pair(
    kind: str, clip: str, forward: float | None, reverse: float | None, number: int = 0
) -> list[SampleRecord]:
    scores = {"forward": forward, "reverse": reverse}
    return [record(f"egost_{kind}_{way}", number, clip, score) for way, score in scores.items()]


def with_options(records: list[SampleRecord], number: int) -> list[SampleRecord]:
    options = tuple("abcd"[:number])
    return [replace(r, sample=replace(r.sample, options=options)) for r in records]


def test_by_hand() -> None:
    direction = [
        *pair("direction", "a", 100.0, 100.0),
        *pair("direction", "b", 100.0, 0.0),
        *pair("direction", "c", 0.0, 0.0),
        *pair("direction", "d", 100.0, 100.0),
        *pair("direction", "e", None, 100.0),
    ]
    landmark = with_options([*pair("landmark", "a", 100.0, 100.0), *pair("landmark", "b", 100.0, 100.0)], 4)
    alone = [record("egost_direction_forward", 0, "f", 100.0), *pair("route", "a", 100.0, 100.0)]
    found = both_ways_by_kind([*direction, *landmark, *alone])
    assert found.keys() == {"direction", "landmark", "all kinds"}
    one = found["direction"]
    assert (one.value, one.pairs, one.unscored, one.chance) == (50.0, 4, 1, 25.0)
    assert 0 <= one.low < 50 < one.high <= 100
    assert (found["landmark"].value, found["landmark"].chance) == (100.0, 6.25)
    whole = found["all kinds"]
    assert (whole.value, whole.chance, whole.pairs, whole.unscored) == (75.0, 15.625, 6, 1)


def test_several_questions_of_a_kind_on_a_clip() -> None:
    records = [*pair("direction", "a", 100.0, 0.0, 1), *pair("direction", "a", 100.0, 100.0, 2)]
    found = both_ways([*reversed(records), record("egost_direction_forward", 3, "a", 0.0)])
    assert found and (found.value, found.pairs) == (50.0, 2)
    assert math.isnan(found.low) and str(found) == "50.0", "one clip has no interval"


def test_where_there_is_nothing_to_pair() -> None:
    assert both_ways(pair("route", "a", 100.0, 100.0)) is None
    assert both_ways(pair("direction", "a", None, 100.0)) is None
    apart = [record("egost_direction_forward", 0, "a", 1.0), record("egost_direction_reverse", 0, "b", 1.0)]
    assert both_ways_by_kind(apart) == {}
    found = both_ways(with_options(pair("direction", "a", 100.0, 100.0), 0))
    assert found and math.isnan(found.chance), "a run older than the recording of options"


@pytest.mark.parametrize("command", ["summary", "leaderboard"])
def test_both_ways_is_shown(command: str, demo_run: Run) -> None:
    folder = str(demo_run.results_file.parent)
    found = both_ways_by_kind(demo_run.records)
    options = ["--world", "mini", "--table", "1", "--format", "csv"] if command == "leaderboard" else []
    shown = CliRunner().invoke(app, [command, folder, *options]).stdout
    if command == "summary":
        for kind, one in found.items():
            assert f"{kind}, right both ways: {one}, a guess {one.chance:.1f}, of {one.pairs} pairs" in shown
    else:
        head, *_, row = shown.splitlines()
        cells = dict(zip(head.split(","), row.split(","), strict=False))
        assert float(cells["both_ways"]) == pytest.approx(found["all kinds"].value)
        assert float(cells["both_ways_chance"]) == pytest.approx(found["all kinds"].chance)
