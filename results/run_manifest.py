"""A run's manifest: all that its figures come from, in one record that can be kept, compared and published.

    manifest = run_manifest(read_run(Path("runs")))
    manifest.write(Path("manifest.json"))

It is read from what lmms-eval has saved, so that anybody's run has one. lmms-eval does not save our commit, the machine
and the packages; our tasks put these into their metadata, which it saves. A run of other tasks, or of an older version,
lacks them. The manifest holds no path of the machine and no secret.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePath
from typing import Any
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from egost.results.records import SampleRecord
from egost.results.run import Run
from egost.results.run_header import RunHeader, TaskHeader, TrainedOn
from egost.tasks.cache import write_whole
from egost.tasks.chat.usage import price_usd, prices_of
from egost.tasks.judging.judge import Judgement

Price = Callable[[str, int, int], float | None]
"""US dollars for a snapshot's tokens in and out; None where no price is known."""

_SECRET = re.compile(r"key|token(?!izer|s)|secret|passw|credential|auth", re.IGNORECASE)
_CACHED = re.compile(r"/models--(?P<owner>[^/]+?)--(?P<name>[^/]+)/snapshots/(?P<commit>[0-9a-f]+)/?$")
"""A checkpoint in the hub's cache, whose folder is named by its commit."""


@dataclass(frozen=True)
class TaskRecord:
    """What one task was made with, and what came of it.

    version, release, release_sha256, as_published, frames, prompt, prompt_sha256, judge, judge_prompt,
    judge_prompt_sha256: as its metadata tells; None where it does not. judge_snapshots: the models that judged, as
    their server says. generation: lmms-eval's arguments for a response. asked, scored: numbers of samples. unscored:
    numbers by reason. incomplete: samples with frames of a clip of which a part is missing or damaged.
    """

    version: str | None
    release: str | None
    release_sha256: str | None
    as_published: str | None
    frames: str | None
    prompt: str | None
    prompt_sha256: str | None
    judge: str | None
    judge_prompt: str | None
    judge_prompt_sha256: str | None
    judge_snapshots: tuple[str, ...]
    generation: Mapping[str, Any]
    asked: int
    scored: int
    unscored: Mapping[str, int]
    incomplete: int


@dataclass(frozen=True)
class ModelRecord:
    """Who answered.

    adapter, arguments: `--model` and `--model_args` of lmms-eval, without paths and secrets. answered: each engine,
    model, revision and settings that the samples name (only our adapters record them), with its number of samples.
    snapshots: the models that an API says have answered. trained_on: the checkpoint's training rows, see
    `egost.tasks.release.trained_on`; None without.
    """

    adapter: str
    arguments: Mapping[str, str]
    answered: tuple[Mapping[str, Any], ...]
    snapshots: tuple[str, ...]
    trained_on: Mapping[str, Any] | None


@dataclass(frozen=True)
class Usage:
    """What the requests cost.

    known: samples whose tokens are known; tokens_in, tokens_out: over these, video_tokens among tokens_in.
    journaled: samples whose response was in the journal: their tokens and price are counted, too, but this run did not
    spend them. usd: price of all responses of an API; None without an API, or where a price is not known (unpriced).
    judge: calls, cached, tokens_in, tokens_out, usd and wall_s of judging, as far as the judge has a server.
    wall_s: seconds from lmms-eval's start to its end. samples_per_s: those not from the journal over all of these
    seconds, the model's start and judging included. prices_of: the library of the prices and the day that they are of;
    None without a price. cached_share: of the prompts' tokens that this run asked for, those that the prefix cache had,
    0 to 1; None where the engine does not say.
    """

    known: int
    tokens_in: int
    tokens_out: int
    video_tokens: int
    journaled: int
    usd: float | None
    unpriced: tuple[str, ...]
    judge: Mapping[str, float]
    wall_s: float | None
    samples_per_s: float | None
    prices_of: str | None
    cached_share: float | None


@dataclass(frozen=True)
class RunManifest:
    """The manifest of a run; None where the run does not tell.

    results: name of the results file. date: when the run ended (ISO), as lmms-eval dates it. commit: of our code;
    host_commit: of the folder that lmms-eval was started in, as it says. limit: samples a task (or a share below 1),
    None for all. packages: versions. machine: see `egost.tasks.provenance`.
    """

    results: str
    date: str | None
    world: str | None
    model: ModelRecord
    tasks: Mapping[str, TaskRecord]
    seeds: Mapping[str, int]
    limit: float | None
    packages: Mapping[str, str]
    commit: str | None
    host_commit: str | None
    machine: Mapping[str, Any] | None
    usage: Usage
    rejudged_from: str | None

    def write(self, path: Path) -> None:
        """Write it as JSON, whole or not at all. Raises CacheError."""
        write_whole(path, json.dumps(asdict(self), indent=2, ensure_ascii=False).encode())


def manifest_file(run: Run) -> Path:
    """Where the manifest of a run is kept: in the folder of its results."""
    return run.results_file.with_name(f"{run.results_file.name.removesuffix('_results.json')}_manifest.json")


def run_manifest(run: Run, price: Price = price_usd) -> RunManifest:
    """The manifest of a run with tasks of ours. price: list prices of the APIs that answered.

    Raises RunError where the run's figures, samples or settings cannot be read.
    """
    run.check_figures()
    header, records = run.header, run.records
    return RunManifest(
        results=run.results_file.name,
        date=_date(header),
        world=header.first.world,
        model=_model(header, records),
        tasks={
            name: _task(task, [r for r in records if r.task == name]) for name, task in header.tasks.items()
        },
        seeds=header.seeds,
        limit=header.limit,
        packages=header.packages,
        commit=header.first.commit,
        host_commit=header.host_commit,
        machine=header.first.machine,
        usage=_usage(run, records, price),
        rejudged_from=header.rejudged_from,
    )


def _model(header: RunHeader, records: Sequence[SampleRecord]) -> ModelRecord:
    known = [r.generation for r in records if r.generation]
    who = Counter(
        json.dumps([g.engine, g.model, g.revision, public(g.settings)], sort_keys=True) for g in known
    )
    names = ("engine", "model", "revision", "settings")
    return ModelRecord(
        adapter=str(header.adapter),
        arguments=public(header.arguments),
        answered=tuple(
            {**dict(zip(names, json.loads(one), strict=True)), "samples": n} for one, n in sorted(who.items())
        ),
        snapshots=tuple(sorted({g.snapshot for g in known if g.snapshot})),
        trained_on=_trained_on(header.first.trained_on),
    )


def _trained_on(trained: TrainedOn | None) -> dict[str, Any] | None:
    if trained is None:
        return None
    values = asdict(trained)
    rest = {
        f"trained_on_{name}": value
        for name, value in values.items()
        if name != "policy" and value is not None
    }
    return {"trained_on": trained.policy, **rest}


def _task(task: TaskHeader, records: Sequence[SampleRecord]) -> TaskRecord:
    verdicts = [r.judgement for r in records if isinstance(r.judgement, Judgement)]
    return TaskRecord(
        version=task.version,
        release=task.release_revision,
        release_sha256=task.release_sha256,
        as_published=task.as_published,
        frames=task.sampling_protocol,
        prompt=task.prompt,
        prompt_sha256=task.prompt_sha256,
        judge=task.judge,
        judge_prompt=task.judge_prompt,
        judge_prompt_sha256=task.judge_prompt_sha256,
        judge_snapshots=tuple(sorted({v.snapshot for v in verdicts if v.snapshot})),
        generation=public(task.generation),
        asked=len(records),
        scored=sum(r.percent is not None for r in records),
        unscored=dict(sorted(Counter(r.unscored for r in records if r.unscored).items())),
        incomplete=sum(r.frames is not None and r.frames.complete is False for r in records),
    )


def _usage(run: Run, records: Sequence[SampleRecord], price: Price) -> Usage:
    generations = [r.generation for r in records if r.generation]
    known = [g for g in generations if g.prompt_tokens is not None and g.completion_tokens is not None]
    bills = [
        # An API's fingerprint of its system follows the snapshot, which alone has a price.
        (name, price(name, g.prompt_tokens or 0, g.completion_tokens or 0))
        for g in known
        if g.snapshot and (name := g.snapshot.partition("+")[0])
    ]
    unpriced = tuple(sorted({name for name, usd in bills if usd is None}))
    journaled, wall_s = sum(g.journaled for g in generations), run.header.wall_s
    usd = sum(usd for _, usd in bills if usd is not None) if bills and not unpriced else None
    judge = _judging(run)
    priced = usd is not None or "usd" in judge
    told = [g for g in known if g.cached_tokens is not None and not g.journaled]
    asked = sum(g.prompt_tokens or 0 for g in told)
    return Usage(
        known=len(known),
        tokens_in=sum(g.prompt_tokens or 0 for g in known),
        tokens_out=sum(g.completion_tokens or 0 for g in known),
        video_tokens=sum(g.video_tokens or 0 for g in known),
        journaled=journaled,
        usd=usd,
        unpriced=unpriced,
        judge=judge,
        wall_s=wall_s,
        samples_per_s=(len(records) - journaled) / wall_s if wall_s else None,
        prices_of=f"{prices_of()}, {datetime.now(UTC):%Y-%m-%d}" if priced else None,
        cached_share=sum(g.cached_tokens or 0 for g in told) / asked if asked else None,
    )


def _judging(run: Run) -> dict[str, float]:
    """What judging has cost over the tasks; of a run that was judged again, what that has cost."""
    fields = ("calls", "cached", "retries", "tokens_in", "tokens_out", "usd", "wall_s")
    if run.header.rejudged_from:
        used = run.header.judge_usage
        return {field: used[field] for field in fields if used.get(field) is not None}
    sums: Counter[str] = Counter()
    for task in run.header.tasks:
        figures = run.results["results"].get(task, {})
        for field in fields:
            if (value := figures.get(f"judge_{field},none")) is not None:
                sums[field] += value
    return dict(sums)


def _date(header: RunHeader) -> str | None:
    """lmms-eval dates a run in the zone of its `--timezone`, Singapore's by default."""
    try:
        moment = datetime.strptime(header.date, "%Y%m%d_%H%M%S")
        return (
            moment.replace(tzinfo=ZoneInfo(header.timezone)).isoformat()
            if header.timezone
            else moment.isoformat()
        )
    except (ValueError, ZoneInfoNotFoundError):
        return header.date or None


def public(value: Any, name: str = "") -> Any:
    """A setting as it may be shown to anybody: of a path its last part, of an address its host, of a secret nothing."""
    if isinstance(value, Mapping):
        return {key: public(one, key) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [public(one, name) for one in value]
    if not isinstance(value, str):
        return value
    if _SECRET.search(name):
        return "(not shown)"
    if "://" in value:
        return ";".join(_host(one) for one in value.split(";"))
    if not value.startswith(("/", "~", "./", "../")):
        return value
    cached = _CACHED.search(value)
    return f"{cached['owner']}/{cached['name']}@{cached['commit']}" if cached else PurePath(value).name


def _host(address: str) -> str:
    parts = urlsplit(address)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
