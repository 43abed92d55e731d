"""`egost judge label`: people score routes of a run, without knowing the model or what a judge said."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from egost.commands.construct import PagePort
from egost.commands.front import console, says_what_to_do


@says_what_to_do
def label(
    run: Annotated[Path, typer.Argument(help="A judged run; its labels are kept beside its results.")],
    rater: Annotated[
        str,
        typer.Option(
            help="Who labels: a name of your choice, which the labels keep; each person takes another."
        ),
    ] = "rater1",
    n: Annotated[
        int, typer.Option("--n", min=1, help="How many routes are drawn, when the first person starts.")
    ] = 60,
    raters: Annotated[
        int, typer.Option(min=1, help="How many people label the run, each apart; one more is refused.")
    ] = 2,
    port: PagePort = 0,
) -> None:
    """Score routes of a run by hand on a local page in the browser, which saves each label at once.

    Each rater starts it with a name of their own and has an order of their own. Run it again to go on.
    """
    from egost.results.labels.label_file import opened_labels
    from egost.results.labels.label_page import serve_labels
    from egost.results.run import read_run

    saved = read_run(run)
    file = opened_labels(saved, n)

    def announce(address: str) -> None:
        console.print(f"label as {rater}: {address}", soft_wrap=True)
        console.print(f"each label is saved in {file}; Ctrl+C ends")

    serve_labels(file, saved.records, rater, raters, port, announce)
