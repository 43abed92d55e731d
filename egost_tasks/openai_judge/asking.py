"""Asks a server for one reply: paced, tried again where that helps, and stopped where it does not."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from typing import Any

import openai
from loguru import logger
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_attempt
from tenacity.wait import wait_random_exponential

from egost_tasks.errors import EgostError
from egost_tasks.judge import JudgeStopped
from egost_tasks.openai_judge.endpoint import Endpoint, find_key, open_client
from egost_tasks.openai_judge.faults import Fault, fault_of, redacted, remedy
from egost_tasks.openai_judge.pacing import Breaker, Lanes, Pacing
from egost_tasks.openai_judge.prompt import Message
from egost_tasks.openai_judge.reading import ASPECTS, BrokenBody, Completion, read_completion
from egost_tasks.openai_judge.usage import Tally

SEED = 20250312
"""Seed of the first ask, where the interface has one."""

MAX_TOKENS = 1024
"""Room for a reply: six short fields need about 150 tokens."""

MOST_BAD_REQUESTS = 20
"""So many in a row that the server calls bad requests are no fault of single samples any more; as many as the calls
without an answer that make a dead endpoint."""

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


class NoReply(Exception):
    """No reply could be got for one judgement. reason: see `Fault`."""

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason


class _Again(Exception):
    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.text)
        self.fault = fault


class Asker:
    """Asks one endpoint; for use within one event loop."""

    def __init__(self, endpoint: Endpoint, pacing: Pacing, tally: Tally, structured: bool) -> None:
        self._key = find_key(endpoint)
        self._endpoint, self._pacing, self._tally = endpoint, pacing, tally
        self._client = open_client(endpoint, self._key, pacing.timeout_s)
        self._lanes = Lanes(pacing.concurrency, self.sleep)
        self._breaker = Breaker(pacing.breaker_calls, pacing.breaker_s)
        self._structured = structured
        self._answered = False
        self._bad_requests = 0
        self._ended = asyncio.Event()
        self._why: EgostError | None = None
        self.stopped_at: float | None = None

    async def ask(self, messages: list[Message], seed: int, again: bool) -> Completion:
        """The completion of a chat. again: the judgement has had a call before.

        Raises NoReply when there is none for these messages, and JudgeStopped when there can be none at all.
        """
        first_s = self._pacing.first_wait_s
        retrying = AsyncRetrying(
            stop=stop_after_attempt(self._pacing.tries),
            wait=wait_random_exponential(first_s, self._pacing.longest_wait_s, min=first_s / 2),
            retry=retry_if_exception_type(_Again),
            sleep=self.sleep,
            reraise=True,
        )
        try:
            async for attempt in retrying:
                with attempt:
                    first = attempt.retry_state.attempt_number == 1
                    return await self._call(messages, seed, again or not first)
        except _Again as last:
            raise NoReply(last.fault.reason, last.fault.text) from None
        raise AssertionError("tenacity ends with a result or an exception")

    def stop(self, why: EgostError) -> None:
        """End the judging: calls under way may finish, no other is made."""
        if self._why is None:
            self._why, self.stopped_at = why, time.monotonic()
        self._ended.set()

    def check(self) -> None:
        """Raises JudgeStopped, or the CacheError that ended the judging, once it is over."""
        if self._why:
            raise type(self._why)(str(self._why))

    async def sleep(self, seconds: float) -> None:
        """Wait, but not longer than the judging lasts; raises as `check` does."""
        try:
            await asyncio.wait_for(self._ended.wait(), seconds)
        except asyncio.TimeoutError:
            return
        self.check()

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    async def _call(self, messages: list[Message], seed: int, again: bool) -> Completion:
        while True:
            optional = self._optional(seed)
            async with self._lanes.lane() as began:
                self.check()
                self._tally.called(again)
                try:
                    completion = await asyncio.wait_for(
                        self._send(messages, optional), self._pacing.timeout_s
                    )
                except (openai.APIError, asyncio.TimeoutError, BrokenBody) as error:
                    # The exception holds the request with its key: it ends here.
                    fault = self._redacted(fault_of(error, self._endpoint, frozenset(optional)))
                else:
                    self._answered, self._bad_requests = True, 0
                    self._breaker.answered()
                    self._lanes.went_well()
                    self._tally.replied(completion)
                    return completion
            self._take(fault, began)
            again = True

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

    def _take(self, fault: Fault, began: float) -> None:
        """Draw the consequences of a fault; returns when the call is to be made again at once."""
        self._tally.fault(fault.reason)
        if fault.alive:
            self._breaker.answered()
        elif self._breaker.failed(began):
            self.stop(
                JudgeStopped(
                    f"{self._endpoint.url} does not answer: {self._pacing.breaker_calls} calls in a row failed, the "
                    f"last one with: {fault.text}. What was judged is kept; run the same again when it is back."
                )
            )
        if fault.reason == "bad_request":
            self._bad_requests += 1
            if not self._answered or self._bad_requests >= MOST_BAD_REQUESTS:
                fault = replace(fault, action="stop", text=f"{fault.text}. {remedy(400, self._endpoint)}")
        if fault.action == "stop":
            self.stop(
                JudgeStopped(
                    f"The judge {self._endpoint.label} refuses: {fault.text} What was judged is kept."
                )
            )
        if (fault.wait_s or 0) > self._pacing.longest_pause_s:
            self.stop(
                JudgeStopped(
                    f"{self._endpoint.url} asks to wait {fault.wait_s:.0f} s: {fault.text}. What was judged is "
                    "kept; run the same again then."
                )
            )
        self.check()
        if fault.wait_s:
            self._lanes.pause(fault.wait_s)
        if fault.reason == "rate_limited":
            self._lanes.halve(began)
        if fault.action == "unscored":
            raise NoReply(fault.reason, fault.text)
        if fault.action == "again":
            raise _Again(fault)
        if self._tally.leave_out(fault.parameter):
            logger.warning(
                f"egost: {self._endpoint.label} does not take {fault.parameter} and is asked without ({fault.text})"
            )

    def _redacted(self, fault: Fault) -> Fault:
        return replace(fault, text=redacted(fault.text, self._key))
