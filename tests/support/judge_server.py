"""A local server that speaks the chat-completions interface, and misbehaves by script.

    with serve_judge(script=lambda ask: "ok") as server:
        judge = OpenAIJudge(parse_endpoint(f"openai:judge-model@{server.url}"))

As a program it answers well, after a while: `python judge_server.py --latency 0.2` prints its URL.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from scripted_server import Scripted, ScriptedHandler, serve, serve_as_program

SNAPSHOT = "judge-model-2026-01-01"
Triple = tuple[int, int, int]

_TEXTS = re.compile(r"<(question|reference|candidate)-(\w{16})>\n(.*?)\n</\1-\2>", re.DOTALL)


@dataclass(frozen=True)
class Ask:
    """One request. number: how many times the same messages were asked for before."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any]
    question: str
    reference: str
    prediction: str
    number: int


def true_scores(ask: Ask) -> Triple:
    """What the server's model thinks of a prediction: a function of the texts alone."""
    return scores_of(ask.reference, ask.prediction)


def scores_of(reference: str, prediction: str) -> Triple:
    digest = hashlib.sha256(f"{reference}|{prediction}".encode()).digest()
    return digest[0] % 6, digest[1] % 6, digest[2] % 6


@dataclass
class JudgeServer(Scripted):
    """scores: the model's honest opinion of an `Ask`."""

    scores: Callable[[Ask], Triple] = true_scores


def completion(content: str | None, **changes: Any) -> dict[str, Any]:
    message = {"role": "assistant", "content": content, "refusal": changes.pop("refusal", None)}
    choice = {"index": 0, "message": message, "finish_reason": changes.pop("finish", "stop")}
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": SNAPSHOT,
        "choices": [choice],
        "usage": {"prompt_tokens": 900, "completion_tokens": 100, "total_tokens": 1000},
        **changes,
    }


def spoken(triple: Any, compat: bool = False) -> str:
    """The model's reply with these scores, in the form that its prompt asked for."""
    direction, landmark, semantic = triple
    if compat:
        return str({"direction": direction, "landmark": landmark, "semantic and logic": semantic})
    return json.dumps(
        {
            "direction_reason": "The turns were compared.",
            "direction": direction,
            "landmark_reason": "The landmarks were compared.",
            "landmark": landmark,
            "semantic_reason": "The order was compared.",
            "semantic": semantic,
        }
    )


class JudgeHandler(ScriptedHandler):
    of: JudgeServer

    def do_POST(self) -> None:
        body = self.body()
        user = body["messages"][-1]["content"]
        texts = {name: text for name, _, text in _TEXTS.findall(user)}
        said = (texts.get("question", ""), texts.get("reference", ""), texts.get("candidate", ""))
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.meet(user, lambda number: Ask(self.path, headers, body, *said, number))

    def good(self, ask: Ask) -> dict[str, Any]:
        said = spoken(self.of.scores(ask), _compat(ask))
        if wants_scores_alone(ask):
            said = json.dumps({key: value for key, value in json.loads(said).items() if type(value) is int})
        return completion(said)

    def act_as_interface(self, ask: Ask, word: str, value: str, good: dict[str, Any]) -> bool:
        if word == "say":
            self.reply(completion(value))
        elif word == "score":
            _, landmark, semantic = self.of.scores(ask)
            self.reply(completion(spoken((json.loads(value), landmark, semantic), _compat(ask))))
        elif word == "said":
            finish, text = json.loads(value)
            self.reply(completion(text, finish=finish))
        elif word == "finish":
            self.reply(completion(spoken(self.of.scores(ask), _compat(ask))[:30], finish=value))
        elif word == "refusal":
            self.reply(completion(None, refusal="I cannot grade this."))
        elif word == "no-choice":
            self.reply({**good, "choices": []})
        elif word == "empty-choice":
            self.reply({**good, "choices": [{}]})
        elif word == "retry-after":
            self.error(429, "slow down", {"Retry-After": value})
        elif word == "busy":
            self.error(503, "busy", {"Retry-After": value})
        elif word == "code":
            status, code = value.split(" ")
            self.error(int(status), "no", code=code)
        elif word == "no-parameter" and value in ask.body:
            self.error(400, f"Unsupported parameter: '{value}'")
        elif word == "no-parameter":
            self.reply(good)
        else:
            return False
        return True


def wants_scores_alone(ask: Ask) -> bool:
    """Whether the reply's schema has no place for a reason."""
    form = (ask.body.get("response_format") or {}).get("json_schema")
    return form is not None and "direction_reason" not in form["schema"]["properties"]


def _compat(ask: Ask) -> bool:
    """Whether the prompt is that of the reference code."""
    return "semantic and logic" in ask.body["messages"][0]["content"]


@contextmanager
def serve_judge(**settings: Any) -> Iterator[JudgeServer]:
    """Run a `JudgeServer` on a free port of this machine while the context lasts."""
    with serve(JudgeServer(**settings), JudgeHandler, "/v1") as server:
        yield server


if __name__ == "__main__":
    serve_as_program(serve_judge, __doc__)
