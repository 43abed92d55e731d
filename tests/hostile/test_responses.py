"""Responses with half a surrogate pair: lmms-eval's own writer saves every sample, and the summary counts them."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest
from canaries import CANARIES
from lmms_eval.api.filter import FilterEnsemble
from lmms_eval.api.instance import Instance
from lmms_eval.loggers.evaluation_tracker import EvaluationTracker
from loguru import logger
from places import ROOT
from typer.testing import CliRunner

from egost.main import app
from egost.model_adapters.engine import Failure, Reply
from egost.tasks.registration import register
from egost.tasks.scoring.scores import NO_REPLY
from egost.tasks.utils import MarkMissing


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


def test_a_half_of_any_adapter_is_mended_and_said() -> None:
    said: list[str] = []
    sink = logger.add(lambda message: said.append(str(message)))
    instances = [
        Instance("generate_until", (), 0, {"task": "t", "doc_id": number, "repeats": 1}, resps=[text])
        for number, text in enumerate(("A", "\ud83d B", None, "\udc00\ud83d", "\ud83d\ude00"))
    ]
    FilterEnsemble("none", [MarkMissing()]).apply(instances, [])
    logger.remove(sink)
    found = [instance.filtered_resps["none"] for instance in instances]
    assert found == [["A"], ["\ufffd B"], [NO_REPLY], ["\ufffd\ufffd"], ["\U0001f600"]]
    assert [line for line in said if "3 responses held surrogates; each half" in line]


@pytest.mark.parametrize("command", ["judge", "rescore", "report", "summary"])
def test_a_run_that_holds_one_is_read(tmp_path: Path, command: str) -> None:
    for path in (ROOT / "tests" / "saved" / "mini_run").iterdir():
        text = path.read_text(encoding="utf-8")
        if path.name.endswith("_route_forward.jsonl"):
            text = text.replace('"filtered_resps": "', '"filtered_resps": "\\ud83d ', 2)
            assert text.count("\\ud83d ") == 2
        (tmp_path / path.name).write_text(text, encoding="utf-8")
    more = {"judge": ["--judge", "offline"], "report": ["-o", str(tmp_path / "page.html")]}.get(command, [])
    done = CliRunner().invoke(app, [command, str(tmp_path), *more])
    assert done.exit_code in ((0,) if command != "rescore" else (0, 2)), done.output
    assert "half" not in done.output and "Traceback" not in done.output


def test_a_traceback_in_lmms_evals_log_holds_no_key(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    key = CANARIES["OPENAI_API_KEY"]
    monkeypatch.setenv("OPENAI_API_KEY", key)
    register()
    log = tmp_path / "log"
    sink = logger.add(log, diagnose=True, backtrace=True)
    try:
        raise ValueError(f"refused: Bearer {key}")
    except ValueError:
        logger.exception("it failed")
        logger.opt(exception=True).error("again")
    logger.remove(sink)
    assert log.read_text().count("ValueError: refused: Bearer [key]") == 2 and key not in log.read_text()


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
            text = text.replace('"replaced": 0', '"replaced": 2', 3)
        (tmp_path / path.name).write_text(text, encoding="utf-8")
    done = CliRunner().invoke(app, ["summary", str(tmp_path)])
    assert "3 responses held 6 halves of surrogate pairs" in done.output and done.exit_code == 0
