"""Reads the chosen letter out of a response to a multiple-choice question.

There are two rules. `strict_choice` wants an explicit answer and may find a response invalid; `compat_choice`
repeats the rule of the reference code, so that a figure can be compared with the paper's.

    strict_choice("Based on the video, the answer is (C).", options).letter   -> "C"
    compat_choice("Based on the video, the answer is (C).")                   -> "B"

Every search here runs in time linear in the length of the reply: white space is collapsed first and
no pattern repeats without a bound.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from egost.tasks.response_text import last_answer, outside_thinking, without_answer_marks
from egost.tasks.sample import LETTERS
from egost.tasks.scoring.answer_patterns import (
    Mark,
    contradicts,
    dressed_letter,
    last_declaration,
    letter_at,
    mark_at,
    norm,
    option_that_opens,
    tidy,
)

Found = Literal["answer_tag", "declaration", "letter", "option_text"]
Invalid = Literal["empty", "truncated_think", "no_declaration", "letter_not_offered", "ambiguous"]


@dataclass(frozen=True, slots=True)
class Choice:
    """What a reply chose.

    letter: the chosen letter, always one that the question offers; None when the reply is invalid.
    how: where the letter was found, or why there is none. `answer_tag`: inside `<answer>`;
        `declaration`: a sentence that says so; `letter`, `option_text`: the reply is just that.
        `empty`: nothing to read; `truncated_think`: `<think>` was never closed; `no_declaration`: no
        explicit answer; `letter_not_offered`: the last answer is a letter that the question lacks;
        `ambiguous`: several letters at once, a letter with another option's text, or a text that
        several options share.
    """

    letter: str | None
    how: Found | Invalid


def strict_choice(reply: str, options: Sequence[str]) -> Choice:
    """The explicit answer of a reply: the sound rule and the headline figure.

    options: texts of the options in order, without their letters; at most 10.

    Thinking never counts, however it is marked, and thinking that is never closed makes the reply invalid.
    The last `<answer>` that holds anything wins over the prose around it (one that is not closed runs to
    the end of the reply). Inside it, or else in the prose, the last declaration wins; without one, the
    text has to be a letter in its usual dress, or the text of exactly one option.
    """
    text = outside_thinking(unicodedata.normalize("NFKC", reply))
    if text is None:
        return Choice(None, "truncated_think")
    tagged = last_answer(text)
    choice = _read(tidy(without_answer_marks(text) if tagged is None else tagged), options)
    return Choice(choice.letter, "answer_tag") if tagged is not None and choice.letter else choice


def compat_choice(reply: str) -> str | None:
    """The letter that the reference code reads, or None, which it scores as wrong.

    The text is the content of the first `<answer>...</answer>` (which may span lines), or else
    the whole reply. A capital A to D that opens the text and ends at a word boundary is the letter;
    else the first character of the text that is a capital A, B, C or D, wherever it is, and whether the
    question offers it or not. An `<answer>` without any such character gives None.
    """
    _, opened, rest = reply.partition("<answer>")
    content, closed, _ = rest.partition("</answer>")
    text = content if opened and closed else reply
    # A leading letter is also the first one, so the rule's second half covers its first.
    found = re.search(r"[A-D]", text)
    return found.group() if found else None


# --- what a text answers -------------------------------------------------------------------------------

_HEAD_LETTER = re.compile(
    r"[\W_]{0,4}(?:(?:option|choice) )?[(\[]{0,2}"
    r"(?:([A-Z])(?:[)\]]{1,2}[.:]?|[.:](?=\s|$)|,(?= )| - | (?=because\b|since\b|as\b))"
    r"|([a-z])(?:\)|[.:](?=\s|$)))"
)
_LINE_LETTER = re.compile(r"(?:^|\n)[\W_]{0,4}(?:Option )?([A-Z])(?:[).:]| - )")
_NEGATIVE = re.compile(
    r"\b(?:not|wrong|incorrect|unlike|than|false|instead|neither|nor|fails?|misses)\b|n't|\beliminat|\brul(?:e|ing)",
    re.IGNORECASE,
)


# The other options, each with what it says that is not so: "Option A starts left; C and D never change side".
_TURNS_DOWN = re.compile(
    r"\W*(?:(?:[Ww]hile|[Ww]hereas|[Tt]he other) )?(?:[Oo]ptions? |[Cc]hoices? )?\(?[A-J]\)?(?:, ?\(?[A-J]\)?)*"
    r"(?:,? (?:and|or) \(?[A-J]\)?)? (?:would|starts?|ends?|begins?|has|have|needs?|requires?|never|says?|"
    r"puts?|swaps?|turns?|goes|go|adds?|lacks?|omits?|reverses?|describes?|mentions?|only)\b"
    r"(?!.*\b(?:correct|possible|plausible|likely|also|fits?|match\w*|maybe|perhaps|might|could|too|equally|wait|actually|"
    r"better|answer|sure)\b)"
)


_PERHAPS = re.compile(r"\b(?:[Mm]aybe|[Pp]erhaps|[Pp]ossibly) (?:[Oo]ption )?\(?[A-J]\b(?!')")


def _read(text: str, options: Sequence[str]) -> Choice:
    if not text:
        return Choice(None, "empty")
    if letter := dressed_letter(text):
        return _offered(letter, "letter", options)
    if mark := last_declaration(text, options):
        return _offered(mark.letter, "declaration", options)
    if same := [x for x, option in zip(LETTERS, options, strict=False) if norm(option) == norm(text)]:
        return _offered(same[0] if len(same) == 1 else None, "option_text", options)
    if mark := _opening_letter(text, options):
        return _offered(mark.letter, "letter", options)
    return Choice(None, "no_declaration")


def _offered(letter: str | None, how: Found, options: Sequence[str]) -> Choice:
    if letter is None:
        return Choice(None, "ambiguous")
    return Choice(letter, how) if letter in LETTERS[: len(options)] else Choice(None, "letter_not_offered")


def _opening_letter(text: str, options: Sequence[str]) -> Mark | None:
    """`B. text`, `b) text`, `B, because ...` at the head, or a list of letters, which is ambiguous."""
    whole = mark_at(text, 0, options)
    if whole and whole.letter is None:
        return whole
    if m := _HEAD_LETTER.match(text):
        letter = (m[1] or m[2]).upper()
        clash = contradicts(text, m.end(), letter, options) or _rival(text[m.end() :], letter, options)
        return Mark(None if clash else letter)
    if opened := letter_at(text, 0, options):
        own_text = option_that_opens(text, opened[1], options)
        return Mark(opened[0] if opened[0] == own_text else None) if own_text else None
    lines = {line[1] for line in _LINE_LETTER.finditer(text)}
    if lines:
        return Mark(lines.pop() if len(lines) == 1 else None)
    return None


def _rival(rest: str, letter: str, options: Sequence[str]) -> bool:
    """Whether what follows the opening letter names another letter without turning it down."""
    own = options[LETTERS.index(letter)] if letter in LETTERS[: len(options)] else ""
    if own and rest.lstrip().casefold().startswith(own.casefold()):
        rest = rest.lstrip()[len(own) :]
    for sentence in re.split(r"[!?;\n]|\.(?= [A-Z]\w)", rest):
        named = re.findall(r"(?<![\w'-])([A-Z])(?![\w'-])(?! [a-z])|\b[Oo]ption ([A-Z])\b", sentence)
        if _PERHAPS.search(sentence):
            return True
        others = {x for pair in named for x in pair if x and x in LETTERS[: len(options)]} - {letter}
        if others and not _NEGATIVE.search(sentence) and not _TURNS_DOWN.match(sentence):
            return True
    return False
