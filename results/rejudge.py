"""Scores the saved route descriptions of a run again, with another judge and without the model."""

from __future__ import annotations

import json
import statistics
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from egost.results.records import SampleRecord
from egost.results.run import Run
from egost.results.run_header import RunError
from egost.tasks.cache import write_whole
from egost.tasks.judging.judge import Judge, Judgement, judge_noise
from egost.tasks.provenance import judge_metadata
from egost.tasks.scoring.scores import (
    Response,
    Score,
    count_with_reason,
    count_without_reason,
    judged_metrics,
    mean_of_scored,
    score_record,
    score_route,
)

_MEANS = ("percent", "compat", "spatiotemporal", "direction", "landmark", "semantic", "empty")
_GROUP_MEANS = ("percent", "compat", "spatiotemporal")


def rejudge(run: Run, judge: Judge) -> Path:
    """Judge the routes of a run again; write new results and samples into the run's folder, return the results file.

    Samples that had no response (a clip that did not decode, a failed generation) stay unscored; other
    tasks are copied as they are, and group means are computed anew.
    Raises RunError when the run has no route task, or its samples cannot be read.
    """
    routes = [name for name, task in run.header.tasks.items() if "route" in task.name.kinds]
    if not routes:
        raise RunError(f"{run.results_file} has no route task: there is nothing for a judge to do.")
    results = json.loads(json.dumps(run.results))
    rows = {task: run.samples(task) for task in run.results["configs"]}
    for task in routes:
        records = [record for record in run.records if record.task == task]
        responses = [_response(record) for record in records]
        scores = score_route([record.sample for record in records], responses, judge)
        rows[task] = [_with_score(row, score) for row, score in zip(rows[task], scores, strict=True)]
        _set_figures(results, task, rows[task], scores, judge)
    _set_group_means(results)
    results["judge_usage"] = asdict(judge.usage) if judge.usage else None
    results["rejudged_from"] = run.results_file.name
    now = datetime.now(UTC).strftime("%Y%m%d_%H%M%S_%f")
    stamp = f"{run.results_file.name.removesuffix('_results.json').split('-judged-')[0]}-judged-{now}"
    folder = run.results_file.parent
    for task, samples in rows.items():
        _write_rows(folder / f"{stamp}_samples_{task}.jsonl", samples)
    target = folder / f"{stamp}_results.json"
    write_whole(target, json.dumps(results, indent=2).encode())
    return target


def _response(record: SampleRecord) -> Response:
    judged_before = record.unscored is None or record.unscored.startswith("judge_failed")
    return Response(record.response, None if judged_before else record.unscored)


def _with_score(row: dict[str, Any], score: Score) -> dict[str, Any]:
    kept = {key: value for key, value in row["percent"].items() if key != "score"}
    unchanged = {key: value for key, value in row.items() if not key.startswith("judge_")}
    return {
        **unchanged,
        "percent": {**kept, **score_record(score)},
        "compat": score.compat,
        "spatiotemporal": score.percent,
        "n_scored": score.unscored,
        "n_unscored": score.unscored,
        **judged_metrics(score),
    }


def _set_figures(
    results: dict[str, Any], task: str, rows: list[dict[str, Any]], scores: list[Score], judge: Judge
) -> None:
    figures = results["results"][task]
    for name in [name for name in figures if name.startswith("judge_") or "_stderr" in name]:
        del figures[name]
    for metric in _MEANS:
        figures[f"{metric},none"] = mean_of_scored([row[metric] for row in rows])
    figures["n_scored,none"] = count_without_reason([row["n_scored"] for row in rows])
    figures["n_unscored,none"] = count_with_reason([row["n_unscored"] for row in rows])
    figures["judge_failed,none"] = count_with_reason([row["judge_failed"] for row in rows])
    figures.update(_standard_errors(rows))
    metadata = results["configs"][task]["metadata"]
    for name in [name for name in metadata if name.startswith("judge")]:
        del metadata[name]
    metadata.update(judge_metadata(judge))
    if noise := judge_noise([s.judgement for s in scores if isinstance(s.judgement, Judgement)]):
        metadata["judge_noise"] = asdict(noise)


def _standard_errors(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The errors that lmms-eval adds to `percent`: of the mean, and with the samples of one clip taken together."""
    from lmms_eval.api.metrics import clustered_stderr

    scored = [row["percent"] for row in rows if "score" in row["percent"]]
    if len(scored) < 2:
        return {
            "percent_stderr,none": "N/A",
            "percent_stderr_clt,none": "N/A",
            "percent_stderr_clustered,none": "N/A",
        }
    numbers = [record["score"] for record in scored]
    return {
        "percent_stderr,none": "N/A",
        "percent_stderr_clt,none": statistics.stdev(numbers) / len(numbers) ** 0.5,
        "percent_stderr_clustered,none": float(
            clustered_stderr(numbers, [record["clip_id"] for record in scored])
        ),
    }


def _set_group_means(results: dict[str, Any]) -> None:
    for group, tasks in results["group_subtasks"].items():
        for metric in _GROUP_MEANS:
            found = [
                row[f"{metric},none"] for t in tasks if f"{metric},none" in (row := results["results"][t])
            ]
            for place in (results["results"], results.get("groups", {})):
                if found and f"{metric},none" in place.get(group, {}):
                    place[group][f"{metric},none"] = statistics.fmean(found)


def _write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    write_whole(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode())
