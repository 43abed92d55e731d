"""The command `egost`: errors are one message and exit code 2, lines are whole, and its help comes quickly."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from egost.commands.front import console
from egost.main import app

HEAVY = {
    *("torch", "transformers", "lmms_eval", "datasets", "numpy", "scipy", "sklearn", "pandas", "matplotlib"),
    *("av", "PIL", "openai", "aiohttp", "httpx", "yaml", "pydantic", "jinja2"),
}


def test_an_error_of_ours_is_one_message_and_exit_code_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        app(["summary", str(tmp_path / "nowhere")])
    out, err = capsys.readouterr()
    assert ended.value.code == 2 and out == ""
    assert err.startswith("egost: ") and "nowhere" in err and "Traceback" not in err


@pytest.mark.parametrize(
    "words",
    ["judge {} --judge offline", "judge --judge offline {}", "judge --judge=offline -- {}", "judge label {}"],
)
def test_a_run_is_judged_beside_the_sub_commands(
    words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder that is named as a sub-command is reached by its path."""
    monkeypatch.chdir(tmp_path)
    for folder in ("nowhere", "./label"):
        with pytest.raises(SystemExit) as ended:
            app(words.format(folder).split())
        out, err = capsys.readouterr()
        assert ended.value.code == 2 and out == "" and f"there is no {Path(folder)}:" in err


def test_a_line_is_not_broken_in_a_narrow_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console, "_width", 40)
    line = "written: /somewhere/" + "/".join(["a folder"] * 40)
    console.print(line, markup=False)
    assert f"{line}\n" in capsys.readouterr().out


def test_the_help_loads_nothing_heavy(tmp_path: Path) -> None:
    code = f"import sys, egost.main; print(*(set({sorted(HEAVY)}) & sys.modules.keys()))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert done.stdout.split() == []
