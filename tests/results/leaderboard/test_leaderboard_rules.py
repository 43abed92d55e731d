"""Which figures of a run may stand in the paper's tables, and what is said of the others."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from official_runs import JUDGE, Rows, as_official, unscored
from typer.testing import CliRunner

from egost.main import app
from egost.results.leaderboard.entries import find_entries
from egost.results.leaderboard.rows import Row
from egost.results.leaderboard.sheets import sheet
from egost.results.leaderboard.tables import Board, leaderboard
from egost.results.published_tables import TableNumber
from egost.results.run import Run
from egost.tasks.prompts import AUTHORS

CHOICES = tuple(
    f"{kind}_{way}" for kind in ("direction", "landmark", "action") for way in ("forward", "reverse")
)
ROUTES = ("route_forward", "route_reverse")


def board_of(folder: Path, table: TableNumber = 1, show_all: bool = False) -> Board:
    return leaderboard(find_entries([folder]), tables=(table,), show_all=show_all).boards[0]


def run_rows(board: Board) -> list[Row]:
    return [row for row in (*board.rows, *board.left_out) if row.origin == "run"]


def refused(row: Row) -> dict[str, str]:
    return {name: "; ".join(cell.refused) for name, cell in row.cells.items() if cell.refused}


def by_protocol(name: str, size: tuple[int, int] | None = None) -> Callable[[str, Rows], Rows]:
    def change(_: str, rows: Rows) -> Rows:
        for row in rows:
            if frames := row["percent"].get("frames"):
                frames["protocol"] = name
                frames["width"], frames["height"] = size or (frames["width"], frames["height"])
        return rows

    return change


@pytest.mark.parametrize(
    ("protocol", "size", "reason"),
    [
        (
            "uniform8+1x1",
            (1, 1),
            "frames of 1 x 1 pixels, the paper's closed models and InternVL saw 224 x 224 or",
        ),
        ("uniform8+448x224", (448, 224), "frames of 448 x 224 pixels"),
        ("uniform8+cap100352", (280, 280), "at most 100352 pixels, the paper's of at most 151200"),
        ("ref-qwen+cap200000-602112", (448, 448), "enlarged to 200000 pixels, the reference's to 100352"),
        ("uniform8+cap151200", (388, 388), "a size that uniform8+cap151200 gave before decoding rules 3"),
        ("uniform8+cap151200", (392, 392), "a size that uniform8+cap151200 gave before decoding rules 3"),
        ("uniform4", None, "frames by 'uniform4', not 8 of the whole clip"),
        ("uniform8", None, None),
        ("uniform8+cap151200", (364, 364), None),
        ("ref-qwen+cap100352-151200", (392, 280), None),
        ("uniform8+cap602112p32", (1024, 576), None),
        ("ref-internvl+448x448", (448, 448), None),
        ("uniform8+224x224", (224, 224), None),
    ],
)
def test_frames_of_another_size_are_not_comparable(
    demo_run: Run, tmp_path: Path, protocol: str, size: tuple[int, int] | None, reason: str | None
) -> None:
    as_official(demo_run, tmp_path / "run", rows=by_protocol(protocol, size), sampling_protocol=protocol)
    [row] = run_rows(board_of(tmp_path))
    assert all((reason or "") in why for why in refused(row).values())
    assert bool(row.refused) == (reason is not None), row.refused


def test_one_size_of_frames_is_not_for_a_model_that_takes_a_video(demo_run: Run, tmp_path: Path) -> None:
    def as_video(task: str, rows: Rows) -> Rows:
        asked = {"engine": "vllm 0.32.0", "model": "m", "revision": None, "settings": {"frames": "video"}}
        rest = ("finish_reason", "truncated", "prompt_tokens", "completion_tokens", "video_tokens", "failure")
        for row in by_protocol("uniform8+224x224", (224, 224))(task, rows):
            row["percent"]["generation"] = {**asked, **dict.fromkeys(rest), "journaled": False}
        return rows

    as_official(demo_run, tmp_path / "run", rows=as_video)
    [row] = run_rows(board_of(tmp_path))
    assert "224 x 224 pixels for a model that the paper showed larger videos" in row.refused[0]


def test_a_run_as_the_paper_made_its_own_stands_in_all_columns(demo_run: Run, tmp_path: Path) -> None:
    as_official(demo_run, tmp_path / "run")
    board = board_of(tmp_path)
    [row] = run_rows(board)
    assert row in board.rows and not row.refused and not refused(row)
    assert set(row.cells) == set(board.columns)
    figures = {f.name.removeprefix("egost_mini_"): f.percent for f in demo_run.figures}
    for task in (*CHOICES, *ROUTES):
        assert row.cells[task].percent == pytest.approx(figures[task]), task
        assert row.cells[task].low is not None
    assert row.cells["avg_total"].percent == pytest.approx(sum(figures[t] for t in (*CHOICES, *ROUTES)) / 8)
    details = row.details
    assert details and details.scored == details.samples == sum(len(t) for t in demo_samples(demo_run))
    assert (details.judge, details.prompt, details.judge_failed) == (
        "gpt-4o-2024-08-06+route-judge-1",
        "direct-1",
        0,
    )
    assert (row.model, details.engine, details.revision) == (
        "somebody/Seer-7B",
        "lmms-eval 0.7.3 qwen2_vl",
        "",
    )


def demo_samples(run: Run) -> list[list[dict[str, Any]]]:
    return [run.samples(task) for task in run.results["configs"] if task.endswith(("forward", "reverse"))]


def test_the_authors_wording_is_comparable_and_marked(demo_run: Run, tmp_path: Path) -> None:
    as_official(demo_run, tmp_path / "run", prompt="authors-st-r1-1", prompt_sha256=AUTHORS["authors-st-r1"])
    [row] = run_rows(board_of(tmp_path))
    assert not refused(row) and "asked in the authors' wording" in row.notes


def test_a_model_that_was_not_trained_is_tested_without_st_r1s_rows_as_in_table_3(
    demo_run: Run, tmp_path: Path
) -> None:
    left_out = {"trained_on": "paper", "trained_on_rows": 0, "trained_on_overlap": {"action_reverse": 2}}
    as_official(demo_run, tmp_path / "run", **left_out, trained_on_parts={}, trained_on_sha256=[])
    [row] = run_rows(board_of(tmp_path, table=3))
    assert not row.refused and not refused(row)
    assert row.labels["training"].startswith("0/")
    remark = "not trained itself; ST-R1 was trained on 2 questions of this release, which were left out"
    assert remark in row.notes and not any(note.startswith("tested on all") for note in row.notes)
    [row] = run_rows(board_of(tmp_path))
    assert (
        "ST-R1 was trained on 2 questions of this task and asked the others only"
        in refused(row)["action_reverse"]
    )


def drop(task: str, count: int) -> Callable[[str, Rows], Rows]:
    return lambda changed, rows: rows[count:] if changed == task else rows


@pytest.mark.parametrize(
    ("changes", "columns", "reason"),
    [
        ({"judge": "offline-rubric-3"}, ROUTES, "routes judged by offline-rubric-3, the paper's by gpt-4o"),
        ({"judge": "gpt-4o-mini+route-judge-1"}, ROUTES, "routes judged by gpt-4o-mini"),
        ({"judge": "openai:gpt-4o@http://x/v1+route-judge-1"}, ROUTES, "the paper's by gpt-4o"),
        ({"version": "0-A"}, (*ROUTES, *CHOICES), "made by task version 0-A"),
        (
            {"prompt": "authors-st-r1-1", "prompt_sha256": "1"},
            (*ROUTES, *CHOICES),
            "a prompt of its own (authors",
        ),
        ({"prompt": "mine-1", "prompt_sha256": "0"}, (*ROUTES, *CHOICES), "a prompt of its own (mine-1)"),
        (
            {"rows": unscored("route_reverse", "judge_failed:parse", 1)},
            ("route_reverse",),
            "that the judge failed on",
        ),
        (
            {"rows": unscored("landmark_forward", "decode_failed:timeout", 1)},
            ("landmark_forward",),
            "samples without a score (1 decode_failed:timeout), at most 2% allowed",
        ),
        ({"rows": drop("action_forward", 1)}, ("action_forward",), "1 of "),
        (
            {"trained_on": "allow", "trained_on_rows": 9, "trained_on_overlap": {"action_reverse": 2}},
            ("action_reverse",),
            "trained on 2 of the samples it is tested on",
        ),
        (
            {"trained_on": "leave-out", "trained_on_rows": 9, "trained_on_overlap": {"action_reverse": 2}},
            ("action_reverse",),
            "trained on 2 questions of this task and asked the others only",
        ),
    ],
)
def test_what_is_refused_and_why(
    demo_run: Run, tmp_path: Path, changes: dict[str, Any], columns: tuple[str, ...], reason: str
) -> None:
    as_official(demo_run, tmp_path / "run", **changes)
    [row] = run_rows(board_of(tmp_path))
    told = refused(row)
    assert {name for name in told if not name.startswith("avg")} == set(columns)
    assert all(reason in told[column] for column in columns), told
    assert reason in told["avg_total"], "a mean holds what is refused"
    assert ("avg_st" in told) == any(c.startswith(("route", "direction")) for c in columns)
    assert all(row.cells[name].percent is None for name in told), "not shown without --all"


def test_frames_that_are_not_the_papers(demo_run: Run, tmp_path: Path) -> None:
    def reversed_frames(task: str, rows: Rows) -> Rows:
        for row in rows:
            row["percent"]["frames"]["protocol"] = "uniform8/reversed"
        return rows

    as_official(demo_run, tmp_path / "run", rows=reversed_frames)
    board = board_of(tmp_path)
    [row] = board.left_out
    assert row.refused == ("frames by 'uniform8/reversed', not 8 of the whole clip as the paper",)
    assert [r for r in board.rows if r.origin == "run"] == []
    assert sheet(board).left_out == (f"somebody/Seer-7B ({row.date}): {row.refused[0]}",)


@pytest.mark.parametrize("count", [1, 7, 9, 16, 64])
def test_other_numbers_of_frames_never_stand_beside_published_figures(
    demo_run: Run, tmp_path: Path, count: int
) -> None:
    def of_count(task: str, rows: Rows) -> Rows:
        for row in rows:
            row["percent"]["frames"]["protocol"] = f"uniform{count}+cap602112"
        return rows

    as_official(demo_run, tmp_path / "run", rows=of_count)
    board = board_of(tmp_path)
    [row] = board.left_out
    assert row.refused == (f"frames by 'uniform{count}+cap602112', not 8 of the whole clip as the paper",)
    assert [r for r in board.rows if r.origin == "run"] == []


def test_all_shows_what_is_refused_struck_out(demo_run: Run, tmp_path: Path) -> None:
    as_official(demo_run, tmp_path / "run", judge="offline-rubric-3")
    shown = sheet(board_of(tmp_path, show_all=True))
    [line] = [line for line in shown.lines if not line.published]
    by_head = dict(zip(shown.head, line.fields, strict=True))
    [route] = [f.percent for f in demo_run.figures if f.name == "egost_mini_route_forward"]
    assert by_head["Route F"].struck and by_head["Route F"].text == f"{route:.1f}"
    assert by_head["Avg.(Total)"].struck and not by_head["Direction F"].struck
    notes = dict(shown.footnotes)
    assert "routes judged by offline-rubric-3" in notes[by_head["Route F"].marks[0]]


def test_a_limited_run_misses_samples(demo_run: Run, tmp_path: Path) -> None:
    def limited(results: dict[str, Any]) -> None:
        results["config"]["limit"] = 2.0

    as_official(demo_run, tmp_path / "run", rows=lambda task, rows: rows[:2], results=limited)
    [row] = run_rows(board_of(tmp_path))
    assert all("samples missing (--limit 2)" in reason for reason in row.refused), row.refused


def test_a_run_on_another_release_than_the_newest(demo_run: Run, tmp_path: Path) -> None:
    as_official(demo_run, tmp_path / "old", results=lambda r: r.update(date="20250101_000000"), model="a/Old")
    as_official(demo_run, tmp_path / "new", model="a/New", release_sha256="2" * 64, release_revision="r2")
    old, new = sorted(run_rows(board_of(tmp_path)), key=lambda row: row.date)
    assert old.refused == ("of release r1, this table is of r2",)
    assert not new.refused


def test_a_run_on_a_constructed_benchmark_stands_beside_no_published_figure(
    demo_run: Run, tmp_path: Path
) -> None:
    as_official(demo_run, tmp_path / "run", release_revision="walks constructed a66fbf4f3e65")
    [row] = run_rows(board_of(tmp_path))
    told = "of a benchmark of its own (walks constructed a66fbf4f3e65), not of the paper's release"
    assert row.refused == (told,)


def test_each_release_of_ones_own_has_tables_of_its_own_with_chance(demo_run: Run, tmp_path: Path) -> None:
    for name, release, sha in (
        ("a", "walks constructed a66fbf4f3e65", "3"),
        ("b", "walks constructed a66fbf4f3e65", "3"),
        ("c", "rooms constructed 0123456789ab", "4"),
        ("d", "local", "5"),
        ("e", "r1", "1"),
    ):
        model = f"{name}/Seer"
        as_official(demo_run, tmp_path / name, model=model, release_revision=release, release_sha256=sha * 64)
    paper, *own = leaderboard(find_entries([tmp_path]), tables=(1,)).boards
    assert [row.model for row in paper.rows if row.origin == "run"] == ["e/Seer"]
    assert [(board.title.partition(" (")[0], [r.model for r in board.rows]) for board in own] == [
        ("Questions in the official layout, of no recorded release", ["chance", "d/Seer"]),
        ("Rooms, a benchmark of its own", ["chance", "c/Seer"]),
        ("Walks, a benchmark of its own", ["chance", "a/Seer", "b/Seer"]),
    ]
    for board in own:
        assert not [row for row in board.rows if row.refused or row.origin == "published"]
        assert any("cannot be compared with published figures" in note for note in board.notes)
        assert not any("Published rows" in note for note in board.notes)
    chance = own[0].rows[0].cells
    options = [len(row["percent"]["options"]) for row in demo_run.samples("egost_mini_direction_forward")]
    assert chance["direction_forward"].percent == pytest.approx(
        100 * sum(1 / n for n in options) / len(options)
    )
    assert not {"route_forward", "avg_st", "avg_total"} & chance.keys(), "nobody guesses a route"
    assert not any(cell.best for cell in chance.values())


def test_the_command_shows_a_benchmark_of_ones_own(demo_run: Run, tmp_path: Path) -> None:
    as_official(
        demo_run, tmp_path / "a", judge="offline-rubric-3", release_revision="walks constructed a66fbf4f3e65"
    )
    for form in ("md", "tex", "html", "json"):
        shown = CliRunner().invoke(app, ["leaderboard", str(tmp_path), "--format", form])
        assert shown.exit_code == 0, shown.output
        assert "Walks, a benchmark of its own" in shown.output
        assert "a guess among the options" in shown.output or form == "json"
        assert "Ego-ST Bench. Walks" not in shown.output


def test_routes_of_one_table_have_one_judge(demo_run: Run, tmp_path: Path) -> None:
    release = "walks constructed a66fbf4f3e65"
    as_official(demo_run, tmp_path / "a", model="a/A", judge="offline-rubric-3", release_revision=release)
    as_official(
        demo_run,
        tmp_path / "b",
        model="b/B",
        release_revision=release,
        results=lambda told: told.update(date="20270101_000000"),
    )
    board = leaderboard(find_entries([tmp_path]), tables=(1,)).boards[1]
    older = next(row for row in board.rows if row.model == "a/A")
    assert older.cells["route_forward"].refused == (
        f"routes judged by offline-rubric-3, the others' by {JUDGE}",
    )
    assert not older.cells["direction_forward"].refused


def test_a_trained_checkpoint_stands_in_table_3_beside_what_text_alone_gets(
    demo_run: Run, tmp_path: Path
) -> None:
    def left_out(results: dict[str, Any]) -> None:
        results["n-samples"]["egost_direction_forward"]["original"] -= 1

    as_official(
        demo_run,
        tmp_path / "run",
        rows=drop("direction_forward", 1),
        results=left_out,
        trained_on="leave-out",
        trained_on_rows=630,
        trained_on_overlap={"direction_forward": 1},
    )
    [row] = run_rows(board_of(tmp_path, table=3))
    assert not refused(row), "left out as the paper does"
    tested = sum(len(demo_run.samples(f"egost_mini_{task}")) for task in CHOICES) - 1
    assert row.labels["training"] == f"630/{tested}"
    assert "trained on 1 questions of this release, which were left out" in row.notes
    assert row.details and row.details.without_seeing.text, "measured, since nobody has"
    assert any("Text alone gets" in verdict for verdict in row.details.without_seeing.verdicts)
    [paper] = [
        r
        for r in board_of(tmp_path, table=3).rows
        if r.labels.get("training") == "630/3582" and r.model == "ST-R1"
    ]
    assert any("sees no frame" in note for note in paper.notes)


@pytest.mark.parametrize(
    ("parts", "sun3d", "outdoor"),
    [
        ({"Part3": 5, "Part4": 2}, "trained on 5 rows of SUN3D itself", ""),
        ({"Part1": 3, "Part4": 2}, "", "trained on 3 rows of HUJI+Self itself"),
        (None, "is not recorded", "is not recorded"),
    ],
)
def test_table_4_takes_what_is_out_of_distribution(
    demo_run: Run, tmp_path: Path, parts: dict[str, int] | None, sun3d: str, outdoor: str
) -> None:
    trained = {"trained_on": "leave-out", "trained_on_rows": 7, "trained_on_overlap": {}}
    as_official(demo_run, tmp_path / "run", **trained, **({"trained_on_parts": parts} if parts else {}))
    rows = {row.labels["test"]: row for row in run_rows(board_of(tmp_path, table=4))}
    assert set(rows) == {"SUN3D", "HUJI+Self"}
    for test, reason in (("SUN3D", sun3d), ("HUJI+Self", outdoor)):
        assert bool(rows[test].refused) == bool(reason)
        assert reason in " ".join(rows[test].refused)
    if parts and "Part3" in parts:
        assert rows["SUN3D"].labels["train"] == "SUN3D+Aria"


def test_unscored_samples_within_the_threshold_come_with_bounds(demo_run: Run, tmp_path: Path) -> None:
    def many(task: str, rows: Rows) -> Rows:
        copies = [
            {**row, "percent": {**row["percent"], "sample_id": f"{row['percent']['sample_id']}{n}"}}
            for row in rows
            for n in range(60)
        ]
        return unscored("action_forward", "decode_failed:timeout", len(copies) // 60)(task, copies)

    as_official(
        demo_run,
        tmp_path / "run",
        rows=lambda task, rows: many(task, rows) if task == "action_forward" else rows,
    )
    [row] = run_rows(board_of(tmp_path))
    cell = row.cells["action_forward"]
    assert not cell.refused and cell.n is not None and cell.of is not None and cell.n < cell.of
    assert len(cell.notes) == 1 and "if all were wrong" in cell.notes[0]
