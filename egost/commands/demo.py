"""`egost demo`: two embedded checkpoints on the mini world, at once, and what came of it on one screen and one page."""

from __future__ import annotations

import errno
import math
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from egost.commands.front import says_what_to_do
from egost.commands.run import finished_run, get_missing, needs_of
from egost.tasks.cache import cache_root, write_whole
from egost.tasks.end_with_parent import start_script

if TYPE_CHECKING:
    from egost.model_adapters.known_models import KnownModel
    from egost.model_adapters.run_needs import Need
    from egost.model_adapters.run_plan import RunPlan
    from egost.results.intervals import Difference, Estimate
    from egost.results.report.figures import Line
    from egost.results.run import Run

MODELS = ("mini-base", "mini-st-r1")
"""The model before its training and after it."""

_NEW_TOKENS = 192
"""Of a reply at most: one that reasons and then tells a route needs more than the 128 of the training."""

_KEPT = ("EGOST_CACHE", "EGOST_MINI_DATA")
"""Settings that say where things are; all others would make another demo."""

_ASKED = re.compile(r"egost: (\d+) of (\d+) samples;")
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
_LEAST = 100_000
"""Bytes that a run leaves at least; with less, a disk is full."""

_LOOK_EVERY_S = 0.5
_LINE_EVERY_S = 15.0
_BAR = 50


@says_what_to_do
def demo(
    out: Annotated[Path, typer.Option(help="Folder of the runs, their logs and the page.")] = Path(
        "runs/demo"
    ),
) -> None:
    """Evaluate mini-base and mini-st-r1 on the mini world, side by side: no GPU, no key, no network; 2 minutes.

    The same command again goes on where it was stopped.
    """
    from egost.results.report.page import report_page

    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("EGOST_") or name in _KEPT
    }
    # Two processes on few cores: more threads would only wait for each other.
    environment |= {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    try:
        plans = _plans(out, environment)
        _decode(plans[MODELS[0]].settings["EGOST_PROTOCOL"])
        runs = _evaluate(plans, out, environment)
    except KeyboardInterrupt:
        typer.echo("egost: stopped. What is answered is kept: the same command goes on.", err=True)
        raise typer.Exit(130) from None
    page = report_page(runs, cache_root(), 24_000_000)
    file = out / "report.html"
    write_whole(file, page.html)
    show(runs)
    typer.echo(f"\nlmms-eval's own output: {', '.join(str(_log(out, name)) for name in MODELS)}")
    typer.echo(f"Open {file} in a browser. Then type: {_program()} run qwen2.5-vl-7b --dry-run")


def _plans(out: Path, environment: Mapping[str, str]) -> dict[str, RunPlan]:
    """The plan of each model's run, once all that they need is there."""
    from egost.model_adapters.model_names import model_named
    from egost.model_adapters.run_plan import RunOptions, plan_run

    plans: dict[str, RunPlan] = {}
    needs: dict[str, tuple[Need, KnownModel]] = {}
    for name in MODELS:
        named = model_named(name)
        options = RunOptions(
            tasks=named.tasks,
            output=out / name,
            extra=("--gen_kwargs", f"max_new_tokens={_NEW_TOKENS}"),
            settings={"EGOST_JUDGE": "offline"},
        )
        plans[name] = plan_run(named, options, environment)
        needs |= {str(need): (need, named) for need in needs_of(named, plans[name], options) if need.command}
    for line, (need, _) in needs.items():
        if need.fetch is None:
            typer.echo(f"egost: {line}", err=True)
    get_missing(list(needs.values()), yes=True)
    return plans


def _decode(protocol: str) -> None:
    """Put the clips' frames into the cache, of which both runs then read."""
    from egost.tasks.clips.clips import build_clips
    from egost.tasks.clips.protocols import parse_protocol
    from egost.tasks.release.check import present_samples
    from egost.tasks.release.release import open_release

    release = open_release("mini")
    build_clips(sorted({release.clip_path(s) for s in present_samples(release)}), parse_protocol(protocol))


def _evaluate(plans: Mapping[str, RunPlan], out: Path, environment: Mapping[str, str]) -> list[Run]:
    started = time.time_ns()
    out.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        running = {}
        for name, plan in plans.items():
            log = stack.enter_context(_log(out, name).open("wb"))
            settings = {**environment, **plan.settings}
            child = start_script(plan.command, settings, stdout=log, stderr=subprocess.STDOUT)
            running[name] = stack.enter_context(child)
        _watch(running, out)
        if any(child.wait() for child in running.values()) and shutil.disk_usage(out).free < _LEAST:
            # Not even the log says so then.
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(out))
        return [
            finished_run(plan, running[name].wait(), started, _told(_log(out, name)))
            for name, plan in plans.items()
        ]


def _watch(running: Mapping[str, subprocess.Popen[bytes]], out: Path) -> None:
    """Show how far each run is, until none of them goes on: bars on a terminal, lines elsewhere."""
    shown = Console(stderr=True)
    with Progress(
        TextColumn("{task.description:10}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("samples; {task.fields[state]}"),
        TimeElapsedColumn(),
        console=shown,
        disable=not shown.is_terminal,
    ) as bars:
        tasks = {name: bars.add_task(name, total=None, state="lmms-eval starts") for name in running}
        last = time.monotonic()
        while True:
            gone_on = [name for name, child in running.items() if child.poll() is None]
            for name in running:
                if found := _ASKED.findall(_log(out, name).read_text(encoding="utf-8", errors="replace")):
                    done, total = map(int, found[-1])
                    state = "done" if name not in gone_on else "asking" if done < total else "scoring"
                    bars.update(tasks[name], completed=done, total=total, state=state)
            if not gone_on:
                return
            if not shown.is_terminal and time.monotonic() - last > _LINE_EVERY_S:
                last = time.monotonic()
                told = (
                    f"{t.description} {t.completed:.0f} of {t.total:.0f}"
                    if t.total
                    else f"{t.description} starts"
                    for t in bars.tasks
                )
                shown.print(f"samples: {', '.join(told)}", highlight=False)
            time.sleep(_LOOK_EVERY_S)


def _log(out: Path, name: str) -> Path:
    return out / f"{name}.log"


def _told(log: Path) -> str:
    """Where lmms-eval's messages are, and the last of them."""
    lines = log.read_text(encoding="utf-8", errors="replace").split("\n")
    last = next((line for part in reversed(lines) if (line := _COLOURS.sub("", part).strip())), "nothing")
    return f"{log} has all that it said, at last: {last}"


def show(runs: Sequence[Run]) -> None:
    """Print the table of two runs with their paired difference, and the bars; 80 columns of ASCII."""
    from egost.results.report.figures import averages, by_task, read_sides

    a, b = read_sides(runs)
    tasks, means = by_task(a.records, b.records).lines, averages(a.records, b.records).lines
    clips = len({record.cluster for record in a.records})
    typer.echo(
        f"\nThe mini world: {clips} rendered walks with exact answers. No benchmark results.\n{taught()}"
        "Percent right, 95 % intervals over walks. Rules score the routes, not GPT-4o.\n"
    )
    typer.echo(_row("", *MODELS, "difference"))
    for line in (*tasks, *means):
        assert line.b is not None and line.difference is not None
        label = re.sub(r"^Mean of the (\d+) .*", r"Mean of \1", line.label)
        typer.echo(_row(label, _figure(line.a), _figure(line.b) or "not asked", _gap(line.difference)))
    typer.echo(f"\n{'':13}0{'25':>{_BAR // 4}}{'50':>{_BAR // 4}}{'75':>{_BAR // 4}}{'100':>{_BAR // 4}}")
    for line in tasks:
        for shown in _bars(line):
            typer.echo(shown)
    typer.echo(f"{'':13}= {MODELS[0]}   # {MODELS[1]}   | a guess")


def _row(label: str, a: str, b: str, gap: str) -> str:
    return f"{label:11}{a:>22}{b:>22}{gap:>25}".rstrip()


def taught() -> str:
    """What mini-st-r1 was trained on, from the rows that it was trained on."""
    from egost.model_adapters.model_names import MINI_ST_R1
    from egost.tasks.release.trained_on import MANIFEST, read_manifest
    from egost.tasks.sample import TASK_KINDS

    rows = read_manifest(MINI_ST_R1 / MANIFEST).rows
    kinds = {row.sample.split("/")[1].split("_")[0] for row in rows}
    *some, last = (f"{kind}s" for kind in TASK_KINDS if kind in kinds)
    return f"mini-st-r1 is mini-base trained on {', '.join(some)} and {last}.\nIt is asked to think first.\n"


def _figure(found: Estimate) -> str:
    return "" if math.isnan(found.value) else f"{found.value:.1f} ({found.low:.1f} to {found.high:.1f})"


def _gap(found: Difference) -> str:
    return "" if math.isnan(found.value) else f"{found.value:+.1f} ({found.low:+.1f} to {found.high:+.1f})"


def _bars(line: Line) -> Iterator[str]:
    """An axis of the paper's Figure 1: a bar for each model that was asked."""
    assert line.b is not None
    for label, found, ink in ((line.label, line.a, "="), ("", line.b, "#")):
        if not math.isnan(found.value):
            yield f"{label:13}{bar(ink, found.value, line.chance)}"


def bar(ink: str, percent: float, chance: float | None) -> str:
    """A bar of letters, with a mark where a guess is."""
    letters = list((ink * round(percent * _BAR / 100)).ljust(_BAR))
    if chance is not None:
        letters[round(chance * _BAR / 100)] = "|"
    return "".join(letters).rstrip()


def _program() -> str:
    """`egost` as it can be typed here: by its name where that is found, else by its path."""
    program = Path(sys.argv[0])
    found = shutil.which("egost")
    if found and program.exists() and Path(found).samefile(program):
        return "egost"
    return os.path.relpath(program) if program.name == "egost" else "egost"
