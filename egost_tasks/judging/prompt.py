"""What a judge behind a server is asked, and how its reply is read: versioned instructions, and scores or none.

The rubric is the paper's (section 5.1, figure 6): direction, landmark, semantic and logic, each a whole number
from 0 to 5. The wording is this project's own.
"""

from __future__ import annotations

import ast
import hashlib
import json
import math
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from string import Template
from typing import Any, Literal

import yaml

from egost.tasks.chat.calls import NoReply
from egost.tasks.chat.client import Message
from egost.tasks.chat.reading import Completion, whole_text
from egost.tasks.chat.structured import object_form
from egost.tasks.json_text import encodable
from egost.tasks.judging.judge import ASPECTS, BEST, RouteItem
from egost.tasks.prompts import VersionedPrompt
from egost.tasks.response_text import outside_thinking
from egost.tasks.sample import Way

ReplyForm = Literal["json", "dictionary"]

COMPAT_KEYS = ("direction", "landmark", "semantic and logic")

MAX_REASON = 300
"""Most characters of a reason, for servers whose schemas can bound a text; OpenAI's refuse a bound."""


def scores_form(most: int | None = None) -> dict[str, Any]:
    """The `response_format` of a reply in JSON: for each aspect a reason, of `most` characters, then the score."""
    reason = {"type": "string"} | ({"maxLength": most} if most else {})
    return object_form(
        "route_scores",
        {key: form for aspect in ASPECTS for key, form in ((f"{aspect}_reason", reason), (aspect, _SCORE))},
    )


_SCORE = {"type": "integer", "enum": [0, 1, 2, 3, 4, 5]}

SCORES_ALONE = object_form("route_scores", dict.fromkeys(ASPECTS, _SCORE))
"""The `response_format` of a second ask, after a reply that ran on or could not be read."""

_ALONE = 'Leave out the reasons this time: the JSON object has the keys "direction", "landmark" and "semantic" alone.'

STRICT, COMPAT = "route-judge-1", "route-judge-compat-2"

_WAY_WORDS: dict[Way, str] = {
    "forward": "forward: from point A to point B",
    "reverse": "in reverse: from point B to point A",
}

_MOST_OBJECTS = 3
_DICTIONARY = re.compile(r"\{[^{}]*\}")
_PAIR = re.compile(
    r"""\s*(?P<quote>['"])(?P<key>[^'"]*)(?P=quote)\s*:\s*(?P<value>-?\d{1,9})(?:\.0{1,3})?\s*"""
)


class JudgePrompt(VersionedPrompt):
    """The instructions of a judge.

    reply: form of the reply, `json` (scores and reasons) or `dictionary` (the reference code's form).
    system, user: templates with `$way`, `$question`, `$reference`, `$prediction` and `$fence`.
    """

    reply: ReplyForm
    system: str
    user: str

    def messages(self, item: RouteItem) -> list[Message]:
        """The chat messages that ask about an item; the same item gives the same messages."""
        user = Template(self.user).substitute(
            way=_WAY_WORDS[item.way],
            question=encodable(item.question),
            reference=encodable(item.reference),
            prediction=encodable(item.prediction),
            fence=fence_code(self.sha256, item),
        )
        return [{"role": "system", "content": self.system}, {"role": "user", "content": user}]

    def messages_for_scores_alone(self, item: RouteItem) -> list[Message]:
        """The same chat, whose instructions end with the wish for scores without reasons."""
        system, user = self.messages(item)
        return [{"role": "system", "content": f"{system['content']}\n{_ALONE}"}, user]


def fence_code(prompt_sha256: str, item: RouteItem) -> str:
    """The code of the markers round an item's texts: 16 hexadecimal digits that stand in none of them.

    It is a hash that the prediction itself enters, so that whoever writes a prediction cannot write its
    marker as well, and yet the same item is always asked about in the same words.
    """
    texts = (item.way, item.question, item.reference, item.prediction)
    attempt = 0
    while True:
        seed = "\0".join((prompt_sha256, str(attempt), *texts))
        code = hashlib.sha256(seed.encode("utf-8", "surrogatepass")).hexdigest()[:16]
        if not any(code in text for text in texts):
            return code
        attempt += 1


@cache
def load_judge_prompt(label: str) -> JudgePrompt:
    """The shipped prompt of a label, `STRICT` or `COMPAT`."""
    text = Path(__file__).with_name(f"{label}.yaml").read_text(encoding="utf-8")
    return JudgePrompt.model_validate(yaml.safe_load(text))


@dataclass(frozen=True, slots=True)
class Scores:
    """Three whole numbers from 0 to 5 and what the judge based them on; compat: see `Judgement`."""

    direction: int
    landmark: int
    semantic: int
    reasons: str
    compat: float | None = None


def read_scores(completion: Completion, form: ReplyForm) -> Scores:
    """The scores that a completion holds in the form that its prompt asked for.

    Raises NoReply with `refusal`, `content_filter`, `truncated`, `empty_reply`, `no_object` (not one object in the
    right form) or `bad_scores` (a score is missing, or no whole number from 0 to 5).
    """
    said = whole_text(completion).strip()
    if not said:
        raise NoReply("empty_reply", "")
    text = (outside_thinking(said) or "").strip("\ufeff \n\t")
    try:
        found = _json_object(text) if form == "json" else _dictionary(text)
    except (ValueError, RecursionError):
        raise NoReply("no_object", said) from None
    keys = ASPECTS if form == "json" else COMPAT_KEYS
    scores = [score for key in keys if (score := _whole(found.get(key))) is not None]
    if len(scores) != len(keys):
        raise NoReply("bad_scores", said)
    given = ((aspect, found.get(f"{aspect}_reason")) for aspect in ASPECTS)
    reasons = "; ".join(f"{aspect}: {why.strip()}" for aspect, why in given if isinstance(why, str))
    compat = compat_percent(completion.text) if form == "dictionary" else None
    return Scores(scores[0], scores[1], scores[2], encodable(reasons), compat)


def compat_percent(reply: str) -> float:
    """The percentage that the public code takes from a judge's reply, 0 where it can take none.

    What is between the first and the last brace is read as a Python literal. Of its three keys a missing one is 0, and
    fractions and values above 5 count as they are; others are ignored. The sum is divided by 3, times 20.
    """
    try:
        found = ast.literal_eval(reply[reply.index("{") : reply.rindex("}") + 1])
        total = math.fsum(found.get(key, 0) for key in COMPAT_KEYS)
    except (ValueError, TypeError, AttributeError, SyntaxError, OverflowError, MemoryError, RecursionError):
        return 0.0
    return total / 3 * 20 if math.isfinite(total) else 0.0


def _whole(value: object) -> int | None:
    number = int(value) if type(value) is float and value.is_integer() else value
    return number if type(number) is int and 0 <= number <= BEST else None


def _json_object(text: str) -> dict[str, Any]:
    """The one object of a reply, in a fence or between sentences. Raises ValueError where there are none or several."""
    if text.startswith("["):
        raise ValueError("a list")
    decoder = json.JSONDecoder(object_pairs_hook=_without_doubles)
    found: list[dict[str, Any]] = []
    at, tries = text.find("{"), 0
    while at >= 0 and tries < _MOST_OBJECTS:
        one, end = decoder.raw_decode(text, at)
        found.append(one)
        at, tries = text.find("{", end), tries + 1
    [only] = found
    return only


def _dictionary(text: str) -> dict[str, Any]:
    """The one flat dictionary of a reply, with keys in either kind of quotes and whole numbers."""
    [body] = _DICTIONARY.findall(text)
    pairs = [_PAIR.fullmatch(part) for part in body[1:-1].rstrip(" ,\n").split(",")]
    if None in pairs:
        raise ValueError("not a dictionary of whole numbers")
    return _without_doubles([(pair["key"], int(pair["value"])) for pair in pairs if pair])


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key is there twice")
    return found
