"""Questions whose replies have a form: asked once, kept on disk, and asked again where the reply makes no sense.

for place, answer in Asker(endpoint, role, store, pacing).gather(questions):
    ...
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import closing
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Generic, TypeVar

from loguru import logger

from egost.tasks.chat.calls import Calls, Faulted, NoReply, Pacing
from egost.tasks.chat.client import ChatClient, Message, Role
from egost.tasks.chat.endpoint import Endpoint
from egost.tasks.chat.reading import Completion
from egost.tasks.chat.reply_store import STORE, Body, ReplyStore
from egost.tasks.chat.usage import Tally
from egost.tasks.json_text import encodable
from egost.tasks.progress import LineAMinute, counted

T = TypeVar("T")

SEED = 20250312
"""Seed of the first ask, where the interface has one."""

MAX_TOKENS = 1024
"""Most tokens of a reply: six short fields take about 150."""


@dataclass(frozen=True, slots=True)
class Question(Generic[T]):
    """What a server is asked.

    key: names the reply to the ask of a number (0 first) on disk. messages: makes the chat.
    form: the `response_format`, None for free text. read: what a completion says; raises NoReply where that makes no
        sense.
    seed: of the first ask; each further one has the next, since the same seed would bring the same reply.
    temperature: None asks at the server's own.
    keeps_all: whether a reply that makes no sense is kept on disk, too (its key must be its ask's own).
    shorter: messages and form from the second ask on, where the same words would only bring the same reply.
    """

    key: Callable[[int], str]
    messages: Callable[[], Sequence[Message]]
    form: dict[str, Any] | None
    read: Callable[[Completion], T]
    seed: int = SEED
    temperature: float | None = 0
    keeps_all: bool = False
    shorter: tuple[Callable[[], Sequence[Message]], dict[str, Any] | None] | None = None


@dataclass(frozen=True, slots=True)
class Answered(Generic[T]):
    """What a reply says, and the model that the server named."""

    content: T
    snapshot: str


@dataclass(frozen=True, slots=True)
class Unanswered:
    """Why a question has no answer. reason: a short stable word; text: what the server said."""

    reason: str
    text: str


class Asker:
    """Asks one endpoint; safe in threads.

    store: where replies are kept. tally: an account that goes on, a new one by default. clock: see `Pace`.
    Raises SettingError where the key is missing or cannot be sent.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        role: Role,
        store: ReplyStore,
        pacing: Pacing,
        tally: Tally | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._endpoint, self._store, self._pacing = endpoint, store, pacing
        self.tally = tally or Tally()
        self._client = ChatClient(endpoint, role, pacing.timeout_s)
        self.calls = Calls(self._client.wording, pacing, first_bad_ends=True, at_end=self._client.close)
        self._log = LineAMinute(f"asking {endpoint.label}", "questions", clock=clock)

    def submit(self, question: Question[T]) -> Future[Answered[T] | Unanswered]:
        """Begin to ask; returns at once. The future raises what `ask_all` does."""
        self._log.total += 1
        future = self.calls.submit(self._answer, question)
        self.tally.begin()
        future.add_done_callback(self._end)
        return future

    def _end(self, _: Future[Any]) -> None:
        self.tally.end()
        self._log.did()

    def gather(self, questions: Sequence[Question[T]]) -> Iterator[tuple[int, Answered[T] | Unanswered]]:
        """The place of each question and its answer, as they come; see `Calls.gather`."""
        return self.calls.gather(questions, self._answer)

    def close(self) -> None:
        """End the asking and close the files."""
        self.calls.close()
        self._store.close()

    async def _answer(self, question: Question[T]) -> Answered[T] | Unanswered:
        failed = NoReply("", "")
        for ask in range(self._pacing.asks):
            key = question.key(ask)
            kept = self._store.get(key)
            if kept is not None and (completion := _completion(kept)) is not None:
                try:
                    content = question.read(completion)
                except NoReply as error:
                    if question.keeps_all:
                        failed = error
                        continue
                else:
                    self.tally.answered(completion.snapshot, cached=True)
                    return Answered(content, completion.snapshot)
            try:
                completion = await self._ask(question, ask)
            except NoReply as error:
                failed = error
                break
            if question.keeps_all:
                self._keep(key, completion)
            try:
                content = question.read(completion)
            except NoReply as error:
                failed = error
                self.tally.fault(error.reason)
                continue
            if not question.keeps_all:
                self._keep(key, completion)
            self.tally.answered(completion.snapshot, cached=False)
            return Answered(content, completion.snapshot)
        self.tally.failed(failed.reason)
        return Unanswered(failed.reason, str(failed))

    async def _ask(self, question: Question[T], ask: int) -> Completion:
        ask_for, form = question.messages, question.form
        if ask > 0 and question.shorter:
            ask_for, form = question.shorter
        messages = ask_for()
        wanted = {
            "temperature": question.temperature,
            "seed": question.seed + ask,
            "max_completion_tokens": MAX_TOKENS,
            "response_format": form,
        }

        async def call(first: bool) -> Completion:
            left_out = self.tally.left_out
            parameters = {
                name: value for name, value in wanted.items() if value is not None and name not in left_out
            }
            self.tally.called(again=ask > 0 or not first)
            try:
                completion = await self._client.call(messages, parameters)
            except Faulted as error:
                self._note(error)
                raise
            self.tally.replied(completion)
            return replace(completion, text=encodable(completion.text))

        return await self.calls.make(call)

    def _note(self, error: Faulted) -> None:
        fault = error.fault
        self.tally.fault(fault.reason)
        if fault.action == "without" and self.tally.leave_out(fault.parameter):
            logger.warning(
                f"egost: {self._endpoint.label} does not take {fault.parameter} and is asked without ({fault.text})"
            )

    def _keep(self, key: str, completion: Completion) -> None:
        about = {
            "asked": self._endpoint.label,
            "left_out": list(self.tally.left_out),
            "made_at": time.time(),
        }
        self._store.put({key: {**asdict(completion), **about}})


def ask_all(
    questions: Sequence[Question[T]],
    endpoint: Endpoint,
    role: Role,
    store: ReplyStore,
    pacing: Pacing,
    *,
    doing: str,
    tally: Tally | None = None,
    progress: bool = True,
) -> list[Answered[T] | Unanswered]:
    """The answers in the order of the questions; closes the store.

    A question whose replies all make no sense is Unanswered after `pacing.asks` of them.
    Raises SettingError, `role.stopped` when the server refuses or does not answer, and CacheError; what was answered
    until then is on disk.
    """
    answers: dict[int, Answered[T] | Unanswered] = {}
    with (
        closing(Asker(endpoint, role, store, pacing, tally)) as asker,
        counted(doing, "questions", len(questions), progress) as advance,
    ):
        for place, answer in asker.gather(questions):
            answers[place] = answer
            advance()
    return [answers[place] for place in range(len(questions))]


def object_form(name: str, properties: dict[str, Any]) -> dict[str, Any]:
    """The `response_format` for a JSON object that has all these properties and no other."""
    schema = {
        "type": "object",
        "additionalProperties": False,
        "required": list(properties),
        "properties": properties,
    }
    return {"type": "json_schema", "json_schema": {"name": name, "strict": True, "schema": schema}}


def reply_store(folder: Path, older: Callable[[str], Body | None] = lambda key: None) -> ReplyStore:
    """The replies of a folder; older: see `ReplyStore`."""
    return ReplyStore(folder / STORE, older=older)


def _completion(body: Body) -> Completion | None:
    try:
        return Completion(
            **{field.name: body[field.name] for field in fields(Completion) if field.name in body}
        )
    except TypeError:
        return None
