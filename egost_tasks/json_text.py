"""JSON of strangers: read within limits, and refused with one plain sentence.

Python's own parser ends in RecursionError where brackets are nested deep, takes half surrogates that no file can
hold, and reads whatever fits into memory.
"""

from __future__ import annotations

import json
import math
import re
import reprlib
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

from annotated_types import Interval

if TYPE_CHECKING:
    from pydantic import TypeAdapter, ValidationError

T = TypeVar("T")

Count = Annotated[int, Interval(ge=0, lt=2**53)]
"""A number of things: never negative, and exact in every language's JSON."""

MAX_DEPTH = 64
"""Lists and objects within each other. Nothing that lmms-eval, a server or a release writes comes near."""

MAX_BYTES = 256 << 20
"""Bytes of one file or line. A file of 5,000 questions is 5 MB; a results file with 5,000 samples is 30 MB."""

_STRINGS_AND_BRACKETS = re.compile(r'"(?:[^"\\]|\\.)*"|[\[\]{}]', re.DOTALL)
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
_HALF_SURROGATE = re.compile(
    r"\\u[dD][89abAB]..(?!\\u[dD][c-fC-F])|(?<!\\u[dD][89abAB]..)\\u[dD][c-fC-F]", re.DOTALL
)

_ESCAPE = re.compile(rb"\\(?:u[dD][89abAB]..\\u[dD][c-fC-F]..|(?P<half>u[dD][89a-fA-F]..)|.)", re.DOTALL)

Pairs = Callable[[list[tuple[str, Any]]], Any]

_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 80
_SHORT.maxlevel = 2


def parse_json(
    text: str | bytes, *, max_bytes: int = MAX_BYTES, pairs: Pairs | None = None, halves: bool = False
) -> Any:
    """The value of a JSON text; a byte order mark before it is no part of it.

    `pairs` makes an object of its names and values, as in `json.loads`. halves: half surrogate pairs are let through.

    Raises:
        ValueError: it is longer than `max_bytes`, no UTF-8, no JSON, nested deeper than MAX_DEPTH, or it holds
            half a surrogate pair or an integer of thousands of digits. The message says which and, in an object,
            under which of its keys.
    """
    if len(text) > max_bytes:
        raise ValueError(f"it has {len(text):,} bytes; egost reads {max_bytes:,} at most")
    try:
        decoded = (text.decode("utf-8-sig") if isinstance(text, bytes) else text).removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"it is not UTF-8: byte {error.start} is 0x{error.object[error.start]:02x}"
        ) from error
    depth, deepest = _depth(decoded)
    if depth > MAX_DEPTH:
        where = _under(decoded, deepest)
        raise ValueError(
            f"lists and objects are nested {depth:,} deep{where}; egost reads {MAX_DEPTH} at most"
        )
    try:
        value = json.loads(decoded, object_pairs_hook=pairs)
    except json.JSONDecodeError as error:
        raise ValueError(f"it is not JSON: {error}{_under(decoded, error.pos)}") from error
    except ValueError as error:
        if "integer string conversion" in str(error):
            digits = re.search(f"[0-9]{{{sys.get_int_max_str_digits() + 1}}}", decoded)
            where = _under(decoded, digits.start()) if digits else ""
            raise ValueError(f"it holds an integer of more digits than Python reads{where}") from error
        raise
    if not halves and _SURROGATE.search(decoded):
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError as error:
            half = _HALF_SURROGATE.search(decoded)
            where = _under(decoded, half.start()) if half else ""
            raise ValueError(
                f"it holds half a surrogate pair (\\ud800 to \\udfff){where}, which is no character"
            ) from error
    return value


def read_json(
    path: Path, *, max_bytes: int = MAX_BYTES, pairs: Pairs | None = None, mend: bool = False
) -> Any:
    """The value of a JSON file. mend: see `without_halves`. Raises OSError, and ValueError as `parse_json` does."""
    if (size := path.stat().st_size) > max_bytes:
        raise ValueError(f"it has {size:,} bytes; egost reads {max_bytes:,} at most")
    content = path.read_bytes()
    return parse_json(without_halves(content) if mend else content, max_bytes=max_bytes, pairs=pairs)


def encodable(text: str) -> str:
    """The text with U+FFFD for each half of a surrogate pair, which a tokenizer can leave and which has no UTF-8."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def without_halves(text: bytes) -> bytes:
    """A JSON text with its escapes as `encodable` leaves texts; older versions wrote halves."""
    return _ESCAPE.sub(lambda found: rb"\ufffd" if found["half"] else found[0], text)


def typed_json(line: str | bytes, form: TypeAdapter[T], *, max_bytes: int = MAX_BYTES) -> T:
    """The value of a JSON text in a form; faster than `json.loads`.

    Raises:
        ValueError: as `parse_json`, or with the field, what is expected and what was found.
    """
    from pydantic import ValidationError  # not for the commands that read no typed file

    if len(line) > max_bytes:
        parse_json(line, max_bytes=max_bytes)
    try:
        return form.validate_json(line)
    except ValidationError as error:
        if error.errors(include_url=False, include_input=False)[0]["type"] == "json_invalid":
            parse_json(line, max_bytes=max_bytes)
        raise ValueError(wrong_field(error)) from error


def wrong_field(error: ValidationError) -> str:
    """The first fault of a validation as words: `frames.duration: input should be a finite number, found nan`."""
    first = error.errors(include_url=False)[0]
    field, what = ".".join(map(str, first["loc"])), first["msg"]
    found = "" if first["type"] in ("missing", "json_invalid") else f", found {shown(first['input'])}"
    return f"{field}: {what[:1].lower()}{what[1:]}{found}" if field else f"{what}{found}"


def shown(value: object) -> str:
    """A value of somebody else's file for a message: as Python writes it, cut where it is long."""
    return _SHORT.repr(value)


def without_nan(value: Any) -> Any:
    """Figures as JSON takes them, which has no NaN: None in its place."""
    if isinstance(value, Mapping):
        return {name: without_nan(inner) for name, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [without_nan(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _depth(text: str) -> tuple[int, int]:
    """How deep brackets are nested, those within strings left out, and where that is.

    Counted only where it could be too deep.
    """
    if text.count("[") + text.count("{") <= MAX_DEPTH:
        return 0, 0
    depth = deepest = where = 0
    for found in _STRINGS_AND_BRACKETS.finditer(text):
        bracket = found[0]
        if bracket in "[{":
            depth += 1
            if depth > deepest:
                deepest, where = depth, found.start()
        elif bracket in "]}":
            depth -= 1
    return deepest, where


def _under(text: str, position: int) -> str:
    """Under which key of an object's own a position is, for messages: in a question file, of which question."""
    depth, key = 0, ""
    for found in _STRINGS_AND_BRACKETS.finditer(text):
        if found.start() > position:
            break
        if found[0] in "[{":
            depth += 1
        elif found[0] in "]}":
            depth -= 1
        elif depth == 1 and re.match(r"\s*:", text[found.end() : found.end() + 9]):
            key = found[0]
    return f" under the key {key[1:-1][:80]!r}" if key and text.lstrip().startswith("{") else ""
