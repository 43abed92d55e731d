"""`egost judge label`: people score routes of a run, without knowing the model or what a judge said."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from egost.commands.construct import PagePort
from egost.commands.front import console, says_what_to_do

if TYPE_CHECKING:
    from egost.results.run import Run


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
        int | None,
        typer.Option(
            "--n", min=1, help="How many routes are drawn when the first person starts; 60 by default."
        ),
    ] = None,
    raters: Annotated[
        int, typer.Option(min=1, help="How many people label the run, each apart; one more is refused.")
    ] = 2,
    contested: Annotated[
        int | None,
        typer.Option(
            min=1, help="So many of the drawn routes are those on which the run's judges differ most."
        ),
    ] = None,
    import_: Annotated[
        Path | None,
        typer.Option(
            "--import", help="Take labels from a CSV file: a filled sheet, or another file of labels."
        ),
    ] = None,
    export: Annotated[
        Path | None,
        typer.Option(help="Write the rater's routes and labels as a CSV file, to be filled and imported."),
    ] = None,
    port: PagePort = 0,
) -> None:
    """Score routes of a run by hand on a local page in the browser, which saves each label at once.

    Each rater starts it under a name of their own, has an order of their own, and sees neither the model's name nor
    what a judge or another rater says. Run it again to go on.
    """
    from egost.results.labels.drawing import opened_labels
    from egost.results.labels.label_file import imported, matched, read_labels, sheet_of
    from egost.results.run import read_run
    from egost.tasks.cache import only_writer, write_whole

    saved = read_run(run)
    file = opened_labels(saved, n, contested)
    labels = read_labels(file)
    matched(labels, saved.records)
    labels.admit(rater, raters)
    if import_:
        with only_writer(file):
            before = read_labels(file)
            labels = imported(before, import_, rater, raters)
            labels.write(file)
        same = sum(labels.labels[key] == scores for key, scores in before.labels.items())
        console.print(
            f"imported: {len(labels.labels) - len(before.labels)} labels; {len(before.labels) - same} changed"
        )
    if export:
        write_whole(export, sheet_of(labels, saved.records, rater))
        console.print(
            f"{len(labels.drawn)} routes of {rater} are in {export}; --import takes them when filled"
        )
    if not (import_ or export):
        _serve(saved, file, rater, port)
    labels = read_labels(file)
    done = Counter(who for _, who in labels.labels)
    each = ", ".join(f"{name} {number}" for name, number in sorted(done.items()))
    console.print(f"labelled: {each or 'nothing'}, of {len(labels.drawn)} routes; {file}")


def _serve(run: Run, file: Path, rater: str, port: int) -> None:
    from egost.results.labels.label_page import serve_labels

    def announce(address: str) -> None:
        console.print(f"label as {rater}: {address}", soft_wrap=True)
        console.print(f"each label is saved in {file}; Ctrl+C ends")

    serve_labels(file, run.records, rater, port, announce)
