"""The plain lmms-eval command, as a user types it: finds the tasks, runs them, scores them."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from statistics import mean
from typing import Any

import pytest
from demo_runs import DemoHome
from lmms_eval_command import COMMAND, environment, lmms_eval, on_cpu, plain_lmms_eval, saved
from places import ROOT
from wheels import empty_environment, install, site_packages

TASKS = [
    f"{task}_{way}" for task in ("route", "direction", "landmark", "action") for way in ("forward", "reverse")
]
FEW_TOKENS = ["--gen_kwargs", "max_new_tokens=8"]


@pytest.fixture(scope="module")
def cache(demo_home: DemoHome) -> Path:
    """A cache that holds a mini world of 6 walks; its tasks have unlike sizes."""
    return demo_home.cache


@pytest.fixture(scope="module")
def checkpoint(demo_home: DemoHome) -> Path:
    return demo_home.checkpoint


@pytest.fixture(scope="module")
def whole_run(cache: Path, checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """All eight mini tasks, from a folder that has nothing to do with the project; output folder and text."""
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    done = plain_lmms_eval(
        *["--tasks", "egost_mini", *on_cpu(checkpoint), *FEW_TOKENS, "--output_path", "out", "--log_samples"],
        cwd=elsewhere,
        cache=cache,
    )
    assert done.returncode == 0 and (elsewhere / "out").is_dir(), done.stdout[-3000:] + done.stderr[-3000:]
    return elsewhere / "out", done.stdout


def test_group_figures_are_the_plain_means_of_the_tasks(whole_run: tuple[Path, str]) -> None:
    results, samples = saved(whole_run[0])
    assert set(samples) == {f"egost_mini_{task}" for task in TASKS}
    assert len({len(rows) for rows in samples.values()}) > 1, "the tasks must have unlike sizes"
    by_hand = {
        metric: {
            name: mean(score(row[metric]) for row in rows)
            for name, rows in samples.items()
            if metric in rows[0]
        }
        for metric in ("percent", "spatiotemporal", "compat")
    }
    assert len(by_hand["percent"]) == 8 and len(by_hand["spatiotemporal"]) == 4
    assert len(set(by_hand["percent"].values())) > 2, "means of equal figures would show nothing"
    sizes = {name: len(rows) for name, rows in samples.items()}
    weighted = sum(by_hand["percent"][name] * n for name, n in sizes.items()) / sum(sizes.values())
    assert weighted != pytest.approx(mean(by_hand["percent"].values())), (
        "nor would a mean that sizes cannot change"
    )
    for metric, figures in by_hand.items():
        for name, figure in figures.items():
            assert results["results"][name][f"{metric},none"] == pytest.approx(figure)
        assert results["groups"]["egost_mini"][f"{metric},none"] == pytest.approx(mean(figures.values()))
        assert f"|egost_mini|none  |      |{metric}" in whole_run[1]


def score(item: Any) -> float:
    return float(item["score"] if isinstance(item, dict) else item)


def test_the_results_say_where_the_figures_come_from(whole_run: tuple[Path, str]) -> None:
    results, samples = saved(whole_run[0])
    metadata = results["configs"]["egost_mini_route_reverse"]["metadata"]
    assert metadata["world"] == "mini" and "seed 3" in metadata["release_revision"]
    assert metadata["sampling_protocol"] == "uniform8" and metadata["prompt"] == "direct-1"
    assert metadata["judge"] == "offline-rubric-3" and metadata["packages"]["lmms-eval"] == "0.7.3"
    assert results["versions"]["egost_mini_route_reverse"] == metadata["version"] == "2-A"
    for rows in samples.values():
        for row in rows:
            frames = row["percent"]["frames"]
            assert len(frames["indices"]) == 8 and len(frames["pixels_sha256"]) == 64
            assert row["percent"]["unscored"] is None
            assert row["input"].startswith("The video was filmed")


def test_the_printed_table_shows_the_first_figures_and_all_are_recorded(whole_run: tuple[Path, str]) -> None:
    results, _ = saved(whole_run[0])
    # The percent of each of 8 tasks, the number scored, the chance of 6; the three figures of the group, in two tables.
    rows = re.findall(r"^\| *(?:- )?egost_mini.*", whole_run[1], re.MULTILINE)
    assert len(rows) == 8 + 8 + 6 + 3 + 3
    assert not any(
        re.search(r"\|(score|n_unscored|truncated|judge_failed|semantic) *\|", row) for row in rows
    )
    assert "`egost summary RUN --all` prints them" in whole_run[1]
    recorded = results["results"]["egost_mini_route_reverse"]
    for metric in (
        "compat",
        "score",
        "direction",
        "landmark",
        "semantic",
        "empty",
        "truncated",
        "n_unscored",
    ):
        assert f"{metric},none" in recorded


def test_the_summary_of_the_run(whole_run: tuple[Path, str], cache: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", "from egost.main import app; app()", "summary", str(whole_run[0])],
        env=environment(cache, COLUMNS="80"),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    results, _ = saved(whole_run[0])
    for name in [f"egost_mini_{task}" for task in TASKS]:
        assert f"{name} " in done.stdout
    assert f"{results['groups']['egost_mini']['percent,none']:.1f}" in done.stdout
    assert done.stdout.count("samples: ") == 8


def test_limit_3(cache: Path, checkpoint: Path, tmp_path: Path) -> None:
    done = lmms_eval(
        *["--tasks", "egost_mini_direction_reverse", *on_cpu(checkpoint), *FEW_TOKENS, "--limit", "3"],
        *["--output_path", "out", "--log_samples"],
        cwd=tmp_path,
        cache=cache,
        EGOST_PROMPT="think",
        EGOST_PROTOCOL="ref-qwen+cap10000",
    )
    results, samples = saved(tmp_path / "out")
    rows = samples["egost_mini_direction_reverse"]
    assert len(rows) == 3 and done.returncode == 0
    assert results["results"]["egost_mini_direction_reverse"]["n_scored,none"] == 3
    metadata = results["configs"]["egost_mini_direction_reverse"]["metadata"]
    assert (metadata["prompt"], metadata["sampling_protocol"]) == ("think-1", "ref-qwen+cap10000")
    for row in rows:
        assert "<think>" in row["input"]
        assert row["percent"]["frames"]["width"] * row["percent"]["frames"]["height"] <= 10000


def test_the_wheel_on_a_release_in_the_official_layout(
    release_folder: Path, checkpoint: Path, wheel: Path, tmp_path: Path
) -> None:
    python = empty_environment(tmp_path / "env")
    install(python, wheel)
    where = [str(python), "-c", "import egost.tasks; print(egost.tasks.__file__)"]
    found = subprocess.run(where, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert str(site_packages(tmp_path / "env")) in found.stdout, (
        "the wheel, not the checkout, must be what is imported"
    )
    (release_folder / "part3_clip" / "31.mp4").write_bytes(b"")
    done = plain_lmms_eval(
        *["--tasks", "egost_route_reverse", *on_cpu(checkpoint), *FEW_TOKENS],
        *["--output_path", "out", "--log_samples"],
        cwd=tmp_path,
        cache=tmp_path / "cache",
        python=python,
        EGOST_DATA=str(release_folder),
        EGOST_JUDGE="offline",
        EGOST_ONLY="1",
    )
    assert done.returncode == 0, done.stderr[-3000:]
    results, samples = saved(tmp_path / "out")
    row = results["results"]["egost_route_reverse"]
    assert (row["n_scored,none"], row["n_unscored,none"]) == (7, 1)
    [unscored] = [s for s in samples["egost_route_reverse"] if s["percent"]["unscored"]]
    assert unscored["percent"]["sample_id"] == "Part3/route_reverse/1"
    assert unscored["percent"]["unscored"] == "decode_failed:empty" and "score" not in unscored["percent"]
    assert "31.mp4 has zero bytes" in unscored["percent"]["clip_error"]
    scored = [s["percent"]["score"] for s in samples["egost_route_reverse"] if s is not unscored]
    assert row["percent,none"] == pytest.approx(mean(scored)), "an unscored sample is no zero"


def test_the_list_of_tasks_with_and_without_include_path(tmp_path: Path) -> None:
    where: dict[str, Any] = {"cwd": tmp_path, "cache": tmp_path / "cache"}
    for done in (
        plain_lmms_eval("--tasks", "list", **where),
        lmms_eval("--tasks", "list", "--include_path", str(ROOT / "egost_tasks"), EGOST_ONLY="", **where),
    ):
        listed = {
            line.removeprefix(" - ").strip() for line in done.stdout.splitlines() if line.startswith(" - ")
        }
        for world in ("egost", "egost_mini"):
            assert {f"{world}_{task}" for task in TASKS} <= listed
            assert {world, f"{world}_st", f"{world}_route", f"{world}_mcq"} <= listed


def test_two_groups_that_share_a_task_are_refused(cache: Path, checkpoint: Path, tmp_path: Path) -> None:
    done = lmms_eval(
        *["--tasks", "egost_mini,egost_mini_st", *on_cpu(checkpoint), "--output_path", "out"],
        cwd=tmp_path,
        cache=cache,
    )
    assert "more than 1 called group" in done.stdout + done.stderr
    assert not list(tmp_path.rglob("*_results.json"))


def test_no_data(checkpoint: Path, tmp_path: Path) -> None:
    done = lmms_eval(
        "--tasks",
        "egost_route_reverse",
        *on_cpu(checkpoint),
        cwd=tmp_path,
        cache=tmp_path / "cache",
        EGOST_JUDGE="offline",
    )
    assert done.returncode == 1
    assert "egost: the Ego-ST Bench release is not on this machine" in done.stderr
    assert "egost data download" in done.stderr and "egost data mini" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_model_that_is_not_there_is_noticed(cache: Path, tmp_path: Path) -> None:
    lmms_eval(
        *["--tasks", "egost_mini_mcq", *on_cpu(tmp_path / "no_model"), "--output_path", "out"],
        cwd=tmp_path,
        cache=cache,
    )
    done = subprocess.run(
        [sys.executable, "-c", "from egost.main import app; app()", "summary", str(tmp_path / "out")],
        env=environment(cache),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "the run did not finish" in done.stderr and "Traceback" not in done.stderr


def test_ctrl_c_in_the_middle_and_again(cache: Path, checkpoint: Path, tmp_path: Path) -> None:
    command = [str(COMMAND), "--tasks", "egost_mini_mcq", *on_cpu(checkpoint), "--output_path", "out"]
    own = tmp_path / "cache"
    shutil.copytree(cache / "mini", own / "mini")
    process = subprocess.Popen(
        [*command, "--gen_kwargs", "max_new_tokens=200"],
        cwd=tmp_path,
        env=environment(own, EGOST_ONLY="1"),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 240
    while not list(own.rglob("manifest.json")):
        assert process.poll() is None and time.monotonic() < deadline, "it never began to decode"
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode != 0 and not list(tmp_path.rglob("*_results.json"))
    assert not [
        path for path in (own / "clips").rglob("*.part*") if path.suffix == ".mp4" and path.stat().st_size
    ]
    again = lmms_eval(*command[1:], *FEW_TOKENS, cwd=tmp_path, cache=own)
    assert again.returncode == 0, again.stderr[-2000:]
    [results] = tmp_path.rglob("*_results.json")
    figures = json.loads(results.read_text())["results"]
    assert figures["egost_mini_direction_forward"]["n_unscored,none"] == 0
