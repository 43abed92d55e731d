"""`egost diagnose`: what a score owes to seeing, by controls on a model, and how far text alone gets, without one."""

from __future__ import annotations

import math
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from egost.commands.front import console, says_what_to_do
from egost.commands.run import Engine
from egost.commands.text_only import measure_text_only
from egost.tasks.errors import SettingError
from egost.tasks.task_names import named_tasks

if TYPE_CHECKING:
    from collections.abc import Sequence

    from egost.model_adapters.adapter import EngineModel
    from egost.model_adapters.questions import Questions
    from egost.model_adapters.run_plan import RunOptions, RunPlan
    from egost.results.diagnosis.controls import About, Controls, Gap
    from egost.results.intervals import Difference
    from egost.results.records import SampleRecord
    from egost.tasks.clips.controls import Control
    from egost.tasks.judging.judge import Judge

_ALL = "blind,shuffled,reversed,middle,rotated"


@says_what_to_do
def diagnose(
    model: Annotated[
        str | None,
        typer.Argument(
            help="As for egost run. With --text-only: a run, st-r1-rows or a file of rows; the release without."
        ),
    ] = None,
    tasks: Annotated[str, typer.Option(help="Tasks or groups, of one world.")] = "egost_mcq",
    controls: Annotated[str, typer.Option(help="Which, with commas between.")] = _ALL,
    engine: Annotated[Engine | None, typer.Option(help="By default the model's first.")] = None,
    base_url: Annotated[str | None, typer.Option(help="Of the server, or of an API.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="At most so many samples of each task.")] = None,
    max_new_tokens: Annotated[
        int | None, typer.Option(min=1, help="Of a response; by default what the prompt says.")
    ] = None,
    text_only: Annotated[
        bool, typer.Option("--text-only", help="How far text alone gets; no model, no video.")
    ] = False,
    train: Annotated[
        str | None,
        typer.Option(
            help="With --text-only: rows that a checkpoint was trained on (st-r1-rows, 63 to 630, a JSONL)."
        ),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder; by default that of the model's runs.")
    ] = None,
) -> None:
    """Ask a model again under controls, and show what its score loses; or measure how far text alone gets.

    Writes controls.json (with --text-only text_floor.json), which the leaderboard and the report read. The controls
    share the journal with egost run: what is answered is not asked again, and the same command goes on after a kill.
    """
    from egost.model_adapters.run_plan import RunOptions
    from egost.tasks.clips.controls import read_controls

    if text_only:
        measure_text_only(model, tasks, train, output)
    elif model is None:
        raise SettingError(
            "which model? Name one (egost models lists them), or take --text-only, which needs none."
        )
    elif train is not None:
        raise SettingError(
            "--train belongs to --text-only: a checkpoint tells by itself what it was trained on."
        )
    else:
        options = RunOptions(tasks, engine.value if engine else None, output=output, base_url=base_url)
        _run_controls(model, options, read_controls(controls), limit, max_new_tokens)


def _run_controls(
    name: str, options: RunOptions, wanted: Sequence[Control], limit: int | None, max_new_tokens: int | None
) -> None:
    from egost.model_adapters.model_names import model_named
    from egost.model_adapters.questions import choose_questions, load_model, number_of_requests
    from egost.model_adapters.run_plan import plan_run
    from egost.results.diagnosis.control_figures import compare_controls
    from egost.results.diagnosis.controls import write_controls
    from egost.tasks.judging.choose import chosen_judge
    from egost.tasks.release.trained_on import note_model

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
    _show(found)
    console.print(f"controls: {path}")


def control_records(
    model: EngineModel, questions: Questions, wanted: Sequence[Control], judge: Judge | None
) -> tuple[dict[str, list[SampleRecord]], list[list[SampleRecord]]]:
    """What a model is worth as asked and under each control, and with the options moved on by 1, 2, ... places."""
    from egost.model_adapters.questions import ask
    from egost.results.diagnosis.control_figures import by_rotation, scored
    from egost.results.diagnosis.controls import AS_ASKED

    replies = {AS_ASKED: scored(ask(model, questions, None), judge)}
    for control in wanted:
        if control != "rotated":
            replies[control] = scored(ask(model, questions, control), judge)
    rotations = by_rotation(ask(model, questions, "rotated"), judge) if "rotated" in wanted else []
    return replies, rotations


def _about(
    plan: RunPlan, identity: dict[str, Any], questions: Questions, options: RunOptions, judge: str
) -> About:
    from egost.results.diagnosis.controls import About
    from egost.results.diagnosis.text_only import Subject
    from egost.tasks.clips.protocols import chosen_protocol
    from egost.tasks.prompts import chosen_prompt, load_prompt

    release = questions.release
    return About(
        model=identity,
        adapter=plan.adapter,
        model_args=plan.model_args,
        release=Subject(
            f"{release.world} release", release.world, release.revision, release.index.files_sha256
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


def _show(found: Controls) -> None:
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
            console.print(f"{name}: {value}", markup=False)
    chance = "" if found.chance is None else f"; a guess gets {found.chance:.1f}"
    console.print(
        f"as asked: {found.score.value:.1f} ({found.score.low:.1f} to {found.score.high:.1f}), "
        f"{found.score.n} samples{chance}",
    )
    table = Table(box=None, padding=(0, 1, 0, 0))
    for column in ("control", "as asked", "under it", "gap", "95 % interval", "p", "n"):
        table.add_column(column, justify="left" if column == "control" else "right", no_wrap=True)
    for arm in found.arms:
        table.add_row(*_row(f"{arm.name} (no model)" if arm.guesser else arm.name, arm.overall))
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


def _row(name: str, found: Gap) -> list[str]:
    return [name, f"{found.score.value:.1f}", f"{found.control.value:.1f}", *_gap(found.gap)]


def _gap(gap: Difference) -> list[str]:
    interval = "" if math.isnan(gap.low) else f"{gap.low:+.1f} to {gap.high:+.1f}"
    return [_points(gap), interval, "" if math.isnan(gap.p_value) else f"{gap.p_value:.3f}", str(gap.n)]


def _points(gap: Difference) -> str:
    return "" if math.isnan(gap.value) else f"{gap.value:+.1f}"
