"""`egost construct`: build a benchmark of the same kind from first-person videos."""

from __future__ import annotations

import getpass
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from egost.commands.front import Workers, console, marked, says_what_to_do

if TYPE_CHECKING:
    from egost.tasks.construction.calibration import Calibration
    from egost.tasks.construction.checks import BlindRun
    from egost.tasks.construction.workfolder import WorkFolder

construct_app = typer.Typer(
    help="Build a benchmark of this kind from videos: clips, annotate, questions, calibrate, review, publish.",
    no_args_is_help=True,
)

Out = Annotated[Path, typer.Argument(help="Working folder of the construction.")]
PagePort = Annotated[
    int, typer.Option(min=0, max=65535, help="Port of the page on 127.0.0.1; 0 takes a free port.")
]


@construct_app.command()
@says_what_to_do
def clips(
    spec: Annotated[
        Path,
        typer.Argument(
            help="CSV or JSON: file, start, end, source, scene; optional licence, name. Or a folder of videos."
        ),
    ],
    out: Out,
    workers: Workers = None,
    scene: Annotated[
        str, typer.Option(help="With a folder of videos: their scene, where all have the same.")
    ] = "",
) -> None:
    """Cut videos into clips of one form; for a folder of videos, draft the list of clips first.

    Run it again to go on. Exit code 1 when a clip cannot be cut.
    """
    from egost.tasks.construction.cutting import build_clips, lengths, write_length_plot

    if spec.is_dir():
        _draft(spec, out, scene)
        return
    folder = _work_folder(out)
    rows, failures = build_clips(folder, spec, workers=workers)
    for failure in failures:
        console.print(marked(failure.reason, f"{failure.clip}: {failure.message}"))
    if rows:
        table = Table("source", "clips", "shortest s", "median s", "longest s", "all min")
        for found in lengths(rows):
            figures = (found.shortest, found.median, found.longest, found.total / 60)
            table.add_row(found.source, str(found.clips), *(f"{figure:.1f}" for figure in figures))
        console.print(table)
        write_length_plot(rows, folder.lengths_plot)
        console.print(f"plot: {folder.lengths_plot}")
    console.print(f"{len(rows)} of {len(rows) + len(failures)} clips in {folder.clip_folder}")
    raise typer.Exit(1 if failures else 0)


def _draft(videos: Path, out: Path, scene: str) -> None:
    from egost.tasks.construction.spec import SCENE_WORDS, draft_spec

    file = out / "clips.csv"
    console.print(f"{draft_spec(videos, file, scene)} videos of {videos} are in {file}, one clip each.")
    if not scene:
        console.print("Give each its scene:")
        for name, words in SCENE_WORDS.items():
            console.print(f"  {name}  {words}")
    console.print("Give a long video several rows, each with its start and end (seconds, m:ss or h:mm:ss).")
    console.print(f"Then: egost construct clips {file} {out}")


@construct_app.command()
@says_what_to_do
def annotate(
    out: Out,
    import_: Annotated[
        Path | None,
        typer.Option(
            "--import", help="Import a CSV or JSON file of annotations instead of serving the page."
        ),
    ] = None,
    port: PagePort = 0,
    annotator: Annotated[str | None, typer.Option(help="Who annotates; your login name by default.")] = None,
) -> None:
    """Annotate the routes on a local page in the browser, which saves each change; or import a file of them."""
    folder = _work_folder(out)
    if import_ is None:
        _serve_annotation(folder, annotator or getpass.getuser(), port)
        return
    from egost.tasks.construction.workfolder import import_annotations

    imported = import_annotations(folder, import_)
    done = {annotation.clip for annotation in folder.annotations.all()}
    console.print(
        f"imported: {len(imported)} annotations; {len(done)} of {len(folder.clips())} clips are annotated"
    )


def _serve_annotation(folder: WorkFolder, annotator: str, port: int) -> None:
    from egost.tasks.construction.annotation_page import serve_annotation

    def announce(address: str) -> None:
        console.print(f"annotate as {annotator}: {address}", soft_wrap=True)
        console.print(f"each change is saved in {folder.annotations.folder}; Ctrl+C ends")

    serve_annotation(folder, annotator, port, announce)


@construct_app.command()
@says_what_to_do
def questions(
    out: Out,
    writer: Annotated[
        str, typer.Option(help="offline (by rule), openai:MODEL, openai:MODEL@URL, azure:NAME@URL.")
    ] = "offline",
    seed: Annotated[int, typer.Option(min=0, help="Seed of wordings, rules and right letters.")] = 0,
) -> None:
    """Write the questions of the annotated clips; run it again to go on. Replies of a server are kept."""
    from egost.tasks.construction.questions import get_writer, write_questions

    folder = _work_folder(out)
    found = write_questions(folder, get_writer(writer, folder.writer_replies, seed), seed=seed)
    table = Table("task", "questions")
    for task, number in sorted(Counter(f"{d.task}_{d.way}" for d in found.drafts).items()):
        table.add_row(task, str(number))
    console.print(table)
    for reason, number in Counter(item.reason for item in found.left_out).most_common():
        example = next(item for item in found.left_out if item.reason == reason)
        console.print(
            f"left out: {number} ({reason}), for example {example.id}: {example.message}",
            markup=False,
        )
    if writer != "offline":
        cost = found.cost
        price = "no price known" if cost.usd is None else f"{cost.usd:.4f} USD"
        console.print(
            f"replies kept: {cost.replies}, {cost.tokens_in} tokens in, {cost.tokens_out} out, {price}",
        )
    console.print(f"{len(found.drafts)} questions in {folder.questions}")


@construct_app.command()
@says_what_to_do
def calibrate(
    out: Out,
    blind: Annotated[
        list[Path] | None,
        typer.Option(help="Folder of a run that saw no frames, on a release published from this folder."),
    ] = None,
    judge: Annotated[
        str | None, typer.Option(help="A model that sees the steps and names all right options.")
    ] = None,
) -> None:
    """Drop broken questions, send doubtful ones to review.jsonl, and measure what text alone gives away.

    Exit code 1 when the set gives its answers away or no question is left.
    """
    from egost.tasks.construction.calibration import calibrate as calibrate_folder

    folder = _work_folder(out)
    result = calibrate_folder(folder, blind=[blind_run(run) for run in blind or ()], judge=judge)
    _print_calibration(result)
    console.print(
        f"{len(result.kept)} kept, {len(result.dropped)} dropped ({folder.dropped}), {len(result.pending)} wait for a "
        f"person ({folder.review}); report: {folder.calibration}",
    )
    _say_what_comes_next(result, out)
    raise typer.Exit(0 if result.passed else 1)


def _say_what_comes_next(result: Calibration, out: Path) -> None:
    from egost.results.power import assumed_spread, needed
    from egost.tasks.text_only_baseline import FOLDS

    if clips := len({draft.clip for draft in result.kept}):
        spread = assumed_spread(per_clip=len(result.kept) / clips)
        points = {points: needed(spread, points).clips for points in (10, 5)}
        console.print(
            f"{clips} clips are kept. {FOLDS} clips with questions of a kind are enough for the checks above; some "
            f"{points[10]} clips like these show a difference of 10 points between two models, {points[5]} one of 5."
        )
    if result.pending:
        following = f"egost construct review {out}, then calibrate again"
    elif result.passed:
        following = f"egost construct publish {out} RELEASE --name NAME"
    elif result.kept:
        following = (
            "what gives answers away is in red above: egost construct questions --seed with another number, or other "
            "clips; publish --with-findings publishes the set as it is, and its card says so"
        )
    else:
        following = f"egost construct annotate {out}, since no question is left"
    console.print(f"Next: {following}")


def blind_run(folder: Path) -> BlindRun:
    """What the model of the newest run in a folder chose. Raises RunError where there is no such run."""
    from egost.results.run import read_run
    from egost.tasks.construction.checks import BlindRun

    choices = [
        (record.sample, record.choice.letter)
        for record in read_run(folder).records
        if record.choice and not record.unscored
    ]
    return BlindRun(str(folder), tuple(choices))


@construct_app.command()
@says_what_to_do
def review(out: Out, port: PagePort = 0) -> None:
    """Accept, edit or reject doubtful questions on a local page in the browser; then calibrate again."""
    from egost.tasks.construction.review_page import serve_review

    folder = _work_folder(out)

    def announce(address: str) -> None:
        console.print(f"review: {address}", soft_wrap=True)
        console.print(
            f"each decision is saved in {folder.review}; Ctrl+C ends, then: egost construct calibrate {out}",
        )

    serve_review(folder, port, announce)


@construct_app.command()
@says_what_to_do
def publish(
    out: Out,
    release: Annotated[Path, typer.Argument(help="Folder of the release, for EGOST_DATA.")],
    name: Annotated[
        str, typer.Option(help="Name of the benchmark; part of its revision in all results.")
    ] = "private",
    with_findings: Annotated[
        bool, typer.Option("--with-findings", help="Publish a set that gives answers away; the card says so.")
    ] = False,
) -> None:
    """Write the official layout with a data card; the tasks run on it, `egost data verify` checks it."""
    from egost.tasks.construction.publication import publish as publish_folder

    done = publish_folder(_work_folder(out), release, name=name, with_findings=with_findings)
    console.print(
        f"{done.revision}: {done.card['questions']} questions, {done.card['clips']} clips in {done.root}",
    )
    for finding in done.findings:
        console.print(marked("published although", f"text gives answers away: {finding}"))
    if done.unlicensed:
        console.print(
            f"no licence is given for {', '.join(done.unlicensed)}: put it into the list of clips before you share "
            "them",
        )
    if done.missing_tasks:
        console.print(
            f"no question of {', '.join(done.missing_tasks)}: `egost data verify` reports it, and the group egost "
            "does not run; name the other tasks with --tasks",
        )
    console.print(
        f"To evaluate on it: export EGOST_DATA={done.root.resolve()}; then: egost data verify",
    )


def _work_folder(root: Path) -> WorkFolder:
    from egost.tasks.construction.workfolder import WorkFolder

    return WorkFolder(root)


def _print_calibration(result: Calibration) -> None:
    reasons = Table("reason", "what happens", "questions")
    for verdict, found in (("dropped", result.dropped), ("waits for a person", result.pending)):
        counts = Counter(reason for _, findings in found for reason in {f.name for f in findings})
        for reason, number in counts.most_common():
            reasons.add_row(reason, verdict, str(number))
    if reasons.row_count:
        console.print(reasons)
    cues = Table(box=None, padding=(0, 1, 0, 0))
    for name in ("without a frame", "of", "n", "right %", "interval", "chance %", ""):
        cues.add_column(
            name, justify="left" if name in ("without a frame", "of", "") else "right", no_wrap=True
        )
    for cue in result.cues:
        right, interval, said = "-", "", Text("too few clips")
        if cue.accuracy is not None and cue.low is not None and cue.high is not None:
            right, interval = f"{100 * cue.accuracy:.1f}", f"{100 * cue.low:.1f} to {100 * cue.high:.1f}"
            said = Text("gives answers away", "red") if cue.found else Text("at chance")
        cues.add_row(cue.name, cue.of, str(cue.questions), right, interval, f"{100 * cue.chance:.1f}", said)
    console.print(cues)
    for agreement in result.agreements:
        kappa = (
            "no kappa (one category)" if agreement.kappa is None else f"Cohen's kappa {agreement.kappa:.2f}"
        )
        console.print(
            f"{' and '.join(agreement.annotators)}: {kappa} over {agreement.steps} steps of {agreement.clips} clips",
        )
    for reason, number in result.unjudged.items():
        console.print(marked("not judged:", f"{number} ({reason})"))
