"""What a response says in earnest: its text without thinking, special tokens and the marks around an answer.

One table of marks serves multiple choice, routes and the judge's replies. Models mark thinking in many ways; all are
treated as `<think>` is: what lies inside never counts, and thinking that is never closed was cut short.
"""

from __future__ import annotations

import re

_NAMES = "|".join(
    (
        r"think(?:ing)?|thoughts?|reason(?:ing)?|analysis|reflection|scratchpad",
        r"seed:think|inner_monologue|internal_thoughts",
    )
)
_OPENS = "|".join(
    (
        rf"<(?:{_NAMES})>",
        r"\[THINK\]",  # Magistral
        r"\u25c1think\u25b7",  # Kimi-VL
        r"<\|begin_of_thought\|>",  # Sky-T1, OpenThinker
        r"<\|START_THINKING\|>",  # Command A
        r"<\|channel\|>\s?(?:analysis|commentary)[^<]{0,40}<\|message\|>",  # harmony (gpt-oss)
        r"\A\s*analysis(?=[A-Z])",  # the same, its special tokens left out by the server
        r"<unused94>(?:thought)?",  # MedGemma
        r"<\|channel>thought",  # Gemma
        r"<(?:summary|caption)>",  # LLaVA-CoT: stages before its conclusion
    )
)
_CLOSES = "|".join(
    (
        rf"</(?:{_NAMES})>",
        r"\[/THINK\]",
        r"\u25c1/think\u25b7",
        r"<\|end_of_thought\|>",
        r"<\|END_THINKING\|>",
        r"<\|channel\|>\s?final[^<]{0,40}<\|message\|>",
        r"assistantfinal(?=\s?\S)",
        r"<unused95>",
        r"<channel\|>",
        r"</(?:summary|caption)>",
    )
)
_THINK_MARK = re.compile(f"(?P<open>{_OPENS})|(?P<close>{_CLOSES})", re.IGNORECASE)
_ANSWER_MARK = re.compile(r"<(/?)(?:answer|final_answer|finalanswer|conclusion)>", re.IGNORECASE)
_BOX = re.compile(r"<\|begin_of_box\|>(.{0,200}?)<\|end_of_box\|>", re.DOTALL)
_SPECIAL_TOKEN = re.compile(
    r"<\|[^|<>\n]{1,40}\|>|</?s>|<(?:eos|bos|pad|unk|end_of_turn|start_of_turn|end_of_utterance|EOT|endoftext)>|"
    r"\[/?INST\]",
    re.IGNORECASE,
)


def outside_thinking(text: str) -> str | None:
    """The text without its thinking, or None when the thinking does not end.

    A closing mark without an opening one ends thinking that the chat template opened. Special tokens are left out,
    but for GLM's box, which becomes the box of LaTeX.
    """
    kept: list[str] = []
    start, inside = 0, False
    for mark in _THINK_MARK.finditer(text):
        if mark["close"]:
            if not inside:
                kept.clear()
            start, inside = mark.end(), False
        elif not inside:
            kept.append(text[start : mark.start()])
            inside = True
    return None if inside else without_special_tokens(" ".join([*kept, text[start:]]))


def without_special_tokens(text: str) -> str:
    """The text without what a tokenizer adds, such as `<|im_end|>`, `</s>` and `<end_of_turn>`; each ends a line."""
    if "<" not in text and "[" not in text:
        return text
    return _SPECIAL_TOKEN.sub("\n", _BOX.sub(r" \\boxed{\1} ", text))


def last_answer(text: str) -> str | None:
    """What the last `<answer>` that holds anything says; one that is not closed runs to the end of the text."""
    marks = list(_ANSWER_MARK.finditer(text))
    for i in range(len(marks) - 1, -1, -1):
        if not marks[i][1]:
            end = marks[i + 1].start() if i + 1 < len(marks) else len(text)
            if content := text[marks[i].end() : end].strip():
                return content
    return None


def without_answer_marks(text: str) -> str:
    """The text with a blank in the place of each mark of an answer."""
    return _ANSWER_MARK.sub(" ", text)


def newer_marks(text: str) -> bool:
    """Whether a text holds marks or special tokens that task version 1 did not know."""
    plain = re.sub(r"</?(?:think(?:ing)?|answer)>", " ", text, flags=re.IGNORECASE)
    return any(marks.search(plain) for marks in (_THINK_MARK, _ANSWER_MARK, _SPECIAL_TOKEN))


def route_prediction(text: str) -> str:
    """The description itself: the content of the last `<answer>`, else the reply without its thinking.

    A reply that ends inside its thinking has no description and is empty.
    """
    said = outside_thinking(text)
    if said is None:
        return ""
    return last_answer(said) or without_answer_marks(said).strip()
