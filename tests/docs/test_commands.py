"""Every command of README and docs is run: here, by a test that is named, by CI; or it needs what tests have not.

`PYTHONPATH=tests/support python tests/docs/test_commands.py` prints the table of all commands.
"""

from __future__ import annotations

import ast
import os
import re
import shlex
import shutil
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
from places import ROOT
from typer.testing import CliRunner

import egost
from egost.main import app
from egost.tasks.settings import SETTINGS

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
GENERATED = {"cli.md"}
"""Its blocks are no commands but their usage; test_docs.py holds it against the commands."""

FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
HERE = """egost env, egost cache, egost models, egost tasks, egost show, egost summary, egost report, egost compare,
egost power, egost leaderboard, egost regress, egost clips verify, egost run qwen2.5-vl-7b --dry-run,
egost run qwen2.5-vl-7b --tasks egost --dry-run, egost verify qwen2.5-vl-7b --dry-run,
.venv/bin/egost run qwen2.5-vl-7b --dry-run"""
"""What runs here as it stands, on saved runs."""

CI = "make check, make test, make docs"
"""What .ci/run runs."""

NEEDS = {
    "GPU": "egost run, egost verify, egost serve, egost diagnose, "
    "egost train sft, egost train grpo, accelerate launch, lmms-eval, make gpu-check",
    "key": "egost run gpt-4o, egost run gemini-3.5-flash, lmms-eval --tasks egost_mcq --model egost_openai",
    "network": "egost data, egost clips build, pip install, make demo, make install",
    "hours": "make paper-mini, make bench, make mutants",
}
"""What the tests have not, and the commands that need it. Their options are held against those that exist."""

CONSTRUCT = "egost_tasks/construction/test_construct_command.py"
PUBLISH = "egost_tasks/construction/test_publishing.py::test_the_eight_tasks_run_on_it"
BY_TEST = {
    "egost run mini-base": "test_run_command.py::"
    "test_a_run_its_repetition_from_the_journal_and_the_printed_command",
    "egost run mini-base mini-st-r1": "test_run_needs.py::test_two_models_and_a_page_of_each",
    "egost run mini-st-r1": "test_run_needs.py::test_two_models_and_a_page_of_each",
    "egost sweep mini-base": "results/test_sweep.py::test_a_real_sweep_shares_the_journal_and_goes_on",
    "egost train plot": "training/demo/test_curves.py::test_a_persons_own_runs_are_drawn",
    "egost judge": "test_judged_runs.py::test_a_saved_run_is_judged_again_without_the_model",
    "egost judge agree": "results/labels/test_agreement.py::test_the_command_and_its_files",
    "egost power runs/a --labels": "results/labels/test_corrected.py::test_how_many_labels_halve_the_interval",
    "egost judge --check": "test_judged_runs.py::test_the_check_of_a_judge_offline_and_over_http",
    "egost judge label": "results/labels/test_label_page.py::test_a_person_scores_routes_by_keys",
    "egost judge label runs --rater ben --export": "results/labels/test_label_file.py::"
    "test_a_sheet_is_filled_and_imported",
    "egost judge label runs --rater ben --import": "results/labels/test_label_file.py::"
    "test_a_sheet_is_filled_and_imported",
    "egost rescore": "results/test_rescore.py::test_the_command_names_both_versions_and_what_moved",
    "egost diagnose --text-only": "results/diagnosis/test_text_only.py::"
    "test_a_run_is_measured_from_its_saved_samples",
    "egost construct clips VIDEOS": f"{CONSTRUCT}::test_a_folder_of_videos_becomes_a_list_to_be_completed",
    "egost construct clips OUT/clips.csv": f"{CONSTRUCT}::test_clips_and_annotations_go_in",
    "egost construct annotate": "egost_tasks/construction/test_annotation_page.py::test_a_person_tells_a_route",
    "egost construct questions": f"{CONSTRUCT}::test_questions_are_written_and_calibrated",
    "egost construct calibrate": f"{CONSTRUCT}::test_questions_are_written_and_calibrated",
    "egost construct review": "egost_tasks/construction/test_review_page.py::test_a_person_decides",
    "egost construct publish": PUBLISH,
    "EGOST_DATA=RELEASE egost data verify": PUBLISH,
    "EGOST_DATA=RELEASE lmms-eval": PUBLISH,
    "egost train data": "training/rows/test_build_rows.py::test_the_command_takes_the_released_rows",
    "egost train merge": "training/test_sft_recipe.py::"
    "test_adapters_are_merged_into_a_checkpoint_that_replies_alike",
    ".venv/bin/python tests/benchmarks/footage.py": "egost_tasks/clips/test_footage.py::"
    "test_every_file_of_a_folder_is_held_against_ffmpeg",
}
"""The test that runs a command, on small files and with a checkpoint or a server of its own."""

HOW = {
    **dict.fromkeys(re.split(r",\s", HERE), "here"),
    **dict.fromkeys(CI.split(", "), "CI"),
    **{name: need for need, names in NEEDS.items() for name in names.split(", ")},
    **BY_TEST,
}
"""How each command is run, by its first words; the longest beginning counts."""

# README is shortened and lengthened by others: what it alone has may go.
MAY_GO = {"make demo", "make test", "make check", "make docs", "make install"}


def commands(page: Path) -> Iterator[str]:
    """Every command of a page's blocks, without comments; settings that are exported are none."""
    for language, block in FENCE.findall(page.read_text(encoding="utf-8")):
        if language in ("bash", "console", "sh"):
            for line in block.replace("\\\n", " ").splitlines():
                for part in re.split(r"&&|;\s", re.sub(r"(^|\s)#.*", "", line)):
                    words = " ".join(part.split())
                    if words and not words.startswith("export "):
                        yield words


def beginnings(command: str) -> list[str]:
    """What the tables tell of a command, with the settings before it or without them."""
    forms = (command, re.sub(r"^(?:[A-Z_]+=\S+ )*(?:\.venv/bin/(?!python))?", "", command))
    return [name for name in HOW if any(f"{form} ".startswith(f"{name} ") for form in forms)]


def how(command: str) -> str | None:
    """How a command is run; None where nothing is known of it."""
    return HOW[max(found, key=len)] if (found := beginnings(command)) else None


ALL = {command: page.name for page in PAGES if page.name not in GENERATED for command in commands(page)}


def test_how_every_command_is_run_is_known() -> None:
    assert len(ALL) > 60
    unknown = {command: page for command, page in ALL.items() if how(command) is None}
    assert not unknown, "name in HOW the test that runs it, or what it needs"
    assert how("egost fly") is None and how("egost environment") is None


def test_nothing_is_told_of_commands_that_are_gone() -> None:
    used = {name for command in ALL for name in beginnings(command)}
    assert set(HOW) - set(used) <= MAY_GO


def test_every_test_that_is_named_is_there() -> None:
    for told in set(BY_TEST.values()):
        file, _, name = told.partition("::")
        tree = ast.parse((ROOT / "tests" / file).read_text(encoding="utf-8"))
        assert name in {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}, told


def test_what_ci_is_said_to_run_it_runs() -> None:
    [targets] = re.findall(r"for target in ([^;]+);", (ROOT / ".ci" / "run").read_text(encoding="utf-8"))
    made = {command.split()[1] for command in ALL if how(command) == "CI"}
    # `make check` is lint and a part of `make test`.
    assert made - {"check"} <= set(targets.split())


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, mini_release: Callable[..., Path]) -> Path:
    """A folder with the runs that the documents speak of, and a mini world."""
    folder = tmp_path_factory.mktemp("docs")
    for run in ("a", "b", "mini-base", "qwen2.5-vl-7b", "demo/mini-st-r1"):
        shutil.copytree(ROOT / "tests" / "saved" / "mini_run", folder / "runs" / run)
    mini_release(folder / "mini", clips=4)
    return folder


@pytest.mark.parametrize("command", sorted(command for command in ALL if how(command) == "here"))
def test_a_command_that_needs_nothing_works_as_it_stands(
    command: str, place: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place)
    words = shlex.split(command.replace("[", "").replace("]", ""))
    while re.match(r"[A-Z_]+=", words[0]):
        name, _, value = words.pop(0).partition("=")
        monkeypatch.setenv(name, value)
    if words[:2] == ["egost", "regress"]:
        # The baseline is written once, by the same command.
        assert CliRunner().invoke(app, [*words[1:], "--update"]).exit_code == 0
    done = CliRunner().invoke(app, words[1:])
    assert done.exit_code == 0, done.output
    assert done.output.strip()


BLOCKS = [
    pytest.param(block, id=f"{page.name}-{number}")
    for page in PAGES
    for number, (language, block) in enumerate(FENCE.findall(page.read_text(encoding="utf-8")))
    if language == "python"
]


@pytest.mark.parametrize("block", BLOCKS)
def test_python_runs_as_it_stands(
    block: str, place: Path, release_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place)
    monkeypatch.setenv("EGOST_DATA", str(release_folder))
    if '"mini"' in block:
        monkeypatch.setenv("EGOST_MINI_DATA", str(place / "mini"))
    # A model of the reader's own, and egost, which an earlier block of the page has imported.
    exec(block, {"ask_my_model": lambda pixels, question: f"A, of {len(pixels)} frames", "egost": egost})


def test_every_option_of_lmms_eval_is_one() -> None:
    spec = find_spec("lmms_eval")
    assert spec and spec.submodule_search_locations
    [folder] = map(Path, spec.submodule_search_locations)
    # Not imported: that takes seconds.
    sources = [folder / "__main__.py", *(folder / "cli").glob("*.py")]
    known = set(re.findall(r'"(--[a-z][\w-]+)"', "".join(file.read_text("utf-8") for file in sources)))
    assert "--log_samples" in known and "--moon" not in known
    found = 0
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        inline = re.findall(r"`((?:[A-Z_]+=\S+ )*lmms-eval [^`]+)`", FENCE.sub("", text))
        for command in [*commands(page), *inline]:
            if re.match(r"(?:[A-Z_]+=\S+ )*lmms-eval ", command):
                options = set(re.findall(r"(?<=\s)--[a-z][\w-]+", re.sub(r"\$\(.*?\)", "", command)))
                assert options <= known, f"{page.name}: {command}"
                found += len(options)
    assert found > 20


def test_every_setting_that_is_set_is_one() -> None:
    known = {setting.name for setting in SETTINGS} | {"ACCELERATE_USE_CPU"}
    for page in PAGES:
        blocks = "".join(
            block for language, block in FENCE.findall(page.read_text("utf-8")) if language == "bash"
        )
        names = re.findall(
            r"(?:^|\s)([A-Z][A-Z_]+)=", re.sub(r"^make .*|#.*", "", blocks, flags=re.MULTILINE)
        )
        assert set(names) <= known, page.name


if __name__ == "__main__":
    os.chdir(ROOT)
    for command, page in sorted(ALL.items(), key=lambda item: (str(how(item[0])), item[0])):
        print(f"{how(command)}\t{page}\t{command}")
