"""`egost power`: how many samples are needed to see a difference."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from egost.commands.front import console, marked, says_what_to_do

if TYPE_CHECKING:
    from egost.results.power import Spread

_WITHOUT_RUN = "Assumed without a run"


@says_what_to_do
def power(
    run_a: Annotated[
        Path | None,
        typer.Argument(
            help="A run, whose scores tell how much they vary; without one, the options below do."
        ),
    ] = None,
    run_b: Annotated[
        Path | None, typer.Argument(help="Another run, to tell how much the differences vary.")
    ] = None,
    points: Annotated[float, typer.Option(help="The difference to be shown, in percentage points.")] = 3.0,
    power: Annotated[float, typer.Option(help="Share of such comparisons that are to show it.")] = 0.8,
    task: Annotated[
        list[str] | None, typer.Option(help="This task alone; may be given several times.")
    ] = None,
    agreement: Annotated[
        float | None,
        typer.Option(
            help="Correlation of the two models' scores.",
            show_default="0.5: both fail on the hard ones",
            rich_help_panel="Assumed without two runs",
        ),
    ] = None,
    sd: Annotated[
        float | None,
        typer.Option(
            min=0.1,
            max=50,
            help="Standard deviation of a sample's score.",
            show_default="50: right or wrong, half of them right",
            rich_help_panel=_WITHOUT_RUN,
        ),
    ] = None,
    per_clip: Annotated[
        float | None,
        typer.Option(
            min=1,
            help="Samples of a clip.",
            show_default="6.3: the paper's 5,000 of 789",
            rich_help_panel=_WITHOUT_RUN,
        ),
    ] = None,
    correlation: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1,
            help="Correlation of the scores of one clip.",
            show_default="0.1: a guess",
            rich_help_panel=_WITHOUT_RUN,
        ),
    ] = None,
    labels: Annotated[
        bool, typer.Option("--labels", help="Say instead how many labels of people halve a run's interval.")
    ] = False,
) -> None:
    """Count the samples and clips that two runs need to show a difference (paired, two-sided, 5 %).

    Without a run all flags have defaults; a run of your own measures what they assume.
    """
    if labels:
        if run_a is None or run_b:
            raise typer.BadParameter("it takes one run, with its labels beside it", param_hint="--labels")
        _print_labels(run_a)
        return
    from egost.results.power import AGREEMENT, assumed_spread, needed, visible
    from egost.results.run_header import RunError

    assumed = {"sd": sd, "per_clip": per_clip, "correlation": correlation}
    given = {name: value for name, value in assumed.items() if value is not None}
    unused = [*(given if run_a else ()), *(["agreement"] if run_b and agreement is not None else [])]
    if unused:
        flags = ", ".join(f"--{name.replace('_', '-')}" for name in unused)
        raise RunError(f"{flags}: the runs are measured instead. Leave it out, or leave the runs out.")
    agreement = AGREEMENT if agreement is None else agreement
    spread = _measured(run_a, run_b, task or []) if run_a else assumed_spread(**given)
    source = (
        "assumed (--sd, --per-clip, --correlation)"
        if run_a is None
        else f"measured on {spread.n} samples of {spread.clips} clips"
    )
    # No -0.00.
    within = round(spread.correlation, 2) + 0.0
    what = "a sample's difference between the runs" if spread.of_differences else "a sample's score"
    console.print(
        f"{source}: standard deviation of {what} {spread.sd:.1f}, {spread.per_clip:.1f} samples a clip, correlation "
        f"within a clip {within:.2f}; {spread.effect:.2f} times as many samples as on clips of their own",
    )
    if not spread.of_differences:
        console.print(f"correlation of the two models' scores, assumed (--agreement): {agreement:g}")
    asked = needed(spread, points, power=power, agreement=agreement)
    console.print(
        marked(
            f"{asked.samples} samples of {asked.clips} clips",
            f"show a difference of {points:g} points in {100 * power:g} % of comparisons",
            "bold",
        )
    )
    if spread.n:
        seen = visible(spread, spread.n, power=power, agreement=agreement)
        console.print(f"the {spread.n} samples that there are show {seen:.1f} points as often")


def _print_labels(run: Path) -> None:
    from egost.results.labels.corrected import corrected_beside
    from egost.results.run import read_run
    from egost.results.run_header import RunError

    saved = read_run(run)
    found = corrected_beside(saved.results_file, saved.records)
    if not found:
        raise RunError(
            f"no labels of this run lie beside {saved.results_file}. Label some routes first, so that their spread is "
            f"known: egost judge label {run}"
        )
    for task, score in found.items():
        console.print(f"{task}, corrected by people's labels: {score}")
        if isinstance(score, str):
            continue
        now = (
            f"which is {score.half_interval(score.labelled):.1f} points to either side with {score.labelled}"
        )
        if needed := score.labels_for_half:
            console.print(marked(f"{needed} labels", f"drawn alike halve its interval, {now}", "bold"))
        else:
            console.print(
                f"no number of labels halves its interval, {now}: all {score.n} would leave "
                f"{score.half_interval(score.n):.1f}, as the clips are so few"
            )


def _measured(run_a: Path, run_b: Path | None, tasks: list[str]) -> Spread:
    from egost.results.intervals import paired_rows, scored_rows
    from egost.results.power import spread_of
    from egost.results.run import read_run
    from egost.results.run_header import RunError

    a = read_run(run_a).records
    rows = scored_rows(a) if run_b is None else paired_rows(a, read_run(run_b).records)
    known = sorted({task for task, _, _ in rows})
    if unknown := sorted(set(tasks) - set(known)):
        raise RunError(f"no scored samples of {', '.join(unknown)}; expected some of {', '.join(known)}.")
    return spread_of([row for row in rows if not tasks or row[0] in tasks], run_b is not None)
