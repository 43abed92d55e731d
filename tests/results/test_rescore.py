"""A saved run read again by the task version of today."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from egost.main import app
from egost.results.rejudge import error_by_clip, rejudge, rescore
from egost.results.run import Run, read_run
from egost.results.run_header import RunError
from egost.tasks.judging.choose import get_judge
from egost.tasks.provenance import TASK_VERSION

CHOICE, ROUTE = "egost_mini_direction_forward", "egost_mini_route_forward"


def older(run: Run, task: str, response: str, choice: dict[str, Any] | None) -> str:
    """Make a run one of task version 1 in which the first sample of a task has a response; that sample's id."""
    told = json.loads(run.results_file.read_text(encoding="utf-8"))
    told["versions"] = dict.fromkeys(told["versions"], "1-B")
    for config in told["configs"].values():
        config["metadata"]["version"] = "1-B"
    run.results_file.write_text(json.dumps(told), encoding="utf-8")
    file = run.samples_file(task)
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").split("\n") if line]
    rows[0]["filtered_resps"] = response
    if choice:
        rows[0]["percent"] |= {"choice": choice, "score": 0.0}
        rows[0] |= {"compat": 0.0, "spatiotemporal": 0.0, "invalid": 100.0}
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(rows[0]["percent"]["sample_id"])


def figure(run: Run, name: str, metric: str = "percent") -> float:
    return float(run.results["results"][name][f"{metric},none"])


def test_a_choice_that_version_1_could_not_read_is_read(copied_run: Run) -> None:
    record = next(r for r in copied_run.records if r.task == CHOICE)
    response = f"{record.sample.answer} \N{EN DASH} as the walk shows"
    sample = older(copied_run, CHOICE, response, {"letter": None, "how": "no_declaration"})
    before = read_run(copied_run.results_file)
    others = [r.percent for r in before.records if r.task == CHOICE and r.sample.id != sample]
    written, moved = rescore(before)
    again = read_run(written)
    assert moved == (sample,)
    assert {task.version for task in again.header.tasks.values()} == {TASK_VERSION}
    assert set(again.results["versions"].values()) == {TASK_VERSION}
    assert again.results["rescored_from"] == {"file": copied_run.results_file.name, "version": "1-B"}
    assert figure(again, CHOICE) == pytest.approx((100 + sum(others)) / (1 + len(others)))
    tasks = again.results["group_subtasks"]["egost_mini"]
    assert figure(again, "egost_mini") == pytest.approx(sum(figure(again, t) for t in tasks) / len(tasks))
    assert (
        copied_run.results_file.exists() and read_run(copied_run.results_file.parent).results_file == written
    )
    with pytest.raises(RunError, match=r"is of task version 2-A already"):
        rescore(again)


def test_a_route_that_is_read_differently_waits_for_its_judge(copied_run: Run) -> None:
    response = "[THINK]left, right[/THINK]Turn left at the sofa."
    sample = older(copied_run, ROUTE, response, None)
    written, moved = rescore(read_run(copied_run.results_file))
    again = read_run(written)
    assert moved == (sample,)
    waiting = [r for r in again.records if r.unscored]
    assert [(r.sample.id, r.unscored) for r in waiting] == [(sample, "judge_failed:reread")]
    assert figure(again, ROUTE, "n_unscored") == 1
    done = CliRunner().invoke(app, ["judge", str(written), "--judge", "offline"])
    assert "written:" in done.output
    assert not [r for r in read_run(written.parent).records if r.unscored]


def test_the_command_names_both_versions_and_what_moved(copied_run: Run, tmp_path: Path) -> None:
    sample = older(copied_run, CHOICE, "<reasoning>A or B?", {"letter": None, "how": "no_declaration"})
    done = CliRunner().invoke(app, ["rescore", str(copied_run.results_file)])
    assert done.exit_code == 0, done.output
    assert f"task version 1-B -> {TASK_VERSION}" in done.output
    assert "0 of 40 samples have another score." in done.output and sample not in done.output
    done = CliRunner().invoke(app, ["rescore", str(tmp_path / "nowhere")])
    assert done.exit_code == 2 and "there is no" in done.output


def test_runs_of_two_versions_name_the_command(copied_run: Run, demo_run: Run) -> None:
    older(copied_run, CHOICE, "B", None)
    done = CliRunner().invoke(app, ["compare", str(copied_run.results_file), str(demo_run.results_file)])
    assert done.exit_code == 2 and "egost rescore" in done.output


def test_errors_are_those_that_lmms_eval_wrote(copied_run: Run) -> None:
    """The saved run's were written by lmms-eval; the same judge gives the same scores."""
    again = json.loads(rejudge(copied_run, get_judge("offline")).read_text())["results"]
    for task in ("egost_mini_route_forward", "egost_mini_route_reverse"):
        for error in ("percent_stderr_clt,none", "percent_stderr_clustered,none"):
            assert again[task][error] == pytest.approx(copied_run.results["results"][task][error], rel=1e-12)


def test_the_error_of_samples_that_share_clips_by_hand() -> None:
    # Mean 75; apart 25, -75 and 25, 25: variance 7500 / 3 / 4 = 625; within clips (-3750 + 1250) / 16 = -156.25.
    assert error_by_clip([100, 0, 100, 100], ["a", "a", "b", "b"]) == pytest.approx(math.sqrt(625 - 156.25))
    assert error_by_clip([100, 0, 100, 100], list("abcd")) == pytest.approx(25)
