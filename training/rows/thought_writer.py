"""Reverse thinking written by a language model: `egost train data --writer gpt-4o`.

    write = thought_writer(writer_endpoint("openai:my-model@http://localhost:8000/v1"))
    thinks, failed = write([(sample, route_of_the_other_way), ...])

Each text is kept on disk as soon as it arrives, so that a run that was cut off asks only for the rest. One that names
an option, or says nothing, is asked for again with another seed and never kept. No key is written anywhere.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

from egost.tasks.cache import cache_root
from egost.tasks.chat.calls import NoReply, Pacing, chosen_pacing
from egost.tasks.chat.client import Role
from egost.tasks.chat.endpoint import OPENAI_URL, Endpoint, parse_endpoint
from egost.tasks.chat.reading import Completion, json_object, whole_text
from egost.tasks.chat.reply_store import Body, only_asker
from egost.tasks.chat.structured import (
    MAX_TOKENS,
    SEED,
    Answered,
    Question,
    ask_all,
    object_form,
    reply_store,
)
from egost.tasks.json_text import read_json
from egost.tasks.sample import Sample
from egost.training import TrainingError
from egost.training.rows.build_rows import Thinks, Writer
from egost.training.rows.reverse_thinking import names_an_option, without_point_names

PROMPT = "reverse-thinking-1"
"""Name and version of the instructions below; part of the key under which a text is kept."""

_WAYS = {
    "forward": "from the start of the walk to its end",
    "reverse": "from the end of the walk back to its start",
}
_SYSTEM = (
    "You write the inner reasoning of somebody who has watched a first-person video of a walk and is asked about it. "
    "Reason by reverse thinking: go first through the walk in the direction opposite to the question's, as the given "
    "route describes it, then turn it round (the order becomes the opposite, left and right change places) and arrive "
    "at what the question asks for. Use nothing but the given facts. Arrive at the right content in words, as turns, "
    "landmarks or actions; never mention that there are options, never name a letter or a number of an option, and "
    "write of the start and the end of the walk instead of points. Three to eight sentences, first person."
)
_FORM = object_form("reverse_thinking", {"think": {"type": "string"}})


_ROLE = Role("The writer", "What was written is kept", "--writer", TrainingError)


def writer_endpoint(spec: str) -> Endpoint:
    """`gpt-4o`, `gpt-...`, `openai:MODEL` or `openai:MODEL@URL`; see `egost.tasks.chat.endpoint`.

    Raises SettingError for another form.
    """
    if spec.startswith("openai:") and "@" not in spec:
        return Endpoint("openai", spec.removeprefix("openai:"), OPENAI_URL)
    return parse_endpoint(spec)


def thought_writer(endpoint: Endpoint, *, folder: Path | None = None, pacing: Pacing | None = None) -> Writer:
    """A writer for `build_rows`.

    folder: where texts are kept, `reverse_thinking` in the cache by default.
    It raises SettingError where the key is missing, TrainingError where the server refuses or does not answer, or where
    another process asks it already, and
    CacheError where a text cannot be kept. A text that could not be had is reported by its reason: `names_an_option`,
    `holds_a_tag`, `no_object`, `empty_reply`, `truncated`, `content_filter`, `refusal`, or a reason of `Fault`.
    """

    def write(pairs: Sequence[tuple[Sample, Sample]]) -> tuple[Thinks, dict[str, str]]:
        kept = folder or cache_root() / "reverse_thinking"
        name = hashlib.sha256(endpoint.label.encode()).hexdigest()[:24]
        with only_asker(
            kept / f"asking-{name}.lock",
            lambda holder: TrainingError(
                f"{endpoint.label} is being asked for reasoning already: {holder}. Wait until that ends, or stop it; "
                "the same command then asks for what is missing."
            ),
        ):
            answers = ask_all(
                [_question(endpoint, sample, route) for sample, route in pairs],
                endpoint,
                _ROLE,
                reply_store(kept, partial(_older, kept)),
                pacing or chosen_pacing(),
                doing="writing reasoning",
            )
        thinks: dict[str, str] = {}
        failed: dict[str, str] = {}
        for (sample, _), answer in zip(pairs, answers, strict=True):
            if isinstance(answer, Answered):
                thinks[sample.id] = answer.content
            else:
                failed[sample.id] = answer.reason
        return thinks, failed

    return write


def _question(endpoint: Endpoint, sample: Sample, route: Sample) -> Question[str]:
    messages = _messages(sample, route)
    parts = [endpoint.label, endpoint.model, PROMPT, SEED, MAX_TOKENS, _FORM, messages]
    key = hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:40]
    return Question(lambda ask: key, lambda: messages, _FORM, partial(_read, sample))


def _messages(sample: Sample, route: Sample) -> list[dict[str, str]]:
    facts = {
        "question": sample.question,
        "asked about": _WAYS[sample.way],
        f"route {_WAYS[route.way]}": without_point_names(route.answer),
        "what is right": (
            sample.options[sample.letters.index(sample.answer)]
            if sample.options
            else without_point_names(sample.answer)
        ),
    }
    asked = "\n".join(f"{name}: {text}" for name, text in facts.items())
    return [{"role": "system", "content": _SYSTEM}, {"role": "user", "content": asked}]


def _read(sample: Sample, completion: Completion) -> str:
    """The reasoning of a reply, checked. Raises NoReply."""
    reply = whole_text(completion)
    if not reply.strip():
        raise NoReply("empty_reply", reply)
    found = json_object(completion)
    if "think" not in found:
        raise NoReply("no_object", reply)
    text = found["think"]
    if not isinstance(text, str) or not text.strip():
        raise NoReply("empty_reply", reply)
    if "<" in text:
        raise NoReply("holds_a_tag", reply)
    # A route's own points A and B would read as options, too.
    if names_an_option(text, len(sample.options) or 2):
        raise NoReply("names_an_option", reply)
    return " ".join(text.split())


def _older(folder: Path, key: str) -> Body | None:
    """A text of versions that kept each in a file of its own, as a reply that says it."""
    try:
        kept = read_json(folder / f"{key}.json")
        text, snapshot = json.dumps({"think": kept["think"]}), kept["snapshot"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return asdict(Completion(text, "", "stop", snapshot, 0, 0))
