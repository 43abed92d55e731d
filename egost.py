"""The front door: the `egost` command, one thin sub-command for each thing that a person does."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ParamSpec, TypeVar

import typer
from rich.console import Console
from rich.table import Table

from egost_tasks.errors import EgostError

if TYPE_CHECKING:
    from egost_tasks.judge import Judge
    from egost_tasks.release import Release
    from egost_tasks.release_check import Status

P = ParamSpec("P")
R = TypeVar("R")

_HELP = """Ego-ST Bench and ST-R1, evaluated with the plain lmms-eval command.

[bold]Try it[/] without a GPU, a key or a network:
  egost data mini        write the mini world: rendered walks, exact answers
  lmms-eval --tasks egost_mini --model qwen2_vl --device cpu \\
    --model_args device_map=cpu,pretrained=$(egost tiny)

[bold]The benchmark:[/]
  egost data download    get the official release from the hub
  egost data status      what is there, what is missing
  egost data verify      has every question a clip that decodes?
  egost clips build      decode all clips into the cache, on all cores
  lmms-eval --tasks egost --model qwen2_vl \\
    --model_args pretrained=PATH --output_path runs --log_samples
  egost summary runs     the figures of the newest run
  egost judge runs --judge gpt-4o     the run's routes again
  egost judge --check --judge gpt-4o  is the judge right?

[bold]Tasks[/] (lmms-eval --tasks list shows them):
  egost_{route,direction,landmark,action}_{forward,reverse}
  groups egost, egost_st, egost_route, egost_mcq
  on the mini world the same, as egost_mini_... and egost_mini

[bold]Settings[/] (environment):
  EGOST_DATA, EGOST_MINI_DATA, EGOST_CACHE   folders
  EGOST_PROMPT     direct, think or a file
  EGOST_PROTOCOL   uniform8, ref-qwen; +cap151200 or +224x224 behind it
  EGOST_DECODER    pyav, torchcodec, decord
  EGOST_JUDGE      gpt-4o, openai:MODEL@URL, azure:NAME@URL, offline
"""

app = typer.Typer(
    help=_HELP,
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    add_completion=False,
)
data_app = typer.Typer(
    help="Get, look at and check the release, or write the mini world.", no_args_is_help=True
)
clips_app = typer.Typer(help="Decode clips into the cache.", no_args_is_help=True)
app.add_typer(data_app, name="data")
app.add_typer(clips_app, name="clips")

console = Console()

Mini = Annotated[bool, typer.Option("--mini", help="The mini world instead of the official release.")]
Workers = Annotated[int | None, typer.Option(help="Processes at once; all cores by default.", min=1)]


def _says_what_to_do(command: Callable[P, R]) -> Callable[P, R]:
    @functools.wraps(command)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except EgostError as error:
            typer.echo(f"egost: {error}", err=True)
            raise typer.Exit(2) from error

    return wrapped


@data_app.command()
@_says_what_to_do
def download(
    to: Annotated[Path | None, typer.Option(help="A folder of your own instead of the hub's cache.")] = None,
    revision: Annotated[str | None, typer.Option(help="Revision of the questions.")] = None,
    clips_revision: Annotated[str | None, typer.Option(help="Revision of the clips.")] = None,
) -> None:
    """Get the official release from the hub, at a pinned revision; run it again to go on."""
    from egost_tasks import hub

    got = hub.download(to, questions_revision=revision, clips_revision=clips_revision)
    console.print(f"questions at {got.revision}, clips at {got.clips_revision}, in:")
    for root in got.roots:
        console.print(f"  {root}", soft_wrap=True)
    if to:
        console.print(f"Let the tasks find it: export EGOST_DATA={to.resolve()}", soft_wrap=True)
    console.print("Next: egost data status, then egost clips build")


@data_app.command()
@_says_what_to_do
def status(mini: Mini = False) -> None:
    """Say what of the release is there and what is missing (exit code 1 when something is)."""
    from egost_tasks import release_check

    release = _release(mini)
    found = release_check.status(release)
    _print_status(release, found)
    raise typer.Exit(0 if found.complete else 1)


@data_app.command()
@_says_what_to_do
def verify(mini: Mini = False, workers: Workers = None) -> None:
    """Check every question against its clip, decoding each clip (exit code 1 when one fails)."""
    from egost_tasks import release_check
    from egost_tasks.frames import chosen_protocol

    release = _release(mini)
    found = release_check.status(release)
    _print_status(release, found)
    if found.missing_question_files:
        raise typer.Exit(1)
    bad = release_check.verify(release, chosen_protocol(), workers)
    for clip in bad:
        console.print(
            f"[red]{clip.reason}[/] {clip.path} ({clip.samples} samples): {clip.message}", soft_wrap=True
        )
    console.print(
        f"{found.clips - len(bad)} of {found.clips + len(found.missing_clips)} clips give their 8 frames"
    )
    raise typer.Exit(0 if found.complete and not bad else 1)


@data_app.command()
@_says_what_to_do
def mini(
    out: Annotated[Path | None, typer.Option(help="Folder; EGOST_MINI_DATA must name it then.")] = None,
    clips: Annotated[int, typer.Option(min=4, help="Number of walks.")] = 40,
    seed: int = 0,
    split: Annotated[str, typer.Option(help="train or test; the two share no map.")] = "test",
    workers: Workers = None,
) -> None:
    """Write the mini world: rendered walks with exact answers, in the official layout."""
    from egost_tasks.mini_world import write_mini_release
    from egost_tasks.release import mini_root

    root = write_mini_release(out or mini_root(), clips=clips, seed=seed, split=split, workers=workers)
    console.print(f"mini world: {clips} clips in {root}", soft_wrap=True)
    if out:
        console.print(f"Let the tasks find it: export EGOST_MINI_DATA={root.resolve()}", soft_wrap=True)


@clips_app.command()
@_says_what_to_do
def build(mini: Mini = False, workers: Workers = None) -> None:
    """Decode the 8 frames of all clips into the cache, on all cores; run it again to go on."""
    from egost_tasks.clips import Clip, build_clips
    from egost_tasks.frames import chosen_protocol
    from egost_tasks.release_check import present_samples

    release = _release(mini)
    paths = sorted({release.clip_path(s) for s in present_samples(release)})
    outcomes = build_clips(paths, chosen_protocol(), workers=workers)
    good = sum(isinstance(outcome, Clip) for outcome in outcomes)
    console.print(f"{good} of {len(paths)} clips are in the cache ({chosen_protocol().name})")
    for path, outcome in zip(paths, outcomes, strict=True):
        if not isinstance(outcome, Clip):
            console.print(f"[red]{outcome.reason}[/] {path}: {outcome}", soft_wrap=True)
    raise typer.Exit(0 if good == len(paths) else 1)


@app.command()
@_says_what_to_do
def tiny(
    folder: Annotated[Path | None, typer.Argument(help="Where to write it; in the cache by default.")] = None,
) -> None:
    """Print the folder of the embedded tiny Qwen2-VL checkpoint, which is made at first use."""
    from model_adapters.tiny_checkpoint import tiny_checkpoint

    typer.echo(tiny_checkpoint(folder))


@app.command()
@_says_what_to_do
def summary(run: Annotated[Path, typer.Argument(help="An --output_path of lmms-eval.")]) -> None:
    """Show the figures of the newest run in a folder.

    Exit code 2 when it did not finish, 1 when more of a task's samples are unscored than it allows.
    """
    from results.run import latest_run

    found = latest_run(run)
    for name, value in found.settings.items():
        console.print(f"{name}: {value}", soft_wrap=True, highlight=False, markup=False)
    table = Table(box=None, padding=(0, 1, 0, 0))
    for name in ("task or group", "percent", "compat", "chance", "Avg.(ST)", "scored", "unscored"):
        table.add_column(name, justify="left" if name.startswith("task") else "right", no_wrap=True)
    for row in found.figures:
        numbers = [row.percent, row.compat, row.chance, row.spatiotemporal]
        table.add_row(
            f"[bold]{row.name}[/]" if row.is_group else row.name,
            *["" if n is None or math.isnan(n) else f"{n:.1f}" for n in numbers],
            *["" if n is None else str(n) for n in (row.scored, row.unscored)],
        )
    console.print(table)
    console.print(f"results: {found.results_file}", soft_wrap=True, highlight=False)
    for path in found.samples_files:
        console.print(f"samples: {path}", soft_wrap=True, highlight=False)
    if bad := [row.name for row in found.figures if not row.publishable]:
        console.print(
            f"[red]Not to be published[/], too many samples are unscored: {', '.join(bad)}. The reasons stand in "
            "the samples; what only the judge failed on can be judged again: egost judge RUN",
            soft_wrap=True,
        )
        raise typer.Exit(1)


@app.command()
@_says_what_to_do
def judge(
    run: Annotated[
        Path | None, typer.Argument(help="An --output_path of lmms-eval, saved with --log_samples.")
    ] = None,
    judge: Annotated[str | None, typer.Option(help="Which judge; by default what EGOST_JUDGE names.")] = None,
    repeats: Annotated[
        int | None,
        typer.Option("--judge-repeats", min=1, help="Judgements a sample, for the judge's own noise."),
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Judge the judge on pairs with known bounds.")
    ] = False,
    report: Annotated[Path | None, typer.Option(help="With --check: write the report as JSON, too.")] = None,
) -> None:
    """Score a run's routes again with a judge, without the model; or check the judge itself."""
    from egost_tasks.judge import chosen_judge, get_judge

    if check == (run is not None):
        raise typer.BadParameter("name a run to be judged, or --check to have the judge itself checked")
    who = get_judge(judge, repeats) if judge else chosen_judge("official", repeats)
    try:
        if check:
            _check_judge(who, report)
        else:
            assert run is not None
            _rejudge(run, who)
    finally:
        _print_usage(who)


def _check_judge(who: Judge, report: Path | None) -> None:
    import json

    from egost_tasks.judge_validity import check, render, to_json

    found = check(who)
    console.print(render(found))
    if report:
        report.write_text(json.dumps(to_json(found), indent=2), encoding="utf-8")
    raise typer.Exit(0 if found.passed else 1)


def _rejudge(run: Path, who: Judge) -> None:
    from results.rejudge import rejudge
    from results.run import latest_run

    written = rejudge(latest_run(run), who)
    console.print(f"written: {written}", soft_wrap=True, highlight=False)
    for task, config in latest_run(written).results["configs"].items():
        if noise := (config.get("metadata") or {}).get("judge_noise"):
            console.print(
                f"{task}: {noise['repeats']} judgements a sample, mean {noise['mean']:.1f}; standard deviation "
                f"within a sample {noise['sample_sd']:.1f}, of the task's figure {noise['run_sd']:.2f}; "
                f"{100 * noise['same']:.0f} % of the samples judged alike each time",
                soft_wrap=True,
                highlight=False,
            )
    summary(run)


def _print_usage(who: Judge) -> None:
    if (used := who.usage) is None:
        return
    price = "no price known" if used.usd is None else f"{used.usd:.4f} USD (prices of {used.prices_of})"
    console.print(
        f"{used.judge}: {used.calls} calls, {used.cached} cached, {used.retries} retries, "
        f"{sum(used.failures.values())} failures{f' {used.failures}' if used.failures else ''}, "
        f"{used.tokens_in} tokens in, "
        f"{used.tokens_out} out, {price}, {used.wall_s:.1f} s",
        soft_wrap=True,
        highlight=False,
    )


def _release(mini: bool) -> Release:
    from egost_tasks.release import open_release

    return open_release("mini" if mini else "official")


def _print_status(release: Release, found: Status) -> None:
    from egost_tasks.hub import download_command
    from egost_tasks.questions import QUESTION_FILES

    roots = ", ".join(map(str, release.roots))
    console.print(f"{release.world} release, revision {release.revision}, in {roots}", soft_wrap=True)
    console.print(f"question files: {found.question_files} of {len(QUESTION_FILES)}")
    for name in found.missing_question_files:
        console.print(f"  [red]missing[/] {name}")
    if found.tasks:
        table = Table("task", "samples", "clips", "chance %")
        for task in found.tasks:
            chance = "" if task.chance is None else f"{task.chance:.1f}"
            table.add_row(task.task, str(task.samples), str(task.clips), chance)
        console.print(table)
        console.print("samples by source: " + ", ".join(f"{name} {n}" for name, n in found.sources.items()))
    for reason, n in found.excluded.items():
        console.print(f"left out: {n} entries ({reason})")
    if found.spare_clips is None:
        console.print(f"videos: {found.clips} there")
    else:
        missing = len(found.missing_clips)
        console.print(
            f"clips: {found.clips} there, {missing} missing, {found.spare_clips} without a question"
        )
    for name in found.missing_clips[:10]:
        console.print(f"  [red]missing[/] {name}")
    if not found.complete:
        how = "egost data mini" if release.world == "mini" else download_command()
        console.print(f"Get what is missing: {how}", soft_wrap=True)
