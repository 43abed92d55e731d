"""The official layout of a release: its 26 question files and clip folders, read and written here alone.

A question file is an object keyed by sample id. No public code reads the field that holds the right option, so
its name and form are not known for certain: the names and forms below are accepted, anything else stops
the load and is never guessed.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from typing import Any

from loguru import logger

from egost.tasks.cache import write_whole
from egost.tasks.errors import ReleaseError, download_command
from egost.tasks.json_text import read_json, shown
from egost.tasks.sample import LETTERS, WAYS, Sample, TaskKind, Way

PART_FOLDERS = {1: "part1", 2: "part2", 3: "part3_clip", 4: "part4_clip"}
"""Clip folder of each part, as the reference code names them."""

_PART_FOLDER = re.compile(r"part[ _-]?([1-4])(?:[ _-]?clips?)?", re.IGNORECASE)


def part_folder(name: str) -> str | None:
    """The clip folder that a folder's or an archive's name stands for, for example `Part3` for `part3_clip`."""
    named = _PART_FOLDER.fullmatch(name)
    return PART_FOLDERS[int(named[1])] if named else None


def clip_key(name: str) -> str:
    """A clip's file name as it is looked up: composed characters, its suffix in lower case.

    A Mac writes names decomposed, a camera writes `.MP4`; the question files may name them otherwise.
    """
    path = PurePath(unicodedata.normalize("NFC", name))
    return path.stem + path.suffix.lower()


VIDEO_SUFFIXES = (".mp4", ".mov", ".avi", ".mkv", ".webm", ".m4v")

ANSWER_KEYS = ("answer", "correct_answer", "correct_option", "correct", "gt", "ground_truth")
"""Accepted names of the field with the right option, inside the `*_mcq` object or next to it."""

_KIND_OF_TASK: Mapping[TaskKind, str] = {
    "route": "qa",
    "direction": "mcq",
    "landmark": "mcq_landmark",
    "action": "mcq_action",
}

_Place = tuple[int, Way, TaskKind]


def question_file(part: int, way: Way, task: TaskKind) -> str:
    """Name of the file with the questions of one task and way in one part."""
    return f"Part{part}_{way}_{_KIND_OF_TASK[task]}.json"


_PLACES: Mapping[str, _Place] = {
    question_file(part, way, task): (part, way, task)
    for part in PART_FOLDERS
    for way in WAYS
    for task in _KIND_OF_TASK
    if task != "action" or part == 4
}

QUESTION_FILES = frozenset(_PLACES)
"""Names of the 26 files; only Part 4 (Aria) has actions."""

QuestionFiles = dict[str, dict[str, dict[str, Any]]]
"""Content of question files: by file name and by the key of an entry."""

_LETTERED = re.compile(r"\s*\(?([A-J])\s*[.):：、．]\s*(.*)", re.DOTALL)  # noqa: RUF001
_BARE_LETTER = re.compile(r"\s*\(?([A-Ja-j])\)?[.:]?\s*")


@dataclass(frozen=True)
class Excluded:
    """An entry of the release that is no sample: where it is and why it was left out."""

    where: str
    reason: str


@dataclass(frozen=True)
class _Entry:
    """A multiple-choice entry whose right option is not resolved yet."""

    where: str
    sample: Sample
    answers: tuple[Any, ...]


def sample_id(part: int, task: TaskKind, way: Way, key: str) -> str:
    """The id of a sample whose entry has this key in its question file."""
    return f"Part{part}/{task}_{way}/{key}"


def question_files(samples: Iterable[Sample]) -> QuestionFiles:
    """Content of all 26 question files; `read_questions` reads the same samples back. Keys come from the ids."""
    files: QuestionFiles = {name: {} for name in sorted(QUESTION_FILES)}
    for s in samples:
        files[question_file(s.part, s.way, s.task)][s.id.rpartition("/")[2]] = _entry(s)
    return files


def _entry(s: Sample) -> dict[str, Any]:
    if s.task == "route":
        return {"video": s.clip, "question": s.question, f"{s.way}_answer": s.answer}
    options = [f"{letter}. {text}" for letter, text in zip(s.letters, s.options, strict=True)]
    return {"video": s.clip, f"{s.way}_mcq": {"question": s.question, "options": options, "answer": s.answer}}


def write_question_files(root: Path, files: QuestionFiles) -> None:
    """Write question files into a folder. Raises CacheError."""
    for name, content in files.items():
        write_json(root / name, content)


def write_json(path: Path, content: object) -> None:
    """Write a file of a release as indented JSON, whole or not at all. Raises CacheError."""
    write_whole(path, (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode())


def is_question_file(name: str) -> bool:
    """Whether a file belongs to the release; ReleaseError for a `Part*.json` that is none of the 26."""
    if name in QUESTION_FILES:
        return True
    if re.match(r"Part\d+_.*\.json$", name):
        raise ReleaseError(
            f"{name} is no file of the release: expected Part1 to Part4, forward or reverse, and qa, mcq, "
            "mcq_landmark or (Part4 alone) mcq_action. Move it away."
        )
    return False


def read_questions(files: Mapping[str, Path]) -> tuple[list[Sample], list[Excluded]]:
    """All samples of the given question files (by name), and the entries that were left out.

    Left out and counted: a multiple-choice entry without options, as in the reference code, with one option, or
    with an option that is blank or repeated; and a route without a reference description.
    Raises ReleaseError for a broken JSON, an id that is blank or occurs twice in a file, a missing field, an answer
    that cannot be read with certainty, or a right option that is not among the options.
    """
    samples: list[Sample] = []
    entries: list[_Entry] = []
    excluded: list[Excluded] = []
    for name, path in files.items():
        if name not in _PLACES:
            raise ReleaseError(f"{path}: not the name of a question file.")
        part, way, task = _PLACES[name]
        for key, value in _read_object(path).items():
            read = _route if task == "route" else _choice
            item = read(f"{name}, id {_id(path, key)}", value, key, part, task, way)
            if isinstance(item, Excluded):
                excluded.append(item)
            elif isinstance(item, _Entry):
                entries.append(item)
            else:
                samples.append(item)
    return samples + _resolve(entries), excluded


def _read_object(path: Path) -> dict[str, Any]:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        seen = dict(pairs)
        if len(seen) < len(pairs):
            keys = [key for key, _ in pairs]
            twice = next(key for key in keys if keys.count(key) > 1)
            raise ReleaseError(f"{path}: the key {twice!r:.80} occurs twice in one object. Repair the file.")
        return seen

    try:
        content = read_json(path, pairs=unique)
    except (OSError, ValueError) as error:
        raise ReleaseError(
            f"{path} is no readable JSON ({error}). Delete it and run: {download_command()}"
        ) from error
    if not isinstance(content, dict):
        raise ReleaseError(
            f"{path}: expected an object keyed by sample id, found a {type(content).__name__}."
        )
    return content


def _id(path: Path, key: str) -> str:
    """The key of an entry as messages name it."""
    if _blank(key) or CONTROL.search(key):
        raise ReleaseError(
            f"{path}: the id {key!r:.80} is blank or holds control characters. Repair the file."
        )
    return key if len(key) <= 80 else f"{key:.80}..."


def _route(where: str, value: Any, key: str, part: int, task: TaskKind, way: Way) -> Sample | Excluded:
    fields = _fields(where, value)
    answer = _text(where, fields, f"{way}_answer", may_be_empty=True)
    if _blank(answer):
        return Excluded(where, "empty_reference")
    question = _text(where, fields, "question")
    return Sample(
        sample_id(part, task, way, key), task, way, part, _clip(where, fields), question, (), answer
    )


def _choice(where: str, value: Any, key: str, part: int, task: TaskKind, way: Way) -> _Entry | Excluded:
    outer = _fields(where, value)
    inner = outer.get(f"{way}_mcq")
    if not isinstance(inner, dict):
        raise ReleaseError(f"{where}: expected an object in '{way}_mcq', found {_keys(outer)}.")
    options = inner.get("options")
    if options is None or options == []:
        return Excluded(where, "empty_options")
    if not isinstance(options, list) or not all(isinstance(option, str) for option in options):
        raise ReleaseError(f"{where}: expected a list of strings in 'options', found {shown(options)}.")
    question = _text(where, outer if inner.get("question") in (None, "") else inner, "question")
    answers = tuple(fields[name] for fields in (inner, outer) for name in ANSWER_KEYS if name in fields)
    if not answers:
        raise ReleaseError(
            f"{where}: no field holds the right option. Found {_keys(outer)} and, in '{way}_mcq', "
            f"{_keys(inner)}; expected one of {', '.join(ANSWER_KEYS)}."
        )
    clip, texts = _clip(where, outer), _option_texts(where, options)
    if reason := _unfair(texts):
        return Excluded(where, reason)
    sample = Sample(sample_id(part, task, way, key), task, way, part, clip, question, texts, "")
    return _Entry(where, sample, answers)


def _option_texts(where: str, options: list[str]) -> tuple[str, ...]:
    texts = []
    for letter, option in zip(LETTERS, options, strict=False):
        match = _LETTERED.fullmatch(option)
        if match is None or match[1] != letter or len(options) > len(LETTERS):
            raise ReleaseError(
                f"{where}: expected an option that begins with '{letter}.', found {shown(option)}."
            )
        texts.append(match[2].strip())
    return tuple(texts)


def _unfair(options: tuple[str, ...]) -> str | None:
    """Why nothing can be learnt from the choice among some options, or None."""
    if len(options) == 1:
        return "one_option"
    if any(_blank(option) for option in options):
        return "blank_option"
    return "repeated_options" if len({_plain(option) for option in options}) < len(options) else None


def _resolve(entries: list[_Entry]) -> list[Sample]:
    base = _index_base(entries)
    samples = []
    for entry in entries:
        letters = {_letter(entry, answer, base) for answer in entry.answers}
        if len(letters) > 1:
            raise ReleaseError(
                f"{entry.where}: the fields for the right option disagree: {', '.join(sorted(letters))} "
                f"from {shown(entry.answers)}."
            )
        samples.append(replace(entry.sample, answer=letters.pop()))
    return samples


def _letter(entry: _Entry, answer: Any, base: int | None) -> str:
    options, letters = entry.sample.options, entry.sample.letters
    if _is_index(entry, answer):
        if base is None:
            raise ReleaseError(
                f"{entry.where}: the right option is the index {shown(answer)}, and nothing in the release shows "
                "whether its indices begin at 0 or at 1."
            )
        place = int(answer) - base
        if not 0 <= place < len(options):
            raise _outside(entry, answer)
        return letters[place]
    if not isinstance(answer, str) or _blank(answer):
        raise ReleaseError(
            f"{entry.where}: the right option is {shown(answer)}; expected a letter, an index or an option's text."
        )
    same_text = [i for i, option in enumerate(options) if _plain(option) == _plain(answer)]
    if len(same_text) == 1:
        return letters[same_text[0]]
    if bare := _BARE_LETTER.fullmatch(answer):
        letter, text = bare[1].upper(), None
    elif lettered := _LETTERED.fullmatch(answer):
        letter, text = lettered[1], lettered[2]
    else:
        raise _outside(entry, answer)
    if letter not in letters:
        raise _outside(entry, answer)
    if text is not None and _plain(text) != _plain(options[letters.index(letter)]):
        raise ReleaseError(
            f"{entry.where}: the right option is {shown(answer)}, but option {letter} reads "
            f"{options[letters.index(letter)]!r:.80}."
        )
    return letter


def _outside(entry: _Entry, answer: Any) -> ReleaseError:
    return ReleaseError(
        f"{entry.where}: the right option {shown(answer)} is not among the options "
        f"{', '.join(entry.sample.letters)}: {shown(entry.sample.options)}."
    )


def _is_index(entry: _Entry, answer: Any) -> bool:
    if isinstance(answer, bool) or str(answer) in entry.sample.options:
        return False
    return isinstance(answer, int) or (
        isinstance(answer, str) and bool(re.fullmatch(r"\s*\d{1,2}\s*", answer))
    )


def _index_base(entries: list[_Entry]) -> int | None:
    """0 or 1 for a release whose answers are indices; None when its values do not show which.

    Raises ReleaseError where only some of its answers are indices: whoever wrote those meant something else by them.
    """
    found = [(e, a) for e in entries for a in e.answers if _is_index(e, a)]
    if not found:
        return None
    others = [e for e in entries if not all(_is_index(e, a) for a in e.answers)]
    if others:
        entry, answer = found[0]
        raise ReleaseError(
            f"{entry.where}: the right option is the index {shown(answer)}, where {others[0].where} has "
            f"{shown(others[0].answers[0])}. Nothing shows whether the index begins at 0 or at 1. Repair the file."
        )
    zero = next((e.where for e, a in found if int(a) == 0), None)
    last = next((e.where for e, a in found if int(a) == len(e.sample.options)), None)
    if bool(zero) == bool(last):
        return None
    base = 0 if zero else 1
    logger.warning(
        f"egost: the right options of this release are indices from {base} on, as {zero or last} shows"
    )
    return base


def _plain(text: str) -> str:
    if not text.isascii():
        text = "".join(c for c in unicodedata.normalize("NFKC", text) if unicodedata.category(c) != "Cf")
    return " ".join(text.split()).rstrip(".").casefold()


_LOOKS_BLANK = "\u115f\u1160\u2800\u3164\uffa0"
"""Letters and a sign that are drawn as nothing: the fillers of Hangul and the empty pattern of Braille."""

CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""What no id and no file name may hold: controls, changes of direction, and bytes that are no UTF-8."""


def _blank(text: str) -> bool:
    """Whether a reader sees nothing: blanks, marks without a letter, controls and characters of no width."""
    return not any(unicodedata.category(c)[0] in "LNPS" and c not in _LOOKS_BLANK for c in text)


def _keys(fields: Mapping[str, Any]) -> str:
    return f"the keys {sorted(fields)!r:.300}"


def _fields(where: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ReleaseError(f"{where}: expected an object, found a {type(value).__name__}.")
    return value


def _text(where: str, fields: dict[str, Any], name: str, *, may_be_empty: bool = False) -> str:
    text = fields.get(name)
    if not isinstance(text, str) or (_blank(text) and not may_be_empty):
        raise ReleaseError(f"{where}: expected a text in '{name}', found {shown(text)} ({_keys(fields)}).")
    return text.strip()


def _clip(where: str, fields: dict[str, Any]) -> str:
    name = Path(_text(where, fields, "video")).name
    if _blank(name) or name == ".." or CONTROL.search(name):
        raise ReleaseError(
            f"{where}: expected the name of a file in 'video', found {shown(fields['video'])}."
        )
    return name
