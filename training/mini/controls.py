"""What checkpoints answer without the clip, or to another clip: the controls of each figure of a demo.

    python -m egost.training.mini.controls --walks WALKS --out OUT --task direction NAME:direct:blind:FOLDER ...

The same questions as the evaluation asks, the same prompt and the same scorer; one file of replies for each control.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, cast, get_args

import typer

from egost.tasks.cache import write_whole
from egost.tasks.errors import EgostError
from egost.tasks.mini_world import mini_revision
from egost.tasks.release.release import Release
from egost.tasks.sample import WAYS
from egost.tasks.scoring.scores import Response, score_choice
from egost.training.mini.evaluate import Asker, Control


class ControlError(EgostError):
    """A control that nobody knows, or a file of replies that cannot be read."""


@dataclass(frozen=True, slots=True)
class ControlReply:
    """What a checkpoint said to one question under a control, and what that is worth (0 or 100)."""

    sample: str
    response: str
    percent: float


def controls_file(folder: Path, name: str, control: Control) -> Path:
    """Where the replies of a checkpoint under a control stand."""
    return folder / f"{name}-{control}.jsonl"


def read_replies(path: Path) -> dict[str, ControlReply]:
    """The replies of a file by their samples' ids. Raises ControlError."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
        replies = [ControlReply(**json.loads(line)) for line in lines]
    except (OSError, ValueError, TypeError) as error:
        raise ControlError(
            f"{path} holds no replies of a control ({error!r}). Delete it and run again."
        ) from error
    return {reply.sample: reply for reply in replies}


def write_replies(asker: Asker, release: Release, tasks: Sequence[str], control: Control, path: Path) -> None:
    """Ask all questions of some tasks under a control, and write the replies whole."""
    lines = []
    for task in tasks:
        for way in WAYS:
            samples = release.samples(task, way)
            replies = asker.replies(samples, control)
            for sample, reply in zip(samples, replies, strict=True):
                score = score_choice(sample, Response(reply))
                assert score.percent is not None
                told = {"sample": sample.id, "response": reply, "percent": score.percent}
                lines.append(json.dumps(told, ensure_ascii=False))
    write_whole(path, ("\n".join(lines) + "\n").encode())


def main(
    asked: Annotated[list[str], typer.Argument(help="NAME:PROMPT:CONTROL:FOLDER of a checkpoint; several.")],
    walks: Annotated[Path, typer.Option(help="Folder of the mini release.")],
    out: Annotated[Path, typer.Option(help="Folder for the replies; files that are there are left.")],
    task: Annotated[list[str], typer.Option(help="Multiple-choice tasks, without their way.")],
    tokens: Annotated[int, typer.Option(help="Most tokens of a reply that reasons.")] = 192,
) -> None:
    """Write the replies of checkpoints under controls."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    release = Release("mini", (walks,), mini_revision(walks))
    for told in asked:
        name, prompt, control, folder = _parts(told)
        path = controls_file(out, name, control)
        if not path.is_file():
            started = time.monotonic()
            asker = Asker(folder, release, prompt, tokens if prompt == "think" else 4)
            write_replies(asker, release, task, control, path)
            typer.echo(f"{path}: {time.monotonic() - started:.0f} s")


def _parts(told: str) -> tuple[str, str, Control, Path]:
    parts = told.split(":", 3)
    if len(parts) != 4 or parts[2] not in get_args(Control):
        raise ControlError(
            f"{told!r} is not NAME:PROMPT:CONTROL:FOLDER with {' or '.join(get_args(Control))}."
        )
    return parts[0], parts[1], cast(Control, parts[2]), Path(parts[3])


if __name__ == "__main__":
    typer.run(main)
