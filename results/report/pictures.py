"""Which pictures a report has: the radar of the paper's Figure 1, and bars of published figures against ours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from egost.results.published_tables import PublishedRow, published_table
from egost.results.report.charts import Bar, Series, bars, radar
from egost.results.report.figures import TASKS, Line, Table, task_label
from egost.results.report.sides import Side

_AVERAGES = {"Avg.(Total)": "avg_total", "Avg.(ST)": "avg_st"}
_COLUMNS = {task_label(kind, way): f"{kind}_{way}" for kind, way in TASKS}
_STYLES = ("s1", "s2", "s3", "s4", "s5")
_FEWEST_AXES = 3


@dataclass(frozen=True)
class Chart:
    """A picture with what it shows. legend: names of its outlines with their styles."""

    title: str
    note: str
    picture: Markup
    legend: tuple[tuple[str, str], ...] = ()


def charts(sides: Sequence[Side], strict: Sequence[Table], compat: Sequence[Table]) -> list[Chart]:
    """The pictures of some runs. strict, compat: tables of averages and of tasks by either scoring.

    The published figures are of the benchmark, and stand beside runs of the benchmark alone.
    """
    lines = {line.label: line for table in strict for line in table.lines}
    reference = {line.label: line for table in compat for line in table.lines}
    if any(side.is_mini for side in sides):
        found = _radar(sides, lines, list(_COLUMNS), [], "This run's tasks")
        return [found] if found else []
    methods = _figure_1_rows()
    choices = [label for label in _COLUMNS if not label.startswith("Route")]
    found = _radar(sides, lines, choices, methods, "Multiple choice, with the training methods of Figure 1")
    return [*([found] if found else []), *_bars(sides, lines, reference)]


def _figure_1_rows() -> list[PublishedRow]:
    """Figure 1 shows the methods with all 630 training rows, and the model before training (paper, Table 3)."""
    rows = published_table(3).rows
    return [row for row in rows if row.labels["training"].split("/")[0] in ("0", "630")]


def _radar(
    sides: Sequence[Side],
    lines: dict[str, Line],
    labels: Sequence[str],
    methods: Sequence[PublishedRow],
    title: str,
) -> Chart | None:
    axes = [label for label in labels if label in lines]
    if len(axes) < _FEWEST_AXES:
        return None
    outlines = [
        Series(f"{row.model} (published)", [row.figures[_COLUMNS[axis]] for axis in axes], style)
        for row, style in zip(methods, _STYLES, strict=False)
    ]
    by_chance = [lines[axis].chance for axis in axes]
    if any(by_chance):
        outlines.append(Series("chance", by_chance, "chance"))
    outlines.append(Series(sides[0].label, [_known(lines[axis].a.value) for axis in axes], "a"))
    if len(sides) > 1:
        told = [_known(one.value) if (one := lines[axis].b) else None for axis in axes]
        outlines.append(Series(sides[1].label, told, "b"))
    note = "F is forward, R reverse; percent, 0 in the middle." + (
        " Published: Table 3, tested on 3582 samples; ours on the samples of the run." if methods else ""
    )
    return Chart(title, note, radar(axes, outlines, title), tuple((o.name, o.style) for o in outlines))


def _bars(sides: Sequence[Side], lines: dict[str, Line], reference: dict[str, Line]) -> list[Chart]:
    published = published_table(1)
    found = []
    for label, column in (_AVERAGES | _COLUMNS).items():
        if label not in lines:
            continue
        rows = [Bar(row.model, row.figures[column], None, None, "published") for row in published.rows]
        for number, side in enumerate(sides):
            for line, scoring in ((lines[label], "strict"), (reference.get(label), "compat")):
                told = line and (line.b if number else line.a)
                if told and told.value == told.value:
                    low, high = _known(told.low), _known(told.high)
                    name = "this run" if side.alone else side.letter
                    rows.append(Bar(f"{name}, {scoring}", told.value, low, high, side.letter.lower()))
        ordered = sorted(rows, key=lambda bar: -bar.percent)
        note = f"Grey: published ({published.source}). Ours with the 95 % interval, by either scoring."
        found.append(Chart(label, note, bars(ordered, label)))
    return found


def _known(value: float) -> float | None:
    """Not a number where nothing was scored."""
    return value if value == value else None
