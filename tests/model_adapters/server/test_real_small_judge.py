"""A real language model judges over a real vLLM server: SmolLM2-135M-Instruct, which is no good at it."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from judge_server import Ask, serve_judge, wants_scores_alone
from lmms_eval_command import environment
from small_judge import NAME, forwarded, pair_of, recorded_reply, replied, serve_small_judge

from egost.tasks.judging.judge import ASPECTS
from egost.tasks.judging.prompt import MAX_REASON, STRICT, load_judge_prompt
from egost.tasks.judging.validity import all_pairs

pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="vLLM has an environment of its own"),
]

ASKED = [pair.id for pair in all_pairs()[:7]]
"""Pairs that the model itself judges. Of the others it is replayed what the same model said before."""

CUT = ASKED[-1]
"""A pair of which the server lets the model say a few tokens alone."""


@pytest.fixture(scope="module")
def small_judge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serve_small_judge(tmp_path_factory.mktemp("small_judge")) as url:
        yield url


def test_it_keeps_to_the_form_is_cut_by_name_and_fails_the_check(small_judge: str, tmp_path: Path) -> None:
    said: dict[str, list[tuple[bool, str]]] = defaultdict(list)

    def answer(ask: Ask) -> str:
        name = pair_of(ask).id
        if name not in ASKED:
            return recorded_reply(ask)
        found = forwarded(ask, small_judge, **({"max_completion_tokens": 8} if name == CUT else {}))
        said[name].append((wants_scores_alone(ask), found[1]))
        return replied(found)

    report = tmp_path / "report.json"
    with serve_judge(script=answer) as server:
        egost = str(Path(sys.executable).with_name("egost"))
        who = f"openai:{NAME}@{server.url}"
        done = subprocess.run(
            [egost, "judge", "--check", "--judge", who, "--report", str(report)],
            env=environment(tmp_path / "cache", COLUMNS="200"),
            capture_output=True,
            text=True,
            check=False,
        )
    # Refused: by its exit code and in words.
    assert done.returncode == 1 and "NOT PASSED" in done.stdout, done.stdout + done.stderr
    found = json.loads(report.read_text(encoding="utf-8"))
    assert found["passed"] is False and found["n"] == len(all_pairs())
    # Structured output is asked for and obeyed: six keys in their order, with scores and bounded reasons.
    assert set(said) == set(ASKED)
    for name in set(ASKED) - {CUT}:
        [(alone, text)] = said[name]
        scores = json.loads(text)
        assert not alone
        assert list(scores) == [key for aspect in ASPECTS for key in (f"{aspect}_reason", aspect)], text
        assert all(scores[aspect] in range(6) for aspect in ASPECTS)
        assert all(len(scores[f"{aspect}_reason"]) <= MAX_REASON for aspect in ASPECTS)
    # Cut three times, from the second on in the shorter form: unscored, and counted by its name.
    assert [alone for alone, _ in said[CUT]] == [False, True, True]
    assert found["failures"] == {"truncated": 1} and "Judge failures: truncated 1." in done.stdout


def test_without_the_form_it_talks(small_judge: str) -> None:
    messages = load_judge_prompt(STRICT).messages(all_pairs()[0].item)
    body = {"model": NAME, "messages": messages, "temperature": 0, "max_completion_tokens": 32}
    reply = httpx.post(f"{small_judge}/chat/completions", json=body, timeout=None).json()
    assert not reply["choices"][0]["message"]["content"].lstrip().startswith('{"direction_reason"')
