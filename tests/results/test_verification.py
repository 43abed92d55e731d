"""Rows of `egost verify`: published, ours, difference, interval, verdict; saved, sent and worked out again."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from official_runs import Rows, as_official
from places import ROOT
from typer.testing import CliRunner

from egost.main import app
from egost.model_adapters.known_models import known_models
from egost.results.leaderboard.entries import read_entry
from egost.results.run import Run
from egost.results.run_header import RunError
from egost.results.verification import VerificationRow, published_as, read_row, verify

QWEN = "Qwen/Qwen2-VL-7B-Instruct"
SENT = sorted((ROOT / "docs" / "verification").glob("*.json"))


def choices_right(task: str, rows: Rows) -> Rows:
    """All choices right and all routes worth nothing, by both scorings."""
    worth = 0.0 if task.startswith("route") else 100.0
    return [{**row, "compat": worth, "percent": {**row["percent"], "score": worth}} for row in rows]


def official(run: Run, folder: Path, **changes: Any) -> Path:
    """A run named as if it were Qwen2-VL-7B's, as published, on the whole benchmark."""
    given = {"model": QWEN, "as_published": "qwen", "rows": choices_right, **changes}
    return as_official(run, folder, **given)


def row_of(file: Path, name: str = "qwen2-vl-7b") -> VerificationRow:
    model = next(model for model in known_models().models if model.name == name)
    return verify(read_entry(file), name, model.paper_row, model.model, str(model.as_published))


def test_a_figure_agrees_where_the_interval_holds_the_papers(demo_run: Run, tmp_path: Path) -> None:
    row = row_of(official(demo_run, tmp_path / "run"))
    figures = {figure.column: figure for figure in row.figures}
    assert list(figures) == list(published_as("Qwen2-VL-7B")[0].columns)
    # 6 of 6 clips right: the truth may be as low as 0.025 ** (1 / 6) = 54.1 %. The paper has 52.6 and 71.0.
    for column, published, verdict in (
        ("direction_forward", 52.6, "differs beyond the interval"),
        ("direction_reverse", 62.4, "agrees"),
        ("landmark_forward", 71.0, "agrees"),
    ):
        found = figures[column]
        assert (found.published, found.n, found.of, found.reasons) == (published, 6, 6, ())
        for outcome in (found.strict, found.compat):
            assert (outcome.ours, outcome.high, outcome.verdict) == (100.0, 100.0, verdict)
            assert outcome.low == pytest.approx(54.07, abs=0.005)
            assert outcome.difference == pytest.approx(100 - published)
    # 0 of 6: at most 45.9 %; the paper's 31.0 is within.
    assert figures["route_forward"].compat.verdict == "agrees"
    # (0 + 0 + 100 + 100) / 4 and (0 + 0 + 6 x 100) / 8, against 44.8 and 58.8.
    assert figures["avg_st"].compat.ours == 50 and figures["avg_st"].compat.difference == pytest.approx(5.2)
    assert figures["avg_total"].compat.ours == 75
    assert row.differs
    assert (row.judge, row.frames, row.as_published) == (
        "gpt-4o-2024-08-06+route-judge-1",
        "uniform8",
        "qwen",
    )
    assert row.packages["lmms-eval"] and row.limit is None


@pytest.mark.parametrize(
    ("changes", "reason", "columns"),
    [
        ({"model": "somebody/Seer-7B"}, f"answered by somebody/Seer-7B, not by {QWEN}", 10),
        ({"as_published": ""}, "not run as published (qwen), but by the egost protocol", 10),
        ({"as_published": "llava"}, "not run as published (qwen), but by llava", 10),
        ({"judge": "offline-rubric-3"}, "routes judged by offline-rubric-3, the paper's by gpt-4o", 4),
        ({"release_revision": "local"}, "of a release whose revision is not recorded (local)", 10),
        ({"rows": lambda task, rows: choices_right(task, rows)[:2]}, "4 of 6 samples missing", 8),
    ],
)
def test_what_cannot_be_compared_gets_no_verdict(
    demo_run: Run, tmp_path: Path, changes: dict[str, Any], reason: str, columns: int
) -> None:
    """A part of the samples, another model, judge, release or protocol: the figures are shown, each with its reason."""
    row = row_of(official(demo_run, tmp_path / "run", **changes))
    apart = [figure for figure in row.figures if any(reason in why for why in figure.reasons)]
    assert len(apart) == columns
    assert (
        {figure.compat.verdict for figure in apart} == {"not comparable"} == {f.strict.verdict for f in apart}
    )
    assert all(figure.compat.ours is not None for figure in apart)


def test_a_task_on_one_clip_alone_gets_no_verdict(demo_run: Run, tmp_path: Path) -> None:
    def one(told: dict[str, Any]) -> None:
        for counts in told["n-samples"].values():
            counts["original"] = counts["effective"] = 1

    row = row_of(
        official(demo_run, tmp_path / "run", rows=lambda t, rows: choices_right(t, rows)[:1], results=one)
    )
    assert {(f.compat.verdict, f.compat.low, bool(f.reasons)) for f in row.figures} == {
        ("not comparable", None, True)
    }


def test_st_r1_is_held_against_its_last_row_of_table_3(demo_run: Run, tmp_path: Path) -> None:
    file = official(
        demo_run,
        tmp_path / "run",
        model="openinterx/ST-R1-mcq",
        as_published="st-r1",
        trained_on="paper",
        trained_on_rows=0,
        trained_on_overlap={},
    )
    row = row_of(file, "st-r1")
    assert row.table == 3 and row.trained_on == "paper"
    figures = {figure.column: figure for figure in row.figures}
    assert figures["avg_forward"].published == 86.3 and figures["avg_reverse"].published == 86.1
    assert {figure.compat.verdict for figure in row.figures} == {"agrees"} and not row.differs


def test_the_mini_world_has_nothing_published(demo_run: Run) -> None:
    row = row_of(demo_run.results_file)
    assert (row.world, row.paper_row) == ("mini", None) and not row.differs
    assert {(f.published, f.compat.verdict) for f in row.figures} == {(None, "nothing published")}
    told = {f.name: f.percent for f in demo_run.figures}
    assert next(f.strict.ours for f in row.figures if f.column == "avg_total") == pytest.approx(
        told["egost_mini"]
    )


def test_the_command_shows_saves_and_checks_a_row(demo_run: Run, tmp_path: Path) -> None:
    file = official(demo_run, tmp_path / "run")
    done = CliRunner().invoke(app, ["verify", "qwen2-vl-7b", "--run", str(file)])
    assert done.exit_code == 1, "a figure differs"
    line = next(line for line in done.stdout.splitlines() if line.startswith("Landmark F"))
    half = "100.0 (54.1 to 100.0) +29.0 agrees"
    assert " ".join(line.split()[2:]) == f"71.0 {half} {half} 6 of 6"
    assert "judge: gpt-4o-2024-08-06+route-judge-1" in done.stdout and "frames: uniform8" in done.stdout
    saved = tmp_path / "run" / "x_verification.json"
    assert f"saved: {saved}" in done.stdout

    checked = CliRunner().invoke(app, ["verify", "--check", str(saved)])
    assert checked.exit_code == 0, checked.output
    assert "10 figures, worked out again from 40 samples" in checked.stderr
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in checked.stdout.splitlines()]
    [ours] = [line for line in lines if line[0] == "Qwen2-VL-7B"]
    assert ours[1:3] == ["Avg.(Total)", "58.8"] and ours[3].startswith("75.0 (") and ours[4] == "+16.2"
    assert ours[7:9] == ["gpt-4o-2024-08-06+route-judge-1", "uniform8"]
    assert sum(line[3] == "not run" for line in lines) == 11, "nine models, and ST-R1 both ways"

    told = json.loads(saved.read_text())
    told["figures"][1]["compat"]["ours"] = 58.8
    saved.write_text(json.dumps(told))
    refused = CliRunner().invoke(app, ["verify", "--check", str(saved)])
    assert refused.exit_code == 2
    assert "avg_total: compat ours is said to be 58.8, its samples give 75.0" in refused.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["qwen3-vl-8b"], "the paper has no row of qwen3-vl-8b"),
        ([], "which model is to be verified"),
        (["gemini-1.5-pro"], "retired"),
        (["--check", "nowhere.json"], "nowhere.json is no row of egost verify"),
    ],
)
def test_what_cannot_be_verified_is_said(words: list[str], message: str) -> None:
    done = CliRunner().invoke(app, ["verify", *words])
    assert done.exit_code == 2 and message in done.stderr


def test_a_dry_run_prints_the_command_as_published() -> None:
    done = CliRunner().invoke(app, ["verify", "qwen2-vl-7b", "st-r1", "--limit", "5", "--dry-run"])
    first, second = done.stdout.splitlines()
    assert first.startswith("EGOST_AS_PUBLISHED=qwen ") and "--tasks egost --model egost_vllm" in first
    assert "--output_path runs/verify/qwen2-vl-7b --log_samples --limit 5" in first
    assert second.startswith("EGOST_AS_PUBLISHED=st-r1 ") and "--tasks egost_mcq " in second


def test_rows_that_were_sent_are_right_and_in_the_document() -> None:
    rows = [read_row(file) for file in SENT]
    assert all(row.world == "official" for row in rows)
    shown = CliRunner().invoke(app, ["verify", "--check", *map(str, SENT)])
    assert shown.exit_code == 0, shown.output
    page = (ROOT / "docs" / "verification.md").read_text(encoding="utf-8")
    [table] = re.findall(
        r"<!-- egost verify --check docs/verification/\*\.json -->\n\n(.*?)\n\n", page, re.DOTALL
    )
    assert table == shown.stdout.strip()


def test_the_paper_has_no_other_row() -> None:
    with pytest.raises(RunError, match="the paper has no row 'Seer'"):
        published_as("Seer")
