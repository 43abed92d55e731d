"""What `egost diagnose` measures and shows: controls on a model, and how far text alone gets, without one."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table

from egost.commands.front import console
from egost.model_adapters.model_names import model_named
from egost.model_adapters.questions import Questions, ask, choose_questions, load_model, number_of_requests
from egost.model_adapters.run_plan import RunOptions, RunPlan, plan_run
from egost.results.diagnosis.control_figures import by_rotation, compare_controls, scored
from egost.results.diagnosis.controls import AS_ASKED, About, Controls, Gap, write_controls
from egost.results.diagnosis.curve_plot import draw_curve, published_curve
from egost.results.diagnosis.text_only import (
    TEXT_ONLY_FILE,
    CurvePoint,
    Subject,
    TextOnly,
    TextOnlyScore,
    against_text_only,
    choices_together,
    not_solved_by_text,
    release_of,
    text_only,
    write_text_only,
)
from egost.results.intervals import Difference, p_text
from egost.results.records import SampleRecord
from egost.results.run import read_run
from egost.tasks.clips.controls import Control
from egost.tasks.clips.protocols import chosen_protocol
from egost.tasks.judging.choose import chosen_judge
from egost.tasks.judging.judge import Judge
from egost.tasks.prompts import chosen_prompt, load_prompt
from egost.tasks.release import release_name
from egost.tasks.release.release import open_release
from egost.tasks.release.trained_on import note_model
from egost.tasks.sample import Sample
from egost.tasks.task_names import named_tasks
from egost.training.rows.released_rows import RELEASED, released_subsets, rows_as_samples, rows_file

if TYPE_CHECKING:
    from egost.model_adapters.adapter import EngineModel

CURVE_FILE = "learning_curve.png"


def run_controls(
    name: str, options: RunOptions, wanted: Sequence[Control], limit: int | None, max_new_tokens: int | None
) -> None:
    named_tasks(options.tasks)  # A wrong name is an error before a checkpoint is loaded.
    plan = plan_run(model_named(name), options, os.environ)
    # The prompt and the frames are the model's, as in a run of it; the person's own settings have won already.
    os.environ.update(plan.settings)
    note_model(plan.model_args)  # So that its training rows are not among the questions.
    questions = choose_questions(options.tasks, limit, max_new_tokens)
    has_routes = any(question.sample.task == "route" for question in questions.asked)
    judge = chosen_judge(questions.release.world) if has_routes else None
    asked = sum(number_of_requests(questions, control) for control in (None, *wanted))
    console.print(
        f"{len(questions.asked)} questions, {asked} requests; what is in the journal is not asked again",
    )
    model = load_model(plan)
    try:
        replies, rotations = control_records(model, questions, wanted, judge)
        identity = model.identity.as_dict()
    finally:
        model.clean()
    about = _about(plan, identity, questions, options, judge.name if judge else "")
    found = compare_controls(replies, rotations, about)
    path = write_controls(plan.output, found, replies, rotations)
    _show_controls(found)
    console.print(f"controls: {path}")


def control_records(
    model: EngineModel, questions: Questions, wanted: Sequence[Control], judge: Judge | None
) -> tuple[dict[str, list[SampleRecord]], list[list[SampleRecord]]]:
    """What a model is worth as asked and under each control, and with the options moved on by 1, 2, ... places."""
    replies = {AS_ASKED: scored(ask(model, questions, None), judge)}
    for control in wanted:
        if control != "rotated":
            replies[control] = scored(ask(model, questions, control), judge)
    rotations = by_rotation(ask(model, questions, "rotated"), judge) if "rotated" in wanted else []
    return replies, rotations


def _about(
    plan: RunPlan, identity: dict[str, Any], questions: Questions, options: RunOptions, judge: str
) -> About:
    release = questions.release
    return About(
        model=identity,
        adapter=plan.adapter,
        model_args=plan.model_args,
        release=Subject(
            release_name(release.world, release.revision),
            release.world,
            release.revision,
            release.index.files_sha256,
        ),
        protocol=chosen_protocol().name,
        prompt=load_prompt(chosen_prompt()).label,
        judge=judge,
        tasks=options.tasks,
        limit=questions.limit,
        room=questions.max_new_tokens,
        left_out=questions.left_out,
        made_at=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def _show_controls(found: Controls) -> None:
    about = found.about
    facts = {
        "model": f"{about.model['model']} ({about.model['engine']})",
        "release": f"{about.release.name}, {about.release.release_revision}",
        "protocol": about.protocol,
        "prompt": about.prompt,
        "judge": about.judge,
        "limit": f"{about.limit} a task (for trying only)" if about.limit else "",
        "left out": f"{about.left_out} samples without frames" if about.left_out else "",
    }
    for name, value in facts.items():
        if value:
            console.print(f"{name}: {value}")
    chance = "" if found.chance is None else f"; a guess gets {found.chance:.1f}"
    console.print(
        f"as asked: {found.score.value:.1f} ({found.score.low:.1f} to {found.score.high:.1f}), "
        f"{found.score.n} samples{chance}",
    )
    table = Table(box=None, padding=(0, 1, 0, 0))
    for column in ("control", "as asked", "under it", "gap", "95 % interval", "p", "n"):
        table.add_column(column, justify="left" if column == "control" else "right", no_wrap=True)
    for arm in found.arms:
        table.add_row(*_control_row(f"{arm.name} (no model)" if arm.guesser else arm.name, arm.overall))
    if found.circular:
        whole = found.circular
        as_asked = f"{whole.circular.value + whole.gap.value:.1f}"
        table.add_row("rotated, right in all", as_asked, f"{whole.circular.value:.1f}", *_gap(whole.gap))
    console.print(table)
    if len({task for arm in found.arms for task in arm.by_task}) > 1:
        console.print(_tasks_table(found))
    for arm in found.arms:
        console.print(f"{arm.name}: {arm.meaning}")
    for name in ("circular", "turned", "consistency"):
        if part := getattr(found, name):
            console.print(f"{name}: {part.meaning}")


def _tasks_table(found: Controls) -> Table:
    """The gap of each control by task."""
    asked = [arm for arm in found.arms if not arm.guesser]
    table = Table(title="gap by task", box=None, padding=(0, 1, 0, 0))
    table.add_column("task", no_wrap=True)
    for arm in asked:
        table.add_column(arm.name, justify="right")
    for task in dict.fromkeys(task for arm in asked for task in arm.by_task):
        gaps = [arm.by_task[task].gap if task in arm.by_task else None for arm in asked]
        table.add_row(task, *["" if gap is None else _points(gap) for gap in gaps])
    return table


def _control_row(name: str, found: Gap) -> list[str]:
    return [name, f"{found.score.value:.1f}", f"{found.control.value:.1f}", *_gap(found.gap)]


def _gap(gap: Difference) -> list[str]:
    interval = "" if math.isnan(gap.low) else f"{gap.low:+.1f} to {gap.high:+.1f}"
    return [_points(gap), interval, p_text(gap.p_value), str(gap.n)]


def _points(gap: Difference) -> str:
    return "" if math.isnan(gap.value) else f"{gap.value:+.1f}"


def measure_text_only(target: str | None, tasks: str, train: str | None, output: Path | None) -> None:
    """Measure, write text_floor.json (and the learning curve), and show what was found.

    target: a run's folder or results file, `st-r1-rows` or a file of rows; None is the release that the tasks name.
    train: rows that a checkpoint was trained on, as `rows_as_samples` takes them; None for none.
    """
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
    _show_baselines(found)
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
    world, named = named_tasks(tasks)
    release = open_release(world)
    samples = [sample for task, way in named for sample in release.samples(task, way)]
    subject = Subject(
        release_name(world, release.revision), world, release.revision, release.index.files_sha256
    )
    return samples, subject, Path("runs") / f"text-only-{world}"


def _show_baselines(found: TextOnly) -> None:
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
    whole = choices_together(records)
    rest = not_solved_by_text(records, found)
    scores = {"all multiple-choice samples": whole, "not solved by text": rest}
    for name, score in scores.items():
        console.print(
            f"the run on {name}: {score.value:.1f} % ({score.low:.1f} to {score.high:.1f}), {score.n} samples",
        )
    baseline = found.trained.floor if found.trained else found.by_clip
    console.print(against_text_only(whole, baseline))
