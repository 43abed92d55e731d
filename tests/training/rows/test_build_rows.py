"""`egost train data` on a mini world and on a made-up release in the official layout that holds real rows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from egost.main import app
from egost.tasks.mini_world import write_mini_release
from egost.tasks.release.layout import PART_FOLDERS, QUESTION_FILES
from egost.tasks.release.release import Release, mini_revision
from egost.tasks.sample import LETTERS
from egost.training import TrainingError
from egost.training.rows.build_rows import BuildPlan, build_released, build_rows, near_duplicates, write_rows
from egost.training.rows.released_rows import StR1Row, read_rows, released_subset
from egost.training.rows.training_rows import read_training_rows

KIND = {"direction": "mcq", "landmark": "mcq_landmark", "action": "mcq_action"}


@pytest.fixture(scope="module")
def mini(tmp_path_factory: pytest.TempPathFactory) -> Release:
    root = write_mini_release(tmp_path_factory.mktemp("mini"), clips=4, seed=0, split="train", progress=False)
    return Release("mini", (root,), mini_revision(root))


def test_the_command_writes_rows_split_and_card(mini: Release, tmp_path: Path) -> None:
    [root] = mini.roots
    given = ["--world", "mini", "--root", str(root), "--rows", "8", "--out", str(tmp_path / "rows")]
    done = CliRunner().invoke(app, ["train", "data", *given])
    assert done.exit_code == 0, done.output
    assert "8 rows about" in done.output
    rows = read_training_rows(tmp_path / "rows" / "rows.jsonl")
    assert len(rows) == 8 and all(row.think and row.clip_sha256 for row in rows)
    split = json.loads((tmp_path / "rows" / "split.json").read_text())
    choices = {s.id for s in mini.index.samples if s.options}
    assert split["train"] == [row.sample.id for row in rows]
    assert set(split["train"]) | set(split["test"]) == choices
    card = json.loads((tmp_path / "rows" / "card.json").read_text())
    assert card["rows"] == sum(card["tasks"].values()) == sum(card["letters"].values()) == 8
    assert card["think_names_an_option"] == 0 and card["clips_on_both_sides"] > 0
    assert "10 clips or more" in card["text_only"]["not_measured"]
    assert "have questions on both sides" in (tmp_path / "rows" / "README.md").read_text()


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (["--world", "real"], "--world is 'real'; expected one of official, mini"),
        (["--tasks", "direction,walks"], "--tasks is 'walks'"),
        (["--rows", "999"], "999 training rows were asked for"),
        (["--no-think", "--writer", "gpt-4o"], "nothing for --writer to write"),
        (["--writer", "gpt-4o"], "OPENAI_API_KEY"),
        (["--hold-out", "sun3d"], "nothing to hold out"),
        (["--routes", "2", "--by", "clips"], "leave out --by clips and the task route"),
        (["--routes", "2", "--tasks", "direction,route"], "leave out --by clips and the task route"),
        (["--routes", "999"], "999 training rows were asked for"),
        (["--routes", "2", "--released", "63"], "--hold-out and --routes out"),
    ],
)
def test_what_cannot_be_built_is_one_message(
    mini: Release, tmp_path: Path, given: list[str], says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    start = [
        "train",
        "data",
        "--out",
        str(tmp_path / "rows"),
        "--world",
        "mini",
        "--root",
        str(mini.roots[0]),
    ]
    done = CliRunner().invoke(app, [*start, "--rows", "4", *given])
    assert done.exit_code == 2 and says in done.output + done.stderr
    assert not (tmp_path / "rows").exists()


def test_rows_without_reasoning_and_route_rows(mini: Release) -> None:
    plain = build_rows(mini, BuildPlan(6, with_think=False))
    assert {row.think for row in plain.rows} == {""} and plain.reasoning == "none"
    assert all(row.solution == row.sample.answer for row in plain.rows)
    routes = build_rows(mini, BuildPlan(8, tasks=("route",)))
    assert {row.sample.way for row in routes.rows} == {"forward", "reverse"}
    assert all(row.solution.endswith(f"<answer>{row.sample.answer}</answer>") for row in routes.rows)


def test_route_rows_stand_behind_the_others_and_nest(mini: Release) -> None:
    few, many = (build_rows(mini, BuildPlan(rows, routes=rows // 5)) for rows in (5, 15))
    assert [row.sample.task == "route" for row in many.rows] == 15 * [False] + 3 * [True]
    assert few.rows == many.rows[:5] + many.rows[15:16] and many.asked == 18
    # Each is as without the other: fewer or no routes change no other row.
    assert build_rows(mini, BuildPlan(15)).rows == many.rows[:15]
    trained = {row.sample.id for row in many.rows}
    tested = {s.id for s in many.split.test}
    assert tested == {s.id for s in mini.index.samples} - trained


def test_a_copied_question_is_reported(mini: Release) -> None:
    from dataclasses import replace

    first = next(s for s in mini.index.samples if s.options)
    copy = replace(first, id="copy", question=f"{first.question} ", options=first.options[::-1])
    elsewhere = replace(copy, id="elsewhere", clip="another.mp4")
    assert near_duplicates([first, copy, elsewhere]) == [(first.id, "copy")]
    assert near_duplicates([first], [copy, elsewhere]) == [(first.id, "copy")]


def official(folder: Path, rows: list[StR1Row], **changes: str) -> Release:
    """A release in the official layout of the given real rows, each with a file in the clip's place."""
    files: dict[str, dict[str, Any]] = {name: {} for name in QUESTION_FILES}
    for row in rows:
        options = [f"{x}. {text}" for x, text in zip(LETTERS, row.options, strict=False)]
        mcq = {"question": row.question, "options": options, "answer": row.letter, **changes}
        files[f"Part4_{row.way}_{KIND[row.task]}.json"][str(row.index)] = {
            "video": row.clip, f"{row.way}_mcq": mcq
        }  # fmt: skip
        (folder / PART_FOLDERS[4]).mkdir(parents=True, exist_ok=True)
        (folder / PART_FOLDERS[4] / row.clip).write_bytes(row.clip.encode())
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content))
    return Release("official", (folder,), "local")


@pytest.fixture
def unlike_rows() -> list[StR1Row]:
    """60 real rows of all tasks."""
    return list(read_rows())[::10][:60]


def test_released_rows_find_their_samples(tmp_path: Path, unlike_rows: list[StR1Row]) -> None:
    release = official(tmp_path / "release", unlike_rows)
    built = build_released(release, unlike_rows[:40])
    assert [row.sample.id.rsplit("/", 1)[1] for row in built.rows] == [str(r.index) for r in unlike_rows[:40]]
    assert built.rows[0].think == unlike_rows[0].think.strip()
    assert len(built.split.test) == 20
    card = write_rows(tmp_path / "rows", built, command="egost train data --released 630")
    assert card["think_names_an_option"] > 30
    assert card["text_only"]["linear"]["questions"] == 40
    assert read_training_rows(tmp_path / "rows" / "rows.jsonl") == built.rows


def test_the_command_takes_the_released_rows(tmp_path: Path) -> None:
    every = read_rows()
    wanted = [every[k] for k in released_subset(63)]
    others = [row for row in every if row not in wanted][:20]
    official(tmp_path / "release", [*wanted, *others])
    given = ["--root", str(tmp_path / "release"), "--out", str(tmp_path / "rows")]
    done = CliRunner().invoke(app, ["train", "data", "--released", "63", *given])
    assert done.exit_code == 0, done.output
    assert "63 rows about" in done.output and "20 samples are the test" in done.output
    assert "Text alone answers" in done.output
    rows = read_training_rows(tmp_path / "rows" / "rows.jsonl")
    assert [row.think for row in rows] == [row.think.strip() for row in wanted]
    assert [row.sample.answer for row in rows] == [row.letter for row in wanted]
    card = json.loads((tmp_path / "rows" / "card.json").read_text())
    assert card["reasoning"] == "as released" and card["text_only"]["linear"]["questions"] == 63


def test_the_command_names_released_rows_that_the_release_lacks(tmp_path: Path) -> None:
    every = read_rows()
    official(tmp_path / "release", [every[k] for k in released_subset(63)][1:])
    given = ["--root", str(tmp_path / "release"), "--out", str(tmp_path / "rows")]
    done = CliRunner().invoke(app, ["train", "data", "--released", "63", *given])
    assert done.exit_code == 2
    assert "1 of 63 released rows are not in the official release" in done.stderr
    assert not (tmp_path / "rows").exists()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"question": "Where is it?"}, "has these options, but asks 'Where is it"),
        ({"options": "other"}, "no question about this clip has these options"),
        ({"clip": "other"}, "no question is about this clip"),
        ({"answer": "other"}, "for the right option, the row"),
    ],
)
def test_released_rows_that_do_not_match_are_named(
    tmp_path: Path, unlike_rows: list[StR1Row], change: dict[str, Any], says: str
) -> None:
    from dataclasses import replace

    row = next(r for r in unlike_rows if len(r.options) == 4)
    altered = {
        "question": lambda: replace(row, question="Where is it?"),
        "options": lambda: replace(row, options=("w", "x", "y", "z")),
        "clip": lambda: replace(row, clip="ADT_other.mp4"),
        "answer": lambda: replace(row, letter="B" if row.letter == "A" else "A"),
    }  # fmt: skip
    release = official(tmp_path, [altered[next(iter(change))]()])
    with pytest.raises(TrainingError, match=f"line {row.index + 1} ") as caught:
        build_released(release, [row])
    assert says in str(caught.value) and "1 of 1 released rows" in str(caught.value)


def test_samples_without_the_other_way_s_route_are_listed(tmp_path: Path, unlike_rows: list[StR1Row]) -> None:
    release = official(tmp_path, unlike_rows)
    with pytest.raises(TrainingError, match="0 of this release's 60 samples"):
        build_rows(release, BuildPlan(10))
    assert len(build_rows(release, BuildPlan(10, with_think=False)).rows) == 10
