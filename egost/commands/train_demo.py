"""The report of `egost train demo`: runs the whole way to ST-R1 in small, and shows what came of it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from rich.table import Table

from egost.commands.front import console
from egost.model_adapters.model_names import MINI_BASE
from egost.results.records import SampleRecord
from egost.results.run import read_run
from egost.results.training_table import (
    Target,
    TrainedModel,
    TrainingTable,
    as_json,
    controlled,
    form,
    legend,
    markdown,
    targets,
    training_table,
)
from egost.tasks.cache import write_whole
from egost.training.demo.controls import controls_file, read_replies
from egost.training.demo.demo import FULL, QUICK, Demo, Paradigm, make_demo
from egost.training.run_log import FINE_TUNING, LOG_FILE, REWARD, draw

AIM = 60.0
"""Percent that ST-R1 is to reach on each kind of question; guessing gets about 28."""

QUICK_MISSES = (
    "A quick run is expected to miss most of them: it shows that every step runs, and its "
    "figures mean nothing."
)

GAINS = (
    ("mini-base", "SFT"),
    ("mini-base", "ST-CoT"),
    ("SFT", "SFT+GRPO"),
    ("ST-CoT", "ST-R1"),
    ("mini-base", "ST-R1"),
    ("SFT+GRPO", "ST-R1"),
)


def run_demo(out: Path, quick: bool, base: Path | None) -> None:
    """Make the demo in a folder, and write and print its report. Raises EgostError."""
    asked = Demo(out.absolute(), (base or MINI_BASE).absolute(), QUICK if quick else FULL)
    took = make_demo(asked, console)
    table, aims = _table(asked)
    if quick:
        # A few steps teach nothing, so that the paper's figures say nothing next to them.
        table = replace(table, published=())
    plots = _plots(asked)
    _report(asked, table, aims, plots, took)
    _show(asked, table, aims)
    for path in (*plots, asked.out / "report.md", asked.out / "report.json"):
        console.print(str(path))


def _table(demo: Demo) -> tuple[TrainingTable, tuple[Target, ...]]:
    table = training_table([_model(demo, paradigm) for paradigm in demo.paradigms], GAINS)
    return table, targets(table, "mini-base", "ST-R1", AIM)


def _model(demo: Demo, paradigm: Paradigm) -> TrainedModel:
    records = read_run(demo.evaluation(paradigm.name)).records
    controls: dict[str, tuple[SampleRecord, ...]] = {
        control: _under_control(records, controls_file(demo.controls, paradigm.name, control))
        for control in demo.controls_of(paradigm.name)
    }
    return TrainedModel(paradigm.label, paradigm.rows, records, controls)


def _under_control(records: tuple[SampleRecord, ...], path: Path) -> tuple[SampleRecord, ...]:
    replies = read_replies(path)
    return tuple(
        replace(
            record,
            response=reply.response,
            percent=reply.percent,
            unscored=reply.unscored,
            choice=None,
            frames=None,
            generation=None,
        )
        for record in records
        if (reply := replies[record.sample.id])
    )


def _plots(demo: Demo) -> list[Path]:
    log = {paradigm.name: demo.run(paradigm.name) / LOG_FILE for paradigm in demo.paradigms}
    fine_tuning, reward = demo.out / "fine_tuning.png", demo.out / "grpo.png"
    draw({"ST-CoT": log["st_cot"], "SFT": log["sft"]}, FINE_TUNING, "Fine-tuning", fine_tuning)
    draw({"ST-CoT + GRPO": log["st_r1"], "SFT + GRPO": log["sft_grpo"]}, REWARD, "GRPO", reward)
    return [fine_tuning, reward]


def _report(
    demo: Demo,
    table: TrainingTable,
    aims: tuple[Target, ...],
    plots: list[Path],
    took: dict[str, float],
) -> None:
    lines = [
        "# ST-R1 on the mini world",
        "",
        f"From `{demo.base.name}`, on {demo.size.test_clips} walks of the test. No benchmark results.",
        "",
        markdown(table),
        "## What was aimed at",
        "",
        *([QUICK_MISSES, ""] if demo.size is QUICK else []),
        *(f"- {aim}" for aim in aims),
        "",
        *(f"![{path.stem}]({path.name})" for path in plots),
        "",
        "Training rows: " + ", ".join(f"[{n}](rows/{n}/README.md)" for n in demo.size.rows) + ".",
        "",
        "Seconds: " + ", ".join(f"{name} {seconds:.0f}" for name, seconds in took.items()) + ".",
    ]
    write_whole(demo.out / "report.md", ("\n".join(lines) + "\n").encode())
    content = {**as_json(table, aims), "seconds": took}
    write_whole(demo.out / "report.json", (json.dumps(content, indent=1) + "\n").encode())


def _show(demo: Demo, table: TrainingTable, aims: tuple[Target, ...]) -> None:
    console.print((demo.rows(demo.size.rows[-1]) / "README.md").read_text(encoding="utf-8"), markup=False)
    for head, rows in (form(table), controlled(table)):
        shown = Table(*head, box=None, padding=(0, 1, 0, 0))
        for row in rows:
            shown.add_row(*row, style="dim" if row[0].endswith("(published)") else None)
        console.print(shown, "")
    console.print(legend(table))
    if demo.size is QUICK:
        console.print(f"{sum(aim.reached for aim in aims)} of {len(aims)} aims are reached. {QUICK_MISSES}")
        return
    for aim in aims:
        console.print(str(aim), style=None if aim.reached else "red")
