"""Files of labels and sheets of raters as people, spreadsheets and strangers change them."""

from __future__ import annotations

import csv
import io
import itertools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from attacks import Attack, drawn
from report_record import route_record

from egost.results.labels.drawing import draw_labels
from egost.results.labels.label_file import Labels, check_rater, imported, read_labels, sheet_of
from egost.results.records import SampleRecord

RECORDS: list[SampleRecord] = [
    route_record(key, (key % 6, 2, 3), way)
    for key, way in itertools.product(range(10), ("forward", "reverse"))
]
LABELS = draw_labels(RECORDS, 8)
FIRST, SECOND, *_ = LABELS.drawn
GIVEN = LABELS.with_label(FIRST, "anna", (1, 2, 3)).with_label(FIRST, "ben", (5, 5, 5))
UNDRAWN = next(route.sample for route in LABELS.routes.values() if not route.drawn)
SCORES = ("direction", "landmark", "semantic")

Rows = list[dict[str, Any]]


def labels_bytes(folder: Path) -> bytes:
    GIVEN.write(folder / "labels.csv")
    return (folder / "labels.csv").read_bytes()


def rows_of(content: bytes) -> Rows:
    return list(csv.DictReader(io.StringIO(content.decode("utf-8-sig"))))


def without(column: str) -> Callable[[bytes], bytes]:
    return every(lambda row: row.pop(column))


def every(change: Callable[[dict[str, Any]], object]) -> Callable[[bytes], bytes]:
    """A change of each line."""

    def changed(content: bytes) -> bytes:
        rows = rows_of(content)
        for row in rows:
            change(row)
        return text_of(rows)

    return changed


def text_of(rows: Rows, **how: Any) -> bytes:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n", **how)
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def cell(sample: str, column: str, value: str) -> Callable[[bytes], bytes]:
    """Another value in the first line of a sample."""

    def change(content: bytes) -> bytes:
        rows = rows_of(content)
        next(row for row in rows if row["sample"] == sample)[column] = value
        return text_of(rows)

    return change


def lines(change: Callable[[list[bytes]], list[bytes]]) -> Callable[[bytes], bytes]:
    return lambda content: b"".join(change(content.splitlines(keepends=True)))


NO_SCORE = (
    "6",
    "-1",
    "2.5",
    "4.0",
    "five",
    "5/5",
    "05",
    "\N{ARABIC-INDIC DIGIT FIVE}",
    "²",
    "1e0",
    "nan",
    "=5",
    "5 5",
    "\x1b[2J",
    "0x1",
    "9" * 5000,
)
NO_RATER = (
    "",
    "-anna",
    ".",
    "a b",
    "anna;ben",
    "../x",
    "=1+1",
    "a" * 41,
    "an\x00na",
    "<b>",
    "anna\n",
    "a/b",
    "\u202eanna",
)
"""What is no name; `` is none where a name must stand."""

IN_ANY = [
    *[
        Attack(
            f"{column} {value[:9]!a}",
            cell(FIRST, column, value),
            rf"line \d+: the {column} is .*; expected a whole",
        )
        for column in SCORES
        for value in NO_SCORE
    ],
    *[
        Attack(
            f"no {column}", cell(FIRST, column, ""), rf"line \d+: the {column} is ''; expected a whole number"
        )
        for column in SCORES
    ],
    Attack("semicolons", lambda c: c.replace(b",", b";"), "has no column.*not separated by commas"),
    Attack("tabs", lambda c: c.replace(b",", b"\t"), "has no column"),
    Attack("UTF-16", lambda c: c.decode("utf-8-sig").encode("utf-16"), "not UTF-8"),
    Attack("not UTF-8", lambda c: c + b"\xff", "not UTF-8"),
    Attack("empty", lambda c: b"", "has no column"),
    Attack("names alone", lines(lambda found: found[:1]), "no line below"),
    Attack("without names", lines(lambda found: found[1:]), "has no column"),
    Attack("zeros", lambda c: b"\0" * 50, "cannot be read|has no column"),
    Attack("a long field", lambda c: c + b"x" * 200_000, "field larger than field limit"),
    Attack("JSON", lambda c: b'{"labels": []}', "has no column"),
    Attack(
        "a cell more",
        lines(lambda f: [*f[:-1], f[-1].rstrip() + b",1,2\n"]),
        r"line \d+: it has 2 cells too many",
    ),
    Attack("CRLF", lambda c: c.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")),
    Attack("a byte-order mark", lambda c: b"\xef\xbb\xbf" + c.removeprefix(b"\xef\xbb\xbf")),
    Attack("all quoted", lambda c: text_of(rows_of(c), quoting=csv.QUOTE_ALL)),
]
"""What may come of either file. A line that is read differs from none."""

OF_LABELS = [
    *[
        Attack(
            f"rater {value[:9]!a}",
            cell(FIRST, "rater", value),
            r"line \d+: (a rater's name|.* has scores alone)",
        )
        for value in NO_RATER
    ],
    *[
        Attack(f"{column} {value[:9]!a}", cell(FIRST, column, value), rf"line \d+: the {column} is")
        for column, values in {
            "sample": (
                "",
                "3",
                "Part1/direction_forward/3",
                "Part0/route_forward/1",
                "Part1/route_forward/",
                "x\x1b",
            ),
            "response": ("", "123", "g" * 16, "A" * 16, "0" * 17),
            "stratum": ("", "sideways", "forward 1-2-3", "judge"),
            "probability": ("", "0", "0.0", "-0.5", "1.5", "nan", "inf", "half", "1e400", "0,5"),
            "drawn": ("", "yes", "2", "-1", "True"),
        }.items()
        for value in values
    ],
    *[
        Attack(f"another {column}", cell(FIRST, column, value), message)
        for column, value, message in (
            ("sample", "Part9/route_forward/99", "is there twice|which is not the probability"),
            ("response", "0" * 16, "is there twice, in two ways"),
            ("stratum", "all", "is there twice, in two ways"),
            ("probability", "0.123", "is there twice, in two ways"),
            ("drawn", "0", "was drawn to be labelled|in two ways"),
            ("rater", "ben", "is there twice with the rater 'ben'"),
        )
    ],
    Attack(
        "a label of what was not drawn",
        lambda c: _labelled(c, UNDRAWN),
        r"line \d+: .* no route that was drawn",
    ),
    Attack("the last line lost", lines(lambda f: f[:-1]), "Lines were lost or changed"),
    Attack("the first line lost", lines(lambda f: [f[0], *f[3:]]), "Lines were lost or changed"),
    Attack("half lost", lines(lambda f: f[: len(f) // 2]), "Lines were lost or changed"),
    Attack("another probability", lambda c: c.replace(b",0.4,", b",0.41,"), "not the prob"),
    Attack("cut in a line", lambda c: c[:-7], r"line \d+: the drawn is"),
    Attack("a line twice", lines(lambda f: [*f, f[1]]), "is there twice with the rater"),
    *[
        Attack(f"without {column}", without(column), f"has no column {column}")
        for column in ("sample", "response", "stratum", "probability", "drawn", "rater", *SCORES)
    ],
    Attack("a column of notes", every(lambda row: row.update(notes="hm")), "unknown column 'notes'"),
    Attack("blank lines", lambda c: c.replace(b"\n", b"\n\n")),
    Attack("as written", lambda c: c),
]


def _labelled(content: bytes, sample: str) -> bytes:
    rows = rows_of(content)
    next(row for row in rows if row["sample"] == sample).update(
        rater="eva", direction="1", landmark="1", semantic="1"
    )
    return text_of(rows)


@pytest.mark.parametrize("attack", drawn([*IN_ANY, *OF_LABELS], 80), ids=lambda attack: attack.name)
def test_files_of_labels(tmp_path: Path, attack: Attack, attacked: Callable[..., None]) -> None:
    path = tmp_path / "labels.csv"
    path.write_bytes(attack.make(labels_bytes(tmp_path)))
    attacked(lambda: read_labels(path), attack.message, lambda found: found == GIVEN)


OF_SHEETS = [
    *[
        Attack(f"sample {value[:9]!a}", cell(FIRST, "sample", value), r"line \d+: .* no route that was drawn")
        for value in ("", "Part1/route_forward/999", UNDRAWN, "x" * 5000, "\x1b[2J", "../../etc")
    ],
    *[
        Attack(
            f"response {value[:9]!a}", cell(FIRST, "response", value), r"line \d+: .* is of another response"
        )
        for value in ("", "0" * 16, "x" * 5000, "\x1b[2J", LABELS.routes[SECOND].response)
    ],
    *[
        Attack(f"without {column}", without(column), f"has no column {column}")
        for column in ("sample", "response", *SCORES)
    ],
    Attack("without texts", lambda c: without("way")(without("question")(c))),
    Attack("a column of notes", every(lambda row: row.update(notes="=1+1"))),
    Attack("another order", lambda c: text_of(rows_of(c)[::-1])),
    Attack("texts of several lines", every(lambda row: row.update(description="a\nb\n"))),
    Attack("the open lines gone", lambda c: text_of([row for row in rows_of(c) if row["direction"]])),
    Attack("raters' names", every(lambda row: row.update(rater="anna"))),
    *[
        Attack(
            f"rater {value[:9]!a}",
            every(lambda row, v=value: row.update(rater=v)),
            r"line \d+: a rater's name is",
        )
        for value in NO_RATER
        if value
    ],
    Attack("a line twice", lambda c: text_of([*rows_of(c), *rows_of(c)]), "'anna' labels .* twice"),
    Attack("as written", lambda c: c),
]


@pytest.mark.parametrize("attack", drawn([*IN_ANY, *OF_SHEETS], 60), ids=lambda attack: attack.name)
def test_sheets(tmp_path: Path, attack: Attack, attacked: Callable[..., None]) -> None:
    """A wrong line takes nothing of the file; the labels there were stay as they were."""
    path = tmp_path / "anna.csv"
    path.write_bytes(attack.make(sheet_of(GIVEN, RECORDS, "anna")))
    before = Labels(GIVEN.routes, {(FIRST, "ben"): (5, 5, 5)})
    attacked(lambda: imported(before, path, "anna", 2), attack.message, lambda found: found == GIVEN)


@pytest.mark.parametrize("name", [*NO_RATER, "anna\u0301" + "x" * 40])
def test_names(name: str, attacked: Callable[..., None]) -> None:
    attacked(lambda: check_rater(name), "a rater's name is .*; expected 1 to 40 letters")


@pytest.mark.parametrize("kind", ["folder", "missing"])
def test_no_file(tmp_path: Path, kind: str, attacked: Callable[..., None]) -> None:
    path = tmp_path / "labels.csv"
    if kind == "folder":
        path.mkdir()
    for read in (read_labels, lambda path: imported(GIVEN, path, "anna", 2)):
        attacked(lambda read=read: read(path), "labels.csv cannot be read")


@pytest.mark.parametrize("text", ["=1+1", "+1", "-left", "@home", "\tx", '=HYPERLINK("http://x")'])
def test_a_description_is_no_formula_of_a_spreadsheet(text: str, attacked: Callable[..., None]) -> None:
    records = [replace(record, response=text) for record in RECORDS]
    labels = draw_labels(records, 8)

    def made() -> list[str]:
        return [row["description"] for row in rows_of(sheet_of(labels, records, "anna"))]

    attacked(made, right=lambda found: found and not [d for d in found if d[0] in "=+-@\t\r"])
