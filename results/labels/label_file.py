"""The routes that people score, and their scores: one CSV file beside the run, with a row for each sample and rater.

    labels = read_labels(labels_path(run.results_file))
    labels.with_label("Part1/route_forward/3", "anna", (5, 4, 4)).write(path)

The file holds every judged route of the run, drawn or not, with the probability with which it was drawn (`drawing`), so
that what was not drawn is known, too. It names no machine; a rater's name is what the person chose.
"""

from __future__ import annotations

import hashlib
import json
import random
import re
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from math import isclose
from pathlib import Path
from typing import Any

from egost.results.records import SampleRecord
from egost.results.run import evaluated_name
from egost.results.run_header import RunError
from egost.tasks.cache import write_whole
from egost.tasks.json_text import shown
from egost.tasks.judging.judge import ASPECTS, BEST
from egost.tasks.response_text import route_prediction
from egost.tasks.text_files import csv_rows, csv_text

Triple = tuple[int, int, int]
"""Direction, landmark and semantic, 0 to 5 each."""

_COLUMNS = ("sample", "response", "stratum", "probability", "drawn", "rater", *ASPECTS)
_SHEET = ("sample", "response", "way", "question", "reference", "description", *ASPECTS)
_RATER = re.compile(r"[^\W_][\w.-]{0,39}")


@dataclass(frozen=True, slots=True)
class Route:
    """A judged route of the run that the labels are of.

    response: 16 hexadecimal digits of the hash of the question, the reference and the description. stratum: its way and
    the band of the judge's score, `forward 40-60`, or `contested`. probability: with which it was drawn, 0 to 1.
    drawn: whether it was.
    """

    sample: str
    response: str
    stratum: str
    probability: float
    drawn: bool


@dataclass(frozen=True, slots=True)
class Labels:
    """routes: by sample, every judged route of the run. labels: by (sample, rater), the scores that a person gave."""

    routes: Mapping[str, Route]
    labels: Mapping[tuple[str, str], Triple]

    @property
    def drawn(self) -> list[str]:
        """The samples that people are asked about, in the run's order."""
        return [route.sample for route in self.routes.values() if route.drawn]

    @property
    def raters(self) -> list[str]:
        """Who has given labels, by name."""
        return sorted({rater for _, rater in self.labels})

    def order(self, rater: str) -> list[str]:
        """The drawn samples in an order of the rater's own, the same each time: no two tire at the same ones."""
        drawn = self.drawn
        random.Random(hashlib.sha256(rater.encode()).digest()).shuffle(drawn)
        return drawn

    def by_sample(self) -> dict[str, dict[str, Triple]]:
        """The labels of each labelled sample by rater."""
        given: dict[str, dict[str, Triple]] = defaultdict(dict)
        for (sample, rater), scores in self.labels.items():
            given[sample][rater] = scores
        return dict(given)

    def admit(self, rater: str, raters: int) -> None:
        """Raise RunError where a name cannot stand in the file, or as many other people label already."""
        check_rater(rater)
        others = [name for name in self.raters if name != rater]
        if len(others) >= raters:
            raise RunError(
                f"{' and '.join(others)} label this run already. Go on under one of these names (--rater), or let "
                f"{rater} in with --raters {len(others) + 1}."
            )

    def with_label(self, sample: str, rater: str, scores: Triple) -> Labels:
        """These labels and one more, or one changed. Raises RunError for what is no label."""
        self.check_label(sample, rater, scores)
        return replace(self, labels={**self.labels, (sample, rater): scores})

    def check_label(self, sample: str, rater: str, scores: Triple) -> None:
        """Raise RunError for what is no label of a drawn route."""
        check_rater(rater)
        if sample not in self.routes or not self.routes[sample].drawn:
            raise RunError(f"{shown(sample)} is no route that was drawn to be labelled.")
        if any(type(score) is not int or not 0 <= score <= BEST for score in scores):
            raise RunError(
                f"the label of {sample} by {rater} is {shown(scores)}; expected three whole numbers from 0 to {BEST}."
            )

    def write(self, path: Path) -> None:
        """Write the CSV file, whole or not at all. Raises CacheError."""
        rows: list[dict[str, Any]] = []
        by_sample = self.by_sample()
        for route in self.routes.values():
            about = {
                "sample": route.sample,
                "response": route.response,
                "stratum": route.stratum,
                "probability": repr(route.probability),
                "drawn": int(route.drawn),
            }
            given = sorted(by_sample.get(route.sample, {}).items())
            rows += [{**about, "rater": rater, **_cells(scores)} for rater, scores in given] or [about]
        write_whole(path, csv_text(_COLUMNS, rows).encode())


def check_rater(name: str) -> None:
    """Raise RunError for what cannot be a rater's name."""
    if not _RATER.fullmatch(name):
        raise RunError(
            f"a rater's name is {shown(name)}; expected 1 to 40 letters, digits, '.', '_' or '-', the first a letter "
            "or a digit."
        )


def _cells(scores: Sequence[int | str]) -> dict[str, int | str]:
    return dict(zip(ASPECTS, scores, strict=True))


def labels_path(results_file: Path) -> Path:
    """Where the labels of a run lie: beside its results, the same file for all of its judged copies."""
    return results_file.with_name(f"{evaluated_name(results_file)}_labels.csv")


def read_labels(path: Path) -> Labels:
    """The labels of a file. Raises RunError with the line where it is not what `Labels.write` writes."""
    rows = _rows(path, _COLUMNS)
    if unknown := sorted(set(rows[0]) - {*_COLUMNS}, key=str):
        raise RunError(
            f"{path} has the unknown column {shown(unknown[0])}, which the next label would delete. Take it out."
        )
    routes: dict[str, Route] = {}
    given: dict[tuple[str, str], Triple] = {}
    found = Labels(routes, given)
    seen: set[tuple[str, str]] = set()
    for number, row in enumerate(rows, 2):
        with _line(path, number):
            route, scores = _route(row), _scores(row)
            key = route.sample, row["rater"] or ""
            if routes.setdefault(route.sample, route) != route:
                raise ValueError(f"{shown(route.sample)} is there twice, in two ways")
            if key in seen:
                raise ValueError(f"{shown(route.sample)} is there twice with the rater {shown(key[1])}")
            seen.add(key)
            if bool(key[1]) != (scores is not None):
                raise ValueError(f"{shown(route.sample)} has {'a rater' if key[1] else 'scores'} alone")
            if scores:
                found.check_label(*key, scores)
                given[key] = scores
    by_stratum: dict[str, list[Route]] = defaultdict(list)
    for route in routes.values():
        by_stratum[route.stratum].append(route)
    for name, members in by_stratum.items():
        drawn = sum(route.drawn for route in members)
        if not all(isclose(route.probability, drawn / len(members)) for route in members):
            raise RunError(
                f"{path}: of the {len(members)} routes of the stratum {shown(name)}, {drawn} are drawn, which is not "
                "the probability that stands there. Lines were lost or changed: take the file that egost wrote."
            )
    return found


def imported(labels: Labels, sheet: Path, rater: str, raters: int) -> Labels:
    """These labels and those of a CSV file: a filled `sheet_of`, or another file of labels of the same drawing.

    rater: whose they are where a line names nobody. raters: see `Labels.admit`. Lines without scores are left out.
    Raises RunError with the line where one is no label, or a label of another response.
    """
    given: dict[tuple[str, str], Triple] = {}
    for number, row in enumerate(_rows(sheet, ("sample", "response", *ASPECTS)), 2):
        with _line(sheet, number):
            if scores := _scores(row):
                sample, who = key = row["sample"] or "", row.get("rater") or rater
                if key in given:
                    raise ValueError(f"{shown(who)} labels {sample} twice")
                labels.check_label(sample, who, scores)
                if row["response"] != labels.routes[sample].response:
                    raise ValueError(f"{sample} is of another response ({shown(row['response'])})")
                given[key] = scores
    for who in sorted({who for _, who in given}):
        labels.admit(who, raters)
        mine = {key: scores for key, scores in given.items() if key[1] == who}
        labels = replace(labels, labels={**labels.labels, **mine})
    return labels


def sheet_of(labels: Labels, records: Sequence[SampleRecord], rater: str) -> bytes:
    """A CSV file for a spreadsheet, in UTF-8: what the rater is asked, in their order, with the scores given so far."""
    by_id = matched(labels, records)
    rows = []
    for sample in labels.order(rater):
        if record := by_id.get(sample):
            texts = record.sample.question, record.sample.answer, route_prediction(record.response)
            rows.append(
                {
                    "sample": sample,
                    "response": labels.routes[sample].response,
                    "way": record.sample.way,
                    # One line each, so that a line of the file is a line of the spreadsheet.
                    **dict(zip(_SHEET[3:6], (" ".join(text.split()) for text in texts), strict=True)),
                    **_cells(labels.labels.get((sample, rater), ("", "", ""))),
                }
            )
    # A byte-order mark: without one, spreadsheets take UTF-8 for another encoding.
    return csv_text(_SHEET, rows).encode("utf-8-sig")


def response_hash(record: SampleRecord) -> str:
    """What the labels of a sample hold for: 16 digits of the hash of question, reference and description."""
    sample = record.sample
    texts = [sample.question, sample.answer, sample.way, route_prediction(record.response)]
    return hashlib.sha256(json.dumps(texts).encode()).hexdigest()[:16]


def matched(labels: Labels, records: Sequence[SampleRecord]) -> dict[str, SampleRecord]:
    """The records of the labels' routes by sample. Raises RunError where the labels are of other responses."""
    by_id = {record.sample.id: record for record in records if record.sample.id in labels.routes}
    strange = [name for name in by_id if response_hash(by_id[name]) != labels.routes[name].response]
    if strange or not by_id:
        what = f"{strange[0]} has another response there" if strange else "none of their samples is there"
        raise RunError(
            f"the labels are not of this run: {what}. Name the run that was labelled, or judge it again."
        )
    return by_id


@contextmanager
def _line(path: Path, number: int) -> Iterator[None]:
    try:
        yield
    except (ValueError, RunError) as error:
        raise RunError(
            f"{path}, line {number}: {str(error).removesuffix('.')}. Mend the line, or take the file that egost wrote."
        ) from error


def _rows(path: Path, columns: Collection[str]) -> list[dict[str, Any]]:
    try:
        rows = csv_rows(path)
    except (OSError, ValueError) as error:
        raise RunError(f"{path} cannot be read ({error}). Take the file that egost wrote.") from error
    if missing := [name for name in columns if not rows or name not in rows[0]]:
        raise RunError(
            f"{path} has no column {', '.join(missing)}, or no line below its names: it is no file of labels, or its "
            "cells are not separated by commas."
        )
    return rows


def _route(row: Mapping[str, Any]) -> Route:
    for column, expected in _CELLS.items():
        if not re.fullmatch(expected, row[column] or ""):
            raise ValueError(f"the {column} is {shown(row[column])}; expected {_WORDS[column]}")
    return Route(
        row["sample"], row["response"], row["stratum"], float(row["probability"]), row["drawn"] == "1"
    )


_CELLS = {
    "sample": r"Part[1-9]/route_(forward|reverse)/[^\x00-\x1f\x7f]+",
    "response": "[0-9a-f]{16}",
    "stratum": r"(forward|reverse)( \d{1,2}-\d{2,3})?|all|contested",
    "probability": r"1\.0|0\.(?!0+$)\d{1,20}|[1-9](\.\d{1,20})?e-0[1-9]",
    "drawn": "[01]",
}
_WORDS = {
    "sample": "the id of a route, such as Part1/route_forward/3",
    "response": "16 hexadecimal digits",
    "stratum": "a way and a band, such as forward 40-60, a way, all or contested",
    "probability": "a number above 0, at most 1",
    "drawn": "0 or 1",
}


def _scores(row: Mapping[Any, Any]) -> Triple | None:
    """The three scores of a line; None where it has none. Raises ValueError where one is missing or no score."""
    if None in row:
        raise ValueError(f"it has {len(row[None])} cells too many")
    if not any(row[aspect] for aspect in ASPECTS):
        return None
    for aspect in ASPECTS:
        if not re.fullmatch(f"[0-{BEST}]", row[aspect] or ""):
            raise ValueError(
                f"the {aspect} is {shown(row[aspect])}; expected a whole number from 0 to {BEST}"
            )
    direction, landmark, semantic = (int(row[aspect]) for aspect in ASPECTS)
    return direction, landmark, semantic
