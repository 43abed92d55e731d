"""The authors' wording, read from a person's own clone of the public repository; nothing of it is shipped but a hash.

    for prompt in read_authors_prompts(Path("Ego-ST")):
        prompt.by_authors

Their scripts put a question together as a sum of texts and variables. The sum is read as data, never run.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from egost.tasks.errors import SettingError
from egost.tasks.json_text import encodable
from egost.tasks.prompts import AUTHORS, Prompt


@dataclass(frozen=True)
class _Script:
    """Where a wording lies: the script, and how many new tokens it lets a model write."""

    path: str
    max_new_tokens: int


_SCRIPTS: Mapping[str, _Script] = {
    "authors-st-r1": _Script("infer_code/ST-R1_mcq/mcq_infer.py", 512),
    "authors-internvl": _Script("infer_code/InternVL2.5/mutiple_choice_infer.py", 1024),
}

_VARIABLES = {"question_text": "${question}", "options_str": "${options}", "video_prefix": ""}
"""What the scripts' variables hold, as a prompt names it; frames are put before a question by the adapters."""


def read_authors_prompts(clone: Path) -> list[Prompt]:
    """The authors' prompts: of ST-R1 (with its thinking) and of InternVL2.5, for any other model. Both ask a route with
    the release's question alone.

    Raises SettingError where a script is missing, cannot be read, or holds another wording than the one that this
    project knows by its hash.
    """
    prompts = []
    for name, script in _SCRIPTS.items():
        path = clone / script.path
        limits = {"choice": script.max_new_tokens, "route": script.max_new_tokens}
        choice = _choice_template(path)
        prompt = Prompt.model_validate(
            {"name": name, "version": 1, "choice": choice, "route": "$question", "max_new_tokens": limits}
        )
        if prompt.sha256 != AUTHORS[name]:
            raise SettingError(
                f"{path} holds another wording (SHA-256 {prompt.sha256}) than the one that is known as the authors' "
                f"({AUTHORS[name]}), so that no run with it could be marked. Check out the public repository unchanged."
            )
        prompts.append(prompt)
    return prompts


def _choice_template(path: Path) -> str:
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        sums = [list(_parts(node)) for node in ast.walk(tree)]
    except (OSError, ValueError, SyntaxError, RecursionError, MemoryError) as error:
        raise SettingError(
            f"{path} cannot be read ({error}). Give the folder of a clone of the authors' public repository."
        ) from error
    for parts in sums:
        if "${question}" in parts and "${options}" in parts and None not in parts:
            return "".join(part or "" for part in parts)
    raise SettingError(
        f"{path} holds no question that is put together of {', '.join(_VARIABLES)} and texts. Give the folder of an "
        "unchanged clone of the authors' public repository."
    )


def _parts(node: ast.AST) -> Iterator[str | None]:
    """The parts of a sum in their order, None for one that is neither a text nor known."""
    match node:
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            yield from _parts(left)
            yield from _parts(right)
        case ast.Constant(value=str(text)):
            yield text.replace("$", "$$") if text == encodable(text) else None
        case ast.Name(id=name):
            yield _VARIABLES.get(name)
        case ast.Subscript(slice=ast.Constant(value="question")):
            yield "${question}"
        case _:
            yield None
