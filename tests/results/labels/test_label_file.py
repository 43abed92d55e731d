"""The file of labels: written whole, read back, merged; two raters at once, and one that is killed."""

from __future__ import annotations

import csv
import io
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import pytest
from planted_run import planted
from report_record import route_record
from typer.testing import CliRunner

from egost.main import app
from egost.results.labels.drawing import draw_labels
from egost.results.labels.label_file import Labels, imported, labels_path, read_labels
from egost.results.records import SampleRecord
from egost.results.run import Run
from egost.results.run_header import RunError

SAVES = """
import sys
from pathlib import Path
from egost.results.labels.label_file import read_labels
from egost.tasks.cache import only_writer

file, rater, times = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
print("ready", flush=True)
sys.stdin.readline()
order = read_labels(file).order(rater)
for k in range(times):
    with only_writer(file):
        read_labels(file).with_label(order[k % len(order)], rater, (k % 6, 1, 2)).write(file)
    print(k, flush=True)
"""


@pytest.fixture
def records() -> list[SampleRecord]:
    return [
        route_record(key, (key % 6, 3, 3), way) for key, way in product(range(20), ("forward", "reverse"))
    ]


@pytest.fixture
def file(tmp_path: Path, records: list[SampleRecord]) -> Path:
    path = tmp_path / "run_labels.csv"
    draw_labels(records, 20).write(path)
    return path


def saving(file: Path, rater: str, times: int) -> subprocess.Popen[str]:
    """A process that saves labels one after the other, as the page does, once a line is sent to it."""
    process = subprocess.Popen(
        [sys.executable, "-c", SAVES, str(file), rater, str(times)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout and process.stdout.readline() == "ready\n"
    return process


def start(process: subprocess.Popen[str]) -> None:
    assert process.stdin
    process.stdin.write("\n")
    process.stdin.flush()


def test_what_is_written_is_read_back(tmp_path: Path, records: list[SampleRecord]) -> None:
    labels = draw_labels(records, 20)
    for sample, rater in product(labels.drawn[:3], ("anna", "Zoë", "b.c-d_9")):
        labels = labels.with_label(sample, rater, (0, 5, 3))
    labels.write(tmp_path / "labels.csv")
    assert read_labels(tmp_path / "labels.csv") == labels
    assert labels.raters == ["Zoë", "anna", "b.c-d_9"] and len(labels.by_sample()) == 3


def test_each_rater_has_an_order_of_their_own_that_stays(file: Path) -> None:
    labels = read_labels(file)
    anna, ben = labels.order("anna"), labels.order("ben")
    assert anna != ben and sorted(anna) == sorted(ben) == sorted(labels.drawn)
    assert anna != labels.drawn != ben
    labels.with_label(anna[0], "anna", (1, 1, 1)).write(file)
    assert read_labels(file).order("anna") == anna


def test_two_processes_that_save_at_once_lose_nothing(file: Path) -> None:
    processes = [saving(file, rater, 20) for rater in ("anna", "ben")]
    for process in processes:
        start(process)
    for process in processes:
        process.communicate(timeout=120)
        assert process.returncode == 0
    labels = read_labels(file)
    for rater in ("anna", "ben"):
        assert [labels.labels[sample, rater] for sample in labels.order(rater)] == [
            (k % 6, 1, 2) for k in range(20)
        ]
    assert [path.name for path in file.parent.iterdir()] == [file.name]


def test_a_process_that_is_killed_while_it_saves_leaves_a_whole_file(file: Path) -> None:
    """Each label that it reported is there; the next person goes on."""
    for rater in ("anna", "ben"):
        process = saving(file, rater, 10_000)
        start(process)
        assert process.stdout
        said = [int(process.stdout.readline()) for _ in range(7)]
        process.send_signal(signal.SIGKILL)
        said += [int(line) for line in process.stdout.read().split()]
        assert process.wait(30) == -signal.SIGKILL
        labels = read_labels(file)
        order = labels.order(rater)
        last = {sample: k for k in said for sample in (order[k % len(order)],)}
        later = said[-1] + 1
        for sample, k in last.items():
            # The label after the last one that was reported may be there, too.
            assert labels.labels[sample, rater] in {(k % 6, 1, 2)} | (
                {(later % 6, 1, 2)} if sample == order[later % len(order)] else set()
            )
    assert labels.raters == ["anna", "ben"]


def test_the_file_says_nothing_of_the_machine(demo_run: Run, tmp_path: Path) -> None:
    run = planted(demo_run, tmp_path / "secret-folder" / "run", model="secret-lab/secret-model")
    done = CliRunner().invoke(
        app, ["judge", "label", str(run.results_file.parent), "--export", str(tmp_path / "x")]
    )
    assert done.exit_code == 0, done.output
    labels = read_labels(path := labels_path(run.results_file))
    labels.with_label(labels.drawn[0], "rater1", (1, 2, 3)).write(path)
    rows = list(csv.reader(io.StringIO(path.read_text(encoding="utf-8"))))
    assert [len(row) for row in rows] == [9] * len(rows)
    for text in (path.read_text(encoding="utf-8"), (tmp_path / "x").read_text(encoding="utf-8-sig")):
        for word in (str(tmp_path), "secret", os.uname().nodename, "/home", "UTC", "2026"):
            assert word not in text, word
    # In the label file, the way and the band are all that is told of the judge; in the sheet, nothing is.
    told = [
        re.search(r"\d+-(20|40|60|80|100)\b", p.read_text(encoding="utf-8")) for p in (path, tmp_path / "x")
    ]
    assert told[0] and not told[1]


@pytest.fixture
def sheet(demo_run: Run, tmp_path: Path) -> Iterator[tuple[Run, Path]]:
    """A run and the sheet of anna, as a spreadsheet would be given it."""
    run = planted(demo_run, tmp_path / "run", times=2)
    path = tmp_path / "anna.csv"
    words = [
        "judge",
        "label",
        str(run.results_file.parent),
        "--rater",
        "anna",
        "--n",
        "10",
        "--export",
        str(path),
    ]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0 and "10 routes of anna are in" in done.output, done.output
    yield run, path


def filled(path: Path, scores: dict[int, str]) -> None:
    """Fill lines of a sheet (the first below the names is 0) with three digits."""
    rows = list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8-sig"))))
    for number, digits in scores.items():
        rows[number] |= dict(zip(("direction", "landmark", "semantic"), digits, strict=True))
    text = io.StringIO()
    writer = csv.DictWriter(text, rows[0])
    writer.writeheader()
    writer.writerows(rows)
    path.write_text(text.getvalue(), encoding="utf-8")


def test_a_sheet_is_filled_and_imported(sheet: tuple[Run, Path]) -> None:
    run, path = sheet
    file = labels_path(run.results_file)
    order = read_labels(file).order("anna")
    text = path.read_text(encoding="utf-8-sig")
    assert [row["sample"] for row in csv.DictReader(io.StringIO(text))] == order
    assert text.count("\n") == 11, "a line for each"
    filled(path, {0: "543", 3: "000"})
    take = ["judge", "label", str(run.results_file.parent), "--rater", "anna", "--import", str(path)]
    done = CliRunner().invoke(app, take)
    assert "imported: 2 labels; 0 changed" in done.output and "labelled: anna 2, of 10" in done.output
    assert read_labels(file).labels == {(order[0], "anna"): (5, 4, 3), (order[3], "anna"): (0, 0, 0)}
    filled(path, {3: "001", 4: "555"})
    assert "imported: 1 labels; 1 changed" in CliRunner().invoke(app, take).output
    assert read_labels(file).labels[order[3], "anna"] == (0, 0, 1)
    # What is exported now holds them, and importing it changes nothing.
    CliRunner().invoke(app, [*take[:-2], "--export", str(path)])
    assert "imported: 0 labels; 0 changed" in CliRunner().invoke(app, take).output


def test_the_labels_of_another_machine_are_taken_with_their_raters(file: Path, tmp_path: Path) -> None:
    labels = read_labels(file)
    there = labels.with_label(labels.drawn[0], "ben", (1, 2, 3)).with_label(labels.drawn[1], "eva", (4, 4, 4))
    there.write(tmp_path / "there.csv")
    here = labels.with_label(labels.drawn[0], "anna", (5, 5, 5))
    both = imported(here, tmp_path / "there.csv", "nobody", 3)
    assert both.labels == {**here.labels, **there.labels}
    with pytest.raises(RunError, match=r"anna and ben label this run already.*--raters 3"):
        imported(here, tmp_path / "there.csv", "nobody", 2)


def test_a_third_rater_is_refused(sheet: tuple[Run, Path]) -> None:
    run, path = sheet
    file = labels_path(run.results_file)
    labels: Labels = read_labels(file)
    for rater in ("anna", "ben"):
        labels = labels.with_label(labels.drawn[0], rater, (1, 2, 3))
    labels.write(file)
    words = ["judge", "label", str(run.results_file.parent), "--rater", "eva"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 2
    assert "anna and ben label this run already" in done.output and "--raters 3" in done.output
    assert CliRunner().invoke(app, [*words, "--raters", "3", "--export", str(path)]).exit_code == 0
