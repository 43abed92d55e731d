"""`egost judge`: a saved run's routes again, or the judge itself on trial, by built pairs or people's labels."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from egost.commands.front import console, says_what_to_do
from egost.commands.show import write_manifest
from egost.commands.summary import summary
from egost.tasks.cache import cache_root, write_whole

if TYPE_CHECKING:
    from filelock import FileLock

    from egost.tasks.judging.choose import PanelSpread
    from egost.tasks.judging.judge import Judge


class JudgeGroup(TyperGroup):
    """Takes a run and options, as a command without sub-commands does, unless the first word is one of them."""

    allow_interspersed_args = True

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        named = bool(args) and args[0] in self.commands
        ctx.meta[_SUB_COMMAND] = ctx.allow_extra_args = named
        ctx.allow_interspersed_args = not named
        return super().parse_args(ctx, args)

    def get_params(self, ctx: Any) -> list[Any]:
        found = super().get_params(ctx)
        return [p for p in found if p.param_type_name == "option"] if ctx.meta.get(_SUB_COMMAND) else found


_SUB_COMMAND = "egost.judge.sub_command"


@says_what_to_do
def judge(
    context: typer.Context,
    run: Annotated[
        Path | None, typer.Argument(help="An --output_path of lmms-eval, saved with --log_samples.")
    ] = None,
    judge: Annotated[
        str | None,
        typer.Option(help="Which judge, or several with commas; by default what EGOST_JUDGE names."),
    ] = None,
    repeats: Annotated[
        int | None,
        typer.Option(
            "--judge-repeats", min=1, help="Judgements of each sample, to measure the judge's own noise."
        ),
    ] = None,
    check: Annotated[
        bool,
        typer.Option("--check", help="Check the judge on pairs of routes whose scores have known bounds."),
    ] = False,
    limit: Annotated[
        int | None,
        typer.Option(min=1, help="With --check: so many pairs, for a first look without a verdict."),
    ] = None,
    report: Annotated[Path | None, typer.Option(help="With --check: write the report as JSON, too.")] = None,
) -> None:
    """Score a run's routes again with a judge, without the model; or check the judge itself."""
    from egost.tasks.judging.choose import chosen_judge, get_judge

    if context.invoked_subcommand:
        return
    if check == (run is not None):
        raise typer.BadParameter("name a run to be judged, or --check to have the judge itself checked")
    if run is not None and (limit or report):
        raise typer.BadParameter(f"{'--limit' if limit else '--report'} belongs to --check")
    who = get_judge(judge, repeats) if judge else chosen_judge("official", repeats)
    try:
        if run is None:
            _check_judge(who, limit, report)
        else:
            _rejudge(run, who)
    finally:
        _print_usage(who)


def _only_asker(who: Judge, what: Path | str) -> FileLock:
    """The lock of a judge and a results file, or another thing to judge. Raises JudgeError where it is taken."""
    from egost.tasks.chat.reply_store import only_asker
    from egost.tasks.judging.judge import JudgeError

    name = hashlib.sha256(f"{who.name} {what}".encode()).hexdigest()[:24]
    return only_asker(
        cache_root() / "judge" / f"asking-{name}.lock",
        lambda holder: JudgeError(
            f"{what} is being judged by {who.name} already: {holder}. Wait until that ends, or stop it; the same "
            "command then asks for what is missing."
        ),
    )


def _check_judge(who: Judge, limit: int | None, report: Path | None) -> None:
    from egost.tasks.judging.validity import check, first_pairs, render, to_json

    with _only_asker(who, "the set of pairs"):
        found = check(who, pairs=first_pairs(limit) if limit else None)
    console.print(render(found))
    if report:
        write_whole(report, json.dumps(to_json(found), indent=2).encode())
    raise typer.Exit(1 if found.passed is False else 0)


def _rejudge(run: Path, who: Judge) -> None:
    from egost.results.rejudge import rejudge
    from egost.results.run import read_run
    from egost.tasks.judging.choose import panel_spread
    from egost.tasks.judging.judge import Judgement

    saved = read_run(run)
    with _only_asker(who, saved.results_file.resolve()):
        written = rejudge(saved, who)
    console.print(f"written: {written}")
    judged = read_run(written)
    write_manifest(judged)
    for task, header in judged.header.tasks.items():
        verdicts = [
            r.judgement for r in judged.records if r.task == task and isinstance(r.judgement, Judgement)
        ]
        if spread := panel_spread(verdicts):
            console.print(f"{task}: {_votes(spread)}")
        if noise := header.judge_noise:
            console.print(
                f"{task}: {noise['repeats']} judgements a sample, mean {noise['mean']:.1f}; standard deviation "
                f"within a sample {noise['sample_sd']:.1f}, of the task's figure {noise['run_sd']:.2f}; "
                f"{100 * noise['same']:.0f} % of the samples judged alike each time",
            )
    summary(run)


def _votes(spread: PanelSpread) -> str:
    means = []
    for judge, mean in spread.means.items():
        absent = ", ".join(f"{number} {why}" for why, number in spread.absent.get(judge, {}).items())
        means.append(f"{judge} {'-' if mean is None else f'{mean:.1f}'}{absent and f' (absent: {absent})'}")
    differ = (
        "no sample was judged by two"
        if spread.sample_sd is None or spread.same is None
        else f"standard deviation among judges within a sample {spread.sample_sd:.1f}, "
        f"{100 * spread.same:.0f} % of {spread.samples} samples judged alike by all"
    )
    return f"means {'; '.join(means)}; {differ}"


def _print_usage(who: Judge) -> None:
    if (used := who.usage) is None:
        return
    price = "no price known" if used.usd is None else f"{used.usd:.4f} USD (prices of {used.prices_of})"
    console.print(
        f"{used.judge}: {used.calls} calls, {used.cached} cached, {used.retries} retries, "
        f"{sum(used.failures.values())} failures{f' {used.failures}' if used.failures else ''}, "
        f"{used.tokens_in} tokens in, "
        f"{used.tokens_out} out, {price}, {used.wall_s:.1f} s",
    )
