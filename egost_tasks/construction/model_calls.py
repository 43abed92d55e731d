"""What a language model does here: it writes wrong options (paper, section 3.2), and it checks options by the steps.

The model is GPT-4o or any other behind the chat-completions interface. Each reply has a fixed form. Wrong options are
used only if they agree with the steps: the reply repeats the right option as it is, and no wrong option is right as
well, says the same as another one, or is a list of another kind.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from string import Template
from typing import Any, TypeVar

import yaml

from egost.tasks.chat.calls import NoReply, Pacing
from egost.tasks.chat.client import Message, Role
from egost.tasks.chat.endpoint import SERVER_FORMS, Endpoint, find_key, parse_endpoint
from egost.tasks.chat.reading import Completion, json_object
from egost.tasks.chat.reply_store import Body, ReplyStore
from egost.tasks.chat.structured import SEED, Answered, Question, ask_all, object_form, reply_store
from egost.tasks.construction.annotations import DIRECTIONS, LONGEST_TEXT, Annotation
from egost.tasks.construction.checks import Finding, wrong_option_problem
from egost.tasks.construction.drafts import Draft, Items
from egost.tasks.construction.writers import ChoiceRequest, Unwritten, Written
from egost.tasks.errors import CacheError, ConstructionError, SettingError
from egost.tasks.json_text import encodable, read_json
from egost.tasks.prompts import VersionedPrompt
from egost.tasks.sample import LETTERS, Way

T = TypeVar("T")

_WRONG = 3
"""Number of wrong options to write: most questions of the real data have four options."""

_TURN_WORDS = tuple(direction for direction in DIRECTIONS if direction != "straight")
_WRITER = Role("The writer", "What was written is kept", "--writer", ConstructionError)
_JUDGE = Role("The option judge", "What was judged is kept", "--judge", ConstructionError)
_IN_WORDS: dict[Way, str] = {"forward": "from A to B", "reverse": "back from B to A"}


class StepPrompt(VersionedPrompt):
    """A prompt with a version; `$request` in `user` becomes the JSON of a question."""

    system: str
    user: str

    def messages(self, request: dict[str, Any]) -> list[Message]:
        """The chat messages that ask about a question."""
        content = encodable(json.dumps(request, ensure_ascii=False, indent=1))
        user = Template(self.user).substitute(request=content)
        return [{"role": "system", "content": self.system}, {"role": "user", "content": user}]


def _prompt(label: str) -> StepPrompt:
    """The prompt of this label, which is shipped as a YAML file."""
    text = Path(__file__).with_name(f"{label}.yaml").read_text(encoding="utf-8")
    return StepPrompt.model_validate(yaml.safe_load(text))


def find_endpoint(spec: str, option: str) -> Endpoint:
    """The server that a user named with an option, after a check that its key is there.

    spec: `gpt-4o`, `gpt-SNAPSHOT`, `openai:MODEL` (of api.openai.com), `openai:MODEL@URL` or `azure:NAME@URL`.
    Raises ConstructionError for another form or a missing key.
    """
    if spec.endswith("+compat"):
        raise ConstructionError(f"{option} {spec}: +compat is for the judge of routes; leave it out.")
    try:
        endpoint = parse_endpoint(spec if "@" in spec else spec.removeprefix("openai:"))
        find_key(endpoint)
    except SettingError as error:
        forms = f"openai:MODEL, {SERVER_FORMS}"
        raise ConstructionError(f"{option}: {error} Forms here: {forms}.") from error
    return endpoint


class OpenAIWriter:
    """A writer of wrong options behind the chat-completions interface. folder: where its replies are kept."""

    def __init__(self, endpoint: Endpoint, folder: Path, pacing: Pacing) -> None:
        self._endpoint, self._folder, self._pacing = endpoint, folder, pacing
        self._prompt = _prompt("option-writer-1")

    @property
    def name(self) -> str:
        """The names of the server and the prompt."""
        return f"{self._endpoint.label}+{self._prompt.label}"

    def __call__(self, requests: Sequence[ChoiceRequest]) -> list[Written | Unwritten]:
        """Write all; what was written before is not asked for again.

        Raises ConstructionError where the server refuses or does not answer, and CacheError.
        """
        answers = ask_all(
            [self._question(request) for request in requests],
            self._endpoint,
            _WRITER,
            _kept_replies(self._folder),
            self._pacing,
            doing="writing options",
        )
        return [
            Written(request.truth, answer.content, snapshot=answer.snapshot)
            if isinstance(answer, Answered)
            else Unwritten(answer.reason, answer.text)
            for request, answer in zip(requests, answers, strict=True)
        ]

    def _question(self, request: ChoiceRequest) -> Question[tuple[Items, ...]]:
        asked = {
            "kind": request.task,
            "way": _IN_WORDS[request.ways[0]],
            "scene": request.annotation.scene,
            "steps": [asdict(step) for step in request.annotation.steps(request.ways[0])],
            "right": list(request.truth),
        }
        read = functools.partial(_read_options, request)
        return _kept_question(self._endpoint, self._prompt.messages(asked), _form(request), read)


def _kept_question(
    endpoint: Endpoint,
    messages: Sequence[Message],
    form: dict[str, Any],
    read: Callable[[dict[str, Any]], T],
) -> Question[T]:
    """A question whose replies are all kept, also those that cannot be used, because all of them are paid for.

    read: reads the JSON object of a reply; raises NoReply where it cannot be used.
    """

    def key(ask: int) -> str:
        what = [endpoint.label, endpoint.model, messages, form, SEED + ask]
        return hashlib.sha256(json.dumps(what).encode()).hexdigest()

    def read_reply(completion: Completion) -> T:
        return read(json_object(completion))

    return Question(key, lambda: messages, form, read_reply, keeps_all=True)


def _kept_replies(folder: Path) -> ReplyStore:
    """The replies in a folder; earlier versions kept each reply in a file of its own."""

    def older(key: str) -> Body | None:
        path = folder / f"{key}.json"
        if not path.is_file():
            return None
        try:
            body: Body = read_json(path)
        except (OSError, ValueError) as error:
            raise CacheError(f"the kept reply {path} cannot be read ({error}). Delete it.") from error
        return body

    return reply_store(folder, older)


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
            f"the reply repeats {list(right)} as the right option, the steps say {list(request.truth)}",
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
            raise NoReply("no_direction", f"{item!r:.80} is not one of {', '.join(_TURN_WORDS)}")
        if not (item.strip() and item.isprintable() and len(item) <= LONGEST_TEXT):
            raise NoReply("no_name", f"{item!r:.80} is not one line of at most {LONGEST_TEXT} characters")
    return tuple(item.strip() for item in found)


def judge_choices(
    drafts: Sequence[Draft],
    annotations: Mapping[tuple[str, str], Annotation],
    endpoint: Endpoint,
    folder: Path,
    pacing: Pacing,
) -> tuple[dict[str, Finding], list[str]]:
    """Findings of a model that sees the steps, by the draft's id, and why other drafts could not be judged.

    annotations: by clip and annotator. folder: where replies are kept.
    A finding is `judge_disagrees`: the options that the model names as right are not exactly the right one.
    Raises ConstructionError where the server refuses or does not answer, and CacheError.
    """
    choices = [draft for draft in drafts if draft.options]
    prompt = _prompt("option-judge-1")
    letters = {"type": "array", "items": {"type": "string", "enum": list(LETTERS)}}
    form = object_form("right_options", {"right": letters, "why": {"type": "string"}})
    answers = ask_all(
        [
            _kept_question(
                endpoint,
                prompt.messages(_judged(draft, annotations[draft.clip, draft.annotator])),
                form,
                functools.partial(_read_letters, len(draft.options)),
            )
            for draft in choices
        ],
        endpoint,
        _JUDGE,
        _kept_replies(folder),
        pacing,
        doing="judging options",
    )
    findings: dict[str, Finding] = {}
    failed: list[str] = []
    for draft, answer in zip(choices, answers, strict=True):
        if not isinstance(answer, Answered):
            failed.append(answer.reason)
            continue
        right, why = answer.content
        if right != {draft.answer}:
            message = f"{answer.snapshot} names as right {', '.join(sorted(right)) or 'none'}: {why}"
            findings[draft.id] = Finding("judge_disagrees", "review", message)
    return findings, failed


def _judged(draft: Draft, annotation: Annotation) -> dict[str, Any]:
    return {
        "way": _IN_WORDS[draft.way],
        "steps": [asdict(step) for step in annotation.steps(draft.way)],
        "question": draft.question,
        "options": {LETTERS[k]: option.text for k, option in enumerate(draft.options)},
    }


def _read_letters(options: int, reply: dict[str, Any]) -> tuple[frozenset[str], str]:
    right, why = reply.get("right"), reply.get("why")
    if not isinstance(right, list) or not all(letter in list(LETTERS[:options]) for letter in right):
        raise NoReply("no_letters", f"expected letters up to {LETTERS[options - 1]}, found {right!r:.100}")
    return frozenset(right), why if isinstance(why, str) else ""
