"""Asks a server for one judgement's reply."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import openai
from loguru import logger

from egost_tasks.judge import JudgeStopped
from egost_tasks.openai_judge.endpoint import Endpoint, find_key, open_client
from egost_tasks.openai_judge.faults import Fault, fault_of, redacted, remedy
from egost_tasks.openai_judge.paced_calls import Faulted, PacedCalls, Wording
from egost_tasks.openai_judge.pacing import Pacing
from egost_tasks.openai_judge.prompt import Message
from egost_tasks.openai_judge.reading import ASPECTS, BrokenBody, Completion, read_completion
from egost_tasks.openai_judge.usage import Tally

SEED = 20250312
"""Seed of the first ask, where the interface has one."""

MAX_TOKENS = 1024
"""Room for a reply: six short fields need about 150 tokens."""

CHOSEN_BY = "EGOST_JUDGE or --judge"

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
    """Asks one endpoint; for use within one event loop."""

    def __init__(self, endpoint: Endpoint, pacing: Pacing, tally: Tally, structured: bool) -> None:
        self._key = find_key(endpoint)
        self._endpoint, self._pacing, self._tally = endpoint, pacing, tally
        self._client = open_client(endpoint, self._key, pacing.timeout_s)
        self._structured = structured
        self.calls = PacedCalls(
            Wording(
                url=endpoint.url,
                who=f"The judge {endpoint.label}",
                kept="What was judged is kept",
                remedy=remedy(400, endpoint, CHOSEN_BY),
                stopped=JudgeStopped,
            ),
            pacing,
            first_bad_ends=True,
        )

    async def ask(self, messages: list[Message], seed: int, again: bool) -> Completion:
        """The completion of a chat. again: the judgement has had a call before.

        Raises NoReply when there is none for these messages, and JudgeStopped when there can be none at all.
        """
        return await self.calls.make(lambda first: self._call(messages, seed, again or not first))

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    async def _call(self, messages: list[Message], seed: int, again: bool) -> Completion:
        optional = self._optional(seed)
        self._tally.called(again)
        try:
            completion = await asyncio.wait_for(self._send(messages, optional), self._pacing.timeout_s)
        except (openai.APIError, asyncio.TimeoutError, BrokenBody) as error:
            # The exception holds the request with its key: it ends here.
            fault = self._redacted(fault_of(error, self._endpoint, frozenset(optional), CHOSEN_BY))
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

    def _optional(self, seed: int) -> dict[str, Any]:
        optional: dict[str, Any] = {"temperature": 0, "seed": seed, "max_completion_tokens": MAX_TOKENS}
        if self._structured:
            optional["response_format"] = SCORES_SCHEMA
        return {name: value for name, value in optional.items() if name not in self._tally.left_out}

    def _redacted(self, fault: Fault) -> Fault:
        return replace(fault, text=redacted(fault.text, self._key))
