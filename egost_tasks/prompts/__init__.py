"""Prompts: the wording in which a model is asked a question, with a version, kept as data.

`direct` asks for the letter alone, `think` for reasoning inside `<think>` and the answer inside
`<answer>`, as ST-R1 is asked. Both say of a route what is scored, every change of direction and the landmarks that are
passed; `bare` asks the release's question and says nothing of the kind, as the released code does. A prompt file of
your own has the same form as `direct.yaml` in this folder. The wording is this project's own: the paper uses 'the
default cue for each model' (section 5.1), and the released code's is not shipped:
`read_authors_prompts` reads it from a person's clone. Its scripts put a question together as a sum of texts and
variables, which is read as data, never run.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from string import Template
from typing import Literal

import yaml
from pydantic import BaseModel, ConfigDict, PositiveInt, ValidationError, field_validator

from egost.tasks.as_published import chosen
from egost.tasks.errors import SettingError
from egost.tasks.json_text import encodable
from egost.tasks.sample import Sample

_LONGEST = 1 << 20
"""Bytes of a prompt file."""

SHIPPED = ("direct", "think", "bare")
DEFAULT = "direct"

AUTHORS: Mapping[str, str] = {
    "authors-st-r1": "f9723d2b965d1b9806857f1790f95f47bbfb6f07d95e592886732e4bb8a727bb",
    "authors-internvl": "2876da04946e1e61d566dd746d74855f1e894f2e51b9220c2731dd910f68a221",
}
"""Names and `sha256` of the authors' wording as `read_authors_prompts` reads it from the public repository."""


class VersionedPrompt(BaseModel):
    """Wording kept as data. A subclass adds its templates; a field that it does not name is refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    version: PositiveInt

    @property
    def label(self) -> str:
        """Name and version as they are recorded, for example `direct-1`."""
        return f"{self.name}-{self.version}"

    @property
    def sha256(self) -> str:
        """Hash of the whole content, hexadecimal, which differs where two prompts share a label."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()


class _MaxNewTokens(BaseModel):
    """How many new tokens a response may have, by the kind of question."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    choice: PositiveInt
    route: PositiveInt


class Prompt(VersionedPrompt):
    """A wording for both kinds of question.

    choice, route: templates with `$question`, and for a choice `$options` (one a line, with its letter)
    and `$letters` (`A, B, C or D`).
    """

    choice: str
    route: str
    max_new_tokens: _MaxNewTokens

    @property
    def thinks(self) -> bool:
        """Whether it asks a model to reason first, inside `<think>`: a chat template's own switch follows it."""
        return "<think>" in self.choice + self.route

    @field_validator("choice", "route")
    @classmethod
    def _known_fields(cls, template: str, info: object) -> str:
        field = getattr(info, "field_name", "")
        wanted = {"question", "options"} if field == "choice" else {"question"}
        allowed = wanted | {"letters"} if field == "choice" else wanted
        fields = list(Template.pattern.finditer(template))
        if any(field["invalid"] is not None for field in fields):
            raise ValueError("a '$' without a name; write '$$' for the sign itself")
        names = {name for field in fields if (name := field["named"] or field["braced"])}
        if missing := wanted - names:
            raise ValueError(f"lacks ${', $'.join(sorted(missing))}")
        if unknown := names - allowed:
            raise ValueError(f"names the unknown ${', $'.join(sorted(unknown))}")
        return template

    def render(self, sample: Sample) -> str:
        """The text that goes to the model with the clip."""
        if sample.task == "route":
            return Template(self.route).substitute(question=sample.question).strip()
        letters = [*sample.letters]
        named = " or ".join([", ".join(letters[:-1]), letters[-1]] if len(letters) > 1 else letters)
        options = "\n".join(f"{letter}. {text}" for letter, text in zip(letters, sample.options, strict=True))
        return (
            Template(self.choice).substitute(question=sample.question, options=options, letters=named).strip()
        )


def chosen_prompt() -> str:
    """Name or file of the prompt that `EGOST_PROMPT` asks for, else `DEFAULT`."""
    return chosen("EGOST_PROMPT") or DEFAULT


@cache
def load_prompt(name_or_file: Literal["direct", "think", "bare"] | str) -> Prompt:
    """The prompt of a shipped name, or of a YAML file.

    Raises SettingError for an unknown name, an unreadable file or a wrong field.
    """
    folder = Path(__file__).parent
    path = folder / f"{name_or_file}.yaml" if name_or_file in SHIPPED else Path(name_or_file).expanduser()
    try:
        if path.stat().st_size > _LONGEST:
            raise SettingError(
                f"prompt file {path} has more than {_LONGEST:,} bytes; no prompt is that long."
            )
        prompt = Prompt.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
        prompt.sha256.isascii()  # half a surrogate pair has no hash
        return prompt
    except (OSError, UnicodeDecodeError) as error:
        raise SettingError(
            f"there is no prompt '{name_or_file}': it is neither one of {', '.join(SHIPPED)} nor a readable file "
            f"({error}). Set EGOST_PROMPT to one of them."
        ) from error
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'file'}: {e['msg']}" for e in error.errors())
        raise SettingError(
            f"prompt file {path}: {faults}. Compare it with {folder / 'direct.yaml'}"
        ) from error
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        why = "its lists are nested too deep" if isinstance(error, RecursionError) else str(error)
        raise SettingError(f"prompt file {path} is no YAML: {why}") from error


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
