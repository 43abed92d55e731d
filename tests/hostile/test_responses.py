"""Responses with half a surrogate pair: lmms-eval's own writer saves every sample, and the summary counts them."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest
from lmms_eval.loggers.evaluation_tracker import EvaluationTracker
from places import ROOT
from typer.testing import CliRunner

from egost.main import app
from egost.model_adapters.engine import Failure, Reply


@pytest.mark.parametrize(
    ("said", "kept", "replaced"),
    [
        ("B", "B", 0),
        ("\ud83d B", "\ufffd B", 1),
        ("B \udc00", "B \ufffd", 1),
        ("\udc00\ud83d", "\ufffd\ufffd", 2),
        ("\ud83d\ude00", "\U0001f600", 0),
        ("\ufffd B", "\ufffd B", 0),
        ("\ufffd\ud83d", "\ufffd\ufffd", 1),
    ],
    ids=ascii,
)
def test_a_half_becomes_a_mark_and_is_counted(said: str, kept: str, replaced: int) -> None:
    reply = Reply(said, "stop")
    assert (reply.text, reply.replaced) == (kept, replaced)
    assert Reply(**json.loads(json.dumps(asdict(reply)))) == reply, "as the journal gives it back"


def test_a_failure_that_quotes_one_can_be_written() -> None:
    assert Failure("server_error", "it said \ud83d\x1b[2J").message == "it said \\ud83d\\u001b[2J"


def test_lmms_evals_writer_keeps_every_row(tmp_path: Path) -> None:
    tracker = EvaluationTracker(output_path=str(tmp_path))
    tracker.general_config_tracker.model_name_sanitized = "m"
    tracker.date_id = "d"
    texts = [Reply(text, "stop").text for text in ("A", "\ud83d", "C")]
    rows = [
        {"arguments": ("q",), "resps": [[t]], "filtered_resps": [t], "target": "A", "doc": {}} for t in texts
    ]
    tracker.save_results_samples("t", rows)
    lines = (tmp_path / "m" / "d_samples_t.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["filtered_resps"] for line in lines] == ["A", "\ufffd", "C"]


def test_the_summary_says_how_many(tmp_path: Path) -> None:
    for path in (ROOT / "tests" / "saved" / "mini_run").iterdir():
        text = path.read_text(encoding="utf-8")
        if path.name.endswith("direction_forward.jsonl"):
            text = text.replace('"snapshot": null', '"snapshot": null, "replaced": 2', 3)
        (tmp_path / path.name).write_text(text, encoding="utf-8")
    done = CliRunner().invoke(app, ["summary", str(tmp_path)])
    assert "3 responses held 6 halves of surrogate pairs" in done.output and done.exit_code == 0
