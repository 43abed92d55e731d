"""Asks a server for one reply: a judgement's, or what else is wanted in a fixed form."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from typing import Any

import openai
from loguru import logger

from egost.tasks.chat.endpoint import Endpoint, find_key, open_client
from egost.tasks.chat.faults import Fault, fault_of, redacted, remedy
from egost.tasks.chat.paced_calls import Faulted, PacedCalls, Wording
from egost.tasks.chat.pacing import Pacing
from egost.tasks.chat.usage import Tally
from egost.tasks.errors import EgostError
from egost.tasks.judging.judge import JudgeStopped
from egost.tasks.judging.prompt import Message
from egost.tasks.judging.reading import ASPECTS, BrokenBody, Completion, read_completion

SEED = 20250312
"""Seed of the first ask, where the interface has one."""

MAX_TOKENS = 1024
"""Room for a reply: six short fields need about 150 tokens."""


@dataclass(frozen=True, slots=True)
class Role:
    """What a server is asked to be, for messages.

    who: `The judge`. kept: what is not lost when it stops, a sentence. chosen_by: the setting that names another one.
    stopped: the kind of error that ends the asking.
    """

    who: str
    kept: str
    chosen_by: str
    stopped: type[EgostError]


JUDGE = Role("The judge", "What was judged is kept", "EGOST_JUDGE or --judge", JudgeStopped)

SCORES_SCHEMA: dict[str, Any] = {
    "type": "json_schema",
    "json_schema": {
        "name": "route_scores",
        "strict": True,
        "schema": {
            "type": "object",
            "additionalProperties": False,
            "required": [key for aspect in ASPECTS for key in (f"{aspect}_reason", aspect)],
            "properties": {
                key: form
                for aspect in ASPECTS
                for key, form in (
                    (f"{aspect}_reason", {"type": "string"}),
                    (aspect, {"type": "integer", "enum": [0, 1, 2, 3, 4, 5]}),
                )
            },
        },
    },
}


class Asker:
    """Asks one endpoint; for use within one event loop. role: what it is asked to be."""

    def __init__(self, endpoint: Endpoint, pacing: Pacing, tally: Tally, role: Role = JUDGE) -> None:
        self._key = find_key(endpoint)
        self._endpoint, self._pacing, self._tally = endpoint, pacing, tally
        self._client = open_client(endpoint, self._key, pacing.timeout_s)
        self._role = role
        self.calls = PacedCalls(
            Wording(
                url=endpoint.url,
                who=f"{role.who} {endpoint.label}",
                kept=role.kept,
                remedy=remedy(400, endpoint, role.chosen_by),
                stopped=role.stopped,
            ),
            pacing,
            first_bad_ends=True,
        )

    async def ask(
        self, messages: list[Message], seed: int, again: bool, form: dict[str, Any] | None
    ) -> Completion:
        """The completion of a chat. again: it has had a call before. form: its `response_format`, None for free text.

        Raises NoReply when there is none for these messages, and JudgeStopped when there can be none at all.
        """
        return await self.calls.make(lambda first: self._call(messages, seed, again or not first, form))

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    async def _call(
        self, messages: list[Message], seed: int, again: bool, form: dict[str, Any] | None
    ) -> Completion:
        optional = self._optional(seed, form)
        self._tally.called(again)
        try:
            completion = await asyncio.wait_for(self._send(messages, optional), self._pacing.timeout_s)
        except (TimeoutError, openai.APIError, BrokenBody) as error:
            # The exception holds the request with its key: it ends here.
            fault = self._redacted(fault_of(error, self._endpoint, frozenset(optional), self._role.chosen_by))
        else:
            self._tally.replied(completion)
            return completion
        self._tally.fault(fault.reason)
        if fault.action == "without" and self._tally.leave_out(fault.parameter):
            logger.warning(
                f"egost: {self._endpoint.label} does not take {fault.parameter} and is asked without ({fault.text})"
            )
        raise Faulted(fault)

    async def _send(self, messages: list[Message], optional: dict[str, Any]) -> Completion:
        # The body is read here and not by the client, which takes any body for a completion.
        reply = await self._client.chat.completions.with_raw_response.create(
            model=self._endpoint.model,
            messages=messages,
            **optional,
        )
        return read_completion(reply.text, lambda text: redacted(text, self._key))

    def _optional(self, seed: int, form: dict[str, Any] | None) -> dict[str, Any]:
        optional: dict[str, Any] = {"temperature": 0, "seed": seed, "max_completion_tokens": MAX_TOKENS}
        if form:
            optional["response_format"] = form
        return {name: value for name, value in optional.items() if name not in self._tally.left_out}

    def _redacted(self, fault: Fault) -> Fault:
        return replace(fault, text=redacted(fault.text, self._key))
