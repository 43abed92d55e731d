"""Reasoning by a model, asked of a local server: structured, checked for leaks, kept, asked for once."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from judge_server import completion
from scripted_server import ScriptedHandler
from scripted_server import serve as serve_scripted
from typer.testing import CliRunner

from egost.main import app
from egost.tasks.chat.calls import Pacing
from egost.tasks.chat.endpoint import OPENAI_URL
from egost.tasks.chat.reply_store import STORE, stored_bodies
from egost.tasks.mini_world import write_mini_release
from egost.tasks.sample import Sample
from egost.training import TrainingError
from egost.training.rows.thought_writer import thought_writer, writer_endpoint
from egost.training.rows.training_rows import read_training_rows

FAST = Pacing(first_wait_s=0.01, longest_wait_s=0.02, tries=3, breaker_s=0.1)
GOOD = "Going back I turn left; turned round, that is a right."


def pair(number: int) -> tuple[Sample, Sample]:
    clip, told = f"{number}.mp4", f"From B, turn left {number}."
    return (
        Sample(f"Part1/direction_forward/{number}", "direction", "forward", 1, clip, "Which?", ("left", "right"), "B"),
        Sample(f"Part1/route_reverse/{number}", "route", "reverse", 1, clip, "Tell.", (), told),
    )  # fmt: skip


@dataclass
class Server:
    """reply: the text for each ask (number from 0 of the same messages); an int is an HTTP status."""

    reply: Callable[[str, int], str | int]
    url: str = ""
    asks: list[dict[str, Any]] = field(default_factory=list)


@contextmanager
def serve(reply: Callable[[str, int], str | int]) -> Iterator[Server]:
    server = Server(reply)

    class Handler(ScriptedHandler):
        def do_POST(self) -> None:
            body = self.body()
            user = body["messages"][-1]["content"]
            number = sum(ask["messages"][-1]["content"] == user for ask in server.asks)
            server.asks.append(body)
            said = server.reply(user, number)
            if isinstance(said, int):
                self.error(said, "no")
            else:
                self.reply({**completion(said), "model": "writer-1", "usage": None})

    with serve_scripted(server, Handler, "/v1"):
        yield server


def said(think: str) -> str:
    return json.dumps({"think": think})


def test_what_was_written_is_kept_and_not_asked_again(tmp_path: Path) -> None:
    with serve(lambda user, n: said(GOOD)) as server:
        write = thought_writer(writer_endpoint(f"openai:m@{server.url}"), folder=tmp_path, pacing=FAST)
        pairs = [pair(n) for n in range(5)]
        assert write(pairs[:3]) == ({s.id: GOOD for s, _ in pairs[:3]}, {})
        assert write(pairs) == ({s.id: GOOD for s, _ in pairs}, {})
    assert len(server.asks) == 5
    body = server.asks[0]
    assert body["response_format"]["json_schema"]["strict"] is True and body["temperature"] == 0
    told = body["messages"][-1]["content"]
    assert "right" in told and "From the end, turn left" in told and " B" not in told


def test_a_text_that_names_the_option_is_asked_for_again_and_never_kept(tmp_path: Path) -> None:
    def reply(user: str, number: int) -> str:
        leaking = said("So the answer is B.")
        return leaking if "left 1." in user or number == 0 else said(GOOD)

    with serve(reply) as server:
        write = thought_writer(writer_endpoint(f"openai:m@{server.url}"), folder=tmp_path, pacing=FAST)
        thinks, failed = write([pair(0), pair(1)])
    assert thinks == {pair(0)[0].id: GOOD}
    assert failed == {pair(1)[0].id: "names_an_option"}
    assert len(server.asks) == 2 + FAST.asks
    assert len({ask["seed"] for ask in server.asks}) == FAST.asks
    assert len(stored_bodies(tmp_path / STORE)) == 1
    assert b"answer is B" not in b"".join(path.read_bytes() for path in tmp_path.iterdir())


@pytest.mark.parametrize(
    ("reply", "reason"),
    [("no json", "no_object"), (said(" "), "empty_reply"), (said("<think>x</think>"), "holds_a_tag")],
)
def test_what_is_no_reasoning_has_a_reason(tmp_path: Path, reply: str, reason: str) -> None:
    with serve(lambda user, n: reply) as server:
        write = thought_writer(writer_endpoint(f"openai:m@{server.url}"), folder=tmp_path, pacing=FAST)
        assert write([pair(0)]) == ({}, {pair(0)[0].id: reason})


def test_a_refusing_server_stops_it_and_what_was_written_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EGOST_JUDGE_KEY", "secret-key-123456")
    with serve(lambda user, n: 401 if "left 1." in user else said(GOOD)) as server:
        write = thought_writer(writer_endpoint(f"openai:m@{server.url}"), folder=tmp_path, pacing=FAST)
        write([pair(0)])
        with pytest.raises(TrainingError, match="What was written is kept") as caught:
            write([pair(0), pair(1)])
    assert len(stored_bodies(tmp_path / STORE)) == 1
    assert "secret-key" not in str(caught.value)
    assert b"secret-key" not in b"".join(path.read_bytes() for path in tmp_path.iterdir())


def test_a_model_without_a_url_is_openai_s() -> None:
    endpoint = writer_endpoint("openai:gpt-4o-mini")
    assert (endpoint.model, endpoint.url) == ("gpt-4o-mini", OPENAI_URL)


def test_the_command_has_the_reasoning_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One text is bad on the first start: its row is missing then, and alone asked for on the second."""
    monkeypatch.setenv("EGOST_JUDGE_CONCURRENCY", "1")
    root = write_mini_release(tmp_path / "mini", clips=2, seed=0, split="train", progress=False)
    broken: set[str] = set()

    def reply(user: str, number: int) -> str:
        if not broken:
            broken.add(user)
        return said("The right one is option A.") if user in broken else said(GOOD)

    with serve(reply) as server:
        given = ["--world", "mini", "--root", str(root), "--rows", "4", "--out", str(tmp_path / "rows")]
        words = ["train", "data", *given, "--writer", f"openai:m@{server.url}"]
        first = CliRunner().invoke(app, words)
        assert first.exit_code == 1, first.output
        assert "3 rows about" in first.output and "1 rows could not be made" in first.output
        card = json.loads((tmp_path / "rows" / "card.json").read_text())
        left_out = card["without_row"]
        assert list(left_out) == ["names_an_option"] and len(left_out["names_an_option"]) == 1
        assert "openai" in card["reasoning"] or "m@" in card["reasoning"]
        asked = len(server.asks)
        broken.clear()
        broken.add("nobody")
        again = CliRunner().invoke(app, words)
        assert again.exit_code == 0, again.output
        assert len(server.asks) == asked + 1
    rows = read_training_rows(tmp_path / "rows" / "rows.jsonl")
    assert [row.think for row in rows] == [GOOD] * 4
