"""The table of settings is whole: what the code reads is in it, what is in it is read, help and docs are made of it."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator

import huggingface_hub.constants
import huggingface_hub.utils._auth
import pytest
from places import ROOT
from typer.testing import CliRunner

from egost.main import app
from egost.tasks.as_published import PUBLISHED, chosen, departures, published_generation
from egost.tasks.clips.decode_process import decode_settings
from egost.tasks.clips.decoders import chosen_decoder
from egost.tasks.clips.protocols import chosen_protocol
from egost.tasks.errors import SettingError
from egost.tasks.prompts import chosen_prompt, load_prompt
from egost.tasks.release.trained_on import chosen_policy
from egost.tasks.settings import SETTINGS, markdown

PRODUCTION = ("egost", "egost_tasks", "model_adapters", "results", "training")
OURS = re.compile(r"EGOST_[A-Z_]+|[A-Z]+(_[A-Z]+)*_API_KEY")
"""Names that are settings wherever the code holds them as a value."""

SET_FOR_OTHERS = {"VLLM_API_KEY"}
"""What the code gives to another program and reads nowhere."""


def modules() -> Iterator[ast.Module]:
    for folder in PRODUCTION:
        for path in sorted((ROOT / folder).rglob("*.py")):
            if path != ROOT / "egost_tasks" / "settings.py":
                yield ast.parse(path.read_text(encoding="utf-8"))


def is_environment(node: ast.expr) -> bool:
    return isinstance(node, ast.Attribute) and node.attr == "environ"


def names_read(tree: ast.Module) -> Iterator[str]:
    """Names of variables that a module reads by `os.environ` or `os.getenv`, or holds as values of its own."""
    constants = {
        target.id: node.value.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    for node in ast.walk(tree):
        asked: ast.expr | None = None
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.args:
            reads = node.func.attr == "get" and is_environment(node.func.value)
            asked = node.args[0] if reads or node.func.attr == "getenv" else None
        elif (
            isinstance(node, ast.Subscript) and is_environment(node.value) and isinstance(node.ctx, ast.Load)
        ):
            asked = node.slice
        elif isinstance(node, ast.Compare) and is_environment(node.comparators[0]):
            asked = node.left
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and OURS.fullmatch(node.value):
            asked = node
        if isinstance(asked, ast.Name):
            asked = ast.Constant(constants.get(asked.id))
        if isinstance(asked, ast.Constant) and isinstance(asked.value, str):
            yield asked.value


def test_every_variable_that_is_read_is_in_the_table_and_the_other_way_round() -> None:
    read = {name for tree in modules() for name in names_read(tree)} - SET_FOR_OTHERS
    assert {setting.name for setting in SETTINGS if setting.reader == "egost"} == read


def test_a_read_is_found_in_each_of_its_forms() -> None:
    code = """
KEY = "EGOST_BY_NAME"
a = os.environ.get("READ_BY_GET"); b = os.environ[KEY]; c = os.getenv("READ_BY_GETENV"); d = "READ_BY_IN" in os.environ
os.environ["ONLY_SET"] = "1"
"""
    found = set(names_read(ast.parse(code)))
    assert found == {"READ_BY_GET", "EGOST_BY_NAME", "READ_BY_GETENV", "READ_BY_IN"}


def test_what_the_hub_library_reads_is_read_by_it() -> None:
    library = (huggingface_hub.constants, huggingface_hub.utils._auth)
    source = "".join(map(inspect.getsource, library))
    for setting in SETTINGS:
        assert setting.reader == "egost" or f'"{setting.name}"' in source, setting.name


def test_no_name_is_twice_in_the_table_and_every_key_is_a_secret() -> None:
    names = [setting.name for setting in SETTINGS]
    assert len(names) == len(set(names))
    for setting in SETTINGS:
        assert setting.secret == bool(re.search("KEY$|TOKEN", setting.name)), setting.name


def test_the_defaults_are_those_of_the_code(monkeypatch: pytest.MonkeyPatch) -> None:
    default = {setting.name: setting.default.strip("`") for setting in SETTINGS}
    assert chosen_prompt() == default["EGOST_PROMPT"]
    assert chosen_protocol().name == default["EGOST_PROTOCOL"]
    assert chosen_decoder() == default["EGOST_DECODER"]
    settings = decode_settings()
    assert f"{settings.limit:g} {settings.memory}" == (
        f"{default['EGOST_DECODE_TIMEOUT']} {default['EGOST_DECODE_MEMORY']}"
    )


@pytest.mark.parametrize("word", PUBLISHED)
def test_each_word_of_as_published_stands_for_settings_that_exist(
    word: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EGOST_AS_PUBLISHED", word)
    own = PUBLISHED[word]
    assert chosen_protocol().name == own["EGOST_PROTOCOL"]
    assert load_prompt(chosen_prompt()).name == own["EGOST_PROMPT"]
    assert chosen_policy() == own.get("EGOST_TRAINED_ON", "refuse")
    assert not departures(word, dict(own))
    assert f"`{word}`" in {s.name: s.values for s in SETTINGS}["EGOST_AS_PUBLISHED"]


def test_as_published_is_what_the_released_code_does(monkeypatch: pytest.MonkeyPatch) -> None:
    # Typed a second time, from what is known of the released code: sampling, pixels, tokens, judge, test set.
    monkeypatch.setenv("EGOST_AS_PUBLISHED", "st-r1")
    assert (chosen_protocol().name, chosen_prompt()) == ("ref-qwen+cap100352-151200", "think")
    assert chosen_policy() == "paper"
    assert (chosen("EGOST_JUDGE"), published_generation()) == ("gpt-4o+compat", {"max_new_tokens": 512})
    monkeypatch.setenv("EGOST_AS_PUBLISHED", "internvl")
    assert (chosen_protocol().name, chosen_prompt()) == ("ref-internvl+448x448", "bare")
    generation = published_generation()
    assert (generation["max_new_tokens"], generation["do_sample"]) == (1024, True)
    monkeypatch.setenv("EGOST_AS_PUBLISHED", "paper")
    with pytest.raises(SettingError, match="expected one of st-r1, qwen, internvl, llava, closed"):
        chosen_protocol()


def test_a_setting_of_the_person_wins_over_as_published_and_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EGOST_AS_PUBLISHED", "qwen")
    monkeypatch.setenv("EGOST_PROTOCOL", "uniform8")
    assert chosen_protocol().name == "uniform8"
    set_by_hand = {"EGOST_PROTOCOL": "uniform8", "EGOST_JUDGE": "gpt-4o", "EGOST_PROMPT": "direct"}
    assert departures("qwen", set_by_hand) == {
        "EGOST_PROTOCOL": "ref-qwen+cap100352-151200",
        "EGOST_JUDGE": "gpt-4o+compat",
        "EGOST_PROMPT": "bare",
    }
    assert not departures("qwen", {"EGOST_JUDGE": "azure:d@https://x+compat", "EGOST_PROMPT": "authors.yaml"})
    assert not departures("", set_by_hand)


def test_the_page_is_made_of_the_table() -> None:
    page = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
    assert page == markdown(), "python -m egost.tasks.settings > docs/settings.md"
    assert all(f"| `{setting.name}` |" in page for setting in SETTINGS)


def test_the_help_names_the_four_that_most_people_need() -> None:
    shown = CliRunner().invoke(app, ["--help"]).output
    named = [setting for setting in SETTINGS if re.search(rf"\b{setting.name}\b", shown)]
    assert [setting.name for setting in named] == ["EGOST_DATA", "EGOST_CACHE", "EGOST_PROMPT", "EGOST_JUDGE"]
    assert all(setting.short in shown for setting in named)
