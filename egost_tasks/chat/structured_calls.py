"""Many replies in a fixed form from one server: paced, kept on disk, asked again where they make no sense."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from egost.tasks.cache import write_whole
from egost.tasks.chat.asker import SEED, Asker, Role
from egost.tasks.chat.endpoint import Endpoint
from egost.tasks.chat.paced_calls import NoReply
from egost.tasks.chat.pacing import Pacing
from egost.tasks.chat.usage import Tally
from egost.tasks.construction.writers import Unwritten
from egost.tasks.errors import CacheError
from egost.tasks.judging.prompt import Message
from egost.tasks.judging.reading import Completion
from egost.tasks.progress import counted

T = TypeVar("T")

_AHEAD = 2
"""Asks under way for each call at once, so that one that waits to try again leaves no lane idle."""


class Nonsense(ValueError):
    """A reply that cannot be used. reason: a short stable word."""

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Question(Generic[T]):
    """What a server is asked. form: the reply's JSON schema. read: what the reply's object says; raises Nonsense."""

    messages: list[Message]
    form: dict[str, Any]
    read: Callable[[dict[str, Any]], T]


@dataclass(frozen=True, slots=True)
class Answered(Generic[T]):
    """What a reply says, and the model that the server named."""

    content: T
    snapshot: str


def ask_all(
    questions: Sequence[Question[T]],
    endpoint: Endpoint,
    folder: Path,
    role: Role,
    *,
    pacing: Pacing,
    tally: Tally,
    doing: str,
    progress: bool = True,
) -> list[Answered[T] | Unwritten]:
    """The answers in the order of the questions; an Unwritten where the server gave none that can be used.

    folder: where replies are kept, one file each; what lies there is not asked again. A reply that makes no sense is
    asked for again with another seed, `pacing.asks` times in all, and each of these replies is kept as well.
    Raises `role.stopped` when the server refuses or does not answer, and CacheError.
    """
    return asyncio.run(_ask_all(questions, endpoint, folder, role, pacing, tally, doing, progress))


async def _ask_all(
    questions: Sequence[Question[T]],
    endpoint: Endpoint,
    folder: Path,
    role: Role,
    pacing: Pacing,
    tally: Tally,
    doing: str,
    progress: bool,
) -> list[Answered[T] | Unwritten]:
    asker = Asker(endpoint, pacing, tally, role)
    admitted = asyncio.Semaphore(_AHEAD * pacing.concurrency)

    async def answer(question: Question[T]) -> Answered[T] | Unwritten:
        last = Unwritten("", "")
        async with admitted:
            for ask in range(pacing.asks):
                key = _key(endpoint, question, ask)
                completion = _kept(folder / f"{key}.json")
                if completion is None:
                    try:
                        completion = await asker.ask(question.messages, SEED + ask, ask > 0, question.form)
                    except NoReply as error:
                        return Unwritten(error.reason, str(error))
                    _keep(folder / f"{key}.json", completion)
                try:
                    return Answered(question.read(_object(completion)), completion.snapshot)
                except Nonsense as error:
                    last = Unwritten(error.reason, str(error))
                    tally.fault(error.reason)
        return last

    tasks = [asyncio.ensure_future(answer(question)) for question in questions]
    try:
        with counted(doing, "questions", len(tasks), progress) as advance:
            for task in tasks:
                task.add_done_callback(lambda _: advance())
            return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asker.close()


def _key(endpoint: Endpoint, question: Question[T], ask: int) -> str:
    what = [endpoint.label, endpoint.model, question.messages, question.form, SEED + ask]
    return hashlib.sha256(json.dumps(what).encode()).hexdigest()


def _kept(path: Path) -> Completion | None:
    try:
        return Completion(**json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError) as error:
        raise CacheError(f"the kept reply {path} cannot be read ({error}). Delete it.") from error


def _keep(path: Path, completion: Completion) -> None:
    fields = {name: getattr(completion, name) for name in Completion.__dataclass_fields__}
    try:
        write_whole(path, (json.dumps(fields, indent=1, ensure_ascii=False) + "\n").encode())
    except OSError as error:
        raise CacheError(f"the reply {path} cannot be kept ({error}). Make room and run again.") from error


def _object(completion: Completion) -> dict[str, Any]:
    if completion.refusal:
        raise Nonsense("refusal", completion.refusal)
    if completion.finish in ("length", "content_filter"):
        raise Nonsense({"length": "truncated"}.get(completion.finish, completion.finish), completion.text)
    try:
        found = json.loads(completion.text)
    except (ValueError, RecursionError) as error:
        raise Nonsense("no_object", completion.text) from error
    if not isinstance(found, dict):
        raise Nonsense("no_object", completion.text)
    return found
