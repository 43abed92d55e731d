"""A bug planted in one stage of the real lmms-eval command is caught by the gate, which names that stage."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from lmms_eval_command import environment
from places import ROOT
from typer.testing import CliRunner

from egost.main import app
from egost.tasks import prompts

if TYPE_CHECKING:
    from demo_runs import DemoHome

SCRIPT = ROOT / "tests" / "support" / "planted_bugs.py"


def gate(run: Path, baseline: Path, *arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["regress", str(run), "--baseline", str(baseline), *arguments])
    return done.exit_code, done.output


@pytest.fixture(scope="module")
def runs(demo_home: DemoHome, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run for each planted bug, and `golden.jsonl`, made of the run without one."""
    folder = tmp_path_factory.mktemp("planted")
    (folder / "jobs.json").write_text(json.dumps(list(_jobs(demo_home, folder).values())))
    done = subprocess.run(
        [sys.executable, str(SCRIPT), str(folder / "jobs.json")],
        cwd=folder,
        env=environment(demo_home.cache, EGOST_ONLY="1", OMP_NUM_THREADS="1"),
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    code, said = gate(demo_home.output, folder / "golden.jsonl", "--update")
    assert code == 0, said
    return folder


def _jobs(home: DemoHome, folder: Path) -> dict[str, dict[str, Any]]:
    """The runs: bugs in the code, and what a setting or a file can do wrong."""
    right = Path(prompts.__file__).with_name("direct.yaml").read_text()
    (folder / "prompt.yaml").write_text(right.replace("one correct option", "one right option"))
    other_release = shutil.copytree(home.cache / "mini", folder / "mini")
    _swap_an_answer(other_release / "Part3_forward_mcq.json")
    own_clips = {"EGOST_CACHE": str(folder / "cache"), "EGOST_MINI_DATA": str(home.cache / "mini")}
    return {
        name: {"bug": bug, "settings": settings, "arguments": _arguments(checkpoint, folder / name)}
        for name, bug, settings, checkpoint in [
            ("again", "none", {}, home.checkpoint),
            ("data", "none", {"EGOST_MINI_DATA": str(other_release)}, home.checkpoint),
            ("frames", "frames", own_clips, home.checkpoint),
            ("prompt", "none", {"EGOST_PROMPT": str(folder / "prompt.yaml")}, home.checkpoint),
            ("model", "none", {}, home.folder / "untaught"),
            ("scoring", "parser", {}, home.checkpoint),
            ("aggregation", "aggregation", {}, home.checkpoint),
        ]
    }


def _arguments(checkpoint: Path, output: Path) -> list[str]:
    model = [
        "--model",
        "egost_journal",
        "--model_args",
        f"adapter=qwen2_vl,pretrained={checkpoint},device_map=cpu",
    ]
    short = ["--device", "cpu", "--gen_kwargs", "max_new_tokens=8"]
    return ["--tasks", "egost_mini", *model, *short, "--output_path", str(output), "--log_samples"]


def _swap_an_answer(questions: Path) -> None:
    content = json.loads(questions.read_text())
    first = next(iter(content.values()))["forward_mcq"]
    [name] = [name for name in first if name not in ("question", "options")]
    first[name] = "A" if first[name] != "A" else "B"
    questions.write_text(json.dumps(content))


def test_the_same_run_again_has_not_moved(runs: Path) -> None:
    code, said = gate(runs / "again", runs / "golden.jsonl")
    assert (code, said.splitlines()[-1].split(" (")[0]) == (0, "ok: nothing moved"), said


@pytest.mark.parametrize("stage", ["data", "frames", "prompt", "model", "scoring", "aggregation"])
def test_what_moved_is_caught_and_named(runs: Path, stage: str) -> None:
    code, said = gate(runs / stage, runs / "golden.jsonl")
    assert code == 1, said
    assert said.splitlines()[-1].startswith(f"REGRESSION: {stage} moved ("), said


def test_frames_are_told_by_their_hashes_and_indices(runs: Path) -> None:
    said = gate(runs / "frames", runs / "golden.jsonl", "--all")[1]
    [moved] = re.findall(r"(\d+) samples, of 6 clips", said)
    assert said.count("indices: '0 ") == int(moved) > 0
    assert len(re.findall(r"  frames [0-9a-f]{12} -> [0-9a-f]{12}", said)) == int(moved)
