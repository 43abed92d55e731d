"""Reverse thinking written by a language model: `egost train data --writer gpt-4o`.

    write = thought_writer(writer_endpoint("openai:my-model@http://localhost:8000/v1"))
    thinks, failed = write([(sample, route_of_the_other_way), ...])

Each text is kept on disk the moment it is there, so that a run that was cut off asks only for the rest. One that names
an option, or says nothing, is asked for again with another seed and never kept. Calls are paced, retried and stopped as
the judge's are; no key is written anywhere.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import openai

from egost.tasks.cache import cache_root, write_whole
from egost.tasks.chat.endpoint import OPENAI_URL, Endpoint, find_key, open_client, parse_endpoint
from egost.tasks.chat.faults import fault_of, redacted, remedy
from egost.tasks.chat.paced_calls import Faulted, NoReply, PacedCalls, Wording
from egost.tasks.chat.pacing import Pacing, chosen_pacing
from egost.tasks.errors import CacheError, EgostError
from egost.tasks.judging.reading import BrokenBody, Completion, read_completion
from egost.tasks.sample import Sample
from egost.training.rows.build_rows import Thinks, Writer
from egost.training.rows.reverse_thinking import names_an_option, without_point_names

PROMPT = "reverse-thinking-1"
"""Name and version of the instructions below; part of the key under which a text is kept."""

SEED = 20250312
MAX_TOKENS = 1024

_CHOSEN_BY = "--writer"
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
_SCHEMA = {
    "type": "json_schema",
    "json_schema": {
        "name": "reverse_thinking",
        "strict": True,
        "schema": {
            "type": "object",
            "additionalProperties": False,
            "required": ["think"],
            "properties": {"think": {"type": "string"}},
        },
    },
}


class WriterError(EgostError):
    """The model that writes the reasoning refuses, or does not answer at all; what was written is kept."""


@dataclass(frozen=True, slots=True)
class _Failed:
    reason: str


def writer_endpoint(spec: str) -> Endpoint:
    """`gpt-4o`, `gpt-...`, `openai:MODEL` or `openai:MODEL@URL`; see `egost.tasks.chat.endpoint`.

    Raises JudgeError for another form.
    """
    if spec.startswith("openai:") and "@" not in spec:
        return Endpoint("openai", spec.removeprefix("openai:"), OPENAI_URL, compat=False)
    return parse_endpoint(spec)


def thought_writer(endpoint: Endpoint, *, folder: Path | None = None, pacing: Pacing | None = None) -> Writer:
    """A writer for `build_rows`.

    folder: where texts are kept, `reverse_thinking` in the cache by default.
    It raises JudgeError where the key is missing, WriterError where the server refuses or does not answer, CacheError
    where a text cannot be kept. A single text that cannot be had is told by its reason: `names_an_option`,
    `holds_a_tag`, `no_object`, `empty_reply`, `truncated`, `refusal`, or a reason of `Fault`.
    """

    def write(pairs: Sequence[tuple[Sample, Sample]]) -> tuple[Thinks, dict[str, str]]:
        asked = _Asked(endpoint, folder or cache_root() / "reverse_thinking", pacing or chosen_pacing())
        found = asyncio.run(asked.all(pairs))
        thinks = {key: text for key, text in found.items() if isinstance(text, str)}
        return thinks, {key: text.reason for key, text in found.items() if isinstance(text, _Failed)}

    return write


class _Asked:
    """What is asked of one endpoint; for use within one event loop."""

    def __init__(self, endpoint: Endpoint, folder: Path, pacing: Pacing) -> None:
        self._endpoint, self._folder, self._pacing = endpoint, folder, pacing
        self._key = find_key(endpoint)
        self._left_out: set[str] = set()

    async def all(self, pairs: Sequence[tuple[Sample, Sample]]) -> dict[str, str | _Failed]:
        self._client = open_client(self._endpoint, self._key, self._pacing.timeout_s)
        self._calls = PacedCalls(
            Wording(
                url=self._endpoint.url,
                who=f"The writer {self._endpoint.label}",
                kept="What was written is kept",
                remedy=remedy(400, self._endpoint, _CHOSEN_BY),
                stopped=WriterError,
            ),
            self._pacing,
            first_bad_ends=True,
        )
        try:
            tasks = [self._one(sample, route) for sample, route in pairs]
            done = await asyncio.gather(*tasks, return_exceptions=True)
        finally:
            await self._client.close()
        for outcome in done:
            if isinstance(outcome, BaseException):
                raise outcome
        return {
            sample.id: text
            for (sample, _), text in zip(pairs, done, strict=True)
            if not isinstance(text, BaseException)
        }

    async def _one(self, sample: Sample, route: Sample) -> str | _Failed:
        messages = _messages(sample, route)
        path = self._folder / f"{self._name(messages)}.json"
        if (kept := _kept(path, sample)) is not None:
            return kept
        failed = _Failed("")
        for ask in range(self._pacing.asks):
            try:
                completion = await self._calls.make(partial(self._call, messages, SEED + ask))
            except NoReply as error:
                return _Failed(error.reason)
            text = _read(completion, sample)
            if isinstance(text, str):
                self._keep(path, text, completion.snapshot)
                return text
            failed = text
        return failed

    async def _call(self, messages: list[dict[str, str]], seed: int, _first: bool) -> Completion:
        optional: dict[str, Any] = {
            "temperature": 0,
            "seed": seed,
            "max_completion_tokens": MAX_TOKENS,
            "response_format": _SCHEMA,
        }
        sent = {name: value for name, value in optional.items() if name not in self._left_out}
        try:
            return await asyncio.wait_for(self._send(messages, sent), self._pacing.timeout_s)
        except (TimeoutError, openai.APIError, BrokenBody) as error:
            # The exception holds the request with its key: it ends here.
            fault = fault_of(error, self._endpoint, frozenset(sent), _CHOSEN_BY)
        if fault.action == "without":
            self._left_out.add(fault.parameter)
        raise Faulted(replace(fault, text=redacted(fault.text, self._key)))

    async def _send(self, messages: list[dict[str, str]], sent: dict[str, Any]) -> Completion:
        create: Any = self._client.chat.completions.with_raw_response.create
        reply = await create(model=self._endpoint.model, messages=messages, **sent)
        return read_completion(reply.text, lambda text: redacted(text, self._key))

    def _name(self, messages: list[dict[str, str]]) -> str:
        parts = [self._endpoint.label, self._endpoint.model, PROMPT, SEED, MAX_TOKENS, _SCHEMA, messages]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:40]

    def _keep(self, path: Path, text: str, snapshot: str) -> None:
        content = {"think": text, "snapshot": snapshot, "writer": self._endpoint.label, "prompt": PROMPT}
        try:
            write_whole(path, json.dumps(content, ensure_ascii=False).encode())
        except OSError as error:
            why = CacheError(
                f"reasoning cannot be kept in {path.parent} ({error}). Make room, or set EGOST_CACHE to a folder that "
                "can be written."
            )
            self._calls.stop(why)
            raise why from error


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
    told = "\n".join(f"{name}: {text}" for name, text in facts.items())
    return [{"role": "system", "content": _SYSTEM}, {"role": "user", "content": told}]


def _read(completion: Completion, sample: Sample) -> str | _Failed:
    if completion.refusal:
        return _Failed("refusal")
    if completion.finish == "length":
        return _Failed("truncated")
    if not completion.text.strip():
        return _Failed("empty_reply")
    try:
        text = json.loads(completion.text)["think"]
    except (ValueError, KeyError, TypeError):
        return _Failed("no_object")
    return _checked(text, sample)


def _checked(text: object, sample: Sample) -> str | _Failed:
    if not isinstance(text, str) or not text.strip():
        return _Failed("empty_reply")
    if "<" in text:
        return _Failed("holds_a_tag")
    # A route's own points A and B would read as options, too.
    if names_an_option(text, len(sample.options) or 2):
        return _Failed("names_an_option")
    return " ".join(text.split())


def _kept(path: Path, sample: Sample) -> str | None:
    try:
        text = _checked(json.loads(path.read_text(encoding="utf-8"))["think"], sample)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return text if isinstance(text, str) else None
