"""The report itself: one HTML file that opens without a network and whose samples can never run as script.

page = report_page([read_run(Path("runs"))], Path("~/.cache/egost"), 7_500_000)
Path("report.html").write_bytes(page.html)
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from egost.results.intervals import p_text
from egost.results.report.charts import charts
from egost.results.report.diagnostics import controls_shown, diagnostics
from egost.results.report.figures import (
    Side,
    Statement,
    averages,
    breakdowns,
    by_task,
    compat,
    read_sides,
    route_aspects,
    statements,
)
from egost.results.report.sample_rows import frame_hashes, sample_rows
from egost.results.run import Run
from egost.results.run_manifest import run_manifest
from egost.results.thumbnails import Thumbnails, thumbnails

_COUNTS = ("asked", "scored", "unscored", "incomplete")
"""Counts in a task's part of the manifest; the report's tables show them already."""


@dataclass(frozen=True)
class Page:
    """A report. html: UTF-8. samples: how many it shows. clips: with frames; absent: clips without, width: of
    a frame, pixels."""

    html: bytes
    samples: int
    clips: int
    absent: int
    width: int


def report_page(runs: Sequence[Run], cache: Path, frames_limit: int) -> Page:
    """The report of one run, or of two, A and B.

    cache: root of the cache that has the runs' clips. frames_limit: bytes of all frames in the file, see `thumbnails`.
    Raises RunError, see `Run.records`.
    """
    sides = read_sides(runs)
    rows = sample_rows(sides[0].records, sides[1].records if len(sides) > 1 else None)
    pictures = thumbnails(frame_hashes(rows), frames_limit, cache)
    html = _render(sides, rows, pictures)
    return Page(html, len(rows), len(pictures.frames), len(pictures.absent), pictures.width)


def _render(sides: Sequence[Side], rows: Sequence[dict[str, Any]], pictures: Thumbnails) -> bytes:
    a = sides[0].records
    b = sides[1].records if len(sides) > 1 else None
    strict = [averages(a, b), by_task(a, b)]
    reference = [averages(a, b, compat), by_task(a, b, compat)]
    controls = [controls_shown(side) for side in sides]
    style, script = _own_file("report.css"), _own_file("report.js") + _own_file("sort.js")
    said = _once([*statements(sides, strict[1]), *(one for shown in controls for one in shown.statements)])
    text = _template("report.html.jinja").render(
        sides=sides,
        two=b is not None,
        releases=list(dict.fromkeys(side.release for side in sides)),
        statements=sorted(said, key=lambda one: one.weight != "warning"),
        averages=strict[0],
        charts=charts(sides, strict, reference),
        tables=[
            strict[1],
            *([] if reference[1].lines == strict[1].lines else reference[1:]),
            route_aspects(a, b),
            *breakdowns(a, b),
        ],
        diagnostics=[*diagnostics(sides), *(table for shown in controls for table in shown.tables)],
        facts={side.letter: _settings(side.run) for side in sides},
        policy=_policy(style, script),
        style=Markup(style),
        script=Markup(script),
        data=_embedded(
            {
                "runs": [side.label for side in sides],
                "samples": rows,
                "frames": pictures.frames,
                "absent": pictures.absent,
            }
        ),
    )
    # A reply may hold half of a surrogate pair, which no UTF-8 has.
    return text.encode("utf-8", "replace")


def _once(said: Sequence[Statement]) -> list[Statement]:
    """The statements, with those that both runs make in the same words as one."""
    of_b = {one.text for one in said if one.text.startswith("B: ")}
    both = {f"A: {text[3:]}" for text in of_b} & {one.text for one in said}
    return [
        replace(one, text=f"A and B: {one.text[3:]}") if one.text in both else one
        for one in said
        if f"A: {one.text[3:]}" not in both or not one.text.startswith("B: ")
    ]


def index_page(
    rows: Iterable[dict[str, Any]], unreadable: Sequence[str], boards: Sequence[tuple[str, str]] = ()
) -> bytes:
    """A page with one line for each run, newest first, that leads to its report; UTF-8.

    rows: see `index_row`. unreadable: why other runs are not there. boards: title and link of each leaderboard.
    """
    style, script = _own_file("report.css"), _own_file("sort.js")
    text = _template("index.html.jinja").render(
        rows=sorted(rows, key=lambda row: row["made_at"], reverse=True),
        unreadable=unreadable,
        boards=boards,
        policy=_policy(style, script),
        style=Markup(style),
        script=Markup(script),
    )
    return text.encode("utf-8", "replace")


def index_row(run: Run, link: str) -> dict[str, Any]:
    """What the index says of a run. link: to its report. Raises RunError, see `Run.records`."""
    [side] = read_sides([run])
    figures = {line.label.partition(" of ")[0]: line.a.value for line in averages(side.records, None).lines}
    labels = ("Avg.(Total)", "Avg.(ST)", next((name for name in figures if name.startswith("Mean")), ""))
    return {
        "link": link,
        "model": side.label,
        "release": side.release,
        "made_at": side.made_at,
        "tasks": len(run.header.tasks),
        "samples": len(side.records),
        "unscored": sum(record.percent is None for record in side.records),
        "averages": [figures.get(label) for label in labels],
    }


def _template(name: str) -> jinja2.Template:
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    environment.filters["p_value"] = p_text
    return environment.from_string(_own_file(name))


def _own_file(name: str) -> str:
    return (files(__package__) / name).read_text(encoding="utf-8")


def _embedded(content: dict[str, Any]) -> Markup:
    """JSON that HTML reads as one text: without `<` nothing in it can end its element or open a comment."""
    return Markup(json.dumps(content, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c"))


def _policy(style: str, script: str) -> str:
    """What the browser has to refuse: any request, any script and any style but ours, HTML made of strings."""
    return "; ".join(
        (
            "default-src 'none'",
            "img-src data:",
            f"style-src '{_hash(style)}'",
            f"script-src '{_hash(script)}'",
            "base-uri 'none'",
            "form-action 'none'",
            "require-trusted-types-for 'script'",
            "trusted-types 'none'",
        )
    )


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _settings(run: Run) -> list[tuple[str, str]]:
    """Names and values, only what the run tells; a value that all tasks share is there once. Raises RunError."""
    manifest = asdict(run_manifest(run))
    tasks = manifest.pop("tasks").values()
    rows = list(_spread(manifest))
    names = dict.fromkeys(name for task in tasks for name in task if name not in _COUNTS)
    for name in names:
        values = dict.fromkeys(_text(task[name]) for task in tasks)
        rows.append((name.replace("_", " "), "; ".join(value for value in values if value)))
    return [(name, value) for name, value in rows if value]


def _spread(value: Mapping[str, Any], name: str = "") -> Iterator[tuple[str, str]]:
    for key, inner in value.items():
        path = f"{name} {key}".strip().replace("_", " ")
        if isinstance(inner, Mapping):
            yield from _spread(inner, path)
        else:
            yield path, _text(inner)


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_text(inner)}" for key, inner in value.items() if _text(inner))
    if isinstance(value, Iterable) and not isinstance(value, str):
        return "; ".join(map(_text, value))
    return f"{value:g}" if isinstance(value, float) else str(value)
