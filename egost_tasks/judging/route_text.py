"""Read a route description as a sequence of turns and landmarks.

    read_route("Walk straight, turn left at the red panel and pass the sofa.").events
        -> (Landmark("panel", {"red"}), "left", Landmark("sofa", {}))

Pure patterns over English text: no grammar, no model. Its limits: a word it does not know counts as a landmark
("you are whistling a tune" has one); what is about judging, and what is a bare list, it knows by a few signs only;
"before turning left, pass the sofa" is read in the order of the words; which side a landmark is on is not kept; an
action that is no change of direction ("crouch down", "look up at the ceiling") is not an event; and a turn that is
only implied ("follow the wall round") is not seen.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from egost.tasks.judging.route_words import (
    COLOURS,
    FUNCTION_WORDS,
    ING_NOUNS,
    IRREGULAR_VERBS,
    LY_NOUNS,
    PATTERNS,
    PHRASES,
    SAME_WORD,
    VERBS,
)

Turn = Literal["left", "right", "around", "up", "down"]

MIRROR: Mapping[str, Turn] = {
    "left": "right",
    "right": "left",
    "around": "around",
    "up": "down",
    "down": "up",
}
"""What a turn is on the way back."""


@dataclass(frozen=True, slots=True)
class Landmark:
    """A thing that is named: its head noun, and the words that qualify it, all in one normal form."""

    head: str
    modifiers: frozenset[str]

    def __str__(self) -> str:
        return " ".join([*sorted(self.modifiers), self.head])


Event = Turn | Landmark


@dataclass(frozen=True, slots=True)
class Route:
    """What a description says: its turns and landmarks in order, and whether anyone moves in it at all."""

    events: tuple[Event, ...]
    moves: bool

    @property
    def turns(self) -> tuple[Turn, ...]:
        """The changes of direction, in order; going straight is none."""
        return tuple(event for event in self.events if not isinstance(event, Landmark))

    @property
    def landmarks(self) -> tuple[Landmark, ...]:
        """The distinct landmarks, in the order of their first mention."""
        return tuple(dict.fromkeys(event for event in self.events if isinstance(event, Landmark)))


def read_route(text: str, *, guarded: bool = False) -> Route:
    """The turns and landmarks of a description, in the order in which a walker meets them.

    guarded: the text may have been written to please a judge. Then sentences about the judging and long lists of
    bare things are not read, and a row of all kinds of turn makes the whole text no route.
    """
    text = _clean(text)
    if guarded:
        text = _catalogues_out(_judging_out(text))
    moves = bool(_MOVES.search(text))
    text = _NEGATED.sub(_hole, text)
    turns: list[tuple[int, int, Turn]] = []
    for pattern, kind in _TURNS:
        for m in list(pattern.finditer(text)):
            if kind == "then" and not _goes_on(text, m.start(), turns):
                continue
            if kind == "return" and any(turn == "around" and start < m.start() for start, _, turn in turns):
                continue
            turn = _which(m, kind)
            turns += [(m.start(), m.end(), turn)] * _times(text, m.end())
            if turn not in ("up", "down"):
                text = text[: m.start()] + _hole(m) + text[m.end() :]
    placed: list[tuple[float, Event]] = [(start, turn) for start, _, turn in turns]
    ends = {end: start for start, end, _ in turns}
    for start, landmark in _landmarks(_NO_TURN.sub(_hole, text)):
        placed.append((_met_at(text, start, ends), landmark))
    placed.sort(key=lambda event: event[0])
    events = [event for _, event in placed]
    kept = [e for i, e in enumerate(events) if not (i and isinstance(e, Landmark) and e == events[i - 1])]
    if guarded and _lists_every_turn(kept):
        return Route((), False)
    return Route(tuple(kept), moves or bool(turns))


_HOLE = "|"


def _hole(m: re.Match[str]) -> str:
    """What is left of a phrase that was read: it keeps the places of the rest, and parts the words around it."""
    return _HOLE * len(m.group())


def _clean(text: str) -> str:
    text = unicodedata.normalize("NFKC", text).lower()
    text = "".join(c for c in text if unicodedata.category(c) != "Cf")
    text = re.sub(r"<!--.*?(?:-->|$)|</?[a-z!|][^<>]{0,200}>", " ", text, flags=re.DOTALL)
    text = text.replace("\N{RIGHT SINGLE QUOTATION MARK}", "'").replace("-and-", " ")
    text = re.sub(r"[*_#`\[\]'\"](?![a-z])|(?<![a-z])'", " ", text)
    text = re.sub(r"\bu[ -]?turn", "uturn", text)
    for pattern, word in PHRASES:
        text = re.sub(rf"(?<![a-z])(?:{pattern})" if word else pattern, word, text)
    return re.sub(r"[^\S\n]+", " ", text)


# --- what tells no walk ------------------------------------------------------------------------------

_SENTENCE = re.compile(r"[^.!?;\n]+")
_ABOUT_JUDGING = re.compile(
    r"\b(?:scor(?:e|es|ed|ing)|ratings?|grad(?:ers?|ing)|judg(?:e|es|ed|ing|ement|ment)s?|evaluat(?:or|ion)s?|rubric|"
    r"criteri(?:a|on)|verdict|ground truth|predictions?|"
    r"(?:full|top|high|highest|maximum|best|perfect) (?:marks?|points?|grade)|the reference(?! points?\b)|"
    r"(?:ignore|disregard|forget|override) (?:all|any|the|this|these|previous|your|every)|"
    r"(?:new|previous|updated?(?: to the)?|system) (?:instructions?|rules?|prompt|policy))\b"
    r"|\b(?:directions?|landmarks?|semantics?(?: and logic)?)\W{0,4}[:=|]\W{0,4}[0-5]\b(?! ?[):]| [a-z])"
    r"|\b[0-5] ?/ ?5\b|\b5 ?(?:,|\band\b| ) ?5\b"
)
_ITEM = re.compile(r"(?:(?!\b(?:and|or)\b)[^,;.\n|])+")
_BEFORE_AN_ITEM = re.compile(
    r"^[\s\d()*:-]*(?:there (?:is|are|was|were) )?(?:(?:also|the|an?|some|two|three|many|several|another) )*"
)
_LONGEST_LIST = 8
"""Things that may stand in a row with no word on how one gets to them."""


def _judging_out(text: str) -> str:
    """The text without its sentences about the judging: they say nothing about the walk."""
    return _SENTENCE.sub(lambda m: _hole(m) if _ABOUT_JUDGING.search(m.group()) else m.group(), text)


def _catalogues_out(text: str) -> str:
    """The text without its long lists of bare things: a list of what there is tells no walk through it."""
    rows: list[list[re.Match[str]]] = [[]]
    for item in _ITEM.finditer(text):
        thing = _BEFORE_AN_ITEM.sub("", item.group())
        words = thing.split()
        if words and len(words) <= 4 and _names_a_thing(words, thing != item.group().lstrip()):
            rows[-1].append(item)
        elif words:
            rows.append([])
    for row in rows:
        if len(row) > _LONGEST_LIST:
            start, end = row[0].start(), row[-1].end()
            text = text[:start] + _HOLE * (end - start) + text[end:]
    return text


def _names_a_thing(words: list[str], after_article: bool) -> bool:
    """Whether these are the words of a landmark and no others ("a reading desk", not "entering kitchen")."""
    return bool(_normal(words[-1])) and all(
        _normal(word)
        or (word.endswith("ing") and (after_article or not {word[:-3], word[:-3] + "e"} & VERBS))
        for word in words[:-1]
    )


def _lists_every_turn(events: list[Event]) -> bool:
    """Whether four kinds of turn follow each other with nothing between them: words for turns, and no walk."""
    kinds: set[Event] = set()
    for event in events:
        kinds = set() if isinstance(event, Landmark) else kinds | {event}
        if len(kinds) > 3:
            return True
    return False


# --- turns -------------------------------------------------------------------------------------------

_SIDE = r"(?P<side>left|right)"
_HOW = (
    r"(?: (?:straight|ahead|slightly|sharply|sharp|hard|immediately|then|again|gently|slowly|quickly|directly|"
    r"your body|back|90 degrees|once more|once))*"
)
_ENDS = (
    r"(?=\s*(?:$|[.,;:!?()|\n]|(?:at|on|onto|into|to|toward|towards|and|then|after|when|where|past|in|before|by|near|there|here|"
    r"again|through|along|until|out|across|from|for|away|around|twice|with|as|so|next|once|just|turn|go|walk|"
    r"continue|pass|follow|enter|cross|head|return|straight)\b))"
)
_NO_PLACE = r"(?!-|(?: hand)? side\b| (?:of|edge|corner|wall|door|gate|aisle|hand|lane)\b)"
_RIGHT_THERE = (
    r"(?!right (?:ahead|away|up to|next|past|through|by|behind|beside|under|before|after|along|there|here|in front|"
    r"on|off|over|across)\b)"
)
_PIVOT = r"\b(?:turn|veer|bear|swerve|pivot|rotat|swing|bend|curv|angl|twist)(?:e?s|e?d|ing|e)?"
_GO = r"\b(?:go|walk|move|head|run|proceed|continue|shift|travel|exit)(?:e?s|e?d|ing)?"
_TAKE = r"\b(?:tak(?:e|es|ing|en)|took|mak(?:e|es|ing)|made|hang|do|does|doing)"
_STAIRS = r"(?= (?:to )?(?:the |a )?(?:\w+ )?(?:stair|steps|escalator))"
_SOME = r"(?: to| towards?)?(?: the| your| my)?"
_FORK = r"(?: (?:turn|turning|bend|path|fork|branch|road|corridor|exit))?"
_PHRASES_OF_TURNING: tuple[tuple[str, str], ...] = (
    (rf"{_PIVOT}{_HOW}{_SOME} {_SIDE}(?:-hand| hand)?(?: side)?(?! of\b)", "side"),
    (
        r"\b(?:turn|spin|swing|rotate|pivot|twirl)(?:s|ed|ing)?(?: your body| yourself| completely| fully)?"
        r" (?:(?:a)?round(?! the (?:corner|bend))|back(?:wards?)?|180(?: degrees)?)\b",
        "around",
    ),
    (
        r"\b(?:(?:mak|do|tak|perform)\w* (?:a|an|another) )?(?:complete |full )?"
        r"(?:uturns?|180[- ]degree turn|about[- ]face)\b",
        "around",
    ),
    (r"\b(?:revers(?:e|es|ing) (?:your |the )?(?:direction|course)|doubl(?:e|es|ing) back)\b", "around"),
    (rf"{_TAKE}(?: \w+){{1,3}}? {_SIDE}(?:-hand| hand)?{_FORK}\b{_ENDS}", "side"),
    (rf"\bfirst(?:ly)?,?(?: a)? {_SIDE}\b{_ENDS}", "side"),
    (rf"{_GO}{_HOW}(?: to (?:the|your))? {_RIGHT_THERE}{_SIDE}\b{_NO_PLACE}", "side"),
    (rf"\b{_SIDE}(?:-hand| hand)?[ -](?:turn|turning|bend|curve)s?\b", "side"),
    (
        r"(?:\bthen|\band|\band then|,|\bfollowed by)(?: a| another| again| immediately)? "
        rf"{_SIDE}(?: again)?\b{_ENDS}",
        "then",
    ),
    (rf"\b{_SIDE} again\b", "then"),
    (rf"\b(?:up|climb(?:s|ed|ing)?|ascend(?:s|ed|ing)?){_STAIRS}|\bupstairs\b", "up"),
    (rf"\b(?:down|descend(?:s|ed|ing)?){_STAIRS}|\bdownstairs\b", "down"),
    (
        r"\breturn(?:s|ed|ing)?\b(?=\s*(?:$|[.,;|\n]|(?:to|from|back|home|along|via|and|then|the same)\b))"
        r"|\b(?:go|walk|head|come|run)(?:e?s|ing)? back\b",
        "return",
    ),
)
"""Phrases of a change of direction and how each is read, in the order in which they are looked for.

`then` is a side without a verb of its own ("turn left, then right"); `return` is a turn back only where the
text has not spoken of one before ("turn round and return to the start" is one turn).
"""
_TURNS = tuple((re.compile(pattern), kind) for pattern, kind in _PHRASES_OF_TURNING)

_NEGATED = re.compile(
    r"(?:n't\b|\bcannot\b|\bnever\b|\bnot\b|\bwithout\b|\binstead of\b|\brather than\b|"
    r"\bavoid(?:s|ing)?\b|\bif (?:you|one|we)\b)"
    r"(?: (?:ever|to|need to|have to|actually|just|you|then))?"
    r" (?:turn|go|goe|mak|tak|head|bear|veer|walk|mov|return)\w*[^.,;|\n]{0,25}?\b(?:left|right|a?round|back|uturns?)\b"
    r"(?: (?:or|nor) (?:to the )?(?:left|right|a?round|back))?"
    r"|\b(?:no|without|without an?|without any) (?:left|right)(?: (?:or|nor) (?:left|right))? turns?\b"
)
_NO_TURN = re.compile(
    r"\b(?:on|to|at|in|from|along|of)? ?(?:the |your |its |my )?(?:far )?(?:left|right)(?:-hand| hand)?(?: side)?\b"
)
_ON = (
    r"(?! out of time| \w+ (?:it|this|that|them|you|me)\b)(?<!is moving)(?<!are moving)"
    r"(?: \w+ly)?(?=\s*(?:$|[.,;:!?|)\n])| (?:on|onto|along|past|through|to|towards?|down|up|into|out|from|across|by|"
    r"round|around|over|back|away|off|until|till|left|right|between|under|inside|outside|in|beside|a|"
    r"(?:back|side|on|up|down)ways?|(?:back|on|up|down)wards?|north|south|east|west|some|several|few|"
    r"\d+ [a-z]+|then|and|again|slightly|the (?:stairs|steps|ramp|hill|slope|ladder|escalator|room|building|house))\b)"
)
"""What a verb of motion is followed by when somebody moves: "walk along", and not "walk the extra mile"."""
_MOVES = re.compile(
    r"\bstraight\b|(?<!look )(?<!looking )\bforwards?\b|\bahead\b(?! and\b)"
    r"|\bkeep(?:s|ing)? (?:going|walking|moving)\b"
    r"|\b(?:go|goes|going|went|gone|came|ran|(?:com|continu|walk|mov|proceed|head|advanc|run|climb|travel|return|stroll|"
    rf"step|turn)\w*){_ON}"
    r"|\b(?:enter|exit|pass|cross|follow|reach|leav|approach|travers|descend|ascend)\w* "
    r"(?:by |through |out |over |along |down |up )?(?:the|an?|your|my|another|two|some|several|many)\b"
    r"|(?:^|[,.;|\n]) ?(?:then |and )?(?:through|along|past|across|towards?|into|onto)\b"
)
_TIMES = re.compile(r"(?: again)? (?:(twice|two times)|(thrice|three times)|(four times))\b")


def _which(m: re.Match[str], kind: str) -> Turn:
    if kind in ("side", "then"):
        return "left" if m["side"] == "left" else "right"
    return "up" if kind == "up" else "down" if kind == "down" else "around"


def _times(text: str, end: int) -> int:
    m = _TIMES.match(text, end)
    return 1 if m is None else 1 + (m.lastindex or 0)


def _goes_on(text: str, start: int, turns: list[tuple[int, int, Turn]]) -> bool:
    """Whether a side without a verb follows a turn in the same sentence."""
    before = max((end for turn_start, end, _ in turns if turn_start < start), default=-1)
    return before >= 0 and not re.search(r"[.;!?\n]", text[before:start])


# --- landmarks ---------------------------------------------------------------------------------------

_TOKEN = re.compile(r"[a-z]+(?:'[a-z]+)?|[^\sa-z]")
_ONE_OF_SEVERAL = COLOURS | PATTERNS
_AT_THE_TURN = re.compile(
    r"(?: again| sharply| immediately| just)* (?:at|after|by|near|beside|next to|in front of|when|once|upon|"
    r"past|behind|opposite|as|where)\b[^.,;|\n]*$"
)


def _landmarks(text: str) -> Iterator[tuple[int, Landmark]]:
    """Runs of words that are neither grammar nor motion; the last word of a run is its head."""
    run: list[str] = []
    start, joined_by = -1, ""
    held: tuple[int, list[str]] | None = None
    for token in [*_TOKEN.finditer(text), None]:
        raw = token.group() if token else ""
        word = _normal(raw)
        if token and word:
            start = token.start() if not run else start
            run.append(word)
            continue
        if run:
            described = all(w in _ONE_OF_SEVERAL for w in run)
            if held and joined_by == "with" and described:
                held = (held[0], [*run, *held[1]])
            elif held and joined_by == "and" and all(w in _ONE_OF_SEVERAL for w in held[1]):
                held = (held[0], [*held[1], *run])
            else:
                if held:
                    yield held[0], _landmark(held[1])
                held = (start, run)
            run, joined_by = [], ""
        joined_by = (
            raw if not joined_by or raw in ("with", "and") else joined_by if raw in ("a", "the") else "other"
        )
    if held:
        yield held[0], _landmark(held[1])


def _landmark(words: list[str]) -> Landmark:
    return Landmark(words[-1], frozenset(words[:-1]))


def _normal(word: str) -> str:
    """The normal form of a word that can be part of a landmark, or an empty text."""
    if len(word) < 2 or not word.isascii() or not word[0].isalpha():
        return ""
    word = word.removesuffix("'s")
    if word in FUNCTION_WORDS or word in IRREGULAR_VERBS or "'" in word:
        return ""
    if word.endswith("ly") and word not in LY_NOUNS:
        return ""
    if word.endswith("ing") and word not in ING_NOUNS:
        return ""
    if any(word.removesuffix(ending) in VERBS for ending in ("", "s", "es", "d", "ed")):
        return ""
    single = _singular(word)
    return SAME_WORD.get(single, single)


def _singular(word: str) -> str:
    for ending, instead in (
        ("ies", "y"),
        ("shelves", "shelf"),
        ("leaves", "leaf"),
        ("knives", "knife"),
        ("clothes", "clothes"),
    ):
        if word.endswith(ending) and len(word) > 4:
            return word.removesuffix(ending) + instead
    if re.search(r"(?:ss|sh|ch|x)es$", word):
        return word[:-2]
    return word[:-1] if re.search(r"[^sui]s$", word) else word


def _met_at(text: str, start: int, turn_ends: dict[int, int]) -> float:
    """Where a landmark comes in the walk: "turn left at the sofa" meets the sofa before the turn."""
    before = [end for end in turn_ends if end <= start]
    if before and _AT_THE_TURN.match(text[max(before) : start]):
        return turn_ends[max(before)] - 0.5
    return start
