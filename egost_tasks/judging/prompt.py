"""What the judge is told: instructions with a version, kept as data, and the fence round what it grades.

The rubric is the paper's (section 5.1, figure 6): direction, landmark, semantic and logic, each a whole number
from 0 to 5. The wording is this project's own.
"""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path
from string import Template
from typing import Literal

import yaml
from openai.types.chat import ChatCompletionSystemMessageParam, ChatCompletionUserMessageParam

from egost.tasks.judging.judge import RouteItem
from egost.tasks.prompts.versioned_prompt import VersionedPrompt
from egost.tasks.sample import Way

ReplyForm = Literal["json", "dictionary"]
Message = ChatCompletionSystemMessageParam | ChatCompletionUserMessageParam

STRICT, COMPAT = "route-judge-1", "route-judge-compat-1"

_WAY_WORDS: dict[Way, str] = {
    "forward": "forward: from point A to point B",
    "reverse": "in reverse: from point B to point A",
}


class JudgePrompt(VersionedPrompt):
    """The instructions of a judge.

    reply: form of the reply, `json` (scores and reasons) or `dictionary` (the reference code's form).
    system, user: templates with `$way`, `$question`, `$reference`, `$prediction` and `$fence`.
    """

    reply: ReplyForm
    system: str
    user: str

    def messages(self, item: RouteItem) -> list[Message]:
        """The chat messages that ask about an item; the same item gives the same messages."""
        user = Template(self.user).substitute(
            way=_WAY_WORDS[item.way],
            question=encodable(item.question),
            reference=encodable(item.reference),
            prediction=encodable(item.prediction),
            fence=fence_code(self.sha256, item),
        )
        return [{"role": "system", "content": self.system}, {"role": "user", "content": user}]


def fence_code(prompt_sha256: str, item: RouteItem) -> str:
    """The code of the markers round an item's texts: 16 hexadecimal digits that stand in none of them.

    It is a hash that the prediction itself enters, so that whoever writes a prediction cannot write its
    marker as well, and yet the same item is always asked about in the same words.
    """
    texts = (item.way, item.question, item.reference, item.prediction)
    attempt = 0
    while True:
        seed = "\0".join((prompt_sha256, str(attempt), *texts))
        code = hashlib.sha256(seed.encode("utf-8", "surrogatepass")).hexdigest()[:16]
        if not any(code in text for text in texts):
            return code
        attempt += 1


def encodable(text: str) -> str:
    """The text with `?` for half a surrogate pair, which a tokenizer can leave at an end and which has no UTF-8."""
    return text.encode("utf-8", "replace").decode("utf-8")


@cache
def load_judge_prompt(label: str) -> JudgePrompt:
    """The shipped prompt of a label, `STRICT` or `COMPAT`."""
    text = Path(__file__).with_name(f"{label}.yaml").read_text(encoding="utf-8")
    return JudgePrompt.model_validate(yaml.safe_load(text))
