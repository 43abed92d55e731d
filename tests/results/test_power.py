"""How many samples are needed: against lmms-eval's own plan for independent samples, and on simulated runs."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from simulated_runs import MINI, record
from typer.testing import CliRunner

from egost.main import app
from egost.results.intervals import clustered_error, paired, paired_rows, scored_rows
from egost.results.power import Spread, assumed_spread, needed, spread_of, visible
from egost.results.run import Run
from egost.results.run_header import RunError

TASK = "egost_direction_forward"


@pytest.mark.parametrize(
    ("points", "sd", "power", "agreement"), [(3, 50, 0.8, 0.5), (1, 40, 0.9, 0.0), (10, 25, 0.8, 0.8)]
)
def test_independent_samples_as_lmms_eval_plans_them(
    points: float, sd: float, power: float, agreement: float
) -> None:
    from lmms_eval.api.metrics import power_analysis

    theirs = power_analysis(points / 100, std_a=sd / 100, power=power, correlation=agreement)["min_n"]
    ours = needed(Spread(sd, 1.0, 1.0), points, power=power, agreement=agreement)
    assert abs(ours.samples - theirs) <= 1 and ours.clips == ours.samples
    assert visible(Spread(sd, 1.0, 1.0), theirs, power=power, agreement=agreement) == pytest.approx(
        points, rel=0.01
    )


def test_samples_of_one_clip_tell_less() -> None:
    alone, together = Spread(50.0, 1.0, 1.0), assumed_spread(50.0, 6.0, 0.2)
    assert together.effect == 2.0 and together.correlation == pytest.approx(0.2)
    assert needed(together, 3).samples == pytest.approx(2 * needed(alone, 3).samples, abs=1)
    assert needed(together, 3).clips == pytest.approx(needed(together, 3).samples / 6, abs=1)


def test_the_spread_of_a_run_is_its_error() -> None:
    """With as many samples as the run has, the standard error of a planned run is that of the run itself."""
    [run] = MINI.draw(np.random.default_rng(1))
    rows = scored_rows(run)
    found = spread_of(rows)
    assert found.sd * math.sqrt(found.effect / found.n) == pytest.approx(clustered_error(rows))
    assert found.effect > 1.5 and 0.1 < found.correlation < 0.5, "samples of one clip go together"
    assert (found.n, found.clips) == (len(run), 40)


def test_a_difference_is_seen_as_often_as_was_planned() -> None:
    rng, world = np.random.default_rng(2), replace(MINI, easiness=(0.0, 0.5), clips=400)
    gain = 0.4
    points = float(np.mean(world.truth(gain) - world.truth()))
    plan = needed(spread_of(paired_rows(*world.draw(rng, (0.0, gain))), of_differences=True), points)
    planned = replace(world, clips=plan.clips)
    seen = [paired(*planned.draw(rng, (0.0, gain)), draws=300).p_value < 0.05 for _ in range(100)]
    assert 0.68 <= sum(seen) / 100 <= 0.92


def test_what_gives_no_plan() -> None:
    alike = [record(TASK, number, f"{number}.mp4", 0.0) for number in range(9)]
    with pytest.raises(RunError, match="score alike"):
        spread_of(scored_rows(alike))
    with pytest.raises(RunError, match="two clips or more"):
        spread_of(scored_rows([record(TASK, 0, "a.mp4", 0.0), record(TASK, 1, "a.mp4", 100.0)]))
    with pytest.raises(RunError):
        spread_of([])
    for wrong in ({"points": 0.0}, {"points": 3.0, "power": 1.0}, {"points": 3.0, "agreement": 1.0}):
        with pytest.raises(RunError, match="cannot be"):
            needed(assumed_spread(), **wrong)


def test_the_command_without_a_run() -> None:
    done = CliRunner().invoke(
        app,
        ["power", "--points", "5", "--sd", "40", "--per-clip", "1", "--correlation", "0", "--agreement", "0"],
    )
    assert done.exit_code == 0 and "1005 samples of 1005 clips show a difference of 5 points" in done.output
    assert CliRunner().invoke(app, ["power", "--points", "0"]).exit_code == 2


def test_what_is_assumed_is_refused_beside_what_is_measured(demo_run: Run) -> None:
    file = str(demo_run.results_file)
    for words, flags in (
        ([file, "--sd", "40", "--correlation", "0"], "--sd, --correlation: "),
        ([file, file, "--agreement", "0.2"], "--agreement: "),
    ):
        done = CliRunner().invoke(app, ["power", *words])
        assert done.exit_code == 2 and f"egost: {flags}the runs are measured instead" in done.output
    for words in (["--sd", "0"], ["--sd", "51"], ["--per-clip", "0.5"], ["--correlation", "1.5"]):
        assert CliRunner().invoke(app, ["power", *words]).exit_code == 2, words
    # 5000 samples of 789 clips, right or wrong: (2.802 / 3)^2 * 50^2 * 2 * (1 - 0.5) * (1 + 5.337 * 0.1) = 3344.
    assert "3344 samples of 528 clips" in CliRunner().invoke(app, ["power"]).output
