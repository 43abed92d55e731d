"""What is read of a reply's body, and what may be written down of it."""

from __future__ import annotations

import json

import pytest

from egost.tasks.chat.calls import Faulted
from egost.tasks.chat.reading import Completion, read_completion
from egost.tasks.keys import redacted


def test_what_looks_like_a_key_is_taken_out_too() -> None:
    assert redacted("Incorrect API key: sk-proj-abc123-DEF_456.") == "Incorrect API key: [key]."


@pytest.mark.parametrize(
    "body", ["", "<html>", '{"choices": [', "[]", "{}", '{"choices": "no"}', "[" * 100_000]
)
def test_a_body_that_is_no_completion_is_broken(body: str) -> None:
    with pytest.raises(Faulted, match="the body of the reply is no"):
        read_completion(body.encode())


@pytest.mark.parametrize("choices", [[], [{}], [{"message": None}], [{"message": {"content": None}}]])
def test_a_completion_without_a_text_is_empty(choices: list[object]) -> None:
    assert read_completion(json.dumps({"choices": choices}).encode()) == Completion("", "", "", "", 0, 0)
