from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from egost.tasks.errors import SettingError
from egost.tasks.prompts import SHIPPED, load_prompt
from egost.tasks.sample import Sample

CHOICE = Sample(
    "Part1/direction_forward/1", "direction", "forward", 1, "1.mp4", "Where to?", ("left", "right"), "A"
)
ROUTE = Sample("Part1/route_forward/1", "route", "forward", 1, "1.mp4", "Describe it.", (), "Turn left.")


def written(tmp_path: Path, **changes: object) -> str:
    content = {
        "name": "mine",
        "version": 3,
        "choice": "$question\n$options",
        "route": "$question",
        "max_new_tokens": {"choice": 5, "route": 50},
    }
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump({**content, **changes}))
    return str(path)


def test_the_shipped_prompts() -> None:
    for name in SHIPPED:
        prompt = load_prompt(name)
        assert prompt.label == f"{name}-1"
        asked = prompt.render(CHOICE)
        assert "Where to?\n\nA. left\nB. right\n" in asked and "(A or B)" in asked and "$" not in asked
        assert "Describe it." in prompt.render(ROUTE) and "left" not in prompt.render(ROUTE)
        assert ("<think>" in asked) == ("<answer>" in asked) == (name == "think")


def test_a_question_is_put_in_as_it_is() -> None:
    odd = Sample(**{**CHOICE.to_doc(), "question": "Costs $options {x} %s?", "options": ("$5", "a\\b", "c")})
    asked = load_prompt("direct").render(odd)
    assert "Costs $options {x} %s?" in asked and "A. $5\nB. a\\b\nC. c" in asked and "(A, B or C)" in asked


def test_a_prompt_of_ones_own(tmp_path: Path) -> None:
    prompt = load_prompt(written(tmp_path))
    assert prompt.label == "mine-3" and prompt.render(CHOICE) == "Where to?\nA. left\nB. right"
    assert prompt.max_new_tokens.route == 50 and len(prompt.sha256) == 64


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"choice": "$question"}, r"choice: .*lacks \$options"),
        ({"route": "no question"}, r"route: .*lacks \$question"),
        ({"route": "$question $options"}, r"unknown \$options"),
        ({"choice": "$question $options $ x"}, "a '\\$' without a name"),
        ({"max_new_tokens": {"choice": 0, "route": 1}}, "max_new_tokens.choice"),
        ({"more": 1}, "more"),
    ],
)
def test_a_malformed_prompt_file(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    with pytest.raises(SettingError, match=message):
        load_prompt(written(tmp_path, **changes))


def test_no_such_prompt(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="neither one of direct, think nor a readable file"):
        load_prompt(str(tmp_path / "nowhere.yaml"))
    (tmp_path / "broken.yaml").write_text("name: [")
    with pytest.raises(SettingError, match="no YAML"):
        load_prompt(str(tmp_path / "broken.yaml"))
