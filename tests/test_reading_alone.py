"""What a person has who lacks something: the packages that only asking needs, decord, or Linux."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from egost_command import egost_run
from lmms_eval_command import environment
from places import ROOT

from egost.model_adapters.engine import AdapterError
from egost.model_adapters.model_names import model_named
from egost.model_adapters.run_plan import RunOptions, plan_run
from egost.tasks.mini_world import write_mini_release

SAVED = ROOT / "tests" / "saved" / "mini_run"

WITHOUT = """
import sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name in {missing}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Missing())
from typer.testing import CliRunner
from egost.main import app
for command in {commands}:
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, (command, done.output, done.exception)
done = CliRunner().invoke(app, ["run", "mini-base"])
assert done.exit_code == 2 and "needs decord, which is not installed here" in done.stderr, done.output
"""


def modules_outside(requirements: Path) -> set[str]:
    """Top-level modules of the installed distributions that the file does not name, but for our own."""
    named = re.findall(r"^([\w.-]+)==", requirements.read_text(encoding="utf-8"), re.MULTILINE)
    inside = {re.sub(r"[-_.]+", "-", name).lower() for name in [*named, "egost"]}
    return {
        module
        for module, owners in packages_distributions().items()
        if not inside & {re.sub(r"[-_.]+", "-", owner).lower() for owner in owners}
    }


def test_commands_that_read_need_the_packages_of_their_own_list_alone(tmp_path: Path) -> None:
    missing = modules_outside(ROOT / "requirements-read.txt")
    assert {"torch", "transformers", "lmms_eval", "trl", "datasets"} <= missing
    run = shutil.copytree(SAVED, tmp_path / "run")
    [file] = run.glob("*_results.json")
    commands = [
        ["data", "mini", "--clips", "4"],
        ["data", "verify", "--mini"],
        ["models"],
        ["summary", run],
        ["show", file],
        ["compare", file, file],
        ["power", run],
        ["leaderboard", run, "--world", "mini"],
        ["leaderboard", run, "--world", "mini", "--format", "html", "-o", tmp_path / "board.html"],
        ["report", run, "-o", tmp_path / "page.html"],
        ["diagnose", run, "--text-only"],
        ["regress", run, "--baseline", tmp_path / "baseline.jsonl", "--update"],
        ["regress", run, "--baseline", tmp_path / "baseline.jsonl"],
        ["judge", run, "--judge", "offline"],
    ]
    code = WITHOUT.format(missing=missing, commands=[[str(word) for word in command] for command in commands])
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment(tmp_path),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr


def test_every_command_says_on_windows_where_it_runs() -> None:
    code = "import sys; sys.platform = 'win32'; import egost.main"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and "WSL" in done.stderr and "Traceback" not in done.stderr


@pytest.fixture
def no_decord(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "decord", None)


@pytest.mark.parametrize(
    ("engine", "adapter"), [(None, "egost_transformers"), ("transformers", "egost_transformers")]
)
def test_the_mini_world_needs_no_decord(no_decord: None, engine: str | None, adapter: str) -> None:
    assert plan_run(model_named("mini-base"), RunOptions("egost_mini", engine), {}).adapter == adapter


def test_lmms_evals_own_adapter_without_decord_is_refused_with_what_to_do(no_decord: None) -> None:
    with pytest.raises(AdapterError, match=r"decord.*--engine transformers"):
        plan_run(model_named("mini-base"), RunOptions("egost_mini", "hf"), {})


def test_a_run_without_decord(tmp_path: Path) -> None:
    """What `make demo` runs, on a machine that cannot import decord."""
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['decord'] = None\n", encoding="utf-8")
    write_mini_release(tmp_path / "cache" / "mini", clips=2, seed=3, progress=False)
    done = egost_run(
        "mini-base",
        *("--tasks", "egost_mini_action_reverse", "--limit", "2", "--output", str(tmp_path / "run")),
        cwd=tmp_path,
        cache=tmp_path / "cache",
        PYTHONPATH=f"{tmp_path}{os.pathsep}{ROOT}",
    )
    assert done.returncode == 0, done.stderr
    assert "egost_mini_action_reverse" in done.stdout
