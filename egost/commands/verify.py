"""`egost verify`: does a model score here what the paper prints?"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from egost.commands.front import console, marked, say, says_what_to_do
from egost.commands.run import (
    DryRunOption,
    EngineOption,
    LimitOption,
    UrlOption,
    YesOption,
    evaluated,
    prepared,
)
from egost.tasks.cache import write_whole
from egost.tasks.errors import one_line

if TYPE_CHECKING:
    from egost.model_adapters.known_models import KnownModel
    from egost.results.verification import VerificationRow


@says_what_to_do
def verify(
    models: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="MODEL...",
            help="Short names of the paper's models (egost models), or mini-base; with --check, files of rows.",
        ),
    ] = None,
    engine: EngineOption = None,
    limit: LimitOption = None,
    base_url: UrlOption = None,
    output: Annotated[
        Path | None,
        typer.Option(
            help="Folder of the run, by default runs/verify/MODEL; with several models FOLDER/MODEL."
        ),
    ] = None,
    run: Annotated[
        Path | None, typer.Option(help="A run of the model that is there, instead of evaluating it.")
    ] = None,
    check: Annotated[
        bool,
        typer.Option(
            "--check", help="Work out the figures of saved rows again, and print the table of all models."
        ),
    ] = False,
    yes: YesOption = False,
    dry_run: DryRunOption = False,
) -> None:
    """Run models of Table 1, or ST-R1 of Table 3, as published, and hold their figures against the paper's.

    Each figure is shown with its difference, its 95 % interval over clips and a verdict. The row is saved beside the
    results as a JSON file that can be sent (docs/verification.md). Exit code 1 when a comparable figure differs.
    """
    from egost.model_adapters.engine import AdapterError
    from egost.model_adapters.model_names import EMBEDDED, model_named
    from egost.model_adapters.run_plan import RunOptions, plan_run
    from egost.results.run import read_run

    if check:
        say(checked([Path(name) for name in models or ()]), end="")
        return
    if not models or (run and len(models) > 1):
        raise AdapterError("which model is to be verified? Name one, for example: egost verify qwen2.5-vl-7b")
    runs = []
    for name in models:
        named = model_named(name)
        if not named.paper_row and named.name not in EMBEDDED:
            raise AdapterError(
                f"the paper has no row of {named.name}, so that there is nothing to hold it against. Expected one of "
                f"{', '.join(model.name for model in _of_the_paper())}; mini-base for a try."
            )
        folder = output or Path("runs") / "verify"
        options = RunOptions(
            tasks=named.tasks,
            engine=engine.value if engine else None,
            limit=limit,
            output=output if output and len(models) == 1 else folder / named.name,
            base_url=base_url,
            as_published=True,
        )
        runs.append((named, options))
    if not run and not prepared(runs, yes=yes, dry_run=dry_run):
        return
    rows = []
    for named, options in runs:
        found = read_run(run) if run else evaluated(plan_run(named, options, os.environ))
        rows.append(_row(found.results_file, named))
    raise typer.Exit(int(any(row.differs for row in rows)))


def _of_the_paper() -> list[KnownModel]:
    from egost.model_adapters.known_models import known_models

    return [model for model in known_models().models if model.paper_row]


def _row(results_file: Path, named: KnownModel) -> VerificationRow:
    """Show the row of a run, and save it beside the results."""
    from egost.results.leaderboard.entries import read_entry
    from egost.results.verification import verify

    row = verify(read_entry(results_file), named.name, named.paper_row, named.model, named.as_published or "")
    file = results_file.with_name(f"{results_file.name.removesuffix('_results.json')}_verification.json")
    write_whole(file, f"{row.model_dump_json(indent=1)}\n".encode())
    _show(row)
    console.print(f"saved: {file}")
    if row.paper_row:
        console.print("How to send it: docs/verification.md")
    return row


def _show(row: VerificationRow) -> None:
    from egost.results.published_tables import published_table
    from egost.results.verification import gap_text, outcome_text, versions

    table = published_table(row.table)
    shown = Table(box=None, padding=(0, 1, 0, 0))
    for name in (
        "figure",
        "published",
        "compat (95 %)",
        "gap",
        "verdict",
        "strict (95 %)",
        "gap",
        "verdict",
        "n",
    ):
        shown.add_column(name, justify="left" if name in ("figure", "verdict") else "right", no_wrap=True)
    for figure in row.figures:
        shown.add_row(
            table.columns[figure.column],
            "" if figure.published is None else f"{figure.published:.1f}",
            *(
                text
                for outcome in (figure.compat, figure.strict)
                for text in (outcome_text(outcome), gap_text(outcome), outcome.verdict)
            ),
            f"{figure.n} of {figure.of}",
        )
    against = (
        f"against the paper's row {row.paper_row} ({table.source})" if row.paper_row else "of the mini world"
    )
    console.print(one_line(f"{row.name} {against}"))
    Console(width=160).print(shown)
    for name, value in (
        ("answered by", f"{row.model}, {versions(row)}"),
        ("release", row.release),
        ("frames", row.frames),
        ("prompt", row.prompt),
        ("judge", row.judge),
        ("limit", row.limit),
    ):
        if value:
            console.print(one_line(f"{name}: {value}"))
    reasons: dict[str, list[str]] = {}
    for figure in row.figures:
        for reason in figure.reasons:
            reasons.setdefault(reason, []).append(table.columns[figure.column])
    for reason, columns in reasons.items():
        of = "" if len(columns) == len(row.figures) else f" ({', '.join(columns)})"
        console.print(marked("not comparable:", one_line(f"{reason}{of}"), "yellow"))


def checked(files: list[Path]) -> str:
    """The table of the rows in some files. Raises RunError where one is not what its samples and the paper give."""
    from egost.results.run_header import RunError
    from egost.results.verification import read_row, table_of_rows

    known = {model.name: model for model in _of_the_paper()}
    rows = []
    for file in files:
        row = read_row(file)
        model = known.get(row.name)
        if not model or row.paper_row != model.paper_row:
            raise RunError(f"{file}: '{row.name}' as the paper's {row.paper_row} is no model of its tables.")
        as_paper = row.as_published == model.as_published and row.model.casefold() in (
            model.model.casefold(),
            row.name,
        )
        bare = [figure.column for figure in row.figures if not figure.reasons]
        if bare and not as_paper:
            raise RunError(
                f"{file}: {row.model} as published ({row.as_published or 'no'}) is not {model.model} as published "
                f"({model.as_published}), and {', '.join(bare)} gives no reason. Save the row again."
            )
        say(
            f"{file}: {len(row.figures)} figures, worked out again from {sum(map(len, row.samples.values()))} samples",
            err=True,
        )
        rows.append(row)
    return table_of_rows(rows, [str(model.paper_row) for model in known.values()])
