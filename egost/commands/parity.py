"""`egost parity`: the same checkpoint and frames through several engines."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from egost.commands.front import console, says_what_to_do
from egost.tasks.task_names import named_tasks

if TYPE_CHECKING:
    from egost.model_adapters.parity.parity import Parity, Parting


@says_what_to_do
def parity(
    model: Annotated[
        str, typer.Argument(help="Short name (egost models), hub id, folder, mini-base, mini-st-r1 or tiny.")
    ],
    engines: Annotated[
        str,
        typer.Option(
            help="Two or more of transformers, vllm, hf (as for egost run); each is compared with the first."
        ),
    ] = "transformers,vllm",
    tasks: Annotated[str, typer.Option(help="Tasks or groups, of one world.")] = "egost_mini",
    limit: Annotated[int | None, typer.Option(min=1, help="At most so many questions of each task.")] = None,
    revision: Annotated[str | None, typer.Option(help="Commit of a hub id.")] = None,
    dtype: Annotated[str, typer.Option(help="float32 or bfloat16.")] = "float32",
    output: Annotated[Path, typer.Option("--output", "-o", help="The report, as JSON.")] = Path(
        "parity.json"
    ),
) -> None:
    """Ask the same questions through two engines and show where they part.

    Exit code 0 when all agree, or part only where rounding decides between two tokens; else 1.
    """
    from egost.model_adapters.parity.parity_run import engine_makers, run_parity, write_report
    from egost.model_adapters.questions import choose_questions

    named_tasks(tasks)  # A wrong name is reported before anything is loaded.
    makers = engine_makers(engines, model, revision, dtype)
    questions = choose_questions(tasks, limit)
    found = run_parity(makers, questions.asks(list(questions.asked)), rounding_known=dtype == "float32")
    write_report(output, found, questions.left_out)
    for pair in found:
        console.print(_table(pair))
        console.print(pair.verdict)
    if questions.left_out:
        console.print(f"left out: {questions.left_out} questions whose clips give no frames")
    console.print(f"report: {output}")
    raise typer.Exit(0 if all(pair.passed for pair in found) else 1)


def _table(pair: Parity) -> Table:
    table = Table(title=" and ".join(pair.engines), box=None, padding=(0, 1, 0, 0))
    for name in ("question", "frames", "tokens", "grid", "prompt", "1st logp", "answers"):
        table.add_column(name, overflow="fold", no_wrap=name == "question")
    for q in pair.questions:
        grids = ["x".join(map(str, grid)) if grid else "none" for grid in q.grids]
        table.add_row(
            q.sample,
            _pair(*[(sha or "unknown")[:8] for sha in q.frames_sha256]),
            _pair(*map(str, q.video_tokens)),
            _pair(*grids),
            "same" if q.prompt_differs_at is None else Text(f"from {q.prompt_differs_at}", "red"),
            f"{q.first_token.largest:.1e}",
            "same" if q.parting is None else _parting(q.parting),
        )
    return table


def _pair(first: str, second: str) -> str | Text:
    return first if first == second or "unknown" in second else Text(f"{first} / {second}", "red")


def _parting(parting: Parting) -> str | Text:
    words = " / ".join("end" if word is None else repr(word) for word in parting.words)
    gaps = " / ".join("not among the likeliest" if gap is None else f"{gap:.1e}" for gap in parting.gaps)
    text = f"part at {parting.position}: {words}, gaps {gaps}"
    return f"{text}, rounding" if parting.explained else Text(text, "red")
