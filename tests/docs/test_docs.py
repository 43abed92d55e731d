"""The documents are true: links lead somewhere, functions and commands that they name exist, recipes are as printed."""

from __future__ import annotations

import ast
import dataclasses
import importlib
import re
import shlex
import tomllib
from collections.abc import Iterator
from functools import cache, reduce
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from cli_page import cli_page
from places import ROOT
from site_links import dead_links

from egost.main import GROUPS, app
from egost.tasks.as_published import PUBLISHED
from egost.tasks.settings import SETTINGS

PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]
TYPED = [page for page in PAGES if page.name != "CHANGELOG.md"]
"""Pages of what can be typed today; the changelog speaks of the past as well."""
REPRODUCE = (ROOT / "docs" / "reproduce.md").read_text(encoding="utf-8")
FIDELITY = (ROOT / "docs" / "fidelity.md").read_text(encoding="utf-8")

LINK = re.compile(r"\]\(([^()\s]+)\)")
CODE = re.compile(r"(?<!`)`([^`]+)`(?!`)")
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
DOTTED = re.compile(r"egost(?:\.\w+)+")
OF_TRL = {"model_name_or_path", "use_vllm", "vllm_gpu_memory_utilization"}
"""Flags of training that come from TRL's own settings."""

TOP = [name for names in GROUPS.values() for name in names.split()]
"""The commands, those of groups by the group's name."""

PAPER = [
    *("3.1", "3.2", "4.1", "4.2", "5.1", "5.2", "5.3", "A.2", "A.3", "(1)", "(2)"),
    *(f"Table {n}" for n in range(1, 7)),
    *(f"Figure {n}" for n in range(1, 10)),
]


def anchors(page: Path) -> set[str]:
    """GitHub's names of a page's headings."""
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", page.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def commands(page: Path) -> Iterator[str]:
    """Every `egost` command of a page: in its text, and in its blocks of shell commands."""
    text = page.read_text(encoding="utf-8")
    for language, block in FENCE.findall(text):
        if language == "bash":
            for line in block.replace("\\\n", " ").splitlines():
                for part in re.split(r"&&|;", re.sub(r"(^|\s)#.*", "", line)):
                    if found := re.match(r"\s*(?:[A-Z_]+=\S+\s+)*(egost .+)", part):
                        yield found[1].strip()
    for code in CODE.findall(FENCE.sub("", text)):
        if code.startswith("egost "):
            yield " ".join(code.split())


@cache
def recipe_flags() -> set[str]:
    from egost.training.grpo import GrpoRecipe
    from egost.training.sft import SftRecipe

    return OF_TRL | {field.name for recipe in (GrpoRecipe, SftRecipe) for field in dataclasses.fields(recipe)}


@cache
def command_tree() -> Any:
    return typer.main.get_command(app)


def fault(command: str) -> str | None:
    """What is wrong with a command: an unknown sub-command or option; None where it can be typed."""
    at = command_tree()
    words = shlex.split(command.replace("[", "").replace("]", ""))[1:]
    while words and hasattr(at, "commands"):
        if words[0] in ("--help", "..."):
            return None
        if words[0] not in at.commands and any(p.param_type_name == "argument" for p in at.params):
            break  # A group that takes an argument of its own.
        if words[0] not in at.commands:
            return f"no command {words[0]!r}"
        at = at.commands[words.pop(0)]
    known = {"--help", *(name for parameter in at.params for name in parameter.opts)}
    for word in words[: words.index("--")] if "--" in words else words:
        option = word.split("=")[0]
        if not re.match(r"--?[a-z]", option) or option in known:
            continue
        if (
            at.context_settings.get("ignore_unknown_options")
            and option[2:].replace("-", "_") in recipe_flags()
        ):
            continue
        return f"no option {option}"
    return None


def resolve(name: str) -> Any:
    """The module, function, class or attribute of a dotted name."""
    parts = name.split(".")
    for end in range(len(parts), 0, -1):
        try:
            module = importlib.import_module(".".join(parts[:end]))
        except ModuleNotFoundError as error:
            if error.name is None or not name.startswith(error.name):
                raise
            continue
        return reduce(getattr, parts[end:], module)
    raise ModuleNotFoundError(name)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_relative_link_leads_to_a_file_and_a_heading(page: Path) -> None:
    for target in LINK.findall(page.read_text(encoding="utf-8")):
        if re.match(r"https?:", target):
            continue
        path, _, anchor = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        assert there.exists(), f"{page.name}: {target}"
        assert not anchor or anchor in anchors(there), f"{page.name}: {target}"


@pytest.mark.parametrize("page", TYPED, ids=lambda page: page.name)
def test_every_command_can_be_typed(page: Path) -> None:
    assert {command: found for command in commands(page) if (found := fault(command))} == {}


def test_a_wrong_command_is_noticed() -> None:
    assert fault("egost fly") == "no command 'fly'"
    assert fault("egost judge RUN --fly") == fault("egost judge label RUN --fly") == "no option --fly"
    assert fault("egost data download --moon") == "no option --moon"
    assert fault("egost train grpo a.yaml --moon 1") == "no option --moon"
    assert fault("egost train grpo a.yaml --advantage softmax --rows rows.jsonl") is None
    assert fault("egost serve MODEL --gpus 16 -- --distributed-executor-backend ray") is None
    assert len(list(commands(ROOT / "docs" / "reproduce.md"))) > 40


def make_targets() -> set[str]:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    return set(re.findall(r"[\w-]+", " ".join(re.findall(r"^\.PHONY:(.+)$", makefile, re.MULTILINE))))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_make_target_exists(page: Path) -> None:
    named = set(re.findall(r"(?:^|`)make ([\w-]+)", page.read_text(encoding="utf-8"), re.MULTILINE))
    assert named <= make_targets()


def test_the_layout_names_what_is_there() -> None:
    table = re.findall(
        r"^\| (`[^|]+) \|", (ROOT / "docs" / "development.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    layout = [CODE.findall(cell) for cell in table if "/" in cell]
    assert len(layout) > 20
    for paths in layout:
        room = ROOT / paths[0].split("/")[0]
        for path in paths:
            assert (ROOT / path).exists() or (room / path).exists(), path


@pytest.mark.parametrize(
    "name", sorted({c for c in CODE.findall(REPRODUCE + FIDELITY) if DOTTED.fullmatch(c)})
)
def test_every_function_of_the_paper_exists(name: str) -> None:
    assert resolve(name) is not None


@pytest.mark.parametrize("part", PAPER)
def test_every_part_of_the_paper_has_a_row(part: str) -> None:
    rows = [line.split("|")[1].strip() for line in REPRODUCE.splitlines() if line.startswith("| ")]
    assert any(re.match(re.escape(part) + r"(?!\d)", row) for row in rows), part


def test_the_recipes_hold_what_tables_5_and_6_say() -> None:
    read = 0
    for section in re.split(r"^### ", REPRODUCE, flags=re.MULTILINE)[1:]:
        file = re.search(r"`(training/configs/\w+\.yaml)`", section)
        assert file
        recipe = yaml.safe_load((ROOT / file[1]).read_text(encoding="utf-8"))
        rows = re.findall(r"^\|[^|]+\| ([^|]+) \| `([^`]+)`", section.split("\n## ")[0], re.MULTILINE)
        for value, code in rows:
            [(key, given)] = yaml.safe_load(code).items()
            assert recipe[key] == given, code
            # A batch of 1 is one prompt in the paper, its 8 completions in TRL.
            if type(given) in (int, float) and code != "per_device_train_batch_size: 8":
                assert float(value) == given, code
        read += len(rows)
    assert read == 7 + 12


def test_the_recipes_hold_what_the_table_of_rules_names() -> None:
    read = 0
    for file, section in re.findall(
        r"^## [^\n]*`(training/configs/\w+\.yaml)`\n(.*?)(?=^## )", FIDELITY, re.M | re.S
    ):
        recipe = yaml.safe_load((ROOT / file).read_text(encoding="utf-8"))
        released = yaml.safe_load(
            (ROOT / file.replace(".yaml", "_as_released.yaml")).read_text(encoding="utf-8")
        )
        for row in re.findall(r"^\|.*\|$", section, re.M):
            for column, cell in enumerate(row.strip("|").split("|")):
                for code in CODE.findall(cell):
                    if re.match(r"[a-z_]+: ", code):
                        [(key, given)] = yaml.safe_load(code).items()
                        # The released code's way is the fifth column.
                        assert (released if column == 4 else recipe)[key] == given, code
                        read += 1
                    for flag in re.findall(r"--(\w+)", code):
                        assert flag in recipe_flags() | recipe.keys(), code
    assert read > 40


def test_the_words_of_as_published_stand_for_what_the_table_says() -> None:
    table = FIDELITY.split("## ")[0]
    rows = [CODE.findall(line) for line in table.splitlines() if line.startswith("| `")]
    assert {word: (frames, prompt, judge) for word, *_, frames, prompt, judge in rows} == {
        word: tuple(own[f"EGOST_{name}"] for name in ("PROTOCOL", "PROMPT", "JUDGE"))
        for word, own in PUBLISHED.items()
    }


def test_every_rule_of_the_table_has_all_its_columns() -> None:
    rows = [line for line in FIDELITY.splitlines() if line.startswith("| ") and line.count("|") > 4]
    heads = [line for line in rows if line.startswith(("| rule |", "| word |"))]
    assert len(heads) == 7 and {line.count("|") for line in rows if not line.startswith("| `")} <= {7, 8}
    assert all(cell.strip() for line in rows for cell in line.split("|")[1:5]), "only 'why' may be empty"


def test_the_page_of_commands_is_what_their_help_says() -> None:
    page = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    assert page == cli_page(), "python tests/support/cli_page.py > docs/cli.md"


def test_every_page_is_in_the_sites_menu() -> None:
    site = tomllib.loads((ROOT / "zensical.toml").read_text(encoding="utf-8"))["project"]
    entries = [page for group in site["nav"] for pages in group.values() for page in pages]
    listed = [path for entry in entries for path in entry.values()]
    assert len(listed) == len(set(listed)) and all((ROOT / path).is_file() for path in listed)
    assert set(listed) == {str(page.relative_to(ROOT)) for page in PAGES}


@cache
def texts() -> tuple[tuple[str, str], ...]:
    return tuple(_texts())


def _texts() -> Iterator[tuple[str, str]]:
    """Every text in the code, with its place; what is put into one is X. Docstrings are left out."""
    for room in ("egost", "egost_tasks", "model_adapters", "training", "results"):
        for file in sorted((ROOT / room).rglob("*.py")):
            nodes = list(ast.walk(ast.parse(file.read_text(encoding="utf-8"))))
            left_out = {node.value for node in nodes if isinstance(node, ast.Expr)}
            left_out |= {part for node in nodes if isinstance(node, ast.JoinedStr) for part in node.values}
            for node in nodes:
                parts = node.values if isinstance(node, ast.JoinedStr) else [node]
                words = [
                    "X" if isinstance(p, ast.FormattedValue) else getattr(p, "value", None) for p in parts
                ]
                if node not in left_out and all(isinstance(word, str) for word in words):
                    yield f"{file.relative_to(ROOT)}:{getattr(node, 'lineno', 0)}", "".join(map(str, words))


def test_every_command_in_a_message_can_be_typed() -> None:
    groups = ("data", "clips", "train", "construct", "prompts")
    names = "|".join(
        [*(f"{group} [a-z]+" for group in groups), *(name for name in TOP if name not in groups)]
    )
    told = {
        (place, "".join(found).replace("'", "").replace('"', "").strip())
        for place, text in texts()
        for found in re.findall(rf"(?<![\w/.-])(egost (?:{names})\b)([^.,;:()`\n]*)", text)
    }
    assert len(told) > 100
    assert {(place, command): found for place, command in told if (found := fault(command))} == {}


def test_every_setting_and_make_target_in_a_message_is_there() -> None:
    names = {setting.name for setting in SETTINGS}
    for place, text in texts():
        assert set(re.findall(r"\bEGOST_[A-Z_]+[A-Z]\b", text)) <= names, place
        assert set(re.findall(r"(?:: |`)make ([a-z][\w-]+)", text)) <= make_targets(), place


def test_every_quoted_message_is_one_of_ours() -> None:
    """Symptoms of the FAQ, headings in code: messages of the program, or of lmms-eval where the heading says so."""
    faq = (ROOT / "docs" / "faq.md").read_text(encoding="utf-8")
    quoted = re.findall(r"^### `([^`]+)`$", faq, re.MULTILINE)
    said = [text for _, text in texts()]
    assert len(quoted) > 8
    assert not [words for words in quoted if not any(words in text for text in said)]


def test_dead_links_of_a_site_are_named(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "index.html").write_text(
        '<h1 id="top"></h1><a href="docs/a.html#b">1</a><a href="docs/a.html#c">2</a><a href="#top">3</a>'
        '<a href="https://example.org/x">4</a><img src="no.png"><a href="docs/">5</a>'
    )
    (tmp_path / "docs" / "a.html").write_text(
        '<a id="b" href="../index.html">1</a><a href="../LICENSE">2</a>'
    )
    (tmp_path / "LICENSE").touch()
    assert dead_links(tmp_path) == ["index.html: docs/a.html#c", "index.html: no.png", "index.html: docs/"]
