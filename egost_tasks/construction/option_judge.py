"""What a model that sees the steps makes of the choices: it names all options that are right."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from egost.tasks.chat.calls import NoReply, Pacing
from egost.tasks.chat.client import Role
from egost.tasks.chat.endpoint import Endpoint
from egost.tasks.chat.structured import Answered, ask_all, object_form
from egost.tasks.chat.usage import Tally
from egost.tasks.construction.annotations import Annotation
from egost.tasks.construction.drafts import Draft
from egost.tasks.construction.openai_writer import kept_question, kept_replies, load_step_prompt, unwritten
from egost.tasks.construction.option_checks import Finding
from egost.tasks.construction.writers import Unwritten, WriterStopped
from egost.tasks.sample import LETTERS

_ROLE = Role("The option judge", "What was judged is kept", "--judge", WriterStopped)


def judge_choices(
    drafts: Sequence[Draft],
    annotations: Mapping[tuple[str, str], Annotation],
    endpoint: Endpoint,
    folder: Path,
    pacing: Pacing,
    tally: Tally,
) -> tuple[dict[str, Finding], dict[str, Unwritten]]:
    """What a model that sees the steps objects to, and what it could not judge; both by the draft's id.

    annotations: by clip and annotator. folder: where replies are kept.
    A finding is `judge_disagrees`: the options that are right by the model are not exactly the right one.
    Raises WriterStopped and CacheError.
    """
    choices = [draft for draft in drafts if draft.options]
    prompt = load_step_prompt("option-judge-1")
    letters = {"type": "array", "items": {"type": "string", "enum": list(LETTERS)}}
    form = object_form("right_options", {"right": letters, "why": {"type": "string"}})
    answers = ask_all(
        [
            kept_question(
                endpoint,
                prompt.messages(_told(draft, annotations[draft.clip, draft.annotator])),
                form,
                functools.partial(_read, len(draft.options)),
            )
            for draft in choices
        ],
        endpoint,
        _ROLE,
        kept_replies(folder),
        pacing,
        tally=tally,
        doing="judging options",
    )
    findings, failed = {}, {}
    for draft, answer in zip(choices, answers, strict=True):
        if not isinstance(answer, Answered):
            failed[draft.id] = unwritten(answer)
            continue
        right, why = answer.content
        if right != {draft.answer}:
            message = (
                f"by {answer.snapshot} the right options are {', '.join(sorted(right)) or 'none'}: {why}"
            )
            findings[draft.id] = Finding("judge_disagrees", "review", message)
    return findings, failed


def _told(draft: Draft, annotation: Annotation) -> dict[str, Any]:
    return {
        "way": "from A to B" if draft.way == "forward" else "back from B to A",
        "steps": [asdict(step) for step in annotation.steps(draft.way)],
        "question": draft.question,
        "options": {LETTERS[k]: option.text for k, option in enumerate(draft.options)},
    }


def _read(options: int, reply: dict[str, Any]) -> tuple[frozenset[str], str]:
    right, why = reply.get("right"), reply.get("why")
    if not isinstance(right, list) or not all(letter in list(LETTERS[:options]) for letter in right):
        raise NoReply("no_letters", f"expected letters up to {LETTERS[options - 1]}, found {right!r:.100}")
    return frozenset(right), why if isinstance(why, str) else ""
