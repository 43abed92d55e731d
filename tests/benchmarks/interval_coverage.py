"""How often an interval that says 95 % holds the truth, on simulated runs whose samples go together by clip.

    python tests/benchmarks/interval_coverage.py [--repeats 500] [--json FILE]

Each repeat draws new clips from a population that is known (tests/results/simulated_runs.py) and estimates its plain
mean of eight tasks, one task alone, and the difference of two models. Beside our interval stand the analytic clustered
error and, as a warning, the error that takes each sample for independent. Further: how often `paired` finds a
difference at 5 % where there is none, how often where power says 80 %, and the time of an estimate of 5,000 samples.
The record of the last run lies in tests/benchmarks/records/coverage.json.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from dataclasses import replace
from pathlib import Path
from statistics import fmean

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))
from simulated_runs import MINI, OFFICIAL, TASKS, Population

from egost.results.intervals import Estimate, estimate, paired, paired_rows
from egost.results.power import needed, spread_of
from egost.results.records import SampleRecord

RECORD = Path(__file__).parent / "records" / "coverage.json"
GAIN = 0.25
"""Logits by which the better model is better."""
Z = 1.959964


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=500)
    parser.add_argument("--draws", type=int, default=10_000)
    parser.add_argument("--json", type=Path, default=RECORD)
    asked = parser.parse_args()
    asked.json.parent.mkdir(parents=True, exist_ok=True)
    record: dict[str, dict[str, float]] = {"time": timed()}
    record["clips of the mini world"] = measured(MINI, asked.repeats, asked.draws)
    clips = int(record["clips of the mini world"]["clips that power asks for, median"])
    record["as many clips as power asks for"] = measured(
        replace(MINI, clips=clips), asked.repeats, asked.draws
    )
    record["clips of the benchmark"] = measured(OFFICIAL, asked.repeats, asked.draws)
    asked.json.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def measured(world: Population, repeats: int, draws: int) -> dict[str, float]:
    """Shares, in percent of the repeats, in which something held."""
    rng = np.random.default_rng(0)
    truth, better = world.truth(), world.truth(GAIN)
    held: dict[str, list[bool]] = {}
    sizes, clips_needed = [], []
    for repeat in range(repeats):
        a, same, b = world.draw(rng, (0.0, 0.0, GAIN))
        action = [r for r in a if r.task == TASKS[-1]]
        of_all = estimate(a, draws=draws, seed=repeat)
        of_action = estimate(action, draws=draws, seed=repeat)
        gap = paired(a, b, draws=draws, seed=repeat)
        sizes.append(len(a))
        clips_needed.append(needed(spread_of(paired_rows(a, b), True), float(np.mean(better - truth))).clips)
        for name, value in {
            "mean of 8 tasks: interval": _between(of_all, np.mean(truth)),
            "mean of 8 tasks: 1.96 clustered errors": _within(of_all.value, of_all.error, np.mean(truth)),
            "mean of 8 tasks: 1.96 errors of independent samples": _within(
                of_all.value, _independent_error(a), np.mean(truth)
            ),
            "action alone: interval": _between(of_action, truth[-1]),
            "action alone: 1.96 clustered errors": _within(of_action.value, of_action.error, truth[-1]),
            "difference: interval": gap.low <= np.mean(better - truth) <= gap.high,
            "difference: seen (p < 0.05)": gap.p_value < 0.05,
            "no difference: seen (p < 0.05)": paired(a, same, draws=draws, seed=repeat).p_value < 0.05,
        }.items():
            held.setdefault(name, []).append(bool(value))
    found = {
        "repeats": repeats,
        "draws": draws,
        "samples of a run, mean": round(fmean(sizes), 1),
        "clips": world.clips,
        "true difference, points": round(float(np.mean(better - truth)), 2),
        "clips that power asks for, median": float(np.median(clips_needed)),
        **{name: round(100 * fmean(values), 1) for name, values in held.items()},
    }
    print(json.dumps(found, indent=1), flush=True)
    return found


def timed() -> dict[str, float]:
    """Seconds of this process for one estimate and one comparison of 5,000 samples, 10,000 draws."""
    rng = np.random.default_rng(1)
    a, b = (run[:5000] for run in Population(clips=789, per_task=2).draw(rng, (0.0, GAIN)))
    start = time.process_time()
    estimate(a)
    middle = time.process_time()
    paired(a, b)
    return {
        "samples": len(a),
        "estimate, s": round(middle - start, 2),
        "comparison, s": round(time.process_time() - middle, 2),
    }


def _between(found: Estimate, truth: float) -> bool:
    return found.low <= truth <= found.high


def _within(value: float, error: float, truth: float) -> bool:
    return abs(value - truth) <= Z * error


def _independent_error(records: list[SampleRecord]) -> float:
    """As if no two samples were of one clip."""
    variances = []
    for task in {r.task for r in records}:
        scores = [r.percent for r in records if r.task == task and r.percent is not None]
        variances.append(float(np.var(scores, ddof=1)) / len(scores))
    return math.sqrt(sum(variances)) / len(variances)


if __name__ == "__main__":
    main()
