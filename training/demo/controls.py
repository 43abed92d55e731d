"""A demo's checkpoints asked without the clip (`blind`), or with another walk's clip (`other`).

    python -m egost.training.demo.controls --out OUT --tasks TASKS NAME:direct:blind:FOLDER ...

The functions and the journal are those of `egost diagnose`. It has no control with another walk's clip, and asks one
question at a time, which would take the demo an hour longer: this module adds these two things.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, get_args

import typer
from pydantic import TypeAdapter

from egost.tasks.cache import write_whole
from egost.tasks.judging.judge import JudgeError, JudgeFailure, Judgement
from egost.tasks.release.trained_on import note_model
from egost.tasks.text_files import json_lines
from egost.training import TrainingError

if TYPE_CHECKING:
    from egost.model_adapters.questions import Questions

Control = Literal["blind", "other"]


@dataclass(frozen=True, slots=True)
class ControlReply:
    """A checkpoint's reply to one question under a control.

    percent: its score, 0 to 100; None where it could not be had, and `unscored` says why. judgement: of a route.
    """

    sample: str
    response: str
    percent: float | None
    unscored: str | None = None
    judgement: Judgement | JudgeFailure | None = None


_REPLY = TypeAdapter(ControlReply)


def controls_file(folder: Path, name: str, control: Control) -> Path:
    """The file of a checkpoint's replies under a control."""
    return folder / f"{name}-{control}.jsonl"


def read_replies(path: Path) -> dict[str, ControlReply]:
    """The replies of a file by their samples' ids. Raises TrainingError."""
    try:
        replies = [_REPLY.validate_python(row) for _, row in json_lines(path)]
    except (OSError, ValueError, JudgeError) as error:
        raise TrainingError(
            f"{path} holds no replies of a control ({error!r}). Delete it and run the demo again."
        ) from error
    return {reply.sample: reply for reply in replies}


def main(
    asked: Annotated[list[str], typer.Argument(help="NAME:PROMPT:CONTROL:FOLDER of a checkpoint; several.")],
    out: Annotated[Path, typer.Option(help="Folder for the replies; files that are there are kept.")],
    tasks: Annotated[str, typer.Option(help="Tasks, with commas between.")],
    tokens: Annotated[int, typer.Option(help="Most tokens of a reply.")] = 192,
    batch: Annotated[int, typer.Option(help="Questions that are asked at once.")] = 16,
) -> None:
    """Write the replies of checkpoints under controls, one file for each."""
    for words in asked:
        name, prompt, control, folder = _parts(words)
        path = controls_file(out, name, control)
        if not path.is_file():
            replies = _replies(folder, prompt, control, tasks, tokens, batch)
            lines = [json.dumps(asdict(reply), ensure_ascii=False) for reply in replies]
            write_whole(path, ("\n".join(lines) + "\n").encode())
            typer.echo(str(path))


def _replies(
    folder: str, prompt: str, control: Control, tasks: str, tokens: int, batch: int
) -> list[ControlReply]:
    from egost.model_adapters.model_names import model_named
    from egost.model_adapters.questions import ask, choose_questions, load_model
    from egost.model_adapters.run_plan import RunOptions, plan_run
    from egost.results.diagnosis.control_figures import scored
    from egost.tasks.judging.choose import get_judge

    environment = {"EGOST_PROMPT": prompt, "EGOST_PROTOCOL": "uniform8"}
    plan = plan_run(model_named(folder), RunOptions(tasks, engine="hf"), environment)
    os.environ.update(plan.settings)
    note_model(plan.model_args)
    questions = choose_questions(tasks, max_new_tokens=tokens)
    model = load_model(plan, batch)
    try:
        if control == "other":
            answers = ask(model, with_other_clips(questions), None)
        else:
            answers = ask(model, questions, "blind")
    finally:
        model.clean()
    return [
        ControlReply(record.sample.id, record.response, record.percent, record.unscored, record.judgement)
        for record in scored(answers, get_judge("offline"))
    ]


def with_other_clips(questions: Questions) -> Questions:
    """The same questions, each with the clip that is half-way round from its own, which is never its own."""
    clips = {question.sample.clip: question.clip for question in questions.asked}
    names = sorted(clips)
    other = {name: clips[names[(k + len(names) // 2) % len(names)]] for k, name in enumerate(names)}
    swapped = (replace(question, clip=other[question.sample.clip]) for question in questions.asked)
    return replace(questions, asked=tuple(swapped))


def _parts(words: str) -> tuple[str, str, Control, str]:
    parts = words.split(":", 3)
    for control in get_args(Control):
        if len(parts) == 4 and parts[2] == control:
            return parts[0], parts[1], control, parts[3]
    raise TrainingError(
        f"{words!r} is not NAME:PROMPT:CONTROL:FOLDER with the control {' or '.join(get_args(Control))}."
    )


if __name__ == "__main__":
    typer.run(main)
