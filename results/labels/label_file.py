"""The routes that people score, and their scores: one CSV file beside the run, with a row for each sample and rater.

    labels = draw_labels(run, n=60, seed=0)     # which of the run's routes people are asked about
    labels.with_label("Part1/route_forward/3", "anna", (5, 4, 4)).write(path)

Few labels say most where they are spread over what can happen: the routes are drawn at random from strata, each way
by the band of the judge's score. The file holds every judged route of the run, drawn or not, with the probability with
which it was drawn, so that what was not drawn is known, too. It names no machine; a rater's name is what the person
chose.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from egost.results.records import SampleRecord
from egost.results.run import Run
from egost.results.run_header import RunError
from egost.tasks.cache import only_writer, write_whole
from egost.tasks.judging.judge import ASPECTS, BEST, Judgement
from egost.tasks.scoring.scores import route_prediction
from egost.tasks.text_files import csv_rows, csv_text

Triple = tuple[int, int, int]
"""Direction, landmark and semantic, 0 to 5 each."""

BANDS = (20, 40, 60, 80)
"""Percent: where the bands of the judge's score end, from which labels are drawn alike."""

FEWEST = 2
"""Least number drawn of a stratum, so that its spread is known."""

_COLUMNS = ("sample", "response", "stratum", "probability", "drawn", "rater", *ASPECTS)
_RATER = re.compile(r"[^\W_][\w.-]{0,39}")


@dataclass(frozen=True, slots=True)
class Route:
    """A judged route of the run that the labels are of.

    response: 16 hexadecimal digits of the hash of the question, the reference and the description. stratum: its way and
    the band of the judge's score, `forward 40-60`. probability: with which it was drawn, 0 to 1. drawn: whether it was.
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

    def by_sample(self) -> dict[str, dict[str, Triple]]:
        """The labels of each labelled sample by rater."""
        given: dict[str, dict[str, Triple]] = defaultdict(dict)
        for (sample, rater), scores in self.labels.items():
            given[sample][rater] = scores
        return dict(given)

    def with_label(self, sample: str, rater: str, scores: Triple) -> Labels:
        """These labels and one more, or one changed. Raises RunError for what is no label."""
        if not _RATER.fullmatch(rater):
            raise RunError(
                f"a rater's name is {rater!r:.60}; expected 1 to 40 letters, digits, '.', '_' or '-', the first a "
                "letter or a digit."
            )
        if sample not in self.routes or not self.routes[sample].drawn:
            raise RunError(f"{sample} is no route that was drawn to be labelled.")
        if any(type(score) is not int or not 0 <= score <= BEST for score in scores):
            raise RunError(
                f"the label of {sample} by {rater} is {scores}; expected three whole numbers from 0 to {BEST}."
            )
        return replace(self, labels={**self.labels, (sample, rater): scores})

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
            rows += [
                {**about, "rater": rater, **dict(zip(ASPECTS, scores, strict=True))}
                for rater, scores in given
            ]
            rows += [] if given else [about]
        write_whole(path, csv_text(_COLUMNS, rows).encode())


def labels_path(results_file: Path) -> Path:
    """Where the labels of a run lie: beside its results."""
    return results_file.with_name(f"{results_file.name.removesuffix('_results.json')}_labels.csv")


def opened_labels(run: Run, n: int) -> Path:
    """The run's file of labels; where it has none yet, n routes are drawn. Raises RunError, CacheError."""
    path = labels_path(run.results_file)
    with only_writer(path):
        if not path.exists():
            draw_labels(run.records, n).write(path)
    return path


def response_hash(record: SampleRecord) -> str:
    """What the labels of a sample hold for: 16 digits of the hash of question, reference and description."""
    sample = record.sample
    texts = [sample.question, sample.answer, sample.way, route_prediction(record.response)]
    return hashlib.sha256(json.dumps(texts).encode()).hexdigest()[:16]


def judged_routes(records: Iterable[SampleRecord]) -> list[SampleRecord]:
    """The routes that a judge has scored and that say something: an empty description needs no person."""
    return [
        r
        for r in records
        if isinstance(r.judgement, Judgement) and not r.judgement.empty and r.percent is not None
    ]


def draw_labels(records: Sequence[SampleRecord], n: int, seed: int = 0) -> Labels:
    """Draw n judged routes, stratified by way and by the band of the judge's score (all where there are fewer).

    Each stratum gets at least `FEWEST`, then its share; within it every route is as likely as any other.
    Raises RunError where the run has no judged route.
    """
    strata: dict[str, list[SampleRecord]] = defaultdict(list)
    routes = judged_routes(records)
    if not routes:
        raise RunError("the run has no judged route with a description: there is nothing to label.")
    for record in routes:
        strata[_stratum(record)].append(record)
    sizes = {name: len(found) for name, found in strata.items()}
    quota = _shares(sizes, n)
    rng = np.random.default_rng(seed)
    chosen: set[str] = set()
    for name in sorted(strata):
        chosen |= {strata[name][at].sample.id for at in rng.choice(sizes[name], quota[name], replace=False)}
    return Labels(
        {
            record.sample.id: Route(
                record.sample.id,
                response_hash(record),
                name := _stratum(record),
                quota[name] / sizes[name],
                record.sample.id in chosen,
            )
            for record in routes
        },
        {},
    )


def read_labels(path: Path) -> Labels:
    """The labels of a file. Raises RunError with the line where it is not what `Labels.write` writes."""
    try:
        rows = csv_rows(path)
    except (OSError, ValueError) as error:
        raise RunError(
            f"{path} cannot be read ({error}). Draw the labels with egost judge label RUN."
        ) from error
    if missing := [name for name in _COLUMNS if not rows or name not in rows[0]]:
        raise RunError(f"{path} has no column {', '.join(missing)}: it is no file of labels.")
    routes: dict[str, Route] = {}
    found = Labels(routes, {})
    for number, row in enumerate(rows, 2):
        try:
            route = _route(row)
            if routes.setdefault(route.sample, route) != route:
                raise RunError(f"{route.sample} stands there in two ways")
            if row["rater"]:
                key = (route.sample, row["rater"])
                if key in found.labels:
                    raise RunError(f"{row['rater']} labels {route.sample} twice")
                direction, landmark, semantic = (int(row[aspect]) for aspect in ASPECTS)
                found = found.with_label(*key, (direction, landmark, semantic))
        except (TypeError, ValueError, RunError) as error:
            raise RunError(
                f"{path}, line {number}: {error}. Mend the line, or take the file that egost wrote."
            ) from error
    return found


def matched(labels: Labels, records: Sequence[SampleRecord]) -> dict[str, SampleRecord]:
    """The records of the labels' routes by sample. Raises RunError where the labels are of other responses."""
    by_id = {record.sample.id: record for record in records if record.sample.id in labels.routes}
    strange = [
        name
        for name, route in labels.routes.items()
        if name in by_id and response_hash(by_id[name]) != route.response
    ]
    if strange or not by_id:
        what = f"{strange[0]} has another response there" if strange else "none of their samples is there"
        raise RunError(
            f"the labels are not of this run: {what}. Name the run that was labelled, or judge it again."
        )
    return by_id


def _route(row: Mapping[str, Any]) -> Route:
    probability = float(row["probability"])
    if not row["sample"] or not 0 < probability <= 1 or row["drawn"] not in ("0", "1"):
        raise ValueError(
            f"sample {row['sample']!r}, probability {row['probability']!r}, drawn {row['drawn']!r}; expected a name, a "
            "number from 0 to 1, and 0 or 1"
        )
    return Route(row["sample"], row["response"], row["stratum"], probability, row["drawn"] == "1")


def _stratum(record: SampleRecord) -> str:
    percent = record.percent or 0.0
    ends = (0, *BANDS, 100)
    place = sum(percent > end + 1e-9 for end in BANDS)
    return f"{record.sample.way} {ends[place]}-{ends[place + 1]}"


def _shares(sizes: Mapping[str, int], n: int) -> dict[str, int]:
    """How many of each stratum: `FEWEST`, then in proportion to what is left of it, the largest remainders first."""
    quota = {name: min(size, FEWEST) for name, size in sizes.items()}
    room = {name: size - quota[name] for name, size in sizes.items()}
    left = min(max(0, n - sum(quota.values())), sum(room.values()))
    exact = {name: left * rest / max(1, sum(room.values())) for name, rest in room.items()}
    quota = {name: quota[name] + int(exact[name]) for name in sizes}
    by_rest = sorted(sizes, key=lambda name: (int(exact[name]) - exact[name], name))
    for name in by_rest[: left - sum(int(share) for share in exact.values())]:
        quota[name] += 1
    return quota
