"""`egost diagnose --text-only`: how far text alone gets on a release, a run or training rows."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.table import Table

from egost.commands.front import console
from egost.tasks.task_names import named_tasks

if TYPE_CHECKING:
    from egost.results.diagnosis.text_only import CurvePoint, Subject, TextOnly, TextOnlyScore
    from egost.results.records import SampleRecord
    from egost.tasks.sample import Sample

CURVE_FILE = "learning_curve.png"


def measure_text_only(target: str | None, tasks: str, train: str | None, output: Path | None) -> None:
    """Measure, write text_floor.json (and the learning curve), and show what was found.

    target: a run's folder or results file, `st-r1-rows` or a file of rows; None is the release that the tasks name.
    train: rows that a checkpoint was trained on, as `rows_as_samples` takes them; None for none.
    """
    from egost.results.diagnosis.curve_plot import draw_curve
    from egost.results.diagnosis.text_only import TEXT_ONLY_FILE, text_only, write_text_only
    from egost.training.rows.released_rows import RELEASED, released_subsets, rows_as_samples

    samples, subject, folder, records = _asked(target, tasks)
    released = target == RELEASED or train == RELEASED or (train or "").isdecimal()
    found = text_only(
        samples,
        subject,
        train=rows_as_samples(train) if train else (),
        train_source=train or "",
        nested=released_subsets() if released else None,
    )
    folder = output or folder
    write_text_only(folder / TEXT_ONLY_FILE, found)
    _show(found)
    if found.curve:
        console.print(_curve_table(found.curve))
        title = f"Text alone on {subject.name}, with ST-R1 in Table 3"
        draw_curve(found.curve, found.by_clip.chance, title, folder / CURVE_FILE)
    if records:
        _show_rest(records, found)
    console.print(f"text-only baseline: {folder / TEXT_ONLY_FILE}")
    if found.curve:
        console.print(f"learning curve: {folder / CURVE_FILE}")


def _asked(target: str | None, tasks: str) -> tuple[Sequence[Sample], Subject, Path, Sequence[SampleRecord]]:
    """The questions, what they are of, where the figures are written by default, and the records of a run."""
    from egost.results.diagnosis.text_only import Subject, release_of
    from egost.results.run import read_run
    from egost.training.rows.released_rows import RELEASED, rows_as_samples, rows_file

    if target is None:
        return *_of_release(tasks), ()
    if target == RELEASED or target.endswith(".jsonl"):
        rows = rows_as_samples(target)
        sha256 = hashlib.sha256(rows_file(target).read_bytes()).hexdigest()
        name = "the 630 ST-R1 rows" if target == RELEASED else target
        return rows, Subject(name, "rows", "as released", sha256), Path("runs") / Path(target).stem, ()
    run = read_run(Path(target))
    records = run.records
    return [record.sample for record in records], release_of(run), run.results_file.parent, records


def _of_release(tasks: str) -> tuple[Sequence[Sample], Subject, Path]:
    from egost.results.diagnosis.text_only import Subject
    from egost.tasks.release.release import open_release

    world, named = named_tasks(tasks)
    release = open_release(world)
    samples = [sample for task, way in named for sample in release.samples(task, way)]
    subject = Subject(f"the {world} release", world, release.revision, release.index.files_sha256)
    return samples, subject, Path("runs") / f"text-only-{world}"


def _show(found: TextOnly) -> None:
    baseline = found.by_clip
    console.print(
        f"{found.subject.name} ({found.subject.release_revision}): {baseline.n} questions about {baseline.clips} clips",
    )
    table = Table(box=None, padding=(0, 1, 0, 0))
    table.add_column("text alone, no video", no_wrap=True)
    for name in ("right", "95 % interval", "chance", "n"):
        table.add_column(name, justify="right", no_wrap=True)
    rows = {
        **found.rules,
        "linear baseline, other clips": baseline,
        **{f"  {task}": part for task, part in found.by_task.items()},
        **{f"linear baseline, without {source}": part for source, part in found.by_source.items()},
    }
    if trained := found.trained:
        rows[f"fitted on {trained.rows} rows ({trained.source}), other questions"] = trained.floor
        if trained.other_clips:
            rows[f"fitted on {trained.rows} rows ({trained.source}), other clips"] = trained.other_clips
    for name, part in rows.items():
        table.add_row(name, *_cells(part))
    console.print(table)
    share = 100 * len(found.solved) / baseline.n
    console.print(
        f"{len(found.solved)} of {baseline.n} questions ({share:.1f} %) are solved by text alone, chance would solve "
        f"{baseline.chance:.1f} %; {len(found.not_solved)} are not.",
    )


def _cells(score: TextOnlyScore) -> list[str]:
    interval = f"{score.low:.1f} to {score.high:.1f}"
    return [f"{score.percent:.1f} %", interval, f"{score.chance:.1f} %", str(score.n)]


def _curve_table(curve: Sequence[CurvePoint]) -> Table:
    from egost.results.diagnosis.curve_plot import published_curve

    published = {rows: (forward, reverse) for rows, forward, reverse in published_curve()}
    table = Table(title="learning curve of the text-only baseline", box=None, padding=(0, 1, 0, 0))
    for name in (
        "rows",
        "random rows",
        "sd",
        "released subset",
        "its other clips",
        "n",
        "ST-R1 F / R (Table 3)",
    ):
        table.add_column(name, justify="right", no_wrap=True)
    for point in curve:
        other = point.nested_other_clips
        cells = [f"{point.random:.1f}", f"{point.random_sd:.1f}"]
        cells.append(f"{point.nested.percent:.1f}" if point.nested else "-")
        cells += [f"{other.percent:.1f}", str(other.n)] if other else ["-", "-"]
        ways = published.get(point.rows)
        table.add_row(str(point.rows), *cells, f"{ways[0]:.1f} / {ways[1]:.1f}" if ways else "-")
    return table


def _show_rest(records: Sequence[SampleRecord], found: TextOnly) -> None:
    """What the run scores on all questions, and where text alone fails."""
    from egost.results.diagnosis.text_only import against_text_only, not_solved_by_text
    from egost.results.intervals import estimate

    whole = estimate([record for record in records if record.sample.options])
    rest = not_solved_by_text(records, found)
    scores = {"all multiple-choice samples": whole, "not solved by text": rest}
    for name, score in scores.items():
        console.print(
            f"the run on {name}: {score.value:.1f} % ({score.low:.1f} to {score.high:.1f}), {score.n} samples",
        )
    baseline = found.trained.floor if found.trained else found.by_clip
    console.print(against_text_only(whole, baseline))
