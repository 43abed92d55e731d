"""A run's manifest: read from what the real lmms-eval has saved, whole, and without what is nobody's business."""

from __future__ import annotations

import json
import re
import socket
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from changed_runs import changed, with_results
from places import ROOT
from typer.testing import CliRunner

import egost
from egost.main import app
from egost.results.run import Run
from egost.results.run_header import RunError
from egost.results.run_manifest import manifest_file, public, run_manifest
from egost.tasks.provenance import TASK_VERSION, commit, machine

TASK = "egost_mini_direction_forward"


def test_a_plain_run_of_lmms_eval_tells_what_made_it(fresh_run: Run, tmp_path: Path) -> None:
    found = run_manifest(fresh_run)
    task = found.tasks[TASK]
    assert len(found.tasks) == 8 and found.world == "mini" and found.limit is None
    assert task.version == TASK_VERSION and task.prompt == "direct-1" and len(task.prompt_sha256 or "") == 64
    assert (task.release or "").startswith("mini-1 test seed 3") and task.frames == "uniform8"
    assert found.tasks["egost_mini_route_forward"].judge == "offline-rubric-3" and task.judge is None
    assert task.generation["max_new_tokens"] == 8 and task.asked == task.scored > 0 and task.unscored == {}
    assert found.model.adapter == "egost_journal" and found.model.arguments["pretrained"] == "taught"
    [answered] = found.model.answered
    assert answered["model"] == "taught" and answered["revision"].startswith("sha256:")
    assert answered["samples"] == sum(t.asked for t in found.tasks.values())
    assert found.packages["lmms-eval"] == "0.7.3" and found.seeds["random_seed"] == 0
    assert re.fullmatch("[0-9a-f]{40}(-changed)?", found.commit or "") and found.machine == machine()
    assert found.usage.wall_s and found.usage.usd is None and found.usage.judge == {}
    found.write(tmp_path / "manifest.json")
    text = (tmp_path / "manifest.json").read_text(encoding="utf-8")
    assert json.loads(text)["tasks"][TASK]["asked"] == task.asked
    assert str(fresh_run.results_file.parents[2]) not in text and str(Path.home()) + "/" not in text


def test_tokens_prices_and_judging_are_added_up(copied_run: Run) -> None:
    def answered(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        for number, row in enumerate(rows[:3]):
            told = {"prompt_tokens": 1000, "completion_tokens": 10, "journaled": number == 0}
            told["cached_tokens"] = [900, 500, 300][number]
            row["percent"]["generation"].update(snapshot="gpt-4o-2024-08-06+fp_1", **told)
        return rows

    run = changed(copied_run, TASK, answered)
    run = with_results(
        run,
        lambda r: [
            r["results"][f"egost_mini_route_{way}"].update(
                {"judge_calls,none": 4, "judge_tokens_in,none": 900, "judge_usd,none": 0.5}
            )
            for way in ("forward", "reverse")
        ],
    )
    asked = len(run.records)
    run = with_results(run, lambda r: r.update(total_evaluation_time_seconds="4.0"))
    used = run_manifest(run).usage
    assert used.samples_per_s == (asked - 1) / 4 and used.wall_s == 4, "one reply came from the journal"
    library, day = str(used.prices_of).split(", ")
    assert library == f"genai-prices {version('genai-prices')}" and re.fullmatch(r"20\d\d-\d\d-\d\d", day)
    assert (used.known, used.tokens_in, used.tokens_out, used.journaled) == (3, 3000, 30, 1)
    assert used.cached_share == 0.4, "800 of the 2000 tokens that were not in the journal"
    assert used.usd == pytest.approx((3000 * 2.5 + 30 * 10) / 1e6) and used.unpriced == ()
    assert used.judge == {"calls": 8, "tokens_in": 1800, "usd": 1.0}
    other = run_manifest(run, lambda snapshot, tokens_in, tokens_out: None).usage
    assert other.usd is None and other.unpriced == ("gpt-4o-2024-08-06",)
    shown = CliRunner().invoke(app, ["show", str(run.results_file)]).output
    assert "3000 in, 30 out, of 3 of" in shown and "0.0078 USD" in shown and "calls=8" in shown
    assert f"{used.samples_per_s:.3g} samples/s" in shown and f"prices: {used.prices_of}" in shown
    assert "samples/s with the model's start, 40 % of the prompt tokens from the prefix cache" in shown


def test_no_secret_and_no_path_is_shown(copied_run: Run) -> None:
    given = {
        "pretrained": "/home/somebody/models/st-r1",
        "base_url": "https://me:hunter2@api.example.com/v1?key=hunter3",
        "api_key": "hunter4",
        "snapshot": "/cache/hub/models--Qwen--Qwen2-VL-7B-Instruct/snapshots/0123abc",
        "tokenizer": "slow",
    }
    text = ",".join(f"{name}={value}" for name, value in given.items())
    run = with_results(copied_run, lambda r: r["config"].update(model_args=text))
    told = run_manifest(run).model.arguments
    assert told == {
        "pretrained": "st-r1",
        "base_url": "https://api.example.com/v1",
        "api_key": "(not shown)",
        "snapshot": "Qwen/Qwen2-VL-7B-Instruct@0123abc",
        "tokenizer": "slow",
    }
    done = CliRunner().invoke(app, ["show", str(run.results_file), "--json"])
    assert done.exit_code == 0 and "hunter" not in done.output and "somebody" not in done.output
    assert json.loads(done.output)["results"] == run.results_file.name
    assert public({"max_new_tokens": 8, "hf_token": "x"}) == {"max_new_tokens": 8, "hf_token": "(not shown)"}


def test_a_run_that_tells_little_has_a_manifest_of_little(copied_run: Run) -> None:
    def forget(results: dict[str, Any]) -> None:
        for name in ("date", "git_hash", "total_evaluation_time_seconds"):
            del results[name]
        for task in results["configs"].values():
            task.pop("metadata", None)

    found = run_manifest(with_results(copied_run, forget))
    assert (found.date, found.world, found.commit, found.machine, found.usage.wall_s) == (None,) * 5
    assert found.tasks[TASK].release is None and found.packages == {}
    assert "task version" not in CliRunner().invoke(app, ["show", str(copied_run.results_file)]).output


def test_a_run_that_tells_nonsense_says_so(copied_run: Run) -> None:
    run = with_results(copied_run, lambda r: r["config"].update(limit="some"))
    with pytest.raises(RunError, match="does not tell how it was made"):
        run_manifest(run)


def test_the_date_is_in_the_zone_that_lmms_eval_took(copied_run: Run) -> None:
    run = with_results(copied_run, lambda r: r.update(date="20260102_030405"))
    assert run_manifest(run).date == "2026-01-02T03:04:05+08:00", "Singapore, lmms-eval's default"


def test_it_lies_beside_the_results(demo_run: Run) -> None:
    stamp = demo_run.results_file.name.removesuffix("_results.json")
    assert manifest_file(demo_run) == demo_run.results_file.with_name(f"{stamp}_manifest.json")


@pytest.mark.skipif(
    not (ROOT / ".git").exists() or Path(egost.__file__).parents[1] != ROOT,
    reason="what is installed without a checkout has no commit",
)
def test_our_commit_and_not_that_of_another_checkout() -> None:
    git = ["git", "-C", str(ROOT), "rev-parse", "HEAD"]
    head = subprocess.run(git, capture_output=True, text=True, check=True).stdout.strip()
    assert (commit() or "").removesuffix("-changed") == head


def test_a_machine_without_a_name() -> None:
    told = machine()
    assert told["cores"] >= 1 and told["memory_gib"] > 0 and told["cpu"]
    assert socket.gethostname() not in json.dumps(told)
