"""A run's header: what lmms-eval's results file tells of how the run was made, read once and typed.

    header = read_run(Path("runs")).header
    header.tasks["egost_direction_forward"].sampling_protocol    # "uniform8"

A field is None (a mapping empty) where the run does not tell: it was made by an older version, or by other tasks.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, FiniteFloat, TypeAdapter, ValidationError
from typing_extensions import TypedDict

from egost.tasks.errors import EgostError
from egost.tasks.json_text import Count, shown, wrong_field
from egost.tasks.sample import World
from egost.tasks.task_names import TaskName, parse_task_name

_SEEDS = ("random_seed", "numpy_seed", "torch_seed", "fewshot_seed")

Policy = Literal["refuse", "leave-out", "allow", "paper"]


class RunError(EgostError):
    """A saved run is missing or unreadable, or does not allow what was asked of it."""


_Amount = Annotated[FiniteFloat, Field(ge=0)]


class Noise(TypedDict):
    """How much repeated judgements differ (see `JudgeNoise`)."""

    samples: Count
    repeats: Count
    mean: _Amount
    sample_sd: _Amount
    run_sd: _Amount
    same: _Amount


@dataclass(frozen=True, slots=True)
class TrainedOn:
    """The rows that the evaluated checkpoint was trained on.

    policy: `refuse`, `leave-out`, `allow` or `paper` (see `egost.tasks.release.trained_on`). rows: all of them.
    overlap: samples of the release that were trained on, by task (`direction_forward`); with `paper`, those of ST-R1.
    parts: rows of the official release by part, `Part3`; None where the run is older than their recording.
    sha256: of each manifest of training rows; None where the run is older than their recording.
    """

    policy: Policy
    rows: int
    overlap: Mapping[str, int]
    parts: Mapping[str, int] | None
    sha256: tuple[str, ...] | None

    @property
    def leaves_out(self) -> bool:
        """Whether the samples of `overlap` were not asked."""
        return self.policy in ("leave-out", "paper")


@dataclass(frozen=True, slots=True)
class TaskHeader:
    """How one task was made.

    name: taken apart. world: as the run tells it. version: of the task, `2-A`.
    release_revision, release_sha256: the release's name, and the hash of its question files.
    excluded_entries: entries of the release that cannot be asked, by reason. sampling_protocol: of the frames.
    prompt: its label. as_published: the value of `EGOST_AS_PUBLISHED` where all was as it says. judge: of the routes;
    judge_model_asked, judge_prompt: of a judge with a server.
    judge_noise: how much repeated judgements differ. max_unscored_share: above this share of unscored samples the
    figure is not to be published. packages: versions by name. commit: of our code.
    generation: lmms-eval's arguments for a response. asked: samples of the run; available: of the release, as far as
    lmms-eval counted them. overridden: the fields of our YAML that somebody's own YAML changed, with commas between.
    """

    name: TaskName
    version: str | None
    excluded_entries: Mapping[str, int]
    packages: Mapping[str, str]
    trained_on: TrainedOn | None
    overridden: str | None
    generation: Mapping[str, Any]
    asked: int | None
    available: int
    world: World | None = None
    release_revision: str | None = None
    release_sha256: str | None = None
    sampling_protocol: str | None = None
    prompt: str | None = None
    prompt_sha256: str | None = None
    as_published: str | None = None
    judge: str | None = None
    judge_model_asked: str | None = None
    judge_prompt: str | None = None
    judge_prompt_sha256: str | None = None
    judge_noise: Noise | None = None
    max_unscored_share: float = 0.0
    machine: Mapping[str, Any] | None = None
    commit: str | None = None


@dataclass(frozen=True, slots=True)
class RunHeader:
    """How a run was made.

    tasks: our single tasks by registered name, sorted. groups: the single tasks of each of our groups, sorted.
    adapter, model_args: `--model` and `--model_args` as given; arguments: the same, taken apart. model_name: the
    checkpoint as lmms-eval names it; model_label: the same, fit for a file's name. gen_kwargs: `--gen_kwargs`, ``
    where the tasks' own arguments were left alone. system_instruction: as given on the command line. limit: samples a
    task (below 1: a share), None for all.
    date: as lmms-eval dates the run's end, `20260102_030405`, in the zone of timezone. wall_s: seconds of the
    evaluation. host_commit: of the folder that lmms-eval was started in. rejudged_from: results file whose routes
    this run judges again, with what the judge has used.
    """

    file: Path
    tasks: Mapping[str, TaskHeader]
    groups: Mapping[str, tuple[str, ...]]
    adapter: str | None
    model_args: str
    arguments: Mapping[str, Any]
    model_name: str | None
    model_label: str | None
    gen_kwargs: str
    seeds: Mapping[str, int]
    limit: float | None
    date: str
    timezone: str | None
    wall_s: float | None
    host_commit: str | None
    rejudged_from: str | None
    judge_usage: Mapping[str, float]
    system_instruction: str | None = None

    @property
    def first(self) -> TaskHeader:
        """The first task. Raises RunError where the run has none of ours."""
        for task in self.tasks.values():
            return task
        raise RunError(f"{self.file} has no task of Ego-ST Bench.")

    @property
    def trained_on(self) -> TrainedOn | None:
        """The checkpoint's training rows, as the first task tells them."""
        return next((task.trained_on for task in self.tasks.values() if task.trained_on), None)

    @property
    def packages(self) -> dict[str, str]:
        """Versions by name, over all tasks."""
        return {name: version for task in self.tasks.values() for name, version in task.packages.items()}

    def joined(self, field: str) -> str:
        """The tasks' values of a field, each once, with commas between."""
        values = {getattr(task, field) for task in self.tasks.values()}
        return ", ".join(sorted(str(value) for value in values if value))


# --- what a results file holds, as far as it is read ---------------------------------------------------


def _limit(value: float | None) -> float | None:
    if value is not None and value != -1 and value <= 0:
        raise ValueError("expected -1, a share or a number of samples")
    return value


class _Metadata(TypedDict, total=False):
    world: World | None
    version: str | FiniteFloat | None
    release_revision: str | None
    release_sha256: str | None
    excluded_entries: dict[str, Count] | None
    sampling_protocol: str | None
    prompt: str | None
    prompt_sha256: str | None
    as_published: str | None
    judge: str | None
    judge_model_asked: str | None
    judge_prompt: str | None
    judge_prompt_sha256: str | None
    judge_noise: Noise | None
    max_unscored_share: Annotated[float, Field(ge=0, le=1)]
    packages: dict[str, str] | None
    machine: dict[str, Any] | None
    commit: str | None
    overridden: list[str]
    trained_on: Policy
    trained_on_rows: Count
    trained_on_overlap: dict[str, Count]
    trained_on_parts: dict[str, Count] | None
    trained_on_sha256: list[str] | None


class _Config(TypedDict, total=False):
    metadata: _Metadata | None
    generation_kwargs: dict[str, Any] | None


class _Counts(TypedDict, total=False):
    effective: Count | None
    original: Count


class _CommandLine(TypedDict, total=False):
    timezone: str | None
    system_instruction: str | None


class _RunConfig(TypedDict, total=False):
    model: str | None
    model_args: str | dict[str, Any] | None
    gen_kwargs: str | dict[str, Any] | None
    random_seed: Count | None
    numpy_seed: Count | None
    torch_seed: Count | None
    fewshot_seed: Count | None
    limit: Annotated[FiniteFloat | None, AfterValidator(_limit)]
    resolved_cli_args: _CommandLine | None


class _Usage(TypedDict, total=False):
    calls: Count
    cached: Count
    retries: Count
    tokens_in: Count
    tokens_out: Count
    usd: _Amount | None
    wall_s: _Amount


_Results = TypedDict(
    "_Results",
    {
        "configs": dict[str, _Config],
        "n-samples": dict[str, _Counts],
        "group_subtasks": dict[str, list[str]],
        "config": _RunConfig,
        "model_name": str | None,
        "model_name_sanitized": str | None,
        "date": str | None,
        "git_hash": str | None,
        "rejudged_from": str | None,
        "judge_usage": _Usage | None,
        "total_evaluation_time_seconds": str | _Amount | None,
    },
    total=False,
)


def _number(seconds: str | float) -> float:
    found = float(seconds)
    if not 0 <= found < math.inf:
        raise ValueError(f"total_evaluation_time_seconds: expected seconds, found {shown(seconds)}")
    return found


_FORM = TypeAdapter(_Results)
_PARTS = frozenset(_Results.__annotations__)


def read_header(file: Path, results: Mapping[str, Any]) -> RunHeader:
    """The header of a results file, whose content is `results`. Raises RunError where it cannot be read."""
    try:
        ours = {part: _ours(part, value) for part, value in results.items() if part in _PARTS}
        return _header(file, _FORM.validate_python(ours, strict=True))
    except (KeyError, ValueError) as error:
        why = wrong_field(error) if isinstance(error, ValidationError) else str(error)
        raise RunError(
            f"{file} does not tell how it was made in a form that can be read ({why}): it was written by another "
            "version, or was changed."
        ) from error


def _ours(part: str, value: Any) -> Any:
    """A part of the results, without what it says of other tasks than ours."""
    if part not in ("configs", "n-samples", "group_subtasks") or not isinstance(value, dict):
        return value
    return {name: inner for name, inner in value.items() if parse_task_name(name)}


def _header(file: Path, results: _Results) -> RunHeader:
    config = results.get("config", {})
    named = {name: found for name in sorted(results["configs"]) if (found := parse_task_name(name))}
    tasks = {name: found for name, found in named.items() if not found.is_group}
    counts = results.get("n-samples", {})
    given = config.get("model_args")
    kwargs = config.get("gen_kwargs") or {}
    limit = config.get("limit")
    usage = results.get("judge_usage") or {}
    seconds = results.get("total_evaluation_time_seconds")
    return RunHeader(
        file=file,
        tasks={
            name: _task(found, results["configs"][name], counts.get(name, {}))
            for name, found in tasks.items()
        },
        groups={
            name: tuple(sorted(members))
            for name, members in sorted(results.get("group_subtasks", {}).items())
            if members and tasks.keys() >= set(members)
        },
        adapter=config.get("model"),
        model_args=str(given),
        arguments=given if isinstance(given, Mapping) else _arguments(str(given or "")),
        model_name=results.get("model_name"),
        model_label=results.get("model_name_sanitized"),
        gen_kwargs=", ".join(f"{name}={value}" for name, value in sorted(kwargs.items()))
        if isinstance(kwargs, Mapping)
        else str(kwargs),
        seeds={name: seed for name in _SEEDS if isinstance(seed := config.get(name), int)},
        limit=None if limit in (None, -1) else float(limit),
        date=results.get("date") or "",
        timezone=(config.get("resolved_cli_args") or {}).get("timezone"),
        wall_s=_number(seconds) if seconds else None,
        host_commit=results.get("git_hash") or None,
        rejudged_from=results.get("rejudged_from"),
        system_instruction=(config.get("resolved_cli_args") or {}).get("system_instruction") or None,
        judge_usage={n: v for n, v in usage.items() if isinstance(v, (int, float))},
    )


def _task(name: TaskName, config: _Config, counts: _Counts) -> TaskHeader:
    metadata = config.get("metadata") or {}
    version = metadata.get("version")
    as_told = {field: value for field, value in metadata.items() if field in TaskHeader.__annotations__}
    of_another_form: dict[str, Any] = {
        "version": None if version is None else str(version),
        "excluded_entries": metadata.get("excluded_entries") or {},
        "packages": metadata.get("packages") or {},
        "trained_on": _trained_on(metadata) if "trained_on" in metadata else None,
        "overridden": ", ".join(metadata.get("overridden", ())) or None,
    }
    return TaskHeader(
        name=name,
        generation=config.get("generation_kwargs") or {},
        asked=counts.get("effective"),
        available=counts.get("original", 0),
        **{**as_told, **of_another_form},
    )


def _trained_on(metadata: _Metadata) -> TrainedOn:
    sha256 = metadata.get("trained_on_sha256")
    return TrainedOn(
        policy=metadata["trained_on"],
        rows=metadata["trained_on_rows"],
        overlap=dict(metadata["trained_on_overlap"]),
        parts=metadata.get("trained_on_parts"),
        sha256=None if sha256 is None else tuple(sha256),
    )


def _arguments(given: str) -> dict[str, str]:
    """`--model_args`, which lmms-eval keeps as it was given, where that is one text."""
    pairs = [pair.partition("=") for pair in given.split(",") if pair]
    return {name: value for name, _, value in pairs}
