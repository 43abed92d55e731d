"""`egost show`: what made the figures of a run."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from egost.commands.front import console, marked, say, says_what_to_do
from egost.tasks.errors import one_line

if TYPE_CHECKING:
    from egost.results.run import Run
    from egost.results.run_manifest import RunManifest, TaskRecord, Usage


@says_what_to_do
def show(
    run: Annotated[Path, typer.Argument(help="An --output_path of lmms-eval, or a results file.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print the manifest as JSON.")] = False,
    output: Annotated[Path | None, typer.Option(help="Write the manifest as JSON there.")] = None,
) -> None:
    """Show what made the figures of the newest run in a folder, and what it cost: its manifest.

    `egost run` writes it next to the results. For any other run of lmms-eval it is made from the saved files.
    The figures themselves: egost summary.
    """
    from egost.results.run import read_run
    from egost.results.run_manifest import run_manifest

    found = read_run(run)
    manifest = run_manifest(found)
    if output is not None:
        manifest.write(output)
    if as_json:
        say(json.dumps(asdict(manifest), indent=2, ensure_ascii=False))
        return
    for name, value in _lines(manifest, found):
        console.print(one_line(f"{name}: {value}"))
    print_set_apart(found)
    if output is not None:
        console.print(f"written: {output}")


def print_set_apart(run: Run) -> None:
    """Say why the run's figures may not stand next to published ones."""
    from egost.results.leaderboard.entries import entry_of
    from egost.results.leaderboard.rules import set_apart_in_words

    entry = entry_of(run)
    if entry.world == "official" and (reasons := set_apart_in_words(entry)):
        console.print(marked("Not next to published figures:", one_line(f"{reasons}."), "yellow"))


def write_manifest(run: Run) -> None:
    """Write a run's manifest into the folder of its results."""
    from egost.results.run_manifest import manifest_file, run_manifest

    run_manifest(run).write(manifest_file(run))


def _lines(manifest: RunManifest, run: Run) -> list[tuple[str, str]]:
    """What is the same for all tasks, or for the run; only what it tells."""
    from egost.tasks.release import world_label

    model, usage, tasks = manifest.model, manifest.usage, manifest.tasks.values()
    lines = [
        ("results", manifest.results),
        ("date", manifest.date),
        ("model", f"{model.adapter} ({_pairs(model.arguments)})"),
        *[("answered by", _answered(one)) for one in model.answered],
        ("API's snapshots", ", ".join(model.snapshots)),
        ("trained on", _pairs(model.trained_on or {})),
        ("world", world_label(run.header.first.world, run.header.joined("release_revision"))),
        ("release", _distinct(f"{t.release} sha256 {t.release_sha256}" for t in tasks if t.release)),
        ("task version", _distinct(t.version for t in tasks)),
        ("as published", _distinct(t.as_published for t in tasks)),
        ("frames", _distinct(t.frames for t in tasks)),
        ("prompt", _distinct(f"{t.prompt} sha256 {t.prompt_sha256}" for t in tasks if t.prompt)),
        ("judge", _distinct(_judge(t) for t in tasks if t.judge)),
        ("generation", _distinct(_pairs(t.generation) for t in tasks)),
        ("samples", f"{sum(t.asked for t in tasks)} asked, {sum(t.scored for t in tasks)} scored"),
        ("limit", "" if manifest.limit is None else f"{manifest.limit:g} (a part of the samples)"),
        ("seeds", _pairs(manifest.seeds)),
        ("packages", _pairs(manifest.packages, " ")),
        ("commit of egost", manifest.commit),
        ("commit where lmms-eval was started", manifest.host_commit),
        ("machine", _pairs(manifest.machine or {}, " ")),
        ("wall time", _wall(usage)),
        ("samples of incomplete clips", str(sum(t.incomplete for t in tasks) or "")),
        ("tokens", _tokens(usage, sum(t.asked for t in tasks))),
        ("price of the replies", _price(usage)),
        ("judging", _pairs(usage.judge)),
        ("prices", usage.prices_of or ""),
        ("judged again, after", manifest.rejudged_from),
    ]
    return [(name, value) for name, value in lines if value]


def _answered(one: Mapping[str, Any]) -> str:
    settings = _pairs({name: value for name, value in one["settings"].items() if value is not None})
    revision = f" {one['revision']}" if one["revision"] else ""
    return f"{one['engine']}, {one['model']}{revision}, {settings}: {one['samples']} samples"


def _judge(task: TaskRecord) -> str:
    parts = [f"prompt {task.judge_prompt} sha256 {task.judge_prompt_sha256}"] if task.judge_prompt else []
    parts += [f"snapshot {', '.join(task.judge_snapshots)}"] if task.judge_snapshots else []
    return ", ".join([str(task.judge), *parts])


def _tokens(usage: Usage, asked: int) -> str:
    journaled = f"; {usage.journaled} of {asked} replies came from the journal" if usage.journaled else ""
    if not usage.known:
        return f"the adapter tells none{journaled}"
    video = f" ({usage.video_tokens} of them frames)" if usage.video_tokens else ""
    return (
        f"{usage.tokens_in} in{video}, {usage.tokens_out} out, of {usage.known} of {asked} samples{journaled}"
    )


def _wall(usage: Usage) -> str:
    if usage.wall_s is None:
        return ""
    rate = (
        "" if usage.samples_per_s is None else f", {usage.samples_per_s:.3g} samples/s with the model's start"
    )
    cached = (
        ""
        if usage.cached_share is None
        else f", {100 * usage.cached_share:.0f} % of the prompt tokens from the prefix cache"
    )
    return f"{usage.wall_s:.0f} s{rate}{cached}"


def _price(usage: Usage) -> str:
    if usage.unpriced:
        return f"not known: no price of {', '.join(usage.unpriced)}"
    return "" if usage.usd is None else f"{usage.usd:.4f} USD at list prices"


def _distinct(values: Iterable[str | None]) -> str:
    return "; ".join(sorted({value for value in values if value}))


def _pairs(values: Mapping[str, Any], between: str = "=") -> str:
    return ", ".join(f"{name}{between}{_shown(value)}" for name, value in values.items())


def _shown(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return (", ".join(map(str, value)) or "none") if isinstance(value, (list, tuple)) else str(value)
