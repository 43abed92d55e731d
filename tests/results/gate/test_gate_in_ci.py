"""The gate for programs: its JSON and JUnit, and the workflow that runs it, step by step as it is written."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import yaml
from changed_runs import changed
from demo_runs import DemoHome
from lmms_eval_command import environment
from places import ROOT
from typer.testing import CliRunner

from egost.main import app
from egost.results.run import Run, read_run

TASK = "egost_mini_direction_forward"
WORKFLOW = yaml.safe_load((ROOT / ".github" / "workflows" / "model-gate.yml").read_text(encoding="utf-8"))


@pytest.fixture
def golden(copied_run: Run, tmp_path: Path) -> Path:
    assert gate(copied_run, tmp_path / "golden.jsonl", "--update")[0] == 0
    return tmp_path / "golden.jsonl"


def gate(run: Run, baseline: Path, *arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(
        app, ["regress", str(run.results_file), "--baseline", str(baseline), *arguments]
    )
    return done.exit_code, done.output


def cases(said: str) -> dict[tuple[str | None, str | None], str | None]:
    """The text of each failed case of a JUnit file, by class and name."""
    return {
        (case.get("classname"), case.get("name")): failure.text
        for case in ElementTree.fromstring(said).iter("testcase")
        for failure in case.iter("failure")
    }


def asked_otherwise(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    rows[0]["percent"]["question"] += " Look <again> & \x1b."
    return rows


def said_otherwise(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{**row, "filtered_resps": f"{row['filtered_resps']}."} for row in rows]


def test_an_unmoved_run(copied_run: Run, golden: Path) -> None:
    code, said = gate(copied_run, golden, "--format", "json")
    found = json.loads(said)
    assert code == 0 and found["failed"] is False and found["moved"] == [] and found["compared"] == 40
    code, said = gate(copied_run, golden, "--format", "junit", "--tolerance", "5")
    suite = ElementTree.fromstring(said)
    # Six stages, the eight tasks, and their average.
    assert code == 0 and (suite.get("tests"), suite.get("failures")) == ("15", "0") and not cases(said)
    code, said = gate(copied_run, golden, "--tolerance", "5")
    assert code == 0 and len(said.splitlines()) == 3, "one line for all tasks whose scores did not move"
    assert all(task in said for task in copied_run.header.tasks)


def test_a_moved_run(copied_run: Run, golden: Path) -> None:
    moved = changed(copied_run, TASK, asked_otherwise)
    code, said = gate(moved, golden, "--format", "json")
    found = json.loads(said)
    [sample] = found["samples"]
    assert code == 1 and found["failed"] is True and found["moved"] == ["data"]
    assert (sample["task"], sample["stage"]) == (TASK, "data")
    assert sample["changes"][0]["now"].endswith("Look <again> & \x1b.")
    code, said = gate(moved, golden, "--format", "junit")
    [(case, text)] = cases(said).items()
    assert code == 1 and case == ("egost.stage", "data") and text is not None
    assert sample["sample"] in text and "<again> & " in text and "\x1b" not in text


def test_what_a_tolerance_allows_is_no_failed_case(copied_run: Run, golden: Path) -> None:
    moved = changed(copied_run, TASK, said_otherwise)
    code, said = gate(moved, golden, "--format", "junit")
    assert code == 1 and list(cases(said)) == [("egost.stage", "model")]
    code, said = gate(moved, golden, "--format", "junit", "--tolerance", "100")
    assert code == 0 and not cases(said)


def test_a_baseline_is_written_without_a_format(copied_run: Run, golden: Path) -> None:
    before = golden.read_bytes()
    code, said = gate(copied_run, golden, "--update", "--format", "json")
    assert code == 2 and "leave --format out" in said and golden.read_bytes() == before


class Job:
    """The workflow's job on this machine: its steps that run a command, with inputs as a caller gives them."""

    def __init__(self, folder: Path, cache: Path, inputs: dict[str, str]) -> None:
        job = WORKFLOW["jobs"]["gate"]
        self.folder = folder
        self.steps = {step["name"]: step["run"] for step in job["steps"] if "run" in step}
        given = {
            name: about.get("default", "")
            for name, about in WORKFLOW[True]["workflow_call"]["inputs"].items()
        }
        given |= inputs
        settings = {
            name: given[found[1]]
            for name, value in job["env"].items()
            if (found := re.fullmatch(r"\$\{\{ inputs\.(\w+) \}\}", value))
        }
        self.environment = environment(cache, **settings, GITHUB_STEP_SUMMARY=str(folder / "summary.md"))
        self.environment |= {
            "EGOST_CACHE": str(cache),
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        }

    def run(self, name: str) -> subprocess.CompletedProcess[str]:
        # As a runner does: bash -e {0}.
        return subprocess.run(
            ["bash", "-e", "-c", self.steps[name]],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=600,
        )


def test_the_workflow_as_it_is_written(demo_home: DemoHome, tmp_path: Path) -> None:
    inputs = {
        "model": str(demo_home.checkpoint),
        "engine": "hf",
        "tasks": "egost_mini_action_reverse",
        "baseline": "baseline.jsonl",
        "arguments": "--gen_kwargs max_new_tokens=8",
    }
    job = Job(tmp_path, demo_home.cache, inputs)
    assert list(job.steps) == [
        "Install",
        "Get the questions and the clips",
        "Evaluate",
        "Hold it against the baseline",
        "Show what moved",
    ]
    done = job.run("Evaluate")
    assert done.returncode == 0, done.stdout + done.stderr
    done = job.run("Hold it against the baseline")
    assert done.returncode == 2 and "--update" in done.stderr, "there is no baseline yet"
    made = CliRunner().invoke(
        app,
        ["regress", str(tmp_path / "runs/gate"), "--baseline", str(tmp_path / "baseline.jsonl"), "--update"],
    )
    assert made.exit_code == 0
    done = job.run("Hold it against the baseline")
    assert done.returncode == 0 and "ok: nothing moved" in done.stdout, done.stdout + done.stderr
    changed(read_run(tmp_path / "runs" / "gate"), inputs["tasks"], asked_otherwise)
    done = job.run("Hold it against the baseline")
    assert done.returncode == 1 and "REGRESSION: data" in done.stdout
    assert job.run("Show what moved").returncode == 0
    assert "REGRESSION: data" in (tmp_path / "summary.md").read_text(encoding="utf-8")
    assert list(cases((tmp_path / "moved.xml").read_text(encoding="utf-8"))) == [("egost.stage", "data")]


@pytest.mark.parametrize(
    ("tasks", "command"), [("egost_mini_route", "data mini"), ("egost_mcq", "data download")]
)
def test_the_workflow_gets_what_the_tasks_need(tmp_path: Path, tasks: str, command: str) -> None:
    job = Job(tmp_path, tmp_path, {"model": "tiny", "tasks": tasks, "baseline": "b"})
    asked = tmp_path / "bin" / "egost"
    asked.parent.mkdir()
    asked.write_text('#!/bin/sh\necho "$@"\n')
    asked.chmod(0o755)
    job.environment["PATH"] = f"{asked.parent}{os.pathsep}{job.environment['PATH']}"
    assert job.run("Get the questions and the clips").stdout.split("\n")[0] == command
