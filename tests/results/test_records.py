"""The typed samples of a run that the real lmms-eval has written, and what becomes of damaged files of such a run."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
from changed_runs import changed, with_results

from egost.results.intervals import estimate, paired
from egost.results.run import Run, read_run
from egost.results.run_header import RunError

TASK = "egost_mini_direction_forward"


def test_every_sample_of_a_real_run_is_read(demo_run: Run) -> None:
    records = demo_run.records
    assert len(demo_run.header.tasks) == 8 and len(records) > 30
    for figure in demo_run.figures:
        of_task = [r for r in records if r.task == figure.name]
        if not figure.is_group:
            assert estimate(of_task, draws=10).value == pytest.approx(figure.percent)
            assert len(of_task) == (figure.scored or 0) + (figure.unscored or 0)
    [group] = [figure for figure in demo_run.figures if figure.is_group]
    assert estimate(records, draws=10).value == pytest.approx(group.percent), "the mean of the tasks' means"
    one = next(r for r in records if r.task == TASK)
    assert one.sample.question in one.prompt and all(option in one.prompt for option in one.sample.options)
    assert (
        one.sample.answer in one.sample.letters and one.cluster == f"Part{one.sample.part}/{one.sample.clip}"
    )
    assert one.frames is not None and len(one.frames.indices) == 8 and len(one.frames.pixels_sha256) == 64
    assert one.generation is not None and one.generation.model and one.choice is not None


def test_the_order_of_lines_changes_no_figure(demo_run: Run, copied_run: Run) -> None:
    before = demo_run.records
    mixed = copied_run
    for task in copied_run.header.tasks:
        mixed = changed(mixed, task, lambda rows: random.Random(1).sample(rows, len(rows)))
    after = mixed.records
    assert [r.sample.id for r in before] != [r.sample.id for r in after]
    assert estimate(before, draws=500) == estimate(after, draws=500)
    assert paired(before, after, draws=500).ties == len(before)


def _cut_in_a_line(run: Run) -> None:
    path = run.samples_file(TASK)
    path.write_bytes(path.read_bytes()[:-40])


def _of_two_releases(run: Run) -> None:
    with_results(
        run, lambda r: r["configs"][TASK]["metadata"].update(release_revision="mini-1 of another seed")
    )


def _without_samples(run: Run) -> None:
    run.samples_file(TASK).unlink()


def _no_json(run: Run) -> None:
    content = run.results_file.read_bytes()
    run.results_file.write_bytes(content[: len(content) // 2])


def _rows(change: Callable[[list[dict[str, Any]]], list[dict[str, Any]]]) -> Callable[[Run], object]:
    return lambda run: changed(run, TASK, change)


def _first(**values: Any) -> Callable[[Run], object]:
    return _rows(lambda rows: [{**rows[0], **values}, *rows[1:]])


def _first_percent(**values: Any) -> Callable[[Run], object]:
    return _rows(lambda rows: [{**rows[0], "percent": {**rows[0]["percent"], **values}}, *rows[1:]])


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (_cut_in_a_line, r"line \d+: .*it is not JSON: .* The file was cut"),
        (_rows(lambda rows: rows[:-1]), r"holds \d+ samples, the run had \d+: the file was cut or joined"),
        (_rows(lambda rows: [*rows, rows[0]]), r"sample Part\d/direction_forward/\w+ is there twice"),
        (
            _rows(lambda rows: [{"doc_id": 0, "acc": 1.0}, *rows[1:]]),
            r"line 1: .* written by another version",
        ),
        (_first(compat="B"), r"compat: .* number, found 'B'"),
        (_first(percent=0.5), "line 1: the sample cannot be read"),
        (_first_percent(score=float("nan")), r"percent\.score: .* finite number, found nan"),
        (_first_percent(score=150.0), r"percent\.score: .* less than or equal to 100, found 150\.0"),
        (_first_percent(score=True), r"percent\.score: .* number, found True"),
        (_first_percent(sample_id="PartX/17"), "line 1: the sample cannot be read"),
        (_first_percent(frames={"source": "a.mp4"}), "line 1: the sample cannot be read"),
        (
            _of_two_releases,
            "mixes tasks of 2 releases .*mini-1 of another seed.*: evaluate them on one release",
        ),
        (_without_samples, "run lmms-eval again with --log_samples"),
        (_no_json, "is no results file of lmms-eval"),
    ],
)
def test_a_damaged_folder_says_what_is_wrong(
    copied_run: Run, damage: Callable[[Run], object], said: str
) -> None:
    with pytest.raises(RunError, match=said) as raised:
        damage(copied_run)
        _ = read_run(copied_run.results_file).records
    assert str(copied_run.results_file.parent) in str(raised.value), "which file it is"


def test_a_run_of_other_tasks_has_no_records(copied_run: Run) -> None:
    other = with_results(copied_run, lambda r: r.update(configs={"hellaswag": {}}))
    with pytest.raises(RunError, match="has no task of Ego-ST Bench"):
        _ = other.records
