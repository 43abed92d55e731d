"""Scores the saved responses of a run again, without the model: routes by a judge, choices by today's reader."""

from __future__ import annotations

import copy
import json
import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from egost.results.records import SampleRecord
from egost.results.run import Run, evaluated_name
from egost.results.run_header import RunError, TaskHeader
from egost.tasks.cache import write_whole
from egost.tasks.clips.clips import Clip, build_clips
from egost.tasks.clips.protocols import parse_protocol
from egost.tasks.errors import ClipError
from egost.tasks.json_text import without_nan
from egost.tasks.judging.judge import Judge, JudgeFailure, Judgement, judge_noise
from egost.tasks.provenance import TASK_VERSION, judge_metadata
from egost.tasks.release.release import open_release
from egost.tasks.release.trained_on import note_model, trained_among
from egost.tasks.response_text import newer_marks
from egost.tasks.sample import Sample
from egost.tasks.scoring.scores import (
    Response,
    Score,
    as_metrics,
    count_with_reason,
    judged_metrics,
    mean_of_scored,
    score_choice,
    score_record,
    score_route,
    share,
)
from egost.tasks.task_names import parse_task_name
from egost.tasks.text_files import write_json_lines

_MEANS = (
    *("percent", "compat", "spatiotemporal", "direction", "landmark", "semantic", "empty", "invalid"),
    *("chance", "truncated", "score"),
)
_GROUP_MEANS = ("percent", "compat", "spatiotemporal")


def rejudge(run: Run, judge: Judge) -> Path:
    """Judge the routes of a run again; write new results and samples into the run's folder, return the results file.

    Samples that had no response (a clip that did not decode, a failed generation) stay unscored; other
    tasks are copied as they are, and group means are computed anew. Of a run with `--predict_only`, all tasks are
    scored, with the questions of the release on this machine.
    Raises RunError when the run has no route task, or its samples cannot be read.
    """
    if run.predict_only:
        return _score_responses(run, judge)
    routes = [name for name, task in run.header.tasks.items() if "route" in task.name.kinds]
    if not routes:
        raise RunError(f"{run.results_file} has no route task: there is nothing for a judge to do.")
    by_task, results, rows = _content(run)
    for task in routes:
        records = by_task[task]
        responses = [_response(record) for record in records]
        scores = score_route([record.sample for record in records], responses, judge)
        rows[task] = [_with_score(row, score) for row, score in zip(rows[task], scores, strict=True)]
        _set_figures(results, task, rows[task], scores, judge)
    results["judge_usage"] = asdict(judge.usage) if judge.usage else None
    results["rejudged_from"] = run.results_file.name
    return _write(run, results, rows, "judged")


def _score_responses(run: Run, judge: Judge) -> Path:
    results = copy.deepcopy(run.results)
    rows = {task: run.samples(task) for task in results["configs"]}
    for task, header in run.header.tasks.items():
        samples, clips = _asked(run, header, rows[task])
        responses = [
            Response.read(text if isinstance(text := row["filtered_resps"], str) else text[0], clip)
            for row, clip in zip(rows[task], clips, strict=True)
        ]
        is_route = "route" in header.name.kinds
        scores = (
            score_route(samples, responses, judge)
            if is_route
            else [score_choice(*pair) for pair in zip(samples, responses, strict=True)]
        )
        metrics = [
            as_metrics(sample, score, clip, None)
            for sample, score, clip in zip(samples, scores, clips, strict=True)
        ]
        rows[task] = [
            {**{key: value for key, value in row.items() if key != "bypass"}, **metric}
            for row, metric in zip(rows[task], metrics, strict=True)
        ]
        figures, config = results["results"][task], results["configs"][task]
        results["results"][task] = {n: v for n, v in figures.items() if not n.startswith("bypass")}
        config["metric_list"] = [{"metric": name} for name in metrics[0]]
        if is_route:
            _set_figures(results, task, rows[task], scores, judge)
        else:
            _set_means(results["results"][task], rows[task])
    for group, tasks in results["group_subtasks"].items():
        # Avg.(ST) is of the groups with all four of its tasks.
        means = _GROUP_MEANS if len(tasks) in (4, 8) else ("percent", "compat")
        for place in (results["results"], results.get("groups", {})):
            if tasks and group in place:
                place[group].update(dict.fromkeys((f"{metric},none" for metric in means), None))
    results["rejudged_from"] = run.results_file.name
    results["judge_usage"] = asdict(judge.usage) if judge.usage else None
    return _write(run, results, rows, "judged")


def _asked(
    run: Run, header: TaskHeader, rows: list[dict[str, Any]]
) -> tuple[list[Sample], list[Clip | ClipError]]:
    """The samples that the rows of a run without scores are of, by their places in the release, and their clips."""
    [(kind, way)] = header.name.tasks
    release = open_release(header.name.world)
    samples = release.samples(kind, way)
    if header.trained_on and header.trained_on.leaves_out:
        note_model(run.header.arguments)
        trained = trained_among(release, samples, header.trained_on.policy)
        samples = [sample for sample in samples if sample.id not in trained]
    try:
        found = [samples[row["doc_id"]] for row in rows]
        same = bool(rows) and [row["target"] for row in rows] == [sample.answer for sample in found]
    except (KeyError, TypeError, IndexError) as error:
        raise RunError(
            f"{run.samples_file(header.name.name)} cannot be read ({error!r}). Evaluate again."
        ) from error
    if not same or (release.index.files_sha256, len(samples)) != (header.release_sha256, header.available):
        raise RunError(
            f"{run.results_file} asked other questions than the release on this machine holds ({release.revision}; the "
            f"run's is {header.release_revision}). Get that release, then judge again."
        )
    clips = build_clips(
        [release.clip_path(sample) for sample in found], parse_protocol(str(header.sampling_protocol))
    )
    return found, list(clips)


def rescore(run: Run) -> tuple[Path, tuple[str, ...]]:
    """Read a run's responses again by the task version of today; write new results and samples into its folder.

    A route keeps its judgement where its description is read as before; else it is unscored (`judge_failed:reread`)
    until `egost judge` scores it. Returns the results file and the ids of the samples whose score moved.
    Raises RunError where the run is of today's version already, or its samples cannot be read.
    """
    before = {task.version for task in run.header.tasks.values()}
    if not before:
        raise RunError(f"{run.results_file} has no task of Ego-ST Bench: there is nothing to read again.")
    if before == {TASK_VERSION}:
        raise RunError(f"{run.results_file} is of task version {TASK_VERSION} already: nothing would change.")
    by_task, results, rows = _content(run)
    moved: list[str] = []
    for task, header in run.header.tasks.items():
        records = by_task[task]
        if "route" in header.name.kinds:
            scores = [_reread_route(record) for record in records]
            rows[task] = [
                row if score is None else _with_score(row, score)
                for row, score in zip(rows[task], scores, strict=True)
            ]
            moved += [r.sample.id for r, score in zip(records, scores, strict=True) if score is not None]
        else:
            chosen = [score_choice(r.sample, Response(r.response, r.unscored)) for r in records]
            rows[task] = [_with_choice(row, score) for row, score in zip(rows[task], chosen, strict=True)]
            moved += [r.sample.id for r, s in zip(records, chosen, strict=True) if r.percent != s.percent]
        _set_means(results["results"][task], rows[task])
        results["configs"][task]["metadata"]["version"] = TASK_VERSION
    results["versions"] = {
        name: TASK_VERSION if parse_task_name(name) else version
        for name, version in results.get("versions", {}).items()
    }
    results["rescored_from"] = {"file": run.results_file.name, "version": ", ".join(sorted(map(str, before)))}
    return _write(run, results, rows, "rescored"), tuple(moved)


def _content(
    run: Run,
) -> tuple[dict[str, list[SampleRecord]], dict[str, Any], dict[str, list[dict[str, Any]]]]:
    """The samples of each task of ours, typed; a copy of the results; and the rows of every task as they are."""
    records = {task: [r for r in run.records if r.task == task] for task in run.header.tasks}
    if empty := [task for task, found in records.items() if not found]:
        raise RunError(
            f"{run.results_file} has no sample of {', '.join(empty)}: there is nothing to score again."
        )
    return records, copy.deepcopy(run.results), {task: run.samples(task) for task in run.results["configs"]}


def _write(run: Run, results: dict[str, Any], rows: dict[str, list[dict[str, Any]]], how: str) -> Path:
    _set_group_means(results)
    now = datetime.now(UTC).strftime("%Y%m%d_%H%M%S_%f")
    first = evaluated_name(run.results_file)
    folder = run.results_file.parent
    for task, samples in rows.items():
        write_json_lines(folder / f"{first}-{how}-{now}_samples_{task}.jsonl", samples)
    target = folder / f"{first}-{how}-{now}_results.json"
    write_whole(target, json.dumps(without_nan(results), indent=2).encode())
    return target


def _reread_route(record: SampleRecord) -> Score | None:
    """None where task version 1 read the same description, else the score of a route that waits for a judge."""
    if record.unscored or not newer_marks(record.response):
        return None
    failure = JudgeFailure(record.sample.id, "reread", "", "none")
    return Score(None, 0.0, "judge_failed:reread", judgement=failure)


def _with_choice(row: dict[str, Any], score: Score) -> dict[str, Any]:
    kept = {key: value for key, value in row["percent"].items() if key != "score"}
    again = {
        **row,
        "percent": {
            **kept,
            "choice": asdict(score.choice) if score.choice else None,
            "compat_letter": score.compat_letter,
            **score_record(score),
        },
        "compat": score.compat,
        "score": share(score),
        "invalid": None if score.choice is None else 100.0 * (score.choice.letter is None),
    }
    return {**again, "spatiotemporal": score.percent} if "spatiotemporal" in row else again


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
        "score": share(score),
        "spatiotemporal": score.percent,
        "n_scored": int(score.unscored is None),
        "n_unscored": score.unscored,
        **judged_metrics(score),
    }


def _set_figures(
    results: dict[str, Any], task: str, rows: list[dict[str, Any]], scores: list[Score], judge: Judge
) -> None:
    figures = results["results"][task]
    for name in [name for name in figures if name.startswith("judge_") or "_stderr" in name]:
        del figures[name]
    _set_means(figures, rows)
    metadata = results["configs"][task]["metadata"]
    for name in [name for name in metadata if name.startswith("judge")]:
        del metadata[name]
    metadata.update(judge_metadata(judge))
    if noise := judge_noise([s.judgement for s in scores if isinstance(s.judgement, Judgement)]):
        metadata["judge_noise"] = asdict(noise)


def _set_means(figures: dict[str, Any], rows: list[dict[str, Any]]) -> None:
    """The figures of a task that are means or counts over its samples."""
    for metric in [name for name in _MEANS if all(name in row for row in rows)]:
        figures[f"{metric},none"] = mean_of_scored([row[metric] for row in rows])
    figures["n_unscored,none"] = count_with_reason([row["n_unscored"] for row in rows])
    figures["n_scored,none"] = len(rows) - figures["n_unscored,none"]
    if "judge_failed" in rows[0]:
        figures["judge_failed,none"] = count_with_reason([row["judge_failed"] for row in rows])
    figures.update(_standard_errors(rows))


def _standard_errors(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The errors that lmms-eval adds to `percent`: of the mean, and with the samples of one clip taken together."""
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
        "percent_stderr_clustered,none": error_by_clip(numbers, [record["clip_id"] for record in scored]),
    }


def error_by_clip(numbers: Sequence[float], clips: Sequence[str]) -> float:
    """The standard error of a mean whose numbers belong to clips (arXiv 2411.00640, equation 4), as lmms-eval's."""
    n = len(numbers)
    mean = sum(numbers) / n
    apart: dict[str, list[float]] = {}
    for number, clip in zip(numbers, clips, strict=True):
        apart.setdefault(clip, []).append(number - mean)
    alone = sum((number - mean) ** 2 for number in numbers) / (n - 1) / n
    together = sum(sum(found) * sum(found) - sum(d * d for d in found) for found in apart.values())
    return math.sqrt(alone + together / (n * n))


def _set_group_means(results: dict[str, Any]) -> None:
    for group, tasks in results["group_subtasks"].items():
        for metric in _GROUP_MEANS:
            found = [
                row[f"{metric},none"] for t in tasks if f"{metric},none" in (row := results["results"][t])
            ]
            for place in (results["results"], results.get("groups", {})):
                if found and f"{metric},none" in place.get(group, {}):
                    place[group][f"{metric},none"] = statistics.fmean(found)
