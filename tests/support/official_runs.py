"""A run on the mini world, renamed as if it were one of the benchmark, which no test machine has."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from egost.results.run import Run

Rows = list[dict[str, Any]]

JUDGE = "gpt-4o-2024-08-06+route-judge-1"


def as_official(
    run: Run,
    folder: Path,
    *,
    model: str = "somebody/Seer-7B",
    rows: Callable[[str, Rows], Rows] = lambda task, rows: rows,
    results: Callable[[dict[str, Any]], None] = lambda results: None,
    judge: str = JUDGE,
    **metadata: Any,
) -> Path:
    """Write the run's files into a folder, under the benchmark's names, and return its results file.

    rows: changes the samples of a task (`route_forward`), results: the results JSON; metadata: of all tasks.
    """
    told = json.loads(json.dumps(run.results).replace("egost_mini", "egost"))
    told["config"] |= {"model": "qwen2_vl", "model_args": f"pretrained={model}", "gen_kwargs": ""}
    folder.mkdir(parents=True)
    for path in run.samples_files:
        task = path.name.split("_samples_egost_mini_")[1].removesuffix(".jsonl")
        config = told["configs"][f"egost_{task}"]["metadata"]
        config |= {"world": "official", "release_revision": "r1", "release_sha256": "1" * 64, **metadata}
        if task.startswith("route"):
            config["judge"] = judge
        read = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        for row in read:
            row["percent"]["generation"] = None
        kept = rows(task, read)
        scores = [row["percent"]["score"] for row in kept if "score" in row["percent"]]
        told["results"][f"egost_{task}"] |= {
            "percent,none": sum(scores) / len(scores) if scores else float("nan"),
            "n_scored,none": len(scores),
            "n_unscored,none": len(kept) - len(scores),
        }
        told["n-samples"][f"egost_{task}"]["effective"] = len(kept)
        lines = "".join(json.dumps(row) + "\n" for row in kept)
        (folder / f"x_samples_egost_{task}.jsonl").write_text(lines, encoding="utf-8")
    results(told)
    file = folder / "x_results.json"
    file.write_text(json.dumps(told), encoding="utf-8")
    return file


def scored(value: Callable[[int], float]) -> Callable[[str, Rows], Rows]:
    """Give each sample the score of its place."""

    def change(task: str, rows: Rows) -> Rows:
        return [{**row, "percent": {**row["percent"], "score": value(k)}} for k, row in enumerate(rows)]

    return change


def unscored(task: str, reason: str, count: int) -> Callable[[str, Rows], Rows]:
    """Take the score from the first samples of a task."""

    def change(changed: str, rows: Rows) -> Rows:
        if changed != task:
            return rows
        for row in rows[:count]:
            row["percent"]["unscored"] = reason
            row["percent"].pop("score", None)
            row["percent"]["judgement"] = None
        return rows

    return change
