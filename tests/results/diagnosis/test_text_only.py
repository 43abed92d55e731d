"""How far text alone gets: on the rows that ST-R1 learned from nearly everywhere, on the mini world nowhere."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import av
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from typer.testing import CliRunner

from egost.main import app
from egost.results.diagnosis.text_only import (
    Subject,
    TextOnly,
    TextOnlyScore,
    against_text_only,
    not_solved_by_text,
    read_text_only,
    release_of,
    text_only,
    text_only_of,
    write_text_only,
)
from egost.results.intervals import Estimate, estimate
from egost.results.run import Run
from egost.results.run_header import RunError
from egost.tasks.errors import ReleaseError
from egost.tasks.sample import Sample
from egost.tasks.text_only_baseline import trained_baseline
from egost.training import TrainingError
from egost.training.rows.released_rows import RELEASED, released_subsets, rows_as_samples

if TYPE_CHECKING:
    from demo_runs import DemoHome

ROWS = Subject("rows", "rows", "as released", "0")


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """What the command prints of the released rows, and the folder that it writes into."""
    folder = tmp_path_factory.mktemp("rows")
    done = CliRunner().invoke(
        app,
        ["diagnose", RELEASED, "--text-only", "--train", "252", "-o", str(folder)],
        env={"COLUMNS": "200"},
    )
    print(done.output)
    assert done.exit_code == 0, done.output
    return done.output, folder


@pytest.fixture(scope="module")
def found(shown: tuple[str, Path]) -> TextOnly:
    return read_text_only(shown[1] / "text_floor.json")


def test_text_alone_answers_most_released_rows(found: TextOnly) -> None:
    assert (found.by_clip.n, found.by_clip.clips) == (630, 214)
    assert found.by_clip.percent == pytest.approx(93, abs=2) and found.by_clip.low > 90
    assert found.by_clip.chance == pytest.approx(27.1, abs=0.1)
    assert {task: floor.n for task, floor in found.by_task.items()} == {
        "direction_forward": 143, "direction_reverse": 143, "landmark_forward": 92, "landmark_reverse": 92,
        "action_forward": 80, "action_reverse": 80,
    }  # fmt: skip
    assert set(found.by_source) == {"adt", "aria_everyday", "nymeria", "outdoor", "sun3d"}
    assert all(55 <= floor.percent <= 90 for floor in found.by_source.values()), found.by_source
    assert found.rules["longest option"].percent == pytest.approx(23.5, abs=0.1)
    assert len(found.solved) + len(found.not_solved) == 630
    assert len(found.solved) == round(6.3 * found.by_clip.percent)


def test_the_learning_curve_stands_beside_table_3(found: TextOnly, shown: tuple[str, Path]) -> None:
    assert [point.rows for point in found.curve] == [63, 126, 252, 378, 504]
    # Measured before, by a guesser of fewer features: 79.7, 87.2, 91.2, 93.1, 94.4 and 76.0, 82.3, 89.4, 88.6.
    for point, least in zip(found.curve, (76, 84, 89, 90, 89), strict=True):
        assert point.random >= least and 0 < point.random_sd < 4, point
    clips = [point.nested_other_clips for point in found.curve]
    assert [floor and floor.n for floor in clips] == [420, 300, 142, 44, 6]
    for floor, least in zip(clips[:4], (74, 79, 86, 84), strict=True):
        assert floor is not None and floor.percent >= least
    output, folder = shown
    assert "67.1 / 66.2" in output and "80.7 / 82.6" in output
    with av.open(str(folder / "learning_curve.png")) as image:
        pixels = next(image.decode(video=0)).to_ndarray(format="rgb24")
    assert pixels.shape == (750, 1200, 3)
    assert 0.01 < np.mean(np.any(pixels != 255, axis=2)) < 0.3


def test_taught_by_training_rows_it_is_asked_the_rest(found: TextOnly) -> None:
    assert found.trained is not None
    assert (found.trained.rows, found.trained.source) == (252, "252")
    taught = {(s.clip, s.task, s.way) for s in rows_as_samples("252")}
    asked = {s.id: s for s in rows_as_samples(RELEASED)}
    tested = [*found.trained.solved, *found.trained.not_solved]
    assert len(tested) == len(set(tested)) == found.trained.floor.n
    assert all((asked[name].clip, asked[name].task, asked[name].way) not in taught for name in tested)
    assert found.trained.floor.percent > 85
    assert found.trained.other_clips is not None and found.trained.other_clips.n == 142


def test_nested_subsets_are_the_released_ones() -> None:
    subsets = released_subsets()
    assert {size: len(rows) for size, rows in subsets.items()} == {
        n: n for n in (63, 126, 252, 378, 504, 630)
    }
    assert {s.id for s in subsets[126]} < {s.id for s in subsets[504]}


def test_the_mini_world_stays_at_chance(demo_home: DemoHome, tmp_path: Path) -> None:
    done = CliRunner().invoke(
        app,
        ["diagnose", "--text-only", "--tasks", "egost_mini_mcq", "-o", str(tmp_path)],
        env={"EGOST_MINI_DATA": str(demo_home.cache / "mini"), "COLUMNS": "200"},
    )
    assert done.exit_code == 0, done.output
    floor = read_text_only(tmp_path / "text_floor.json")
    assert floor.subject.world == "mini" and floor.by_clip.clips == 6
    assert floor.by_clip.low <= floor.by_clip.chance + 10
    assert not floor.curve and floor.trained is None


def test_a_run_is_measured_from_its_saved_samples(copied_run: Run) -> None:
    assert text_only_of(copied_run) is None
    folder = copied_run.results_file.parent
    done = CliRunner().invoke(app, ["diagnose", str(folder), "--text-only"], env={"COLUMNS": "200"})
    assert done.exit_code == 0, done.output
    floor = text_only_of(copied_run)
    assert floor is not None
    records = copied_run.records
    choices = [r for r in records if r.sample.options]
    assert floor.by_clip.n == len(choices)
    rest = not_solved_by_text(records, floor)
    left = [r for r in choices if r.sample.id in floor.not_solved]
    assert rest == estimate(left) and rest.n == len(left) < len(choices)
    assert f"not solved by text: {rest.value:.1f} %" in done.output
    other = replace(floor, subject=replace(floor.subject, release_sha256="0"))
    write_text_only(folder / "text_floor.json", other)
    assert text_only_of(copied_run) is None


def test_a_baseline_is_measured_once_for_each_set_of_questions(
    own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fits, fit = [], LogisticRegression.fit
    monkeypatch.setattr(LogisticRegression, "fit", lambda *given: fits.append(1) or fit(*given))
    asked = [question(f"{k}.mp4", ("left then right", "left then left"), "AB"[k % 2]) for k in range(12)]
    first = text_only(asked, ROWS, train=asked[:6], train_source="half")
    measured = len(fits)
    assert measured >= 11, "ten folds, and the training rows"
    renamed = replace(ROWS, name="the same, by another name")
    again = text_only(asked, renamed, train=asked[:6], train_source="half")
    assert again == replace(first, subject=renamed) and len(fits) == measured
    text_only([*asked[:-1], replace(asked[-1], answer="A")], ROWS)
    assert len(fits) == measured + 10, "another key of answers"
    for kept in (own_cache / "text_only").iterdir():
        kept.write_text("{")
    assert text_only(asked, ROWS, train=asked[:6], train_source="half") == first
    assert len(fits) == 2 * measured + 10, "a damaged file is measured again"


def test_a_floor_that_does_not_fit_is_refused(copied_run: Run, tmp_path: Path) -> None:
    records = copied_run.records
    floor = text_only([r.sample for r in records], release_of(copied_run))
    missing = replace(floor, solved=floor.solved[1:])
    with pytest.raises(RunError, match=r"does not know 1 of \d+ samples"):
        not_solved_by_text(records, missing)
    everything = replace(floor, solved=floor.solved + floor.not_solved, not_solved=())
    with pytest.raises(RunError, match="text alone answers all"):
        not_solved_by_text(records, everything)
    (tmp_path / "text_floor.json").write_text(json.dumps({"subject": 1}))
    with pytest.raises(RunError, match="egost diagnose RUN --text-only"):
        read_text_only(tmp_path / "text_floor.json")


def test_the_sentence_says_whether_a_score_exceeds_its_floor() -> None:
    floor = TextOnlyScore(93.0, 91.0, 95.0, 27.1, 630, 214)

    def score(value: float, low: float, high: float) -> Estimate:
        return Estimate(value, low, high, 1.0, 100, 50, 0, value, value)

    assert "does not exceed" in against_text_only(score(86.3, 85.0, 88.0), floor)
    assert "not clearly above" in against_text_only(score(94.0, 92.0, 96.0), floor)
    assert "is above it" in against_text_only(score(98.0, 97.0, 99.0), floor)


def question(clip: str, options: tuple[str, ...], answer: str) -> Sample:
    return Sample(clip, "direction", "forward", 1, clip, "Which?", options, answer)


def test_what_cannot_be_learned_is_said() -> None:
    one = [question(f"{k}.mp4", ("straight on",), "A") for k in range(3)]
    with pytest.raises(ReleaseError, match="two options or more; of the 3"):
        trained_baseline(one, one)
    route = replace(one[0], task="route", options=(), answer="Turn left.")
    with pytest.raises(RunError, match="none of the 1 samples of rows has options"):
        text_only([route], ROWS)
    with pytest.raises(RunError, match="two clips or more; rows has one"):
        text_only(one[:1] * 2, ROWS)
    two = [question(f"{k}.mp4", ("left then right", "left then left"), "AB"[k % 2]) for k in range(12)]
    with pytest.raises(RunError, match="all 12 questions are among the training rows"):
        text_only(two, ROWS, train=two, train_source="itself")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere.jsonl"], "names no training rows"),
        ([RELEASED, "--train", "64"], "No released subset has 64 rows"),
        (["no-such-run"], "there is no no-such-run"),
        ([], "egost data download"),
    ],
)
def test_bad_input_is_named(arguments: list[str], message: str, tmp_path: Path) -> None:
    done = CliRunner().invoke(
        app, ["diagnose", *arguments, "--text-only"], env={"EGOST_DATA": "", "HF_HOME": str(tmp_path)}
    )
    assert done.exit_code == 2, done.output
    assert message in done.output.replace("\n", " ")


def test_rows_of_our_own_form_are_read(tmp_path: Path) -> None:
    row = {"sample": question("a.mp4", ("p", "q"), "B").to_doc(), "think": "", "clip_sha256": "0"}
    (tmp_path / "rows.jsonl").write_text(json.dumps(row) + "\n")
    assert rows_as_samples(str(tmp_path / "rows.jsonl")) == [question("a.mp4", ("p", "q"), "B")]
    (tmp_path / "broken.jsonl").write_text("{")
    with pytest.raises(TrainingError, match="names no training rows"):
        rows_as_samples(str(tmp_path / "broken.jsonl"))
