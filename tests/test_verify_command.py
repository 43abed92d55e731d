"""`egost verify` from its start to a saved row: on the mini world, and on a release named as if official."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from chat_server import serve_chat
from egost_command import EGOST, egost
from judge_server import serve_judge

from egost.results.run import read_run
from egost.results.verification import VerificationRow, read_row

assert EGOST, "what is started here evaluates: slow"
MODEL, COMMIT = "Qwen/Qwen2-VL-7B-Instruct", "eed13092ef92e448dd6875b2a00151bd3f7db0ac"


def saved_row(folder: Path) -> VerificationRow:
    [file] = folder.rglob("*_verification.json")
    return read_row(file)


def test_the_mini_world(tmp_path: Path, own_cache: Path, mini_release: Callable[..., Path]) -> None:
    mini_release(own_cache / "mini", clips=4)
    words = ("verify", "mini-base", "--engine", "transformers", "--limit", "1")
    done = egost(*words, cwd=tmp_path, cache=own_cache)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "mini-base of the mini world" in done.stdout and "limit: 1.0" in done.stdout
    row = saved_row(tmp_path / "runs" / "verify" / "mini-base")
    assert (row.world, row.table, row.as_published, row.limit) == ("mini", 1, "qwen", 1)
    assert row.frames == "ref-qwen+cap100352-151200" and row.judge.startswith("offline-rubric")
    assert {figure.compat.verdict for figure in row.figures} == {"nothing published"}
    again = egost(*words, cwd=tmp_path, cache=own_cache)
    assert again.returncode == 0 and ", 8 from the journal" in again.stderr, again.stderr


def test_a_release_named_as_if_official(tmp_path: Path, own_cache: Path, release_folder: Path) -> None:
    """A server that always says B, which is right: 8 clips, 2 of them with actions."""
    record = {"revision": "5" * 40, "clips_revision": "6" * 40, "roots": [str(release_folder)]}
    (release_folder / "egost_release.json").write_text(json.dumps(record))
    names = (MODEL, f"egost?family=qwen2_vl&revision={COMMIT}&dtype=bfloat16")
    with serve_chat(names=names, root=MODEL, script=lambda ask: 'say:"B"') as model, serve_judge() as judge:
        done = egost(
            *("verify", "qwen2-vl-7b", "--engine", "server", "--base-url", model.url, "--output", "out"),
            cwd=tmp_path,
            cache=own_cache,
            EGOST_DATA=str(release_folder),
            EGOST_JUDGE=f"openai:gpt-4o@{judge.url}/v1+compat",
            EGOST_JUDGE_KEY="sk-test-0123456789abcdef",
        )
    row = saved_row(tmp_path / "out")
    assert (read_run(tmp_path / "out").sent_mb or 0) > 0
    assert (row.world, row.as_published, row.release, row.revision) == ("official", "qwen", "5" * 40, COMMIT)
    figures = {figure.column: figure for figure in row.figures}
    # 8 of 8 clips right: 0.025 ** (1 / 8) = 63.1 %. The paper has 52.6, 71.0 and, on two clips here, 76.3.
    verdicts = {
        "direction_forward": "differs beyond the interval",
        "landmark_forward": "agrees",
        "action_forward": "agrees",
    }
    for column, verdict in verdicts.items():
        outcome = figures[column].compat
        assert (outcome.ours, outcome.verdict, figures[column].reasons) == (100, verdict, ()), column
    routes = figures["route_forward"]
    assert routes.n == 8 and routes.compat.verdict == "not comparable"
    assert "the paper's by gpt-4o" in routes.reasons[0], "a server of somebody's own may be any model"
    assert done.returncode == 1, done.stdout + done.stderr
    assert "egost verify" not in done.stderr and "How to send it: docs/verification.md" in done.stdout
