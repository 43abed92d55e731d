"""As the authors ran it, in one word: the settings that each value of `EGOST_AS_PUBLISHED` stands for.

A setting of the person wins over them; the run is then not recorded as published (see `departures`).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from egost.tasks.errors import SettingError

AS_PUBLISHED = "EGOST_AS_PUBLISHED"

_REF_QWEN = {
    "EGOST_PROTOCOL": "ref-qwen+cap100352-151200",
    "EGOST_PROMPT": "bare",
    "EGOST_JUDGE": "gpt-4o+compat",
}

PUBLISHED: Mapping[str, Mapping[str, str]] = {
    "st-r1": {**_REF_QWEN, "EGOST_PROMPT": "think", "EGOST_TRAINED_ON": "paper"},
    "qwen": _REF_QWEN,
    "internvl": {**_REF_QWEN, "EGOST_PROTOCOL": "ref-internvl+448x448"},
    "llava": {**_REF_QWEN, "EGOST_PROTOCOL": "uniform8"},
    "closed": {**_REF_QWEN, "EGOST_PROTOCOL": "uniform8+224x224"},
}
"""The settings that each value of `EGOST_AS_PUBLISHED` stands for: those of the released code for st-r1, qwen and
internvl (for Qwen it has ST-R1's script alone), those of the paper's appendix A.2 for the others.
"""

_GENERATION: Mapping[str, Mapping[str, Any]] = {
    "st-r1": {"max_new_tokens": 512},
    "qwen": {"max_new_tokens": 512},
    # What `do_sample` alone means to transformers' `generate`: temperature 1, the 50 most likely tokens.
    "internvl": {"max_new_tokens": 1024, "do_sample": True, "temperature": 1.0, "top_k": 50},
    "llava": {},
    "closed": {},
}


def as_published() -> str:
    """The value of `EGOST_AS_PUBLISHED`, empty where it is not set. Raises SettingError for an unknown one."""
    word = os.environ.get(AS_PUBLISHED, "")
    if word and word not in PUBLISHED:
        raise SettingError(f"{AS_PUBLISHED} is {word!r}; expected one of {', '.join(PUBLISHED)}.")
    return word


def chosen(name: str) -> str:
    """A setting: the environment's, else the one that `EGOST_AS_PUBLISHED` stands for, else empty."""
    return os.environ.get(name) or PUBLISHED.get(as_published(), {}).get(name, "")


def published_generation() -> dict[str, Any]:
    """The arguments for a response that the authors used, as lmms-eval names them; empty without them."""
    return dict(_GENERATION.get(as_published(), {}))


def departures(word: str, environment: Mapping[str, str]) -> dict[str, str]:
    """The settings that differ from those that a word stands for, with the published value.

    No departure is another name of the same judge (any `...+compat`), or a prompt given as a file: whether that
    is the authors' wording, its hash says.
    """
    return {
        name: value
        for name, value in PUBLISHED.get(word, {}).items()
        if (given := environment.get(name))
        and given != value
        and not (name == "EGOST_JUDGE" and given.endswith("+compat") and "," not in given)
        and not (name == "EGOST_PROMPT" and given.endswith((".yaml", ".yml")))
    }
