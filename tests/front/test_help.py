"""What a newcomer reads first: one screen of help, an example for each command that works as typed, and `egost env`."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import typer
from places import ROOT
from typer.testing import CliRunner

from egost.main import EXAMPLES, GROUPS, app
from egost.tasks.settings import SETTINGS

SAVED = ROOT / "tests" / "saved" / "mini_run"
RUN = ["summary", "show", "report", "compare", "judge", "rescore", "leaderboard", "regress"]
ALONE = ["env", "models", "tasks", "power", "data mini", "data status", "serve"]


def leaves(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    """Each command that does something, by its path; a group among them where it does something itself."""
    for name, inner in getattr(command, "commands", {}).items():
        yield from leaves(inner, (*path, name))
    if not hasattr(command, "commands") or " ".join(path) in EXAMPLES:
        yield " ".join(path), command


ALL = dict(leaves(typer.main.get_command(app)))


@pytest.mark.parametrize("words", [["--help"], ["-h"], []])
def test_the_help_fits_one_screen(words: list[str]) -> None:
    lines = CliRunner().invoke(app, words).output.splitlines()
    assert len(lines) <= 24
    assert max(map(len, lines)) <= 80
    assert len([line for line in lines if line.startswith("  egost ")]) == 3, "three examples"
    assert "tiny" not in " ".join(line for line in lines if line.startswith("  egost ")), "it is untrained"


def test_each_command_is_in_one_line_of_the_help_and_no_other_name_is() -> None:
    listed = [name for names in GROUPS.values() for name in names.split()]
    assert sorted(listed) == sorted({path.split()[0] for path in ALL})
    shown = CliRunner().invoke(app, ["--help"]).output
    for group, names in GROUPS.items():
        assert f"{group:<9} {names}\n" in shown


@pytest.mark.parametrize("path", sorted(ALL))
def test_the_help_of_each_command_begins_with_an_example_that_can_be_typed(path: str) -> None:
    shown = CliRunner().invoke(app, [*path.split(), "-h"], env={"COLUMNS": "100"}).output
    said = [line.strip() for line in shown.splitlines() if line.strip()]
    assert said[0].startswith("Usage: ")
    assert said[1] == f"Example: {EXAMPLES[path]}"
    program, *words = shlex.split(EXAMPLES[path])
    assert program == "egost" and words[: len(path.split())] == path.split()
    ALL[path].make_context(
        path, words[len(path.split()) :]
    )  # Refuses an unknown option or a missing argument.


@pytest.mark.parametrize("path", [*RUN, *ALONE])
def test_the_example_works(
    path: str, tmp_path: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    if path in RUN:
        for model in ("mini-base", "mini-st-r1"):
            shutil.copytree(SAVED, Path("runs") / model)
    words = shlex.split(EXAMPLES[path])[1:]
    done = CliRunner().invoke(app, [*words, "--clips", "4"] if path == "data mini" else words)
    # There is no mini world yet, and no older run: what to do is said.
    refused = {"data status": "egost data mini", "rescore": "is of task version 2-A already"}.get(path)
    assert done.exit_code == (2 if refused else 0), done.output
    assert refused is None or refused in done.output


def test_the_version() -> None:
    assert CliRunner().invoke(app, ["--version"]).output == f"egost {version('egost')}\n"


def test_env_says_what_a_report_needs_and_no_secret(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number, setting in enumerate(SETTINGS):
        if setting.secret:
            monkeypatch.setenv(setting.name, f"sk-wHGx{number:04}pQz7Lm3VtR8")
    monkeypatch.setenv("HF_ENDPOINT", "https://somebody:dVq3Xk9@mirror.example")
    monkeypatch.setenv("EGOST_PROMPT", "think")
    shown = CliRunner().invoke(app, ["env"]).output
    for line in (
        f"egost: {version('egost')}",
        f"torch: {version('torch')}",
        f"lmms-eval: {version('lmms-eval')}",
        "EGOST_PROMPT: think",
        "OPENAI_API_KEY: set, not shown",
        "HF_ENDPOINT: set, not shown",
        "mini release: not there",
    ):
        assert line in shown.splitlines()
    assert f"cache: {own_cache}, " in shown and "gpus: " in shown
    everything = CliRunner().invoke(app, ["env", "--all"]).output
    for found in (shown, everything):
        assert not [word for word in ("wHGx", "pQz7", "dVq3Xk9", "somebody") if word in found]
    for setting in SETTINGS:
        assert f"{setting.name}: " in everything and setting.meaning in everything
