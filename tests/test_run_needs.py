"""What `egost run` says before anything is imported: all that is missing, with commands, sizes and the price."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from egost_command import egost_run
from lmms_eval_command import environment
from places import ROOT
from typer.testing import CliRunner

from egost.main import app

TASK = "egost_mini_direction_forward"
WITHOUT_HEAVY = """
import sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "transformers", "lmms_eval", "vllm", "trl"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Missing())
from egost.main import app
app()
"""


@pytest.fixture
def bare(own_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder on a machine without a model, data, keys or a judge."""
    for name in ("EGOST_DATA", "EGOST_JUDGE", "OPENAI_API_KEY", "GEMINI_API_KEY", "GOOGLE_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def told(*words: str) -> tuple[int, str, list[str]]:
    """Exit code, the commands, and the lines about what is there and what is missing."""
    done = CliRunner().invoke(app, ["run", *words])
    return done.exit_code, done.stdout, [line.removeprefix("egost: ") for line in done.stderr.splitlines()]


def starting(lines: list[str], what: str) -> str:
    [line] = [line for line in lines if line.startswith(what)]
    return line


def test_a_dry_run_lists_all_at_once_and_imports_nothing_heavy(own_cache: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_HEAVY, "run", "qwen2.5-vl-7b", "--dry-run"],
        cwd=tmp_path,
        env=environment(own_cache, HF_HOME=str(tmp_path / "hub"), PYTHONPATH=str(ROOT)),
        capture_output=True,
        text=True,
        check=True,
    )
    lines = done.stderr.splitlines()
    missing = [line for line in lines if line.startswith("egost: MISSING ")]
    assert [line.split()[2].rstrip(":") for line in missing] == ["engine", "weights", "data", "judge"]
    for said in (
        "or without vLLM: --engine hf",
        "is not in the hub's cache (15.4 GiB). Get it: hf download Qwen/Qwen2.5-VL-7B-Instruct --revision cc59489",
        "Get it: egost data download",
        "Set EGOST_JUDGE=gpt-4o and OPENAI_API_KEY",
    ):
        assert any(said in line for line in missing), said
    assert any(re.match(r"egost: disk: \d+ GiB free for egost's cache", line) for line in lines)
    assert any("the model takes about 21 GiB" in line for line in lines)
    assert done.stdout.count("\n") == 1 and "lmms-eval --tasks egost --model egost_vllm" in done.stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        # 840 tokens in at 2.50 and 150 out at 10.00 USD a million are 0.0036 USD; 2 routes for each of 789 clips.
        ((), "1578 judgements by gpt-4o, about 5.68 USD"),
        (("--limit", "10"), "20 judgements by gpt-4o, about 0.07 USD"),
        (("--tasks", "egost_route_reverse"), "789 judgements by gpt-4o, about 2.84 USD"),
        (("--judge", "offline"), "offline-rubric-3, by rules, free of charge"),
    ],
)
def test_the_judges_price_is_estimated(bare: Path, words: tuple[str, ...], said: str) -> None:
    _, _, lines = told("qwen2.5-vl-7b", "--engine", "hf", "--dry-run", *words)
    assert said in next(line for line in lines if "judge: " in line)


def test_a_judge_with_a_key_is_there_and_what_is_not_judged_needs_none(
    bare: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-" + "x7Q" * 12)
    _, _, lines = told("qwen2.5-vl-7b", "--engine", "hf", "--judge", "gpt-4o", "--dry-run")
    assert "1578 judgements by gpt-4o-2024-08-06, about 5.68 USD" in starting(
        lines, "judge: gpt-4o-2024-08-06"
    )
    for words in (("--tasks", "egost_mcq"), ("--", "--predict_only")):
        _, _, lines = told("qwen2.5-vl-7b", "--engine", "hf", "--dry-run", *words)
        assert not [line for line in lines if "judge: " in line]


def test_a_run_with_something_missing_ends_at_once_and_names_all_of_it(bare: Path) -> None:
    code, _, lines = told("qwen2.5-vl-7b", "--engine", "hf", "--yes")
    assert code == 2 and lines[-1].startswith("1 things are missing that egost cannot get by itself")
    code, _, lines = told("st-r1", "--engine", "hf")
    assert code == 2 and lines[-1] == "2 things are missing: see MISSING above. --yes gets them."
    assert not list(bare.glob("runs*")), "nothing was started"
    code, _, lines = told("gpt-4o", "--tasks", "egost_mcq")
    assert code == 2 and "Get it: export OPENAI_API_KEY=..." in starting(lines, "MISSING key")


def test_what_people_type(bare: Path, mini_release: Callable[..., Path]) -> None:
    mini_release(bare / "cache" / "mini", clips=4)
    settings = ("--judge", "offline", "--prompt", "think", "--protocol", "uniform8+224x224")
    words = (*settings, "--batch-size", "3", "--dry-run")
    _, command, _ = told("mini-base", *words)
    for part in (
        "EGOST_JUDGE=offline ",
        "EGOST_PROMPT=think ",
        "EGOST_PROTOCOL=uniform8+224x224 ",
        "--batch_size 3 ",
        "--tasks egost_mini ",
    ):
        assert part in command
    for engine, size in (("hf", 8), ("transformers", 1)):
        assert f"--batch_size {size} " in told("mini-base", "--engine", engine, "--dry-run")[1]
    _, commands, _ = told("mini-base", "mini-st-r1", "--output", "out", "--dry-run", "--", "--seed", "3")
    first, second = commands.splitlines()
    assert "--tasks egost_mini " in first and "--output_path out/mini-base " in first
    assert "--tasks egost_mini " in second and "--output_path out/mini-st-r1 " in second
    assert first.endswith(" --seed 3") and second.endswith(" --seed 3")
    _, command, lines = told("qwen2.5-vl-7b", "--revision", "v2", "--dry-run")
    assert "revision=v2" in command and "--revision v2" in starting(lines, "MISSING weights")
    code, _, lines = told("mini-base", "--prompt", "nothing-of-that-name", "--batch-size", "0")
    assert code == 2


def test_two_models_and_a_page_of_each(
    tmp_path: Path, own_cache: Path, mini_release: Callable[..., Path]
) -> None:
    mini_release(own_cache / "mini", clips=4)
    done = egost_run(
        *("mini-base", "mini-st-r1", "--tasks", TASK, "--limit", "1", "--open"),
        *("--", "--gen_kwargs", "max_new_tokens=8"),
        cwd=tmp_path,
        cache=own_cache,
        BROWSER="true",
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "MISSING" not in done.stderr
    for name in ("mini-base", "mini-st-r1"):
        assert (tmp_path / "runs" / name / "report.html").is_file()
    assert len(re.findall(rf"^{TASK} .* 1 +0 *$", done.stdout, re.MULTILINE)) == 2
