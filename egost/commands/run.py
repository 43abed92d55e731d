"""`egost run`: evaluate a model with one command, a thin front of lmms-eval's."""

from __future__ import annotations

import os
import sys
import time
import webbrowser
from collections.abc import Sequence
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from egost.commands.draws import MOST_SAMPLES, draw_options, show_draws
from egost.commands.front import console, say, says_what_to_do
from egost.commands.report import report
from egost.commands.show import write_manifest
from egost.commands.summary import summary
from egost.tasks.end_with_parent import start_script
from egost.tasks.errors import SettingError

if TYPE_CHECKING:
    from egost.model_adapters.known_models import KnownModel
    from egost.model_adapters.run_needs import Need
    from egost.model_adapters.run_plan import RunOptions, RunPlan
    from egost.results.run import Run


class Engine(StrEnum):
    vllm = "vllm"
    server = "server"
    hf = "hf"
    transformers = "transformers"
    api = "api"


EngineOption = Annotated[Engine | None, typer.Option(help="Which engine; by default the model's first.")]
LimitOption = Annotated[
    float | None, typer.Option(help="Samples of each task, or a share below 1; for trying only.")
]
UrlOption = Annotated[
    str | None, typer.Option(help="URL of a server, several with ';' between, or URL of an API.")
]
YesOption = Annotated[bool, typer.Option("--yes", help="Get missing weights and data without asking.")]
DryRunOption = Annotated[
    bool, typer.Option("--dry-run", help="Only print the command, what is there and what is missing.")
]


class RunCommand(TyperCommand):
    """Keeps what follows `--` apart from the models."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        end = args.index("--") if "--" in args else len(args)
        ctx.meta[_EXTRA] = tuple(args[end + 1 :])
        return super().parse_args(ctx, args[:end])


_EXTRA = "egost.extra"


@says_what_to_do
def run(
    context: typer.Context,
    models: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL... [-- ARGUMENTS OF LMMS-EVAL]",
            help="Short names (egost models), hub ids, folders, mini-base or mini-st-r1; one after the other.",
        ),
    ],
    tasks: Annotated[
        str | None,
        typer.Option(help="Tasks or groups, as lmms-eval takes them; by default what the model is for."),
    ] = None,
    engine: EngineOption = None,
    judge: Annotated[str | None, typer.Option(help="Who judges the routes, as EGOST_JUDGE.")] = None,
    prompt: Annotated[str | None, typer.Option(help="The wording of the questions, as EGOST_PROMPT.")] = None,
    protocol: Annotated[
        str | None, typer.Option(help="Which frames a model sees, as EGOST_PROTOCOL.")
    ] = None,
    limit: LimitOption = None,
    batch_size: Annotated[
        int | None, typer.Option(min=1, help="Requests at once; by default what suits the engine.")
    ] = None,
    revision: Annotated[str | None, typer.Option(help="Branch, tag or commit of a hub id.")] = None,
    output: Annotated[
        Path | None,
        typer.Option(help="Folder of the results, by default runs/MODEL; with several models FOLDER/MODEL."),
    ] = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Ask for everything anew, also what the journal holds.")
    ] = False,
    base_url: UrlOption = None,
    as_published: Annotated[
        bool,
        typer.Option(
            "--as-published", help="Ask as the authors did: frames, pixels, prompt, generation, judge."
        ),
    ] = False,
    samples: Annotated[
        int | None,
        typer.Option(
            min=2,
            max=MOST_SAMPLES,
            help="Answers to each question, drawn at the temperature of the model's card.",
        ),
    ] = None,
    open_page: Annotated[
        bool, typer.Option("--open", help="Write the report, too, and open it in the browser.")
    ] = False,
    yes: YesOption = False,
    dry_run: DryRunOption = False,
) -> None:
    """Evaluate models: say what is missing, print the lmms-eval command, run it, and show the figures.

    The same command again goes on where a killed run stopped. Exit code 2 when a run did not finish or something is
    missing, 1 when too many samples are unscored.
    """
    from egost.model_adapters.model_names import model_named
    from egost.model_adapters.run_plan import RunOptions, plan_run

    given = {"EGOST_JUDGE": judge, "EGOST_PROMPT": prompt, "EGOST_PROTOCOL": protocol}
    runs: dict[str, tuple[KnownModel, RunOptions]] = {}
    for name in models:
        if not dry_run:
            _get_unlisted(name, revision, yes)
        named = model_named(name, revision)
        runs[named.name] = (
            named,
            RunOptions(
                tasks=tasks or named.tasks,
                engine=engine.value if engine else None,
                limit=limit,
                output=output / named.name if output and len(models) > 1 else output,
                fresh=fresh,
                base_url=base_url,
                extra=context.meta[_EXTRA],
                as_published=as_published,
                batch_size=batch_size,
                settings={setting: value for setting, value in given.items() if value},
            ),
        )
    if samples:
        if open_page or as_published:
            raise SettingError("--samples draws several answers: leave --open and --as-published out.")
        for named, options in runs.values():
            draws = draw_options(named, options, samples, needed=False)
            if prepared([(named, draw) for draw in draws], yes=yes, dry_run=dry_run):
                draws = draw_options(named, options, samples, needed=True)
                plans = [plan_run(named, draw, os.environ) for draw in draws]
                show_draws([evaluated(plan) for plan in plans], plans[0].output.parent)
        return
    if prepared(list(runs.values()), yes=yes, dry_run=dry_run):
        codes = [_run(plan_run(named, options, os.environ), open_page) for named, options in runs.values()]
        raise typer.Exit(max(codes))


def prepared(runs: Sequence[tuple[KnownModel, RunOptions]], *, yes: bool, dry_run: bool) -> bool:
    """Print the commands of some runs and what they need, and get what is missing; False where that was all."""
    from egost.model_adapters.run_plan import plan_run

    needs: dict[str, tuple[Need, KnownModel]] = {}
    for named, options in runs:
        planned = replace(options, without_weights=True)
        plan = plan_run(named, planned, os.environ)
        typer.echo(plan.shown)
        for remark in plan.remarks:
            typer.echo(f"egost: {remark}", err=True)
        needs |= {str(need): (need, named) for need in needs_of(named, plan, planned)}
    for line in needs:
        say(f"egost: {line}", err=True)
    if not dry_run:
        get_missing([(need, named) for need, named in needs.values() if need.command], yes)
    return not dry_run


def _get_unlisted(name: str, revision: str | None, yes: bool) -> None:
    """Get the checkpoint of a hub id that the table of models does not list: its config tells how to ask it.

    Without a yes nothing is got: what asks for the checkpoint next says how to get it.
    """
    from egost.model_adapters.checkpoints import checkpoint_identity, download_checkpoint
    from egost.model_adapters.engine import AdapterError
    from egost.model_adapters.known_models import known_model
    from egost.model_adapters.model_names import weights_named

    if known_model(name) or Path(weights_named(name)[0]).expanduser().is_dir():
        return
    try:
        checkpoint_identity(name, revision)
    except AdapterError:
        if yes or (
            sys.stdin.isatty() and typer.confirm(f"{name} is not on this disk. Get it now?", err=True)
        ):
            say(f"egost: getting {name}", err=True)
            download_checkpoint(name, revision)


def needs_of(named: KnownModel, plan: RunPlan, options: RunOptions) -> list[Need]:
    """What a run needs, with its settings in the environment while that is looked at."""
    from egost.model_adapters.run_needs import run_needs

    before = dict(os.environ)
    os.environ.update(plan.settings)
    try:
        return run_needs(named, plan, options, os.environ)
    finally:
        os.environ.clear()
        os.environ.update(before)


def get_missing(missing: list[tuple[Need, KnownModel]], yes: bool) -> None:
    """Get what can be got after a yes. Raises AdapterError where something is missing still; nothing is got then."""
    from egost.model_adapters.engine import AdapterError

    by_hand = [need for need, _ in missing if need.fetch is None]
    loads = [need for need, _ in missing if need.fetch in ("weights", "official")]
    if by_hand:
        raise AdapterError(
            f"{len(by_hand)} things are missing that egost cannot get by itself: see MISSING above."
        )
    if loads and not yes:
        if not sys.stdin.isatty():
            raise AdapterError(f"{len(loads)} things are missing: see MISSING above. --yes gets them.")
        typer.confirm(f"Get {', '.join(need.what for need in loads)} now?", abort=True, err=True)
    for need, named in missing:
        say(f"egost: getting {need.what}: {need.command}", err=True)
        if need.fetch == "mini":
            from egost.tasks.mini_world import write_mini_release
            from egost.tasks.release.release import mini_root

            write_mini_release(mini_root())
        elif need.fetch == "official":
            from egost.tasks.release import hub

            hub.download()
        elif need.fetch == "weights":
            from egost.model_adapters.checkpoints import download_checkpoint

            download_checkpoint(named.model, named.revision)


def _run(plan: RunPlan, open_page: bool) -> int:
    """Run a plan and show its figures; return the exit code of these."""
    found = evaluated(plan)
    console.print()
    if open_page:
        page = plan.output / "report.html"
        report(found.results_file, output=page)
        webbrowser.open(page.absolute().as_uri())
    try:
        summary(found.results_file)
    except typer.Exit as ended:
        return ended.exit_code
    console.print(
        f"next: egost report {plan.output} (each sample), egost show {plan.output} (what made the figures)"
    )
    return 0


def evaluated(plan: RunPlan) -> Run:
    """The run of a plan. Raises RunError where it does not finish."""
    started = time.time_ns()
    with start_script(plan.command, {**os.environ, **plan.settings}) as lmms_eval:
        code = lmms_eval.wait()
    return finished_run(plan, code, started, "its message is printed above")


def finished_run(plan: RunPlan, code: int, started: int, told: str) -> Run:
    """The run that lmms-eval has left, with its manifest written beside it.

    code: lmms-eval's exit code. started: when, in nanoseconds. told: where its messages are, for people. Raises
    RunError where it did not finish, which its exit code alone does not tell.
    """
    from egost.results.run import read_run
    from egost.results.run_header import RunError

    again = "What is answered is kept: the same command goes on."
    if code:
        raise RunError(f"lmms-eval stopped with exit code {code}; {told}. {again}")
    found = read_run(plan.output)
    if found.results_file.stat().st_mtime_ns < started:
        raise RunError(f"the run did not finish: {found.results_file} is of an earlier one; {told}. {again}")
    write_manifest(found)
    return found
