"""Patterns that find the place where a text last says which letter is the answer.

`last_declaration` reads sentences ("the answer is B", "I choose (C)", "D is correct"), lines that are only
a letter, and letters in bold. It works on tidied text (`tidy`), and reports several letters at once
("A or B") as a mark without a letter.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache, partial
from string import ascii_lowercase, ascii_uppercase
from typing import NamedTuple

from egost.tasks.sample import LETTERS
from egost.tasks.scoring.declarations import OTHER_LANGUAGES, denied_before, denied_behind

_LATEX_FONT = re.compile(r"\\(?:text|textbf|mathrm|mathbf|textit)\s?\{([^{}]{0,200})\}")
_BOLD_LETTER = re.compile(r"\*\*\s?[(\[]?([A-Z])[)\].:]{0,2}\s?\*\*")
_SAME = str.maketrans(
    {
        "\N{LEFT DOUBLE QUOTATION MARK}": '"',
        "\N{RIGHT DOUBLE QUOTATION MARK}": '"',
        "\N{LEFT SINGLE QUOTATION MARK}": "'",
        "\N{RIGHT SINGLE QUOTATION MARK}": "'",
        "`": "'",
        "\N{IDEOGRAPHIC FULL STOP}": ".",
        "\N{IDEOGRAPHIC COMMA}": ",",
        "\N{EN DASH}": "-",
        "\N{EM DASH}": "-",
        "\N{DEVANAGARI DANDA}": ".",
    }
)


def tidy(text: str) -> str:
    """One kind of white space, quotation mark and emphasis, so that the patterns need not know them all.

    A letter in bold becomes a letter in double brackets, which the patterns read as a letter set apart.
    No white space is longer than one character afterwards, which keeps the patterns linear.
    """
    text = re.sub(r"[^\S\n]+", " ", text)
    text = "\n".join(line.strip() for line in text.split("\n") if line.strip())
    text = _LATEX_FONT.sub(r"\1", text.translate(_SAME))
    return re.sub(r"\*+|__+", "", _BOLD_LETTER.sub(r"((\1))", text)).strip()


def norm(text: str) -> str:
    """A text without case, spacing and the punctuation around it, for comparing options."""
    return " ".join(text.casefold().split()).strip(" .,;:!?\"'()[]")


@lru_cache(maxsize=4096)
def _normed(options: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(map(norm, options))


# --- a letter, where one is expected -----------------------------------------------------------------


class Mark(NamedTuple):
    """A letter that is declared; None means several letters at once, or a letter at odds with its words."""

    letter: str | None


_LETTER = re.compile(
    r"[\s\"']{0,2}(?:(?:option|choice|letter|选项) ?)?(?P<open>[\"'(\[{<「【$]{0,3})\s?(?P<x>[A-Za-z])"
    r"(?![A-Za-z0-9])(?!'[a-z])(?!-[A-Za-z])(?P<close>\s?[\"')\]}>」】$]{0,3})",
    re.IGNORECASE,
)
_GOES_WITH_A_LETTER = re.compile(
    r" (?:because|since|as|for|based|given|due|which|that|but|so|and|or|is|was|with|instead|rather|not)\b"
)
_AFTER_SMALL_LETTER = re.compile(r"[.,;:!)\]}\"'\n]|$")
_ANOTHER = re.compile(r"\s?(?:, ?(?:or|and)|,|/|&|or|and/or|and|还是|或者?|和|与)(?=[\s(\"\[A-Z选])\s?")
_OF_ITS_OWN = re.compile(
    r",? ?(?:is|are|was|were|does|do|did|has|can|cannot|would|could|seems?|looks|describes|mentions|says|"
    r"shows|isn't|doesn't|can't|swaps|starts|lacks|misses|不|错|是)",
)


def letter_at(text: str, position: int, options: Sequence[str]) -> tuple[str, int] | None:
    """The letter at a position, in upper case, and where it ends; None if it is a word."""
    m = _LETTER.match(text, position)
    if m is None:
        return None
    letter = m["x"]
    wrapped = bool(m["open"] and m["close"].strip())
    if not wrapped and not option_that_opens(text, m.end(), options):
        if letter.islower() and not _AFTER_SMALL_LETTER.match(text, m.end("x")):
            return None
        is_word = letter in "AI" and re.compile(r"\s?[a-z]").match(text, m.end("x"))
        if is_word and not _GOES_WITH_A_LETTER.match(text, m.end("x")):
            return None
    return letter.upper(), m.end()


def mark_at(text: str, position: int, options: Sequence[str]) -> Mark | None:
    """The declaration made by the letter at a position, unless there is none."""
    first = letter_at(text, position, options)
    if first is None:
        return None
    letter, end = first
    if separator := _ANOTHER.match(text, end):
        second = letter_at(text, separator.end(), options)
        if second and second[0] != letter and not _OF_ITS_OWN.match(text, second[1]):
            return Mark(None)
    if text[end : end + 1] == "?":
        return None
    return Mark(None if contradicts(text, end, letter, options) else letter)


def contradicts(text: str, position: int, letter: str, options: Sequence[str]) -> bool:
    """Whether the rest of the line, which comes with a letter, is word for word another option."""
    line = norm(re.split(r"\n|</", text[position : position + 2000].lstrip(" .:,)-"), maxsplit=1)[0])
    named = [x for x, option in zip(LETTERS, options, strict=False) if len(line) > 1 and line == norm(option)]
    return bool(named) and letter not in named


def option_that_opens(text: str, position: int, options: Sequence[str]) -> str | None:
    """The letter of the one option whose text is at a position; None if there is none or several."""
    texts = _normed(tuple(options))
    here = text[position : position + max(map(len, texts), default=0) + 50]
    here = here.casefold().replace("\n", " ").lstrip("\"'([ .:,-)")
    opening = [
        (len(option), letter)
        for letter, option in zip(LETTERS, texts, strict=False)
        if len(option) > 1 and here.startswith(option) and not here[len(option) : len(option) + 1].isalnum()
    ]
    longest = [letter for length, letter in opening if length == max(opening)[0]]
    return longest[0] if len(longest) == 1 else None


# --- sentences that declare an answer ----------------------------------------------------------------

_FILLER = (
    r"(?:\s?\b(?:the|most|likely|probably|clearly|definitely|therefore|thus|then|indeed|simply|just|only|be|to|either|"
    r"option|choice|letter|answer|number|correct|best|right|one|marked|labeled|with)\b(?! [a-z] is\b)){0,4}"
)
_IS = (
    r"(?:\s?(?:\bis\b|\bwas\b|(?:would|should|must|has to|will|seems to|appears to) be\b|"
    r"[:=]|->|=>|→|-(?= ))){1,2}"
)
# Both kinds of lead are sought in the text's lower case, which is many times quicker than ignoring case.
# A lead after which any letter is an answer: "the answer is", '"choice":', the box of LaTeX, and Chinese
# for "the answer is" and "so (I) choose".
_LEADS = re.compile(
    "|".join(
        (
            r"(?<![a-z])(?<!each )(?<!every )"
            r"(?:answer|choice|option|selection|pick|solution|response|conclusion|guess)"
            r"(?: (?:letter|option|choice|here|(?:to|for) (?:this|the) question)){0,2}[\"']?" + _IS + _FILLER,
            r"(?:^|\n)#{0,4} ?(?:my |the )?(?:final |correct )?answer(?= ?\(?[a-z]\b)(?! [a-z] )",
            r"(?<![a-z])ans(?:\.|\s?:|\s?-(?= ))\s?",
            r"\b(?:correct|right|best|closest|"
            r"most (?:accurate|likely|consistent|plausible|appropriate|suitable|fitting)) "
            r"(?:letter|one|sequence|order|route|description|match|fit)" + _IS + _FILLER,
            r"(?<![a-z])(?:correct|final|select(?:ed|ion)?)\s?:",
            # A correction: it wins, since it comes last.
            r"(?<![a-z])(?:correction|corrected answer)\s?[:-]?" + _FILLER,
            r"\\f?boxed\s?\{",
            r"(?:答案|正确选项|正解|答え)(?:应该|应当)?(?:是|为|は|:|选)?:?",
            r"我(?:认为|觉得)(?:是|选)|(?:因此|所以)(?=[a-z])",
            r"(?<![不没非])(?:故|应|应该|我|因此|所以)?选(?:择)?(?:的是|是|:)?(?!项)",
        )
    )
)
# A lead after which a letter is an answer only if nothing else is said of it: "I think B" is one,
# "I think B is wrong" is none.
_WEAK_LEADS = re.compile(
    "|".join(
        (
            r"\b(?:choos(?:e|ing)|chose|pick(?:ing)?|select(?:ing)?|go(?:ing)? (?:with|for)|went (?:with|for)|"
            r"opt(?:ing)? for|settle on|vote for|answer with)" + _FILLER,
            r"\bi(?:'d| would| will|'ll)? (?:answer|say|guess|think|believe)(?: that)?"
            r"(?: it(?:'s| is| must be))?" + _FILLER,
            r"\b(?:it|this|that|which)(?:'s| is| must be| has to be| would be| should be)" + _FILLER,
            r"\b(?:leaves|leaving)(?: us)?(?: with)?(?: only)?" + _FILLER,
            r"(?:\b(?:so|therefore|thus|hence|finally)\b[,:]?|=>|⇒|∴|→)" + _FILLER,
            r"(?:\bi\.e\.,?|\bnamely,?|\bthat is,)" + _FILLER,
            r"(?:\bno,? )?\b(?:wait|actually|sorry|rather|i meant?|on second thought|scratch that)"
            r"(?:,? (?:no|sorry|i meant?|it is|it's|it should be|the answer is|make that|actually))?[,:]?"
            + _FILLER,
        )
    )
)
# The walk is said to be an option's: "matches option D". Of a part of the walk it says nothing.
_MATCHES = re.compile(
    r"\b(?:match(?:es|ing)?|corresponds? to|consistent with|points? to|agrees? with|fits|supports?|aligns? with|"
    r"described by|captured by|given by|represented by|equivalent to)(?: the)? (?:option|choice|answer)"
)
_OF_A_PART = re.compile(
    r"\b(?:first|second|third|last|next|other|part(?:ly|ially)?|start|end|beginning|half|turn|landmark|only)\b[^.;\n]{0,40}$"
)
_CHOOSING = re.compile(
    r"choos|chose|pick|select|go(?:ing)? (?:with|for)|went (?:with|for)|opt|settle|vote|answer", re.IGNORECASE
)
_NOTHING_MORE = re.compile(
    r"\s?(?:[.!;,)}\]\"'\n]|$|(?:because|since|as|for|based|given|due|instead|rather|not|over)\b|[:-] )"
)
_NOT_BUT = re.compile(r" ?not (?:option )?\(?[A-Z]\)?,? but (?:rather )?", re.IGNORECASE)
_IS_CORRECT = re.compile(
    r"(?<![A-Za-z0-9'.-])[(\[]{0,2}(?P<x>[A-Z])[)\]]{0,2}[.:]?"
    r"(?: (?:is|must be|would be|seems to be|appears to be)"
    r"(?: (?:clearly|definitely|indeed|therefore|thus|likely|probably|the|my|only|most)){0,3} "
    r"(?:(?:correct|right|best|accurate|appropriate|likely|suitable|plausible|final) "
    r"(?:answer|option|choice|one|sequence|match|fit)|answer|"
    r"(?:correct|accurate|appropriate)(?=\s?(?:[.!;,)\n]|$|because|since|as\b|and\b)))"
    r"| is (?:the )?(?:most |only )?(?:one|option|choice|answer) (?:that|which) (?:fits|matches|is consistent|agrees)\b"
    r"| is (?:the )?most (?:consistent|compatible|accurate|plausible|likely|appropriate|suitable|fitting)\b"
    r"| (?:ist|es|est|é) (?:die |la |a )?(?:richtige?|correct[ae]|corret[ao]|exacte?)\b"
    r"| is (?:fully |entirely )?consistent with (?:the )?(?:video|clip|frames|footage|walk|route|what)\b"
    r"| best (?:matches|describes|fits|reflects|represents)\b| (?:matches|fits) best\b"
    r"| ?(?:选?项)?(?:是|为)?(?:正确|对的))"
)
_LETTER_BEFORE = re.compile(r"[A-Z]\)?,? (?:or|and) (?:option )?\(?$")
_REACH = 16_000
_MOST_LEADS = 1_000
"""How many characters, from the end, and how many leads are searched: bounds on the time, not rules."""

_REACH_OF = {_LEADS: _REACH, OTHER_LANGUAGES: 2_000, _WEAK_LEADS: _REACH, _MATCHES: 4_000}

_LOWER = str.maketrans(ascii_uppercase, ascii_lowercase)


def last_declaration(text: str, options: Sequence[str]) -> Mark | None:
    """The last declaration in the last 16,000 characters of a tidied text; None if nothing is declared."""
    text = text[-_REACH:]
    lowered = text.translate(_LOWER)
    places: list[tuple[int, Callable[[], Mark | None]]] = [*_lone_lines(text), *_bold(text)]
    places += _judged_in_turn(text, options)
    for leads, weak in ((_LEADS, False), (OTHER_LANGUAGES, False), (_WEAK_LEADS, True), (_MATCHES, True)):
        found = deque(leads.finditer(lowered, max(0, len(lowered) - _REACH_OF[leads])), maxlen=_MOST_LEADS)
        if leads is _MATCHES:
            found = deque(
                m for m in found if not _OF_A_PART.search(lowered[max(0, m.start() - 80) : m.start()])
            )
        places += ((m.end(), partial(_led, text, m.span(), weak, options)) for m in found)
    claims = deque(_IS_CORRECT.finditer(text), maxlen=_MOST_LEADS)
    places += ((m.start(), partial(_claimed, text, m.start(), m["x"])) for m in claims)
    places.sort(key=lambda place: place[0], reverse=True)
    return next((mark for _, read in places[:_MOST_LEADS] if (mark := read())), None)


def _led(text: str, lead: tuple[int, int], weak: bool, options: Sequence[str]) -> Mark | None:
    start, end = lead
    if denied_before(text, start):
        return None
    denial = _NOT_BUT.match(text, end)
    at = denial.end() if denial else end
    mark = mark_at(text, at, options)
    if mark is None:
        # The lead may have taken the article that an option's own text begins with.
        for place in (at, at - 3) if text[at - 3 : at].lower() == "the" else (at,):
            named = (
                _option_chosen(text, start, place, options)
                if weak
                else option_that_opens(text, place, options)
            )
            if named:
                return Mark(named)
        return None
    found = letter_at(text, at, options)
    if mark.letter and found and denied_behind(text, found[1], would=" would " in text[start:end].lower()):
        return None
    return None if _is_list(text, at) or (weak and not _nothing_more(text, at, options)) else mark


def _option_chosen(text: str, start: int, end: int, options: Sequence[str]) -> str | None:
    """The option whose text is all that follows "I choose"; after "so" or "it is" a text says too little."""
    if not _CHOOSING.match(text, start):
        return None
    rest = norm(re.split(r"\n|\.(?:\s|$)", text[end : end + 4000], maxsplit=1)[0])
    same = [x for x, option in zip(LETTERS, options, strict=False) if norm(option) == rest]
    return same[0] if len(same) == 1 else None


def _claimed(text: str, start: int, letter: str) -> Mark | None:
    if denied_before(text, start):
        return None
    return Mark(None if _LETTER_BEFORE.search(text[max(0, start - 20) : start]) else letter)


def _is_list(text: str, position: int) -> bool:
    """Whether the letter at a position only opens a list of options ("the right option: A. ..., B. ...")."""
    letter = re.search(r"[A-Za-z](?![A-Za-z])", text[position : position + 20])
    if letter is None or letter.group().upper() == "Z":
        return False
    following = chr(ord(letter.group().upper()) + 1)
    rest = text[position + letter.end() : position + letter.end() + 600]
    return bool(re.match(rf"[.):][^\n]*(?:\n[\W_]*(?:Option )?|[\s,;]\(?){following}[.):](?:\s|$)", rest))


def _nothing_more(text: str, position: int, options: Sequence[str]) -> bool:
    found = letter_at(text, position, options)
    return found is not None and bool(
        _NOTHING_MORE.match(text, found[1])
        or _ANOTHER.match(text, found[1])
        or option_that_opens(text, found[1], options)
    )


# --- letters that stand alone ------------------------------------------------------------------------

_DRESSED = re.compile(
    r"(?:(?:probably|likely|maybe|must be|definitely|clearly|sure|okay|ok|hm+)[\W_]{1,3})?"
    r"(?:the )?(?:(?:option|choice|letter|选项)[\W_]{0,3})?([A-Za-z])(?:[\W_]{1,3}(?:option|choice))?",
    re.IGNORECASE,
)
_BOLD = re.compile(
    r"(?<!option )(?<!choice )(?<!not )\(\(([A-Z])\)\)(?! (?:is|are|was|does) )", re.IGNORECASE
)


def dressed_letter(line: str) -> str | None:
    """The letter that a line consists of, but for its dress: `(b)`, `B.`, `Option B`, `Probably B`."""
    core = re.sub(r"^[\W_]+|[\W_]+$", "", line) if len(line) <= 80 else ""
    m = _DRESSED.fullmatch(core)
    return m[1].upper() if m else None


def _lone_lines(text: str) -> Iterator[tuple[int, Callable[[], Mark]]]:
    """Lines that are one letter, in a text of several lines; next to another letter's line it is a list."""
    lines = text.split("\n")
    letters = [dressed_letter(line) for line in lines]
    position = 0
    for i, line in enumerate(lines):
        if letters[i] and len(lines) > 1:
            near = {letters[j] for j in (i - 1, i, i + 1) if 0 <= j < len(lines)} - {None}
            yield position, partial(Mark, letters[i] if len(near) == 1 else None)
        position += len(line) + 1


def _bold(text: str) -> Iterator[tuple[int, Callable[[], Mark]]]:
    found = list(_BOLD.finditer(text))
    if found and "\n" not in text:
        several = len({m[1] for m in found}) > 1
        yield found[-1].start(), partial(Mark, None if several else found[-1][1])


# --- options judged in turn --------------------------------------------------------------------------

_ITEM = re.compile(
    r"(?:^|(?<=\n)|(?<=[.;,✓✔✅✗✘❌] )|(?<=\) ))(?:[-•] ?)?(?:[Oo]ption )?\(?([A-J])"
    r"(?:\)[:.]?|[.:](?=\s)| -(?= )|(?= ?[✓✔✅☑✗✘❌×☒]))\s?"
)
_RIGHT = re.compile(
    r"(?:✓|✔|✅|☑|yes\b|true\b|correct\b|right\b(?! turn)|(?:this|it) is (?:the )?(?:correct|right)\b)",
    re.IGNORECASE,
)
_WRONG = re.compile(
    r"(?:✗|✘|❌|×|☒|no\b|false\b|incorrect\b|wrong\b|not\b|does(?:n't| not)\b|ruled out\b|eliminated?\b|"
    r"(?:this|it) is(?:n't| not| incorrect| wrong)\b)",
    re.IGNORECASE,
)


def _judged_in_turn(text: str, options: Sequence[str]) -> Iterator[tuple[int, Callable[[], Mark]]]:
    """A list in which each option is called right or wrong, from A on: "A) Incorrect. B) Correct."."""
    items = deque(_ITEM.finditer(text), maxlen=len(LETTERS))
    right: list[str] = []
    for number, item in enumerate(items):
        if item[1] != LETTERS[number]:
            return
        end = items[number + 1].start() if number + 1 < len(items) else len(text)
        said = text[item.end() : min(end, item.end() + 400)]
        own = options[number] if number < len(options) else ""
        if own and said.casefold().startswith(own.casefold()):
            said = said[len(own) :]
        said = said.lstrip(" .,:;()-\"'")
        if _RIGHT.match(said):
            right.append(item[1])
        elif not _WRONG.match(said):
            return
    if len(items) > 1 and right:
        yield items[-1].end(), partial(Mark, right[0] if len(right) == 1 else None)
