"""The report of `egost train demo`: runs the paper's experiments in small, and shows what came of them."""

from __future__ import annotations

import base64
import json
import re
from dataclasses import replace
from pathlib import Path

from rich.table import Table

from egost.commands.front import console
from egost.model_adapters.model_names import MINI_BASE
from egost.results.intervals import estimate, paired
from egost.results.records import SampleRecord
from egost.results.run import read_run
from egost.results.training_table import (
    OUT_OF_DOMAIN,
    Target,
    TrainedModel,
    TrainingTable,
    as_json,
    aspects_table,
    controlled,
    draw_figure_1,
    form,
    legend,
    markdown,
    markdown_table,
    out_of_domain,
    targets,
    targets_out_of_domain,
    tasks_table,
    training_table,
)
from egost.tasks.cache import write_whole
from egost.tasks.json_text import without_nan
from egost.tasks.provenance import commit
from egost.tasks.text_only_baseline import text_only_accuracy
from egost.training.demo.controls import controls_file, read_replies
from egost.training.demo.demo import CHOICES_TO_A_ROUTE, FULL, QUICK, Demo, Paradigm, make_demo
from egost.training.run_log import FINE_TUNING, LOG_FILE, REWARD, draw

AIMS = {"route": 90.0, "direction": 85.0, "landmark": 70.0, "action": 70.0}
"""Percent that ST-R1 is to reach on each kind of question; guessing gets about 28."""

QUICK_MISSES = (
    "A quick run is expected to miss most of them: it shows that every step runs, and its "
    "figures mean nothing."
)

QUICK_FIGURES = "This is a quick run: a few steps of training, a few walks. Its figures mean nothing."

GAINS = (
    ("mini-base", "SFT"),
    ("mini-base", "ST-CoT"),
    ("SFT", "SFT+GRPO"),
    ("ST-CoT", "ST-R1"),
    ("mini-base", "ST-R1"),
    ("SFT+GRPO", "ST-R1"),
)

_STYLE = """body{font:16px/1.5 system-ui,sans-serif;margin:2em auto;max-width:76em;padding:0 1em}
table{border-collapse:collapse;display:block;overflow-x:auto;margin:1em 0}
th,td{border-bottom:1px solid #8886;padding:.25em .7em;text-align:left;white-space:nowrap}img{max-width:100%}"""


def run_demo(out: Path, quick: bool, base: Path | None) -> None:
    """Make the demo in a folder, and write and print its report. Raises EgostError."""
    asked = Demo(out.absolute(), (base or MINI_BASE).absolute(), QUICK if quick else FULL)
    took = make_demo(asked, console)
    models = [_model(asked, paradigm) for paradigm in asked.paradigms]
    labels = {model.label for model in models}
    table = training_table(models, [gain for gain in GAINS if labels.issuperset(gain)])
    aims = (*_aims_of_routes(models), *targets(table, "mini-base", "ST-R1", AIMS))
    if quick:
        # A few steps teach nothing, so that the paper's figures say nothing next to them.
        table = replace(table, published=())
    others = other_sources(asked)
    for source, found in others.items():
        aims += targets_out_of_domain(found, source, "ST-R1")
    figures = _figures(asked, models)
    _report(asked, models, table, others, aims, figures, took)
    _show(asked, table, aims)
    for name in (*figures.values(), "report.html", "report.md", "report.json"):
        console.print(str(asked.out / name))


def _model(demo: Demo, paradigm: Paradigm) -> TrainedModel:
    records = read_run(demo.evaluation(paradigm.name)).records
    controls: dict[str, tuple[SampleRecord, ...]] = {
        control: _under_control(records, controls_file(demo.controls, paradigm.name, control))
        for control in paradigm.controls
    }
    return TrainedModel(paradigm.label, paradigm.rows, records, controls)


def _aims_of_routes(models: list[TrainedModel]) -> tuple[Target, Target]:
    """What came of the routes, which Table 3 does not count: ST-R1's, and their gain over ST-CoT's."""
    routes = {m.label: [r for r in m.records if r.sample.task == "route"] for m in models}
    got = estimate(routes["ST-R1"])
    asked = f"{got.value:.1f} ({got.low:.1f} to {got.high:.1f}) % of {got.n} routes on {got.clips} clips"
    gain = paired(routes["ST-CoT"], routes["ST-R1"])
    more = f"{gain.value:+.1f} points ({gain.low:+.1f} to {gain.high:+.1f})"
    return (
        Target(f"ST-R1 has {AIMS['route']:g} % on route: {asked}.", got.value >= AIMS["route"]),
        Target(f"ST-CoT < ST-R1 on route beyond the paired interval: {more}.", gain.low > 0),
    )


def other_sources(demo: Demo) -> dict[str, TrainingTable]:
    """Table 4's figures by the source that was held out: the base's and ST-R1's on the walks of that source."""

    def of(paradigm: Paradigm, source: str) -> TrainedModel:
        model = _model(demo, paradigm)
        return replace(
            model,
            records=_from(model.records, source),
            controls={name: _from(records, source) for name, records in model.controls.items()},
        )

    base, *trained = demo.out_of_domain or (None,)
    return {
        source: replace(
            training_table([of(base, source), of(paradigm, source)], [(base.label, paradigm.label)]),
            published=(),
        )
        for paradigm in trained
        if base and (source := paradigm.hold_out)
    }


def _from(records: tuple[SampleRecord, ...], source: str) -> tuple[SampleRecord, ...]:
    return tuple(r for r in records if r.sample.source == source and r.sample.task in OUT_OF_DOMAIN)


def _under_control(records: tuple[SampleRecord, ...], path: Path) -> tuple[SampleRecord, ...]:
    replies = read_replies(path)
    return tuple(
        replace(
            record,
            response=reply.response,
            percent=reply.percent,
            unscored=reply.unscored,
            choice=None,
            judgement=reply.judgement,
            frames=None,
            generation=None,
        )
        for record in records
        if (reply := replies[record.sample.id])
    )


def _figures(demo: Demo, models: list[TrainedModel]) -> dict[str, str]:
    """Draw the paper's Figures 1, 7, 8 and 9. Returns the name of each one's file by its caption."""
    *_, cot, r1 = [p for p in demo.paradigms if p.rows == demo.size.rows[-1]]
    logs = {p.name: demo.run(p.name) / LOG_FILE for p in demo.paradigms if p.rows}
    on_letters = {p.label: logs[p.name] for p in demo.paradigms if p.method in ("sft", "sft_grpo")}
    sizes = {f"{p.rows} rows": logs[p.name] for p in demo.paradigms if p.method == "st_r1"}
    most = [model for model in models if model.rows in (0, demo.size.rows[-1])]
    draw_figure_1(most, demo.out / "figure1.png")
    reward, length, *_ = REWARD
    drawn = (
        ("figure7", {"ST-CoT + GRPO": logs[r1.name]} | _only(on_letters, "SFT+GRPO"), (reward,), "GRPO"),
        ("figure8", {"ST-CoT": logs[cot.name]} | _only(on_letters, "SFT"), FINE_TUNING, "Fine-tuning"),
        ("figure9", sizes, (length, reward), "GRPO from ST-CoT"),
    )
    for name, of, panels, title in drawn:
        draw(of, panels, title, demo.out / f"{name}.png")
    return {
        "Figure 1: models over the tasks, each in its 95 % interval.": "figure1.png",
        "Figure 7: reward during GRPO, after fine-tuning with reasoning and on letters alone.": "figure7.png",
        "Figure 8: loss and token accuracy of fine-tuning.": "figure8.png",
        "Figure 9: length of the completions and reward during GRPO, by number of rows.": "figure9.png",
    }


def _only(logs: dict[str, Path], label: str) -> dict[str, Path]:
    return {name: log for name, log in logs.items() if name == label}


def _report(
    demo: Demo,
    models: list[TrainedModel],
    table: TrainingTable,
    others: dict[str, TrainingTable],
    aims: tuple[Target, ...],
    figures: dict[str, str],
    took: dict[str, float],
) -> None:
    shown = [models[0], models[-1]]
    lines = [
        "# The paper's experiments on the mini world",
        "",
        f"From `{demo.base.name}`, on {demo.size.test_clips} walks of the test, which no training has seen. These are "
        "no benchmark results. In brackets: 95 % intervals, clustered by clip.",
        *(["", QUICK_FIGURES] if demo.size is QUICK else []),
        "",
        "## Table 1: all tasks",
        "",
        markdown_table(*tasks_table(shown)),
        "",
        "Percent; F is forward, R reverse. Rules score the routes, not GPT-4o.",
        "",
        "## Table 2: direction, landmark and semantic of the routes",
        "",
        markdown_table(*aspects_table(shown)),
        "",
        "The judge's scores from 0 to 5, times 20.",
        "",
        "## Table 3: paradigms and numbers of rows",
        "",
        markdown(table),
        f"Behind each {CHOICES_TO_A_ROUTE} rows that are counted here stands one that tells a route.",
        "",
        "## Table 4: out of domain",
        "",
        *table_4(demo, others),
        "",
        "## Figures",
        "",
        *(line for caption, name in figures.items() for line in (f"![{caption}]({name})", "", caption, "")),
        "## What was aimed at",
        "",
        *([QUICK_MISSES, ""] if demo.size is QUICK else []),
        *(f"- {aim}" for aim in aims),
        "",
        "## How it was made",
        "",
        "Training rows: " + ", ".join(f"[{n}](rows/{n}/README.md)" for n in demo.size.rows) + ".",
        "",
        f"{sum(took.values()) / 60:.0f} minutes of steps, up to two at once: "
        + ", ".join(f"{name} {seconds:.0f} s" for name, seconds in took.items())
        + ".",
    ]
    text = "\n".join(lines) + "\n"
    write_whole(demo.out / "report.md", text.encode())
    write_whole(demo.out / "report.html", _html(text, demo.out).encode())
    tables = (("table_1", tasks_table(shown)), ("table_2", aspects_table(shown)))
    content = {
        **{name: {"head": head, "rows": rows} for name, (head, rows) in tables},
        **as_json(table, aims),
        "table_4": {source: as_json(of, ()) for source, of in others.items()},
        "seeds": {walks.name: walks.seed for walks in demo.planned_walks},
        "walks": {walks.name: walks.clips for walks in demo.planned_walks},
        "commit": commit(),
        "minutes": round(sum(took.values()) / 60, 1),
        "seconds": took,
    }
    write_whole(demo.out / "report.json", (json.dumps(without_nan(content), indent=1) + "\n").encode())


def table_4(demo: Demo, others: dict[str, TrainingTable]) -> list[str]:
    """The page's lines on it."""
    if not others:
        return ["A quick run makes none."]
    records = read_run(demo.evaluation(demo.out_of_domain[0].name)).records
    text = text_only_accuracy([record.sample for record in records if record.sample.options], by="source")
    return [
        markdown_table(*out_of_domain(others)),
        "",
        "The same walks in three sources: corridors (`sun3d`), an open scene with sky, hedges, trees and houses "
        "(`outdoor`), and a tilted, bobbing fisheye indoors (`aria_everyday`). ST-R1 is trained on two and asked about "
        "the third. mini-base, from which it starts, was pre-trained on corridors alone: only `outdoor` is new to it.",
        "",
        *(line for source, table in others.items() for line in (f"{source}: {legend(table)}", "")),
        f"The options' wording, learned on two sources, gets {100 * text.accuracy:.1f} % ({100 * text.low:.1f} to "
        f"{100 * text.high:.1f}) on the third; chance is {100 * text.chance:.1f} %.",
    ]


def _html(text: str, folder: Path) -> str:
    """The page of a Markdown text with its pictures in it."""
    from markdown_it import MarkdownIt

    def picture(found: re.Match[str]) -> str:
        return f'src="data:image/png;base64,{base64.b64encode((folder / found[1]).read_bytes()).decode()}"'

    body = re.sub(r'src="([\w.]+\.png)"', picture, MarkdownIt().enable("table").render(text))
    head = f"<meta charset='utf-8'><title>The paper's experiments on the mini world</title><style>{_STYLE}</style>"
    return f"<!doctype html><html lang='en'><head>{head}</head><body>{body}</body></html>\n"


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
