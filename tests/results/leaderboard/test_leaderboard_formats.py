"""The formats: whole, safe against what stands in a file of anybody, and looked at by the programs that take them."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from headless_chromium import chromium_page, needs_chromium
from huggingface_hub import parse_eval_result_entries
from official_runs import as_official
from typer.testing import CliRunner

from egost.main import app
from egost.results.leaderboard.entries import find_entries
from egost.results.leaderboard.formats import FORMATS, format_of, written
from egost.results.leaderboard.tables import Leaderboard, leaderboard
from egost.results.run import Run
from egost.results.run_header import RunError

HOSTILE = '=cmd|"<script>document.title=1</script>&_#%$*`|{}~^\\end{document}'


@pytest.fixture
def hostile(demo_run: Run, tmp_path: Path) -> Leaderboard:
    """A run whose names hold what each format takes for its own signs, with refused figures shown."""

    def named(results: dict[str, object]) -> None:
        results["config"] = {"model": "m", "model_args": {"pretrained": HOSTILE}, "gen_kwargs": HOSTILE}

    as_official(demo_run, tmp_path / "run", results=named, judge=f"offline {HOSTILE}")
    return leaderboard(find_entries([tmp_path, tmp_path / "<i>nowhere"]), tables=(1, 2), show_all=True)


def test_csv_holds_one_whole_table(hostile: Leaderboard, demo_run: Run, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="Add --table"):
        written(hostile, "csv")
    as_official(demo_run, tmp_path / "one")
    board = leaderboard(find_entries([tmp_path / "one"]), tables=(1,))
    rows = list(csv.DictReader(io.StringIO(written(board, "csv"))))
    assert [row["origin"] for row in rows] == ["published"] * 10 + ["run"]
    assert (rows[3]["model"], rows[3]["avg_total"], rows[3]["avg_total_low"]) == ("Qwen2-VL-7B", "58.8", "")
    assert rows[0]["date"] == "2025-03-07"
    run = rows[-1]
    assert float(run["avg_total_low"]) <= float(run["avg_total"]) <= float(run["avg_total_high"])
    assert run["avg_total_n"] == run["scored"] == run["samples"]
    assert (run["judge"], run["prompt"], run["judge_failed"]) == (
        "gpt-4o-2024-08-06+route-judge-1",
        "direct-1",
        "0",
    )


def test_a_name_is_no_formula_in_a_spreadsheet(hostile: Leaderboard) -> None:
    [row] = list(csv.DictReader(io.StringIO(written(Leaderboard(hostile.boards[:1], (), (), 0), "csv"))))[10:]
    assert row["model"] == f"'{HOSTILE}"


def test_json_is_strict_and_says_all(hostile: Leaderboard) -> None:
    told = json.loads(written(hostile, "json"), parse_constant=lambda name: pytest.fail(name))
    [run] = [row for row in told["tables"][0]["rows"] if row["origin"] == "run"]
    assert run["model"] == HOSTILE and run["cells"]["route_forward"]["refused"]
    assert run["details"]["floors"]["verdicts"] == []
    assert len(told["not_read"]) == 1


def test_markdown_keeps_its_columns(hostile: Leaderboard) -> None:
    text = written(hostile, "md")
    table = [line for line in text.split("\n\n")[1].splitlines() if line.startswith("|")]
    assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table}) == 1, "an escaped bar parts no column"
    assert "<script" not in text.replace("\\<", "") and re.search(r"~~\d+\.\d~~", text)


def test_plain_latex_compiles_it(hostile: Leaderboard, tmp_path: Path) -> None:
    compiler = shutil.which("pdflatex")
    text = written(hostile, "tex")
    assert r"\textbackslash{}end\{document\}" in text and re.search(r"\(\(\d+\.\d\)\)", text)
    if compiler is None:
        pytest.skip("no pdflatex on this machine (Debian: apt-get install texlive-latex-base)")
    (tmp_path / "board.tex").write_text(text, encoding="utf-8")
    (tmp_path / "page.tex").write_text(
        "\\documentclass{article}\\usepackage{graphicx}\\begin{document}\\input{board}\\end{document}\n"
    )
    done = subprocess.run(
        [compiler, "-interaction=nonstopmode", "-halt-on-error", "page.tex"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:]
    assert (tmp_path / "page.pdf").stat().st_size > 10_000


@needs_chromium
def test_the_page_in_a_browser(hostile: Leaderboard, tmp_path: Path) -> None:
    path = tmp_path / "board.html"
    path.write_text(written(hostile, "html"), encoding="utf-8")
    with chromium_page(tmp_path) as page:
        page.show(1400)
        page.open(path)
        assert page.run("document.title") == "Ego-ST Bench leaderboard"
        assert HOSTILE in page.run("document.querySelector('tr.run').textContent")
        names = "[...document.querySelectorAll('#table1 .board tbody tr')].map(r => r.cells[0].textContent)"
        assert len(page.run(names)) == 11
        assert page.run(names)[0] == "Openai-o3-mini"
        heads = "[...document.querySelectorAll('#table1 .board th')]"
        page.run(f"{heads}.find(h => h.textContent === 'Avg.(Total)').querySelector('button').click()")
        assert page.run(names)[0] == "Qwen2.5-VL-72B"
        assert HOSTILE in page.run(names)[-1], "a refused figure is not ranked"
        page.run(f"{heads}.find(h => h.textContent === 'Avg.(Total)').querySelector('button').click()")
        assert page.run(names)[0] == "Gemini-1.5 Pro"
        assert page.run("document.querySelectorAll('tr.run td.figure s').length") > 0
        colours = []
        for scheme in ("light", "dark"):
            page.show(420, scheme=scheme)
            colours.append(page.run("getComputedStyle(document.body).backgroundColor"))
            assert page.run("document.documentElement.scrollWidth <= innerWidth"), (
                "tables scroll, the page does not"
            )
        assert colours[0] != colours[1]
        assert page.complaints == [] and page.requests == [path.as_uri()]


@pytest.mark.parametrize("form", FORMATS)
def test_the_command_writes_what_the_name_asks_for(form: str, demo_run: Run, tmp_path: Path) -> None:
    target = tmp_path / f"board.{form}"
    assert format_of(target) == form
    folder = str(demo_run.results_file.parent)
    arguments = ["leaderboard", folder, "--world", "mini", "--table", "1", "-o", str(target)]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    assert "mini-1" in target.read_text(encoding="utf-8")
    if form == "md":
        assert CliRunner().invoke(app, arguments[:-2]).stdout == target.read_text(encoding="utf-8")


def test_figures_for_a_models_repository(demo_run: Run, tmp_path: Path) -> None:
    revision = "54971f7" + "0" * 33
    as_official(demo_run, tmp_path / "run", release_revision=revision)
    target = tmp_path / ".eval_results" / "ego-st-bench.yaml"
    command = ["leaderboard", str(tmp_path / "run"), "-o", str(target)]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    content = yaml.safe_load(target.read_text(encoding="utf-8"))
    found = {entry.task_id: entry for entry in parse_eval_result_entries(content)}
    board = leaderboard(find_entries([tmp_path / "run"]), tables=(1,))
    [row] = [row for row in board.boards[0].rows if row.origin == "run"]
    shown = {name: cell for name, cell in row.cells.items() if cell.percent is not None}
    assert found.keys() == shown.keys() and {"route_forward", "avg_total"} <= found.keys()
    for name, cell in shown.items():
        entry = found[name]
        assert (entry.dataset_id, entry.dataset_revision) == ("openinterx/Ego-ST-bench", revision)
        assert entry.value == pytest.approx(cell.percent, abs=0.005) and entry.date == row.date
        assert entry.notes.startswith(f"percent, 95 % interval by clips {cell.low:.1f} to {cell.high:.1f}, ")
        assert "strict; egost protocol; frames uniform8" in entry.notes
        assert ("gpt-4o-2024-08-06" in entry.notes) == (name.startswith(("route", "avg")))
    assert CliRunner().invoke(app, [*command[:2], "--format", "hub"]).stdout == target.read_text(
        encoding="utf-8"
    )


def test_what_is_no_models_figures_on_the_benchmark(demo_run: Run, tmp_path: Path) -> None:
    as_official(demo_run, tmp_path / "a", model="one/model")
    as_official(demo_run, tmp_path / "b", model="other/model")
    as_official(demo_run, tmp_path / "c", judge="offline")
    for folders, message in (
        ((demo_run.results_file.parent,), "found none"),
        ((tmp_path / "a", tmp_path / "b"), r"found 2 \(one/model, other/model\)"),
        ((), "found none"),
    ):
        done = CliRunner().invoke(app, ["leaderboard", *map(str, folders), "--format", "hub"])
        assert done.exit_code == 2 and re.search(message, done.stderr.replace("\n", " ")), done.output
    judged = yaml.safe_load(
        CliRunner().invoke(app, ["leaderboard", str(tmp_path / "c"), "--format", "hub"]).stdout
    )
    names = {entry["dataset"]["task_id"] for entry in judged}
    assert "direction_forward" in names and not {"route_forward", "avg_total"} & names, (
        "what is refused is left out"
    )


def test_the_command_says_what_is_wrong(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["leaderboard", "--table", "1", "--sort", "nothing"])
    assert done.exit_code == 2 and "cannot be sorted by 'nothing'" in done.output
    done = CliRunner().invoke(app, ["leaderboard", str(tmp_path), "--table", "1"])
    assert done.exit_code == 0 and "Not read: " in done.stdout and "Qwen2.5-VL-72B" in done.stdout
