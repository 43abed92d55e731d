from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from egost.main import app
from egost.tasks.errors import SettingError
from egost.tasks.prompts import AUTHORS, SHIPPED, Prompt, load_prompt
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


def test_bare_gives_no_hint_of_what_is_scored() -> None:
    bare = load_prompt("bare")
    assert bare.render(ROUTE) == "Describe it."
    for name in ("direct", "think"):
        assert "every change of direction, and the landmarks that are passed" in load_prompt(name).render(
            ROUTE
        )


THEIR_SCRIPT = """
import os
raise SystemExit("a clone is read, never run")
for sample in data:
    options_str = "\\n".join(sample["options"])
    messages = [{"content": [{"text": question_text + "Pick:" + options_str + "\\nCosts $1." + "Think."}]}]
"""
THEIR_OTHER_SCRIPT = """
question = (video_prefix + sample["forward_mcq"]["question"] + "\\n" + options_str +
            "\\nOne letter.")
"""


def clone(folder: Path) -> Path:
    """A clone of the authors' repository with scripts of its form, in words of our own."""
    for place, script in (
        ("ST-R1_mcq/mcq_infer.py", THEIR_SCRIPT),
        ("InternVL2.5/mutiple_choice_infer.py", THEIR_OTHER_SCRIPT),
    ):
        path = folder / "infer_code" / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(script)
    return folder


def test_the_authors_wording_is_read_from_a_clone_and_known_by_its_hash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import egost.tasks.prompts as authors

    tokens = {"authors-st-r1": 512, "authors-internvl": 1024}
    expected = {
        "authors-st-r1": "${question}Pick:${options}\nCosts $$1.Think.",
        "authors-internvl": "${question}\n${options}\nOne letter.",
    }
    made = {
        name: Prompt.model_validate(
            {
                "name": name,
                "version": 1,
                "choice": choice,
                "route": "$question",
                "max_new_tokens": {"choice": tokens[name], "route": tokens[name]},
            }
        )
        for name, choice in expected.items()
    }
    known = dict(AUTHORS)
    for name, prompt in made.items():
        monkeypatch.setitem(authors.AUTHORS, name, prompt.sha256)  # type: ignore[arg-type]
    done = CliRunner().invoke(
        app, ["prompts", "import", str(clone(tmp_path / "clone")), "--out", str(tmp_path)]
    )
    assert done.exit_code == 0, done.output
    for name, prompt in made.items():
        read = load_prompt(str(tmp_path / f"{name}.yaml"))
        assert read == prompt and read.sha256 == AUTHORS[name]
        assert name in done.output
    asked = load_prompt(str(tmp_path / "authors-st-r1.yaml")).render(CHOICE)
    assert asked == "Where to?Pick:A. left\nB. right\nCosts $1.Think."
    assert len({*known.values()}) == 2 and all(len(sha256) == 64 for sha256 in known.values())


def test_another_wording_than_the_authors_is_not_written(tmp_path: Path) -> None:
    done = CliRunner().invoke(
        app, ["prompts", "import", str(clone(tmp_path / "clone")), "--out", str(tmp_path)]
    )
    assert done.exit_code == 2 and "holds another wording" in done.stderr and "mcq_infer.py" in done.stderr
    assert not list(tmp_path.glob("*.yaml"))
    (tmp_path / "clone/infer_code/ST-R1_mcq/mcq_infer.py").write_text("question = compose(sample)")
    done = CliRunner().invoke(app, ["prompts", "import", str(tmp_path / "clone")])
    assert done.exit_code == 2 and "holds no question" in done.stderr
    done = CliRunner().invoke(app, ["prompts", "import", str(tmp_path / "nowhere")])
    assert done.exit_code == 2 and "clone of the authors' public repository" in done.stderr
    assert not {load_prompt(name).sha256 for name in SHIPPED} & {*AUTHORS.values()}


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
    with pytest.raises(SettingError, match="neither one of direct, think, bare nor a readable file"):
        load_prompt(str(tmp_path / "nowhere.yaml"))
    (tmp_path / "broken.yaml").write_text("name: [")
    with pytest.raises(SettingError, match="no YAML"):
        load_prompt(str(tmp_path / "broken.yaml"))
