"""Which runs are found, in which order rows stand, and what is best."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from official_runs import as_official, scored

from egost.results.diagnosis.control_figures import compare_controls
from egost.results.diagnosis.controls import AS_ASKED, About, write_controls
from egost.results.diagnosis.text_only import TEXT_ONLY_FILE, release_of, text_only, write_text_only
from egost.results.leaderboard.entries import find_entries
from egost.results.leaderboard.rows import Cell, Row
from egost.results.leaderboard.sheets import HOW, remarks, sheet
from egost.results.leaderboard.tables import _with_best, leaderboard
from egost.results.published_tables import published_table
from egost.results.run import Run
from egost.results.run_header import RunError


def test_the_paper_alone() -> None:
    boards = leaderboard(find_entries([]), tables=(1, 2, 3, 4)).boards
    assert [len(board.rows) for board in boards] == [10, 10, 10, 4]
    best = {row.model for row in boards[0].rows if row.cells["avg_total"].best}
    assert best == {"Qwen2.5-VL-72B"}
    misprinted = [row.model for row in boards[1].rows for cell in row.cells.values() if cell.notes]
    assert misprinted == [
        "Qwen2-VL-7B",
        "Qwen2.5-VL-7B",
        "Qwen2.5-VL-72B",
        "InternVL2.5-8B",
        "LLaVA-OneVision-72B",
    ]
    fields = [line.fields[1].text for line in sheet(boards[0]).lines]
    assert fields == ["paper 2025-03-07"] * 3 + ["paper"] * 7


def test_the_mini_world_has_tables_of_its_own(demo_run: Run) -> None:
    found = find_entries([demo_run.results_file.parent])
    official = leaderboard(found, tables=(1,))
    assert all(row.origin == "published" for row in official.boards[0].rows)
    assert any("being of the other world: " in text for text in remarks(official))
    [board] = leaderboard(found, tables=(1, 4), world="mini").boards
    [row] = board.rows
    assert row.origin == "run" and "Mini world" in board.title and not row.refused
    figures = {f.name: f for f in demo_run.figures}
    assert row.cells["avg_total"].percent == pytest.approx(figures["egost_mini"].percent)
    assert row.cells["avg_st"].percent == pytest.approx(figures["egost_mini"].spatiotemporal)
    both = leaderboard(found, tables=(1,), show_all=True).boards
    assert [board.world for board in both] == ["official", "mini"]
    assert all(row.origin == "published" for row in both[0].rows), "not even then in one table"


def test_aspects_of_routes_are_the_judges(demo_run: Run) -> None:
    [board] = leaderboard(find_entries([demo_run.results_file]), tables=(2,), world="mini").boards
    [row] = board.rows
    told = demo_run.results["results"]["egost_mini_route_forward"]
    for aspect in ("direction", "landmark", "semantic"):
        assert row.cells[f"{aspect}_forward"].percent == pytest.approx(20 * told[f"{aspect},none"])
    assert row.cells["avg_forward"].percent == pytest.approx(told["percent,none"])


def test_no_order_of_paths_changes_anything(demo_run: Run, tmp_path: Path) -> None:
    paths = [
        as_official(
            demo_run, tmp_path / name, model=f"a/{name}", rows=scored(lambda k, n=n: 100.0 * (k % 3 < n))
        )
        for n, name in enumerate("xyz")
    ]
    shown = set()
    for order in (*itertools.permutations(paths), [tmp_path], [tmp_path, *paths]):
        [board] = leaderboard(find_entries(order), tables=(1,)).boards
        shown.add((sheet(board).lines, sheet(board).how))
    assert len(shown) == 1


def test_a_run_as_published_is_directly_under_its_published_row(demo_run: Run, tmp_path: Path) -> None:
    st_r1 = "openinterx/ST-R1-mcq"
    as_official(demo_run, tmp_path / "ours", model=st_r1, rows=scored(lambda k: 100.0))
    as_official(demo_run, tmp_path / "theirs", model=st_r1, rows=scored(lambda k: 0.0), as_published="st-r1")
    changed = as_official(demo_run, tmp_path / "changed", model=st_r1, as_published="st-r1")
    told = json.loads(changed.read_text())
    told["config"]["gen_kwargs"] = {"temperature": 1}
    changed.write_text(json.dumps(told))
    [board] = leaderboard(
        find_entries([tmp_path]), tables=(3,), published_as={st_r1.casefold(): "ST-R1"}
    ).boards
    assert [row.model for row in board.rows[-5:]] == ["ST-R1", "ST-R1", st_r1, st_r1, st_r1]
    assert board.rows[-4].labels["training"] == "630/3582"
    theirs, *ours = board.rows[-3:]
    assert [row.details and row.details.protocol for row in (theirs, *ours)] == [
        "as published (st-r1)",
        "egost protocol",
        "egost protocol",
    ]
    lines = sheet(board).lines
    assert [line.fields[1].text for line in lines[-3:]] == [
        "run 1, as published (st-r1)",
        "run 2, egost protocol",
        "run 3, egost protocol",
    ]
    # Its strict scores are all 0; what is shown are the public code's, as the run saved them.
    task = "direction_forward"
    compat = [r.compat for r in demo_run.records if r.task == f"egost_mini_{task}" and r.compat is not None]
    assert theirs.cells[task].percent == pytest.approx(sum(compat) / len(compat)) and sum(compat) > 0
    assert "figures by the public code's rules (compat)" in theirs.notes
    assert not any("compat" in note for row in ours for note in row.notes)


def test_a_newer_run_of_the_same_settings_replaces_an_older_one(demo_run: Run, tmp_path: Path) -> None:
    file = as_official(demo_run, tmp_path / "run")
    for path in list(file.parent.iterdir()):
        shutil.copy(path, path.with_name(path.name.replace("x_", "y_", 1)))
    os.utime(file, (1, 1))
    found = find_entries([tmp_path])
    assert [entry.file.name for entry in found.entries] == ["y_results.json"] and found.replaced == 1
    other = json.loads(file.read_text())
    other["config"]["gen_kwargs"] = {"max_new_tokens": 5}
    file.write_text(json.dumps(other))
    assert len(find_entries([tmp_path]).entries) == 2, "other settings, another row"


def test_a_folder_that_cannot_be_read_says_why_and_the_others_still_come(
    demo_run: Run, tmp_path: Path
) -> None:
    as_official(demo_run, tmp_path / "good")
    changed = as_official(demo_run, tmp_path / "changed")
    told = json.loads(changed.read_text())
    told["results"]["egost_action_forward"]["percent,none"] = 99.0
    changed.write_text(json.dumps(told))
    cut = as_official(demo_run, tmp_path / "cut").with_name("x_samples_egost_action_forward.jsonl")
    cut.write_text(cut.read_text()[:-40])
    missing = as_official(demo_run, tmp_path / "missing").with_name("x_samples_egost_action_forward.jsonl")
    missing.unlink()
    foreign = as_official(demo_run, tmp_path / "foreign")
    told = json.loads(foreign.read_text())
    told["configs"]["egost_action_forward"]["metadata"]["trained_on"] = "refuse"
    foreign.write_text(json.dumps(told))
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken_results.json").write_text("{")
    names = ("good", "changed", "cut", "missing", "foreign", "empty", "broken_results.json", "nowhere")
    found = find_entries([tmp_path / name for name in names])
    assert len(found.entries) == 1
    reasons = {
        unreadable.path.parts[len(tmp_path.parts)]: unreadable.reason for unreadable in found.unreadable
    }
    for name, reason in (
        ("changed", "says 99.00 for egost_action_forward, but its samples give"),
        ("cut", "The file was cut"),
        ("missing", "--log_samples"),
        ("foreign", "does not tell how it was made"),
        ("empty", "did not finish"),
        ("broken_results.json", "is no results file"),
        ("nowhere", "there is no"),
    ):
        assert reason in reasons[name], name
    assert sum(text.startswith("Not read: ") for text in remarks(leaderboard(found, tables=(1,)))) == 7


def test_orders(demo_run: Run, tmp_path: Path) -> None:
    for name, share in (("Qwen/Qwen2-VL-7B-Instruct", 60), ("b/Best", 95), ("a/Worst", 5)):
        as_official(
            demo_run,
            tmp_path / name.replace("/", "_"),
            model=name,
            rows=scored(lambda k, share=share: 100.0 * (k * 37 % 100 < share)),
        )
    found = find_entries([tmp_path])
    names = {"qwen/qwen2-vl-7b-instruct": "Qwen2-VL-7B"}

    def order(sort: str) -> list[str]:
        return [
            row.model for row in leaderboard(found, tables=(1,), sort=sort, published_as=names).boards[0].rows
        ]

    paper = order("paper")
    assert paper[paper.index("Qwen2-VL-7B") + 1] == "Qwen/Qwen2-VL-7B-Instruct", "beside its published row"
    assert paper[-2:] == ["b/Best", "a/Worst"]
    assert order("avg_total")[0] == "b/Best" and order("avg_total")[-1] == "a/Worst"
    assert order("model")[0] == "a/Worst"
    assert "paper" not in order("date")[0] and order("date")[0].startswith(("a/", "b/", "Qwen/"))
    with pytest.raises(RunError, match=r"cannot be sorted by 'nothing'; expected one of paper, model"):
        order("nothing")


def row(percent: float | None, low: float | None = None, high: float | None = None, refused: str = "") -> Row:
    cell = Cell(percent, low, high, refused=(refused,) if refused else ())
    return Row("run", "m", "", {}, {"avg_total": cell}, "", (), None)


@pytest.mark.parametrize(
    ("rows", "best"),
    [
        ([row(60.0, 55.0, 65.0), row(40.0, 35.0, 45.0)], 0),
        ([row(60.0, 55.0, 65.0), row(52.0, 47.0, 57.0)], None),
        ([row(60.0), row(59.9)], 0),
        ([row(60.0), row(60.0)], None),
        ([row(60.0, 55.0, 65.0), row(58.0)], None),
        ([row(60.0, 59.0, 65.0), row(58.0)], 0),
        ([row(62.0), row(60.0, 55.0, 61.0)], 0),
        ([row(90.0, 89.0, 91.0, refused="why"), row(50.0), row(40.0)], 1),
        ([row(60.0, float("nan"), float("nan")), row(10.0)], None),
        ([row(None, refused="why"), row(10.0)], None),
        ([row(10.0)], None),
    ],
)
def test_bold_is_what_no_interval_meets(rows: list[Row], best: int | None) -> None:
    marked = [r.cells["avg_total"].best for r in _with_best(rows, published_table(1))]
    assert marked == [k == best for k in range(len(rows))]


def test_what_diagnose_wrote_stands_beside_the_run(copied_run: Run) -> None:
    records = copied_run.records
    choices = [record for record in records if record.sample.options]
    folder = copied_run.results_file.parent
    write_text_only(folder / TEXT_ONLY_FILE, text_only([r.sample for r in records], release_of(copied_run)))
    metadata = copied_run.results["configs"]["egost_mini_direction_forward"]["metadata"]
    generation = records[0].generation
    assert generation
    about = About(
        model={"model": generation.model, "revision": generation.revision},
        adapter="x",
        model_args="",
        release=release_of(copied_run),
        protocol=metadata["sampling_protocol"],
        prompt=metadata["prompt"],
        judge="",
        tasks="egost_mini_mcq",
        limit=None,
        room=None,
        left_out=0,
        made_at="2026-01-01T00:00:00Z",
    )
    replies = {AS_ASKED: choices, "blind": choices}
    write_controls(folder, compare_controls(replies, [], about), replies, [])
    [board] = leaderboard(find_entries([folder]), tables=(3,), world="mini").boards
    [line] = board.rows
    assert line.details
    found = line.details.without_seeing
    assert found.text and found.not_solved and found.blind
    assert found.blind.gap.value == 0
    assert any("can be had without the video" in verdict for verdict in found.verdicts), found.verdicts
    assert any(verdict.startswith("Text alone gets") for verdict in found.verdicts)
    how = dict(zip(HOW, sheet(board).how[0], strict=True))
    assert "gap +0.0" in how["Blind"] and "%" in how["Text alone"]
    (folder / TEXT_ONLY_FILE).write_text("{")
    [board] = leaderboard(find_entries([folder]), tables=(3,), world="mini").boards
    assert any("Write it again" in note for _, note in sheet(board).footnotes)


OTHERS = """
import sys
def others():
    roots = {name.partition(".")[0] for name in sys.modules} - set(sys.stdlib_module_names)
    return {name for name in roots if not name.startswith(("_", "egost", "cython"))}
"""
READERS = {
    *("annotated_doc", "annotated_types", "charset_normalizer", "filelock", "loguru", "numpy", "pydantic"),
    *("pydantic_core", "rich", "shellingham", "typer", "typing_extensions", "typing_inspection", "yaml"),
}
"""Packages that reading a run may load: none that takes a second of CPU."""


def test_reading_a_run_loads_few_packages_and_scipy_only_for_an_interval(demo_run: Run) -> None:
    code = (
        f"{OTHERS}\nfrom egost.main import app\n"
        "for command in (['show'], ['summary'], ['leaderboard', '--world', 'mini']):\n"
        "    app([*command, sys.argv[1]], standalone_mode=False)\n"
        "    print('loaded:', command[0], *others())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(demo_run.results_file)], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert "Mini world" in done.stdout and "taught" in done.stdout
    said = [line.split()[1:] for line in done.stdout.splitlines() if line.startswith("loaded:")]
    loaded = {command: set(packages) for command, *packages in said}
    assert loaded["show"] <= READERS, loaded["show"] - READERS
    for command in ("summary", "leaderboard"):
        assert loaded[command] <= {*READERS, "scipy"}, loaded[command] - READERS


def test_what_is_ours_evaluates_without_scipy_and_scikit_learn() -> None:
    rooms = (
        "tasks.utils",
        "tasks.judging.choose",
        "model_adapters.server.server_engine",
        "results.run_manifest",
    )
    ours = ", ".join(f"egost.{room}" for room in (*rooms, "results.intervals", "commands.run"))
    code = f"{OTHERS}\nimport {ours}\nprint(*sorted(others() & {{'scipy', 'sklearn'}}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout.strip()) == (0, ""), done.stderr
