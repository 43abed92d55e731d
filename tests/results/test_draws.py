"""`egost run --samples`: what several answers are worth together, by hand, and how they are asked for."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from egost_command import egost
from simulated_runs import TASKS, record
from typer.testing import CliRunner

from egost.main import app
from egost.results.draws import Draws, _figures, drawn, vote
from egost.results.records import SampleRecord
from egost.results.run import Run, read_run
from egost.results.run_header import RunError
from egost.tasks.scoring.choices import Choice

DIRECTION, ROUTE = TASKS[2], TASKS[0]


def question(number: int, letters: Sequence[str | None]) -> Draws:
    """One question whose right answer is A, with a letter for each answer; `-` is an answer that failed."""

    def one(letter: str | None) -> SampleRecord:
        score = None if letter == "-" else 100.0 * (letter == "A")
        found = record(DIRECTION, number, f"{number}.mp4", score)
        return replace(found, choice=None if letter == "-" else Choice(letter, "letter"))

    return tuple(one(letter) for letter in letters)


@pytest.mark.parametrize(
    ("letters", "mean", "best", "right_by_vote", "agreement"),
    [
        (["A", "A", "B"], 200 / 3, 100, 100, 100 / 3),
        (["B", "B", "A"], 100 / 3, 100, 0, 100 / 3),
        # The letter that was chosen first wins a tie.
        (["B", "A"], 50, 100, 0, 0),
        (["A", "B"], 50, 100, 100, 0),
        # An answer without a letter votes for none, and agrees with none.
        ([None, None, "A"], 100 / 3, 100, 100, 0),
        ([None, None], 0, 0, 0, 0),
        (["A", "A", "A", "B"], 75, 100, 100, 50),
        (["B"] * 5, 0, 0, 0, 100),
    ],
)
def test_figures_by_hand(
    letters: list[str | None], mean: float, best: float, right_by_vote: float, agreement: float
) -> None:
    found = _figures([question(1, letters)])
    assert found.majority and found.agreement
    values = [one.value for one in (found.mean, found.best, found.majority, found.agreement)]
    assert values == pytest.approx([mean, best, right_by_vote, agreement])


def test_a_question_with_a_failed_answer_counts_for_nothing_and_is_counted() -> None:
    found = _figures([question(1, ["A", "A"]), question(2, ["A", "-"])])
    assert (found.mean.value, found.mean.n, found.mean.unscored) == (100, 1, 1)
    assert found.majority and (found.majority.least, found.majority.most) == (50, 100)


def test_routes_have_no_vote_and_their_best_answer_counts() -> None:
    routes = tuple(record(ROUTE, 1, "1.mp4", score) for score in (20.0, 60.0))
    found = _figures([routes])
    assert (found.mean.value, found.best.value, found.majority, found.agreement) == (40, 60, None, None)
    assert vote(routes) is None
    both = _figures([routes, question(2, ["A", "B"])])
    assert both.mean.value == pytest.approx((40 + 50) / 2) and both.majority and both.majority.value == 100


def test_intervals_are_over_clips() -> None:
    found = _figures([question(n, ["A", "A"] if n % 2 else ["B", "B"]) for n in range(40)])
    assert found.majority and found.majority.clips == 40
    assert found.majority.low < 50 < found.majority.high and found.majority.low > 30


def test_the_same_run_twice_agrees_where_it_chose(demo_run: Run) -> None:
    found = drawn([demo_run, demo_run])
    for task, figures in found.by_task.items():
        [row] = [row for row in demo_run.figures if row.name == task]
        assert figures.mean.value == pytest.approx(row.percent) == pytest.approx(figures.best.value)
        assert (figures.majority is None) == ("route" in task)


def test_runs_of_other_questions_are_refused(demo_run: Run, copied_run: Run) -> None:
    path = copied_run.samples_file("egost_mini_direction_forward")
    text = path.read_text().replace("Part1/direction_forward/", "Part1/direction_forward/x")
    path.write_text(text)
    with pytest.raises(RunError, match="other questions"):
        drawn([demo_run, replace(copied_run)])


def planned(folder: Path, *more: str, samples: str = "3") -> tuple[int, str]:
    words = ["run", str(folder), "--tasks", "egost_mini_mcq", "--engine", "transformers", "--dry-run"]
    done = CliRunner().invoke(app, [*words, "--samples", samples, *more])
    return done.exit_code, done.output


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A checkpoint whose makers draw its answers, as far as a plan looks at it."""
    from egost.model_adapters.tiny_checkpoint import tiny_checkpoint

    folder = tiny_checkpoint(tmp_path / "drawn")
    path = folder / "generation_config.json"
    path.write_text(
        json.dumps({**json.loads(path.read_text()), "temperature": 0.7, "top_p": 0.8, "top_k": 20})
    )
    return folder


def arguments(output: str) -> list[str]:
    return [
        line.partition("--gen_kwargs ")[2].split()[0]
        for line in output.splitlines()
        if "--gen_kwargs" in line
    ]


def test_each_answer_is_drawn_as_the_card_says_with_a_seed_of_its_own(checkpoint: Path) -> None:
    code, output = planned(checkpoint)
    assert code == 0, output
    drawn_as = "temperature=0.7,top_p=0.8,top_k=20,do_sample=True"
    assert arguments(output) == [f"{drawn_as},seed={seed}" for seed in range(3)]
    assert output.count(",draws=3 ") == output.count(",draws=") == 1, "the first run asks for all"
    _, fresh = planned(checkpoint, "--fresh")
    assert fresh.count("fresh=True,draws=3 ") == fresh.count("fresh=True") == 1, "else all are asked again"
    assert [f"runs/drawn-samples/sample{n}" in output for n in (1, 2, 3, 4)] == [True, True, True, False]
    _, own = planned(checkpoint, "--", "--gen_kwargs", "temperature=1,seed=7,max_new_tokens=9")
    assert arguments(own) == [f"temperature=1,max_new_tokens=9,do_sample=True,seed={n}" for n in (7, 8, 9)]


@pytest.mark.parametrize("temperature", ["0", "-1", "nan", "inf", "warm", ""])
def test_a_temperature_at_which_nothing_is_drawn_is_refused(checkpoint: Path, temperature: str) -> None:
    code, output = planned(checkpoint, "--", f"--gen_kwargs=temperature={temperature}")
    assert code == 2 and "Give one above 0" in output.replace("\n", " "), output


def test_a_card_without_a_temperature_is_named(checkpoint: Path) -> None:
    (checkpoint / "generation_config.json").write_text("{}")
    code, output = planned(checkpoint)
    assert code == 2 and "not in generation_config.json" in output, output
    (checkpoint / "generation_config.json").write_text("[")
    code, output = planned(checkpoint)
    assert code == 2 and "cannot be read" in output, output


@pytest.mark.parametrize("samples", ["0", "1", "-1", "65", "x", "1.5"])
def test_a_bad_number_of_samples_is_refused_by_name(checkpoint: Path, samples: str) -> None:
    code, output = planned(checkpoint, samples=samples)
    assert code == 2 and "--samples" in output, output


def test_real_answers_are_journaled_one_by_one_by_their_seed(
    tmp_path: Path, mini_release: Callable[..., Path]
) -> None:
    cache = tmp_path / "cache"
    mini_release(cache / "mini", clips=6, seed=5)
    words = ("run", "mini-base", "--tasks", "egost_mini_direction_forward", "--limit", "1", "--samples", "2")
    words = (*words, "--engine", "transformers", "--", "--gen_kwargs", "temperature=1,max_new_tokens=4")
    done = egost(*words, cwd=tmp_path, cache=cache)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "egost: 2 of 2 samples; 1 clips, 0 from the journal" in done.stderr
    assert "egost: 1 of 1 samples; 1 clips, 1 from the journal" in done.stderr
    folder = tmp_path / "runs" / "mini-base-samples"
    found = json.loads((folder / "samples.json").read_text())
    assert (found["samples"], found["overall"]["mean"]["n"]) == (2, 1)
    runs = [read_run(folder / f"sample{n}") for n in (1, 2)]
    assert ["seed=0" in runs[0].header.gen_kwargs, "seed=1" in runs[1].header.gen_kwargs] == [True, True]
    with sqlite3.connect(cache / "journal" / "responses.sqlite") as journal:
        assert journal.execute("select count(distinct key) from replies").fetchone() == (2,)
