"""Wrong options by GPT-4o (paper, section 3.2), or any model behind the chat-completions interface.

Each reply has a fixed form, and is kept only if it holds against the steps: the right option is repeated as it is, and
no wrong one is right as well, says what another one says, or is no list of the kind asked for.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from string import Template
from typing import Any, TypeVar

import yaml

from egost.tasks.chat.calls import NoReply, Pacing
from egost.tasks.chat.client import Message, Role
from egost.tasks.chat.endpoint import SERVER_FORMS, Endpoint, find_key, parse_endpoint
from egost.tasks.chat.reading import Completion, encodable, json_object
from egost.tasks.chat.reply_store import Body, ReplyStore
from egost.tasks.chat.structured import (
    SEED,
    Answered,
    Question,
    Unanswered,
    ask_all,
    object_form,
    reply_store,
)
from egost.tasks.chat.usage import Tally
from egost.tasks.construction.annotations import DIRECTIONS, LONGEST_TEXT
from egost.tasks.construction.drafts import Items
from egost.tasks.construction.option_checks import wrong_option_problem
from egost.tasks.construction.writers import ChoiceRequest, Unwritten, WriterError, WriterStopped, Written
from egost.tasks.errors import CacheError, SettingError
from egost.tasks.prompts import VersionedPrompt

T = TypeVar("T")

_WRONG = 3
"""Wrong options that a model is asked for: most questions of the real data have four options."""

_TURN_WORDS = tuple(direction for direction in DIRECTIONS if direction != "straight")
_ROLE = Role("The writer", "What was written is kept", "--writer", WriterStopped)


class StepPrompt(VersionedPrompt):
    """Instructions with a version, kept as data; `$request` in `user` stands for the JSON of a question."""

    system: str
    user: str

    def messages(self, request: dict[str, Any]) -> list[Message]:
        """The chat messages that ask about a question."""
        told = encodable(json.dumps(request, ensure_ascii=False, indent=1))
        user = Template(self.user).substitute(request=told)
        return [{"role": "system", "content": self.system}, {"role": "user", "content": user}]


@functools.cache
def load_step_prompt(label: str) -> StepPrompt:
    """The shipped prompt of a label."""
    text = Path(__file__).with_name(f"{label}.yaml").read_text(encoding="utf-8")
    return StepPrompt.model_validate(yaml.safe_load(text))


def find_endpoint(spec: str, option: str) -> Endpoint:
    """The server that a user named behind an option, with its key at hand.

    spec: `gpt-4o`, `gpt-SNAPSHOT`, `openai:MODEL` (of api.openai.com), `openai:MODEL@URL` or `azure:NAME@URL`.
    Raises WriterError for another form or a missing key.
    """
    if spec.endswith("+compat"):
        raise WriterError(f"{option} {spec}: +compat is a judge's; leave it out.")
    name = spec.removeprefix("openai:") if "@" not in spec else spec
    try:
        endpoint = parse_endpoint(name)
        if endpoint.needs_key and not os.environ.get(endpoint.key_name, "").strip():
            raise WriterError(f"{option} {endpoint.label} needs a key: set {endpoint.key_name}.")
        find_key(endpoint)
    except SettingError as error:
        forms = f"openai:MODEL, {SERVER_FORMS}"
        raise WriterError(f"{option}: {error} Forms here: {forms}.") from error
    return endpoint


class OpenAIWriter:
    """A writer behind the chat-completions interface; tally: what this process asked for."""

    def __init__(self, endpoint: Endpoint, folder: Path, pacing: Pacing) -> None:
        self._endpoint, self._folder, self._pacing = endpoint, folder, pacing
        self._prompt = load_step_prompt("option-writer-1")
        self.tally = Tally()

    @property
    def name(self) -> str:
        """The server's name and the prompt's."""
        return f"{self._endpoint.label}+{self._prompt.label}"

    def __call__(self, requests: Sequence[ChoiceRequest]) -> list[Written | Unwritten]:
        """Write all; what was written before is not asked for again. Raises WriterStopped and CacheError."""
        answers = ask_all(
            [self._question(request) for request in requests],
            self._endpoint,
            _ROLE,
            kept_replies(self._folder),
            self._pacing,
            tally=self.tally,
            doing="writing options",
        )
        return [
            Written(request.truth, answer.content, snapshot=answer.snapshot)
            if isinstance(answer, Answered)
            else unwritten(answer)
            for request, answer in zip(requests, answers, strict=True)
        ]

    def _question(self, request: ChoiceRequest) -> Question[tuple[Items, ...]]:
        asked = {
            "kind": request.task,
            "way": "from A to B" if request.ways[0] == "forward" else "back from B to A",
            "scene": request.scene,
            "steps": [asdict(step) for step in request.steps],
            "right": list(request.truth),
        }
        read = functools.partial(_read_options, request)
        return kept_question(self._endpoint, self._prompt.messages(asked), _form(request), read)


def kept_question(
    endpoint: Endpoint,
    messages: Sequence[Message],
    form: dict[str, Any],
    read: Callable[[dict[str, Any]], T],
) -> Question[T]:
    """A question each of whose replies is kept, those that make no sense, too: all of them are paid for.

    read: what the reply's object says; raises NoReply where that makes no sense.
    """

    def key(ask: int) -> str:
        what = [endpoint.label, endpoint.model, messages, form, SEED + ask]
        return hashlib.sha256(json.dumps(what).encode()).hexdigest()

    def read_reply(completion: Completion) -> T:
        return read(json_object(completion))

    return Question(key, lambda: messages, form, read_reply, keeps_all=True)


def kept_replies(folder: Path) -> ReplyStore:
    """The replies of a working folder's server; those of earlier versions are one file each."""

    def older(key: str) -> Body | None:
        path = folder / f"{key}.json"
        if not path.is_file():
            return None
        try:
            body: Body = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise CacheError(f"the kept reply {path} cannot be read ({error}). Delete it.") from error
        return body

    return reply_store(folder, older)


def unwritten(answer: Unanswered) -> Unwritten:
    """A question without an answer, as construction reports it."""
    return Unwritten(answer.reason, answer.text)


def _form(request: ChoiceRequest) -> dict[str, Any]:
    item: dict[str, Any] = {"type": "string"}
    if request.task == "direction":
        item["enum"] = list(_TURN_WORDS)
    items = {"type": "array", "items": item}
    return object_form("wrong_options", {"right": items, "wrong": {"type": "array", "items": items}})


def _read_options(request: ChoiceRequest, reply: dict[str, Any]) -> tuple[Items, ...]:
    right, wrong = _items(request, reply.get("right")), reply.get("wrong")
    if right != request.truth:
        raise NoReply(
            "right_differs",
            f"it takes {list(right)} for the right option, the steps say {list(request.truth)}",
        )
    if not isinstance(wrong, list) or len(wrong) != _WRONG:
        raise NoReply("no_three_wrong", f"expected {_WRONG} wrong options, found {wrong!r:.200}")
    options = tuple(_items(request, items) for items in wrong)
    for k, option in enumerate(options):
        if problem := wrong_option_problem(request.task, option, request.truth, options[:k]):
            raise NoReply(problem.name, problem.message)
    return options


def _items(request: ChoiceRequest, found: Any) -> Items:
    if not isinstance(found, list) or not found or not all(isinstance(item, str) for item in found):
        raise NoReply("no_list", f"expected a list of texts, found {found!r:.200}")
    for item in found:
        if request.task == "direction" and item not in _TURN_WORDS:
            raise NoReply("no_direction", f"{item!r:.80} is none of {', '.join(_TURN_WORDS)}")
        if not (item.strip() and item.isprintable() and len(item) <= LONGEST_TEXT):
            raise NoReply(
                "no_name", f"{item!r:.80} is no name of one line and at most {LONGEST_TEXT} characters"
            )
    return tuple(item.strip() for item in found)
