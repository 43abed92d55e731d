"""Question files of a release, mutated: each gives one clear message, a counted exclusion, or the right questions."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from attacks import Attack, drawn
from loguru import logger
from release_files import OPTIONS, choice_entry

from egost.tasks.release.layout import Excluded, read_questions
from egost.tasks.sample import Sample

CHOICES, ROUTES = "Part3_forward_mcq.json", "Part1_forward_qa.json"
RAW = {"<digits>": "9" * 5_000, "<deep>": "[" * 5_000 + "]" * 5_000}
"""What stands in a file that `json.dumps` cannot write, by the text that is replaced by it."""

SURROGATES = ("\ud800", "before \udfff", "\udc00\ud83d", "a\ud83d\\ude00")
NO_TEXTS = (10**30, -1.5, float("nan"), float("inf"), ["x"], {"a": 1}, True, False)
BLANKS = (
    "",
    " \t\n",
    *"\u00a0\u00ad\u034f\u115f\u180e\u200b\u200d\u2003\u2060\u2800\u3000\u3164\ufe0f\ufeff",
    "\u200b \u2060\ufeff",
    "\x00\x1b",
)
CONTROLS = ("\x1b[31mred", "a\x00b", "\u202egnp.4pm")
REFUSED_RAW = {"<digits>": "more digits than Python reads", "<deep>": "nested 5,00. deep"}

Entries = dict[str, Any]


def choices(**changes: Any) -> Entries:
    return {
        key: choice_entry("forward", f"{key}.mp4", **(changes if key == "17" else {}))
        for key in ("16", "17", "18")
    }


def routes(**changes: Any) -> Entries:
    entry = {"video": "1.mp4", "question": "How did you get there?", "forward_answer": "Turn left."}
    return {"16": entry, "17": entry | changes, "18": entry}


def written(tmp_path: Path, name: str, content: Entries | bytes) -> Path:
    path = tmp_path / name
    if not isinstance(content, bytes):
        text = json.dumps(content)
        for placeholder, raw in RAW.items():
            text = text.replace(json.dumps(placeholder), raw)
        content = text.encode()
    path.write_bytes(content)
    return path


def of(name: str, content: Entries | bytes, message: str | None = None, left_out: str | None = None) -> Any:
    """An attack: the file, a pattern of what is said of it, or the reason why question 17 is left out."""

    def right(read: tuple[list[Sample], list[Excluded]]) -> bool:
        samples, excluded = read
        if left_out:
            return len(samples) == 2 and [(e.where, e.reason) for e in excluded] == [
                (f"{name}, id 17", left_out)
            ]
        return len(samples) == len(json.loads(content if isinstance(content, bytes) else json.dumps(content)))

    about = ascii(content)[:60] if isinstance(content, bytes) else ascii(list(content.values())[1:2])[1:90]
    return pytest.param(Attack(f"{name} {about}", lambda at: written(at, name, content), message), right)


def of_text(name: str, field: str, entries: Callable[..., Entries]) -> Iterator[Any]:
    """Everything that is no text, in a field that holds one."""
    for value in NO_TEXTS:
        yield of(name, entries(**{field: value}), f"{name}, id 17: expected a text in '{field}'")
    for value in SURROGATES:
        yield of(name, entries(**{field: value}), f"{name} .*half a surrogate pair .*under the key '17'")
    for value, why in REFUSED_RAW.items():
        yield of(name, entries(**{field: value}), f"{name} .*{why} under the key '17'")


def of_texts() -> Iterator[Any]:
    yield from of_text(CHOICES, "question", choices)
    yield from of_text(ROUTES, "question", routes)
    yield from of_text(ROUTES, "forward_answer", routes)
    yield from of_text(ROUTES, "video", routes)
    for value in BLANKS:
        if value:  # with an empty one, the outer question counts
            yield of(CHOICES, choices(question=value), f"{CHOICES}, id 17: expected a text in 'question'")
        yield of(ROUTES, routes(question=value), f"{ROUTES}, id 17: expected a text in 'question'")
        yield of(ROUTES, routes(video=value), f"{ROUTES}, id 17: expected a text in 'video'")
        yield of(ROUTES, routes(forward_answer=value), left_out="empty_reference")
    for value in ("/", "..", "a/..", "part1/\u200b", *CONTROLS):
        yield of(ROUTES, routes(video=value), f"{ROUTES}, id 17: expected the name of a file in 'video'")
    for value in CONTROLS:
        yield of(CHOICES, choices(question=value))
        yield of(ROUTES, routes(forward_answer=value))
    yield of(ROUTES, routes(forward_answer=None), f"{ROUTES}, id 17: expected a text in 'forward_answer'")
    yield of(ROUTES, routes(extra=float("nan")))


def of_answers() -> Iterator[Any]:
    for value in (None, *(v for v in NO_TEXTS if v != 10**30), *BLANKS):
        yield of(CHOICES, choices(answer=value), f"{CHOICES}, id 17: the right option is .*expected a letter")
    for value in SURROGATES:
        yield of(CHOICES, choices(answer=value), f"{CHOICES} .*half a surrogate pair .*under the key '17'")
    for value, why in REFUSED_RAW.items():
        yield of(CHOICES, choices(answer=value), f"{CHOICES} .*{why} under the key '17'")
    for value in (0, 4, 1, "0", "4", 5, -1, 10**30, 10**4_000):
        message = f"{CHOICES}, id 17: the right option is the index .*where {CHOICES}, id 1[68] has 'B'"
        yield of(CHOICES, choices(answer=value), message)
    for value in ("E", "Z.", "turn", "A turn", "\x1b[2J", "AB", "C. turn round", "x" * 100_000):
        yield of(CHOICES, choices(answer=value), f"{CHOICES}, id 17: the right option")
    for value in ("b", "(B)", "TURN RIGHT,  then left.", "B. turn\u200b right, then left"):
        yield of(CHOICES, choices(answer=value))


def of_indices() -> Iterator[Any]:
    for values in ((0, 1), (4, 1), ("3", "0"), (3, 0, 2)):
        yield of(CHOICES, {str(i): choice_entry("forward", "1.mp4", answer=v) for i, v in enumerate(values)})
    for values, why in {
        (1, 2): "begin at 0 or at 1",
        (0, 4): "begin at 0 or at 1",
        (2, 10**4_000): "begin at 0 or at 1",
        (0, -1): "not among the options",
        (0, 5): "not among the options",
        (4, 10**4_000): "not among the options",
        (0, "B"): "begins at 0 or at 1",
        (0, "turn round"): "begins at 0 or at 1",
    }.items():
        entries = {str(i): choice_entry("forward", "1.mp4", answer=v) for i, v in enumerate(values)}
        yield of(CHOICES, entries, f"{CHOICES}, id [01]: .*{why}")


def of_options() -> Iterator[Any]:
    for value in (None, []):
        yield of(CHOICES, choices(options=value), left_out="empty_options")
    for value in (*NO_TEXTS[:4], "", "A. x", {}, True, [1], ["A. x", None], [["A. x"]], [10**4_000]):
        yield of(
            CHOICES, choices(options=value), f"{CHOICES}, id 17: expected a list of strings in 'options'"
        )
    for value in ("", " ", "\u200b", "turn", "C. turn", "B turn", "\x1b[2J"):
        options = [OPTIONS[0], value, *OPTIONS[2:]]
        yield of(
            CHOICES, choices(options=options), f"{CHOICES}, id 17: expected an option that begins with 'B.'"
        )
    for value in SURROGATES:
        options = [OPTIONS[0], f"B. {value}", *OPTIONS[2:]]
        yield of(CHOICES, choices(options=options), f"{CHOICES} .*half a surrogate pair .*under the key '17'")
    for value in BLANKS:
        options = [*OPTIONS[:2], f"C. {value}", OPTIONS[3]]
        yield of(CHOICES, choices(options=options), left_out="blank_option")
    for value in (
        "turn left, then right",
        "Turn LEFT, then right.",
        " turn  left,\tthen right ",
        "turn\u200b left, then right",
        "turn\u00a0left, then right",
        "\uff54urn left, then right",
    ):
        for right in "ACB":  # the repeated one, its twin, another
            options = [*OPTIONS[:2], f"C. {value}", OPTIONS[3]]
            yield of(CHOICES, choices(options=options, answer=right), left_out="repeated_options")
    yield of(CHOICES, choices(options=OPTIONS[:1], answer="A"), left_out="one_option")
    yield of(CHOICES, choices(options=[f"{letter}. option {letter}" for letter in "ABCDEFGHIJ"]))
    too_many = [f"{letter}. option {letter}" for letter in "ABCDEFGHIJK"]
    yield of(CHOICES, choices(options=too_many), f"{CHOICES}, id 17: expected an option that begins")


def of_entries() -> Iterator[Any]:
    good = choices()
    for value in (None, *NO_TEXTS[:5], "x", [], True):
        yield of(CHOICES, good | {"17": value}, f"{CHOICES}, id 17: expected an object, found a")
        message = f"{CHOICES}, id 17: expected an object in 'forward_mcq'"
        yield of(CHOICES, good | {"17": {"video": "1.mp4", "forward_mcq": value}}, message)
    for field in ("video", "forward_mcq"):
        entry = {name: value for name, value in good["17"].items() if name != field}
        yield of(CHOICES, good | {"17": entry}, f"{CHOICES}, id 17: .*'{field}'")
    many = {f"key {i}" * 9: i for i in range(10_000)}
    yield of(CHOICES, good | {"17": many}, f"{CHOICES}, id 17: expected an object in 'forward_mcq'")
    for key in (*BLANKS, *CONTROLS):
        yield of(
            CHOICES, good | {key: good["16"]}, f"{CHOICES}: the id .* is blank or holds control characters"
        )
    for key in SURROGATES:
        yield of(CHOICES, good | {key: good["16"]}, f"{CHOICES} .*half a surrogate pair")
    for key in ("a/b", "x" * 10_000, "\u0663", "a\u200bb", "__proto__"):
        yield of(CHOICES, good | {key: good["16"]})


def of_files() -> Iterator[Any]:
    text = json.dumps(choices()).encode()
    for size in range(0, len(text) - 1, len(text) // 25):
        yield of(CHOICES, text[:size], f"{CHOICES} is no readable JSON .*egost data download")
    for place in range(3, len(text), len(text) // 15):
        yield of(
            CHOICES, text[:place] + b"\xff\xfe" + text[place:], f"{CHOICES} is no readable JSON .*not UTF-8"
        )
    for twice in (b'{"17": 1, "17": 2}', text.replace(b'"16"', b'"17"', 1)):
        yield of(CHOICES, twice, f"{CHOICES}: the key '17' occurs twice")
    for name in (b"video", b"forward_mcq", b"answer", b"options"):
        field = b'"' + name + b'": '
        yield of(CHOICES, text.replace(field, field + b"1, " + field, 1), f"'{name.decode()}' occurs twice")
    for value in (b"[]", b"3", b'"x"', b"null", b"NaN", b"[[1]]"):
        yield of(CHOICES, value, f"{CHOICES}: expected an object keyed by sample id")
    for value in (text.decode().encode("utf-16"), b"\x00" * 99, b" ", b"{}{}", text + b"}", b"<html>"):
        yield of(CHOICES, value, f"{CHOICES} is no readable JSON")
    for value in (b"[" * 100_000, b'{"17":' * 100_000, b"9" * 5_000):
        yield of(CHOICES, value, f"{CHOICES} is no readable JSON")
    yield of(CHOICES, b"\xef\xbb\xbf" + text)


MUTATIONS = [
    *of_texts(),
    *of_answers(),
    *of_indices(),
    *of_options(),
    *of_entries(),
    *of_files(),
]


@pytest.mark.parametrize(("attack", "right"), drawn(MUTATIONS, 150))
def test_a_mutated_question_file(
    tmp_path: Path, attacked: Callable[..., None], attack: Attack, right: Callable[[Any], bool]
) -> None:
    path = attack.make(tmp_path)
    attacked(lambda: read_questions({path.name: path}), attack.message, right)


def test_a_folder_in_place_of_a_file(tmp_path: Path, attacked: Callable[..., None]) -> None:
    (tmp_path / CHOICES).mkdir()
    attacked(lambda: read_questions({CHOICES: tmp_path / CHOICES}), f"{CHOICES} is no readable JSON")


@pytest.mark.parametrize(("answers", "base"), [((0, 1), 0), ((4, 1), 1)])
def test_the_base_of_indices_is_said(tmp_path: Path, answers: tuple[int, int], base: int) -> None:
    entries = {str(i): choice_entry("forward", "1.mp4", answer=answer) for i, answer in enumerate(answers, 8)}
    said: list[str] = []
    sink = logger.add(said.append, format="{message}")
    try:
        read_questions({CHOICES: written(tmp_path, CHOICES, entries)})
    finally:
        logger.remove(sink)
    assert [line.strip() for line in said] == [
        f"egost: the right options of this release are indices from {base} on, as {CHOICES}, id 8 shows"
    ]
