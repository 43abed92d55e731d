"""How often the interval of a corrected route score holds the truth, on simulated judges and labels.

    python tests/benchmarks/labels.py [--repeats 2000] [--json FILE]

Each repeat draws a run of 800 routes of 400 clips from a world that is known (tests/support/simulated_labels.py), with
labels drawn with unequal probabilities. It fails where an interval holds the truth in less than 93 % or more than 97 %
of the repeats, or where the judge made the estimate worse than the labels alone by more than noise.
The record of the last run lies in tests/benchmarks/records/labels.json.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))
from simulated_labels import JUDGES, LabelledWorld

from egost.results.labels.corrected import Corrected, estimate

RECORD = Path(__file__).parent / "records" / "labels.json"
WORLDS = {
    "8 labels of each stratum": LabelledWorld("good"),
    "of these, three quarters done": LabelledWorld("good", finished=0.75),
    "4 labels of each stratum": LabelledWorld("good", labels=4),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=2000)
    parser.add_argument("--json", type=Path, default=RECORD)
    asked = parser.parse_args()
    record: dict[str, dict[str, float]] = {}
    for judge in JUDGES:
        for name, world in WORLDS.items():
            record[f"{judge} judge, {name}"] = measured(
                LabelledWorld(judge, labels=world.labels, finished=world.finished), asked.repeats
            )
    asked.json.parent.mkdir(parents=True, exist_ok=True)
    asked.json.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    wrong = [
        name
        for name, row in record.items()
        if not 93 <= row["interval holds the truth, %"] <= 97
        or row["error, points"] > 1.05 * row["error of the labels alone, points"]
    ]
    sys.exit(f"not as promised: {wrong}" if wrong else 0)


def measured(world: LabelledWorld, repeats: int) -> dict[str, float]:
    """Means over the repeats. Errors: standard deviations of the estimates. Half intervals in points."""
    rng, truth = np.random.default_rng(0), world.truth()
    found = [estimate(world.draw(rng)) for _ in range(repeats)]

    def of(field: str) -> np.ndarray:
        return np.array([getattr(one, field) for one in found])

    def held(one: Corrected) -> tuple[bool, bool]:
        return one.low <= truth <= one.high, one.people_low <= truth <= one.people_high

    by_both, by_labels = 100 * np.mean([held(one) for one in found], axis=0)
    return {
        "repeats": repeats,
        "labels, mean": round(float(of("labelled").mean()), 1),
        "judge alone is off by, points": round(float(of("judge").mean()) - truth, 1),
        "interval holds the truth, %": round(float(by_both), 1),
        "interval of the labels alone, %": round(float(by_labels), 1),
        "error, points": round(float(of("value").std()), 2),
        "error of the labels alone, points": round(float(of("people").std()), 2),
        "half interval, mean": round(float((of("high") - of("low")).mean()) / 2, 2),
        "half interval of the labels alone, mean": round(
            float((of("people_high") - of("people_low")).mean()) / 2, 2
        ),
        "weight of the judge, mean": round(float(of("weight").mean()), 2),
    }


if __name__ == "__main__":
    main()
