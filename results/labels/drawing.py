"""Which routes of a run people are asked about.

    file = opened_labels(run, n=60, contested=None)

Few labels say most where they are spread over what can happen: the routes are drawn at random from strata, each way
by the band of the judge's score, and from as many clips as can be. Those on which judges differ most can be a stratum
of their own, all of which is drawn. The probability of each route is kept, so that the corrected score has no bias.
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path

from egost.results.labels.label_file import Labels, Route, labels_path, read_labels, response_hash
from egost.results.records import SampleRecord
from egost.results.run import Run, evaluated_name, read_run
from egost.results.run_header import RunError
from egost.tasks.cache import only_writer
from egost.tasks.judging.judge import Judgement, percent_of

BANDS = (20, 40, 60, 80)
"""Percent: where the bands of the judge's score end, from which labels are drawn alike."""

FEWEST = 2
"""Least number drawn of a stratum, so that its spread is known."""

CONTESTED = "contested"
"""The stratum of the routes on which judges differ most."""


def opened_labels(run: Run, n: int | None, contested: int | None) -> Path:
    """The run's file of labels; where it has none yet, `draw_labels` draws n routes, 60 by default.

    contested: how many of them are those on which the run's judges differ most. Raises RunError where the file holds
    another drawing than is asked for, or nothing can be drawn; CacheError.
    """
    path = labels_path(run.results_file)
    with only_writer(path):
        if not path.exists():
            most = most_contested(_judged_copies(run), contested) if contested else ()
            draw_labels(run.records, n or 60, contested=most).write(path)
            return path
    labels = read_labels(path)
    if n is not None and min(n, len(labels.routes)) != len(labels.drawn):
        what = f"holds {len(labels.drawn)} drawn routes, not {n}"
    elif contested and not any(route.stratum == CONTESTED for route in labels.routes.values()):
        what = "was drawn without contested routes"
    else:
        return path
    raise RunError(
        f"{path} {what}. Leave that option out to go on with it, or move the file away to draw anew."
    )


def judged_routes(records: Iterable[SampleRecord]) -> list[SampleRecord]:
    """The routes that a judge has scored and that say something: an empty description needs no person."""
    return [
        r
        for r in records
        if isinstance(r.judgement, Judgement) and not r.judgement.empty and r.percent is not None
    ]


def draw_labels(
    records: Sequence[SampleRecord], n: int, seed: int = 0, contested: Collection[str] = ()
) -> Labels:
    """Draw n judged routes, stratified by way and by the band of the judge's score (all where there are fewer).

    contested: samples that are drawn in any case, a stratum of their own. Of the others, each stratum gets `FEWEST`
    at least, then its share; within it every route is as likely as any other. Few labels are drawn by way alone, or of
    one stratum. Questions of one clip are drawn together as seldom as can be.
    Raises RunError where the run has no judged route, or fewer than n + 1 are left for a drawing among them.
    """
    routes = judged_routes(records)
    if not routes:
        raise RunError(
            "the run has no judged route with a description: there is nothing to label. Judge it first: egost judge "
            "RUN --judge NAME."
        )
    others = [record for record in routes if record.sample.id not in contested]
    left = n - (len(routes) - len(others))
    if left < 1 <= len(others):
        raise RunError(
            f"{n} labels, all of them contested, say nothing of the other routes. Take fewer contested ones."
        )
    strata = _strata(others, left)
    quota = _shares({name: len(found) for name, found in strata.items()}, left)
    place = _places(others, seed)
    drawn = set(contested)
    for name, found in strata.items():
        drawn |= set(sorted((record.sample.id for record in found), key=place.__getitem__)[: quota[name]])
    told = {
        record.sample.id: (name, quota[name] / len(found))
        for name, found in strata.items()
        for record in found
    }
    return Labels(
        {
            name: Route(name, response_hash(record), *told.get(name, (CONTESTED, 1.0)), name in drawn)
            for record in routes
            for name in (record.sample.id,)
        },
        {},
    )


def most_contested(judged: Iterable[Run], n: int) -> list[str]:
    """The n samples whose judges differ most in percent, of those on which they differ.

    judged: runs of the same responses by other judges, or by several that voted; the last of one judge counts.
    Raises RunError where no sample has two judges.
    """
    given: dict[tuple[str, str], dict[str, float]] = defaultdict(dict)
    for run in judged:
        for record in judged_routes(run.records):
            assert isinstance(record.judgement, Judgement)
            scores = {vote.judge: vote.scores for vote in record.judgement.votes if vote.scores}
            percents = {judge: percent_of(triple) for judge, triple in scores.items()}
            given[record.sample.id, response_hash(record)] |= percents or {
                record.judgement.judge: record.judgement.percent
            }
    several = {sample: found.values() for (sample, _), found in given.items() if len(found) > 1}
    if not several:
        raise RunError(
            "one judge alone has scored the run, so that no route is contested. Have another one judge it, too (egost "
            "judge RUN --judge OTHER), or leave --contested out."
        )
    apart = {sample: max(percents) - min(percents) for sample, percents in several.items()}
    ranked = sorted(
        (sample for sample in apart if apart[sample] > 0), key=lambda sample: (-apart[sample], sample)
    )
    return ranked[:n]


def _judged_copies(run: Run) -> list[Run]:
    """The run as evaluated and as judged again, this one last."""
    name = evaluated_name(run.results_file)
    files = [
        file
        for file in run.results_file.parent.glob("*_results.json")
        if evaluated_name(file) == name and file != run.results_file
    ]
    copies = map(read_run, sorted(files, key=lambda file: file.stat().st_mtime_ns))
    return [*(copy for copy in copies if not copy.predict_only), run]


def _band(record: SampleRecord) -> str:
    percent = record.percent or 0.0
    ends = (0, *BANDS, 100)
    place = sum(percent > end + 1e-9 for end in BANDS)
    return f"{record.sample.way} {ends[place]}-{ends[place + 1]}"


_NAMES: tuple[Callable[[SampleRecord], str], ...] = (
    _band,
    lambda record: record.sample.way,
    lambda record: "all",
)
"""What strata are named by, the finest first."""


def _strata(routes: Sequence[SampleRecord], n: int) -> dict[str, list[SampleRecord]]:
    """The finest strata of which n labels are `FEWEST` each."""
    for name in _NAMES:
        strata: dict[str, list[SampleRecord]] = defaultdict(list)
        for record in routes:
            strata[name(record)].append(record)
        if sum(min(len(found), FEWEST) for found in strata.values()) <= n:
            break
    return strata


def _shares(sizes: Mapping[str, int], n: int) -> dict[str, int]:
    """How many of each stratum: `FEWEST`, then in proportion to what is left of it, the largest remainders first."""
    quota = {name: min(size, FEWEST, n) for name, size in sizes.items()}
    room = {name: size - quota[name] for name, size in sizes.items()}
    left = min(n - sum(quota.values()), sum(room.values()))
    exact = {name: left * rest / max(1, sum(room.values())) for name, rest in room.items()}
    quota = {name: quota[name] + int(exact[name]) for name in sizes}
    by_rest = sorted(sizes, key=lambda name: (int(exact[name]) - exact[name], name))
    for name in by_rest[: left - sum(int(share) for share in exact.values())]:
        quota[name] += 1
    return quota


def _places(routes: Iterable[SampleRecord], seed: int) -> dict[str, float]:
    """A random number from 0 to 1 for each sample; those with the least numbers of a stratum are drawn.

    Within a stratum they are independent. The reverse question of a clip stands half the way round from the forward
    one, so that one of them is seldom drawn with the other.
    """
    rng = random.Random(seed)
    asked: Counter[tuple[str, str]] = Counter()
    of_clip: dict[tuple[str, int], float] = {}
    places = {}
    for record in routes:
        asked[record.cluster, record.sample.way] += 1
        key = record.cluster, asked[record.cluster, record.sample.way]
        at = of_clip[key] if key in of_clip else of_clip.setdefault(key, rng.random())
        places[record.sample.id] = (at + (record.sample.way == "reverse") / 2) % 1
    return places
