"""Thinking that a server gives apart: kept, never read for an answer; and the switch that turns it on."""

from __future__ import annotations

import json
from contextlib import closing
from dataclasses import replace
from typing import Any

import pytest
from chat_server import serve_chat
from simulated_runs import TASKS, record

from egost.model_adapters import families
from egost.model_adapters.engine import Ask, GenerationArguments, Reply
from egost.model_adapters.server.server_engine import ServerEngine
from egost.model_adapters.server.server_replies import read_completion
from egost.tasks.chat import reading
from egost.tasks.scoring.choices import strict_choice
from egost.tasks.scoring.generation_notes import Generation

THOUGHT = "It could be A. The door is left, so A."


def body(message: dict[str, Any], finish: str = "stop") -> bytes:
    return json.dumps({"choices": [{"message": message, "finish_reason": finish}]}).encode()


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning"])
@pytest.mark.parametrize(
    "other", [{}, {"reasoning_content": None}, {"reasoning": ""}, {"reasoning_details": [1]}]
)
@pytest.mark.parametrize("content", ["B", [{"type": "text", "text": "B"}], None])
def test_reasoning_is_read_apart_by_either_name(name: str, other: dict[str, Any], content: Any) -> None:
    found = body({"content": content, **other, name: THOUGHT})
    ours, api = read_completion(found), reading.read_completion(found)
    assert ours.reasoning == api.reasoning == THOUGHT
    assert (ours.text, api.text) == (content and "B", "B" if content else "")


@pytest.mark.parametrize("odd", [None, "", [], {"text": "x"}, 3, True])
def test_reasoning_of_another_kind_is_none(odd: Any) -> None:
    found = body({"content": "B", "reasoning": odd, "reasoning_content": odd})
    assert read_completion(found).reasoning is None and read_completion(found).text == "B"


def test_halves_of_pairs_in_reasoning_can_be_written() -> None:
    assert Reply("B", "stop", reasoning="a\ud83d").reasoning == "a\ufffd"


def test_a_guess_in_reasoning_is_no_answer() -> None:
    assert strict_choice("", ("left", "right")).letter is None
    made = Generation("e", "m", None, {}, "length", True, 9, 8, None, False, None, reasoning=THOUGHT)
    cut = replace(record(TASKS[2], 1, "1.mp4", 0.0), response="", generation=made)
    assert cut.cut_in_thinking and not replace(cut, response="B").cut_in_thinking
    assert replace(cut, response="<think>A or", generation=None).cut_in_thinking
    assert not replace(cut, response="", generation=replace(made, reasoning=None)).cut_in_thinking
    assert not replace(cut, unscored="generation_failed:timeout").cut_in_thinking
    assert made.as_record()["reasoning"] == THOUGHT
    assert "reasoning" not in replace(made, reasoning=None).as_record(), (
        "what was recorded before stays as it is"
    )


@pytest.mark.parametrize("prompt", ["direct", "think"])
@pytest.mark.parametrize(("closed", "letter"), [("<channel|>B", "B"), ("", None)])
def test_thinking_between_special_tokens_comes_with_them_and_is_no_answer(
    monkeypatch: pytest.MonkeyPatch, prompt: str, closed: str, letter: str | None
) -> None:
    monkeypatch.setenv("EGOST_PROMPT", prompt)
    said = f"<|channel>thought\nIt could be A.{closed}"
    served = ("tiny", "egost?family=gemma4&revision=abc&dtype=float32")
    with (
        serve_chat(script=lambda _: f"fill:{json.dumps(said)}", names=served) as server,
        closing(ServerEngine([server.url])) as engine,
    ):
        [(_, reply)] = engine.answer([Ask("mini/1", "Which?", None, GenerationArguments(2))])
        [question] = server.questions
    assert question.body["chat_template_kwargs"] == {"enable_thinking": prompt == "think"}
    assert question.body.get("skip_special_tokens") is (False if prompt == "think" else None)
    assert isinstance(reply, Reply) and (reply.text, reply.reasoning) == (said, None)
    assert strict_choice(reply.text, ("left", "right")).letter == letter


@pytest.mark.parametrize("prompt", ["direct", "think", "bare"])
@pytest.mark.parametrize("switched", [False, True])
def test_a_server_is_told_to_think_or_not_where_the_family_has_the_switch(
    monkeypatch: pytest.MonkeyPatch, prompt: str, switched: bool
) -> None:
    monkeypatch.setenv("EGOST_PROMPT", prompt)
    family = replace(families.FAMILIES["qwen2_vl"], thinking_switch=switched)
    monkeypatch.setattr(families, "FAMILIES", {**families.FAMILIES, "qwen2_vl": family})
    monkeypatch.setattr("egost.model_adapters.server.server_api.FAMILIES", families.FAMILIES)
    ask = Ask("mini/1", "Which?", None, GenerationArguments(8))
    with serve_chat() as server, closing(ServerEngine([server.url])) as engine:
        [(_, reply)] = engine.answer([ask])
        [question] = server.questions
    assert isinstance(reply, Reply)
    wanted = {"enable_thinking": prompt == "think"} if switched else None
    assert question.body.get("chat_template_kwargs") == wanted
    assert engine.identity.settings.get("thinking") == (wanted and wanted["enable_thinking"])
