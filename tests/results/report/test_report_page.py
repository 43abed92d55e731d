"""The page of a report as it is written: what stands in it, and that nothing of a run can leave its place."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import pytest
from changed_runs import changed
from headless_chromium import CHROMIUM, chromium_page
from official_runs import Rows, as_official, scored
from planted_run import HOSTILE, REASONS, planted
from read_page import Read
from typer.testing import CliRunner

from egost.main import app
from egost.results.diagnosis.control_figures import compare_controls
from egost.results.diagnosis.controls import AS_ASKED, CONTROLS_FILE, About, write_controls
from egost.results.diagnosis.text_only import TEXT_ONLY_FILE, release_of, text_only, write_text_only
from egost.results.published_tables import published_table
from egost.results.report.figures import averages
from egost.results.report.page import report_page
from egost.results.run import Run, read_run

if TYPE_CHECKING:
    from demo_runs import DemoHome

LIMIT = 5_000_000
PUBLISHED = {row.model for number in (1, 3) for row in published_table(number).rows}  # type: ignore[arg-type]


def read(runs: list[Run], cache: Path) -> Read:
    return Read(report_page(runs, cache, LIMIT).html)


def test_what_a_model_says_stays_text_in_its_place(demo_run: Run, tmp_path: Path, own_cache: Path) -> None:
    run = planted(demo_run, tmp_path / "run", model=f"org/{HOSTILE}")
    page = read([run], own_cache)
    hostile = HOSTILE.replace("\ud800", "\ufffd")  # half of a pair is no character
    assert len(page.inside["script"]) == 2
    assert not page.comments
    assert not [tag for tag, _ in page.tags if tag in ("b", "i") and tag == "i"]
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on")]
    sample = next(s for s in page.data["samples"] if s["route"])
    assert sample["a"]["response"] == [[False, f"Turn left at the red door. {hostile}"]]
    assert sample["a"]["judged"]["text"] == REASONS.replace("\ud800", "\ufffd")
    choice = next(s for s in page.data["samples"] if s["a"]["outcome"] == "right" and not s["route"])
    assert choice["a"]["response"][0] == [True, f"<think>Back from the end. {hostile}</think>"]


def test_one_file_that_asks_for_nothing(fresh_run: Run, demo_home: DemoHome) -> None:
    page = report_page([fresh_run], demo_home.cache, LIMIT)
    read = Read(page.html)
    links = [a[name] for _, a in read.tags for name in ("src", "href", "action", "srcset") if name in a]
    assert {link for link in links if not (link or "").startswith("#")} == {"data:,"}
    policy = next(a["content"] for tag, a in read.tags if tag == "meta" and "http-equiv" in a) or ""
    for kind, text in (("style", read.inside["style"][0]), ("script", read.inside["script"][1])):
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none'; img-src data:;")
    assert not [a for _, a in read.tags if "style" in a], "the policy would refuse it"
    records = fresh_run.records
    assert page.samples == len(read.data["samples"]) == len(records)
    seen = {record.frames.pixels_sha256 for record in records if record.frames}
    assert set(read.data["frames"]) == seen, "each clip's frames once"
    assert len(page.html) < 3_000_000


def test_the_mini_world_is_not_put_beside_published_figures(
    demo_run: Run, tmp_path: Path, own_cache: Path
) -> None:
    mini = report_page([demo_run], own_cache, LIMIT).html.decode()
    official = report_page([read_run(as_official(demo_run, tmp_path / "a"))], own_cache, LIMIT).html.decode()
    assert not [model for model in PUBLISHED if model in mini]
    assert not [model for model in PUBLISHED if model not in official]
    assert "This is the mini world" in mini
    assert "This is the mini world" not in official
    assert "<title>taught: Ego-ST Bench report</title>" in official
    assert "next to published figures" not in official


OWN = "a benchmark of its own"


@pytest.mark.parametrize(
    ("told", "title", "reason"),
    [
        (
            {"release_revision": "walks constructed 0a1b2c3d4e5f"},
            f"walks, {OWN}",
            "not of the paper's release",
        ),
        ({"release_revision": "local"}, "of no recorded release", "revision is not recorded (local)"),
        ({"release_revision": None}, "of no recorded release", "revision is not recorded (none)"),
        ({"limit": 1.0}, "not comparable with published figures", "5 of 6 samples missing (--limit 1)"),
        ({"version": "1-A"}, "not comparable with published figures", "made by task version 1-A"),
        (
            {"prompt_sha256": "0" * 64},
            "not comparable with published figures",
            "asked by a prompt of its own",
        ),
        (
            {"overridden": ["doc_to_text"]},
            "not comparable with published figures",
            "a YAML of somebody's own",
        ),
    ],
)
def test_only_what_the_leaderboard_takes_stands_next_to_published_figures(
    demo_run: Run, tmp_path: Path, own_cache: Path, told: dict[str, Any], title: str, reason: str
) -> None:
    limit = told.pop("limit", None)

    def limited(results: dict[str, Any]) -> None:
        results["config"]["limit"] = limit

    file = as_official(
        demo_run, tmp_path / "a", rows=lambda _, rows: rows[: limit and int(limit)], results=limited, **told
    )
    html = report_page([read_run(file)], own_cache, LIMIT).html.decode()
    assert not [model for model in PUBLISHED if model in html]
    found = Read(html.encode())
    assert title in found.inside["title"][0]
    assert "Ego-ST Bench" not in found.inside["title"][0]
    [said] = [one for one in found.statements if one.startswith("Not put next to published figures")]
    assert reason in said
    for command in ("summary", "show"):
        shown = CliRunner().invoke(app, [command, str(file)]).output
        assert f"Not next to published figures: {said.partition(': ')[2]}" in shown
        assert ("world: official" in shown) == (title == "not comparable with published figures")
    board = CliRunner().invoke(app, ["leaderboard", str(file)]).output
    papers = board.partition("in the form of")[0]
    assert not [line for line in papers.splitlines() if line.startswith("| ") and "Seer-7B" in line]


def test_routes_by_rules_leave_the_other_figures_next_to_published_ones(
    demo_run: Run, tmp_path: Path, own_cache: Path
) -> None:
    file = as_official(demo_run, tmp_path / "a", judge="offline-rubric-3")
    found = read([read_run(file)], own_cache)
    [said] = [one for one in found.statements if one.startswith("Not put next to published figures")]
    assert said.endswith(
        "routes judged by offline-rubric-3, the paper's by gpt-4o (route_forward, route_reverse)."
    )
    captions = [text for text in found.inside["b"] if text in ("Avg.(Total)", "Route F", "Direction F")]
    assert captions == ["Direction F"], "an average that holds the routes is none of the paper's, either"


def test_two_runs_of_unlike_tasks_are_averaged_over_those_that_both_have(
    demo_run: Run, tmp_path: Path, own_cache: Path
) -> None:
    def without_routes(results: dict[str, Any]) -> None:
        for part in ("results", "configs", "n-samples"):
            for task in ("egost_route_forward", "egost_route_reverse"):
                del results[part][task]

    a = read_run(as_official(demo_run, tmp_path / "a", rows=scored(lambda k: 100.0 * (k % 2))))
    b = read_run(as_official(demo_run, tmp_path / "b", results=without_routes, rows=scored(lambda k: 100.0)))
    [line] = averages(a.records, b.records).lines
    assert line.label == "Mean of the 6 tasks of both runs"
    assert line.b and line.difference
    # Each task has an even number of samples, every other one right in A, all of them in B.
    assert (line.a.value, line.b.value, line.difference.value) == (50.0, 100.0, 50.0)


def test_tasks_are_counted_and_not_differences(demo_run: Run, tmp_path: Path, own_cache: Path) -> None:
    a = as_official(demo_run, tmp_path / "a")
    b = as_official(
        demo_run, tmp_path / "b", prompt="own", prompt_sha256="0" * 64, sampling_protocol="uniform8+cap1"
    )
    alike = [s for s in read([read_run(a), read_run(b)], own_cache).statements if "not made alike" in s]
    assert [s.rpartition("(")[2] for s in alike] == ["8 of 8 tasks)."] * 2
    assert not [s for s in alike if "1 of 8" in s]


def test_a_p_value_is_never_nought(demo_run: Run, tmp_path: Path, own_cache: Path) -> None:
    def always(value: float) -> Callable[[str, Rows], Rows]:
        """The same score for each sample, and a clip of its own for each."""
        return lambda task, rows: [
            {**row, "percent": {**row["percent"], "score": value, "clip": f"{task}{k}.mp4"}}
            for k, row in enumerate(rows)
        ]

    runs = [
        read_run(as_official(demo_run, tmp_path / name, rows=always(value)))
        for name, value in (("a", 0.0), ("b", 100.0))
    ]
    html = report_page(runs, own_cache, LIMIT).html.decode()
    assert "p 0.000" not in html
    assert "p &lt;.001" in html


def test_a_score_that_needs_no_seeing_is_told(copied_run: Run, own_cache: Path) -> None:
    records = copied_run.records
    before = read([copied_run], own_cache)
    assert len([s for s in before.statements if s.startswith("Not measured")]) == 2
    folder = copied_run.results_file.parent
    write_text_only(folder / TEXT_ONLY_FILE, text_only([r.sample for r in records], release_of(copied_run)))
    metadata = next(c["metadata"] for c in copied_run.results["configs"].values() if c.get("metadata"))
    ways = (metadata["sampling_protocol"], metadata["prompt"])
    about = About(
        {}, "vllm", "", release_of(copied_run), *ways, "", "egost_mini", None, None, 0, "2026-01-01"
    )
    blind = {AS_ASKED: records, "blind": records}
    write_controls(folder, compare_controls(blind, [], about), blind, [])
    page = read([copied_run], own_cache)
    assert not [s for s in page.statements if s.startswith("Not measured")]
    [floor] = [s for s in page.statements if s.startswith("Text alone gets")]
    assert "not" in floor, "a model that says letters at random does not clearly exceed the floor"
    assert [s for s in page.statements if "can be had without the video" in s]
    assert "blind" in page.inside["th"]
    assert "this run, where text alone fails" in page.inside["th"]
    (folder / CONTROLS_FILE).write_text("{")
    [why] = [s for s in read([copied_run], own_cache).statements if "holds no controls" in s]
    assert str(folder) not in why, "the machine's folders are nobody's business"


def test_two_runs_that_were_not_made_alike(demo_run: Run, tmp_path: Path, own_cache: Path) -> None:
    a = planted(demo_run, tmp_path / "a", model="org/a")
    b = planted(demo_run, tmp_path / "b", seed=1, model="org/b")
    page = read([a, b], own_cache)
    assert page.data["runs"] == ["org/a", "org/b"]
    changes = [abs(s["change"]) for s in page.data["samples"] if s["change"] is not None]
    assert changes == sorted(changes, reverse=True)
    assert changes[0] == 100
    assert not [s for s in page.statements if "not made alike" in s]
    told = json.loads(b.results_file.read_text())
    for config in told["configs"].values():
        if config.get("metadata"):
            config["metadata"]["sampling_protocol"] = "ref-qwen"
    b.results_file.write_text(json.dumps(told))
    alike = [s for s in read([a, read_run(b.results_file)], own_cache).statements if "not made alike" in s]
    assert [s for s in alike if "against ref-qwen" in s]


def test_an_older_run_without_questions(copied_run: Run, own_cache: Path) -> None:
    for path in copied_run.samples_files:
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        for row in rows:
            del row["percent"]["question"], row["percent"]["options"]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    page = read([copied_run], own_cache)
    assert {sample["question"] for sample in page.data["samples"]} == {""}
    assert "not recorded (an older run)" in page.inside["th"]


def test_the_command(
    fresh_run: Run, demo_home: DemoHome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EGOST_CACHE", str(demo_home.cache))
    target = tmp_path / "deep" / "page.html"
    folder = str(fresh_run.results_file.parent)
    done = CliRunner().invoke(app, ["report", folder, folder, "-o", str(target), "--frames-mb", "0"])
    assert done.exit_code == 0, done.output
    assert "0 clips with frames" in done.output
    page = Read(target.read_bytes())
    assert not page.data["frames"]
    assert {"over the limit" in why for why in page.data["absent"].values()} == {True}
    assert {sample["change"] for sample in page.data["samples"]} == {0}
    assert CliRunner().invoke(app, ["report", str(tmp_path / "nowhere")]).exit_code == 2


def test_a_run_without_a_score_has_a_page(demo_run: Run, tmp_path: Path, own_cache: Path) -> None:
    run = planted(demo_run, tmp_path / "run")
    for path in run.samples_files:
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        for row in rows:
            row["percent"].pop("score", None)
            row["percent"].update(unscored="decode_failed:missing", choice=None, judgement=None)
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    page = read([replace(run)], own_cache)
    assert {sample["a"]["outcome"] for sample in page.data["samples"]} == {"unscored"}
    assert "unscored: decode_failed:missing" in page.inside["th"]


def test_samples_of_incomplete_clips_are_counted(copied_run: Run, own_cache: Path) -> None:
    def cut(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        for row in rows[:2]:
            row["percent"]["frames"]["complete"] = False
        return rows

    run = changed(copied_run, "egost_mini_direction_forward", cut)
    counted = "<tr><th>frames of an incomplete clip</th><td>2</td></tr>"
    assert counted in report_page([run], own_cache, LIMIT).html.decode()
    shown = CliRunner().invoke(app, ["show", str(run.results_file)]).output
    assert "samples of incomplete clips: 2" in shown


def test_samples_come_before_the_many_tables_and_settings_are_folded(
    demo_run: Run, tmp_path: Path, own_cache: Path
) -> None:
    runs = [planted(demo_run, tmp_path / name, seed=seed) for seed, name in enumerate("ab")]
    html = report_page(runs, own_cache, LIMIT).html.decode()
    # Of two runs, what flipped comes first, under their averages and a link to what is to be known of them.
    places = [html.index(f'<section id="{name}">') for name in ("browser", "summary", "figures", "settings")]
    assert places == sorted(places)
    assert re.search(r'<a href="#summary">\d+ things to know before you believe', html[: places[0]])
    assert html[: places[0]].count('<p class="headline">') == 2, "Avg.(Total) and Avg.(ST)"
    summary = html[places[1] : places[2]]
    outside, folded_away = summary.split('<details class="more">')
    assert outside.count("<li ") == 3 and folded_away.count("<li ") == 3
    assert outside.count('<li class="warning">') == 3, "warnings before notes"
    assert "<details>" in html[places[3] :]
    assert summary.count("A and B: Not measured") == 2, "what is true of both is said once"
    alone = report_page(runs[:1], own_cache, LIMIT).html.decode()
    assert alone.index('<section id="summary">') < alone.index('<section id="browser">')


def test_a_folder_to_serve(
    demo_run: Run, tmp_path: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(demo_run.results_file.parent, tmp_path / "runs" / "a, b")
    stamp = demo_run.results_file.name.removesuffix("_results.json")
    as_official(demo_run, tmp_path / "runs" / "c")
    before = sorted((tmp_path / "runs").rglob("*"))
    for _ in range(2):
        done = CliRunner().invoke(app, ["report", "runs", "--publish", "site"])
        assert done.exit_code == 0, done.output
        assert "2 runs, each with its report in site/reports" in done.output.replace("\n", " ")
    assert sorted((tmp_path / "runs").rglob("*")) == before, "the runs are left as they were"
    site = tmp_path / "site"
    links = [a["href"] or "" for tag, a in Read((site / "index.html").read_bytes()).tags if tag == "a"]
    assert sorted(links) == [
        "leaderboard-mini.html",
        "leaderboard.html",
        f"reports/a%2C%20b/{stamp}_report.html",
        "reports/c/x_report.html",
    ]
    assert {str(p.relative_to(site)) for p in site.rglob("*.html")} == {"index.html", *map(unquote, links)}
    assert "somebody/Seer-7B" in (site / "leaderboard.html").read_text(encoding="utf-8")
    mini = (site / "leaderboard-mini.html").read_text(encoding="utf-8")
    assert "mini-1" in mini and "Seer-7B" not in mini
    if CHROMIUM:
        with chromium_page(tmp_path) as page:
            for scheme, width in (("light", 1200), ("dark", 600)):
                page.show(width, scheme=scheme)
                page.open(site / "index.html")
                assert page.run("document.documentElement.scrollWidth <= innerWidth")
            page.run("document.querySelector('a[href=\"leaderboard.html\"]').click()")
            assert page.run("location.pathname").endswith("html") and page.complaints == []
    for arguments in (["-o", "x.html"], ["runs"]):
        wrong = CliRunner().invoke(app, ["report", "runs", *arguments, "--publish", "other"])
        assert wrong.exit_code == 2 and "takes one folder of runs" in wrong.output.replace("\n", " ")
    assert not (tmp_path / "other").exists()


def test_an_index_of_a_folder_of_runs(
    demo_run: Run, tmp_path: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    planted(demo_run, tmp_path / "runs" / "a, b", model="org/<one>")
    as_official(demo_run, tmp_path / "runs" / "c")
    (tmp_path / "runs" / "broken_results.json").write_text("{")
    done = CliRunner().invoke(app, ["report", "runs", "--index", "-o", "pages/index.html"])
    assert done.exit_code == 0, done.output
    assert "2 runs, each with a report next to it" in done.output
    assert "broken_results.json cannot be read" in done.output.replace("\n", " ")
    html = (tmp_path / "pages" / "index.html").read_bytes()
    page = Read(html)
    links = [a["href"] or "" for tag, a in page.tags if tag == "a"]
    assert sorted(links) == ["../runs/a%2C%20b/run_report.html", "../runs/c/x_report.html"]
    for link in links:
        assert (tmp_path / "pages" / unquote(link)).resolve().is_file()
    assert "<one>" not in html.decode() and "org/&lt;one&gt;" in html.decode()
    assert "Ego-ST Bench" in page.inside["td"], "the one that may be called so"
    averages_shown = [f"{line.a.value:.1f}" for line in averages(demo_run.records, None).lines]
    assert set(averages_shown) <= set(page.inside["td"])
    empty = CliRunner().invoke(app, ["report", str(tmp_path / "pages"), "--index", "-o", "x.html"])
    assert empty.exit_code == 2 and "holds no run that can be shown" in empty.stderr
