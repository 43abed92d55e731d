"""The charts of a report: the radar of the paper's Figure 1, and bars of published figures against ours.

They are SVG that takes its colours from the page, so that it is right in light and dark.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from egost.results.published_tables import PublishedRow, published_table
from egost.results.report.figures import TASKS, Line, Side, Table, task_label

_AVERAGES = {"Avg.(Total)": "avg_total", "Avg.(ST)": "avg_st"}
_COLUMNS = {task_label(kind, way): f"{kind}_{way}" for kind, way in TASKS}
_STYLES = ("s1", "s2", "s3", "s4", "s5")
_FEWEST_AXES = 3


@dataclass(frozen=True)
class Series:
    """One outline of a radar. values: percent for each axis, None where it is not known. style: a class of the page."""

    name: str
    values: Sequence[float | None]
    style: str


@dataclass(frozen=True)
class Bar:
    """One bar. percent: 0 to 100. low, high: its interval; None without one. style: a class of the page."""

    name: str
    percent: float
    low: float | None
    high: float | None
    style: str


@dataclass(frozen=True)
class Chart:
    """A picture with what it shows. legend: names of its outlines with their styles."""

    title: str
    note: str
    picture: Markup
    legend: tuple[tuple[str, str], ...] = ()


_RADIUS = 130.0
_MARGIN = 92.0
_RINGS = (25, 50, 75, 100)

_BAR = 16.0
_GAP = 5.0
_NAMES = 140.0
_TRACK = 170.0
_VALUE = 46.0


def charts(sides: Sequence[Side], strict: Sequence[Table], compat: Sequence[Table]) -> list[Chart]:
    """The pictures of some runs. strict, compat: tables of averages and of tasks by either scoring.

    The published figures are drawn only where those of all runs may stand next to them, by the leaderboard's rules.
    """
    lines = {line.label: line for table in strict for line in table.lines}
    reference = {line.label: line for table in compat for line in table.lines}
    choices = [
        label
        for label, task in _COLUMNS.items()
        if not label.startswith("Route") and not any(side.refused([task], 3) for side in sides)
    ]
    if len(choices) < _FEWEST_AXES:
        found = _radar_of(
            sides, lines, list(_COLUMNS), [], "This run's tasks" if sides[0].alone else "Tasks of A and B"
        )
    else:
        title = "Multiple choice, with the training methods of Figure 1"
        found = _radar_of(sides, lines, choices, _figure_1_rows(), title)
    return [*([found] if found else []), *_bars_of(sides, lines, reference)]


def _figure_1_rows() -> list[PublishedRow]:
    """Figure 1 shows the methods with all 630 training rows, and the model before training (paper, Table 3)."""
    rows = published_table(3).rows
    return [row for row in rows if row.labels["training"].split("/")[0] in ("0", "630")]


def _radar_of(
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
        found_ = [_known(one.value) if (one := lines[axis].b) else None for axis in axes]
        outlines.append(Series(sides[1].label, found_, "b"))
    note = "F is forward, R reverse; percent, 0 in the middle." + (
        " Published: Table 3, tested on 3582 samples; ours on the samples of the run." if methods else ""
    )
    return Chart(title, note, radar(axes, outlines, title), tuple((o.name, o.style) for o in outlines))


def _bars_of(sides: Sequence[Side], lines: dict[str, Line], reference: dict[str, Line]) -> list[Chart]:
    published = published_table(1)
    found = []
    for label, column in (_AVERAGES | _COLUMNS).items():
        tasks = published.aggregates.get(column, (column,))
        if label not in lines or any(side.refused(tasks, 1) for side in sides):
            continue
        rows = [Bar(row.model, row.figures[column], None, None, "published") for row in published.rows]
        for number, side in enumerate(sides):
            for line, scoring in ((lines[label], "strict"), (reference.get(label), "compat")):
                found_ = line and (line.b if number else line.a)
                if found_ and found_.value == found_.value:
                    low, high = _known(found_.low), _known(found_.high)
                    name = "this run" if side.alone else side.letter
                    rows.append(Bar(f"{name}, {scoring}", found_.value, low, high, side.letter.lower()))
        ordered = sorted(rows, key=lambda bar: -bar.percent)
        note = f"Grey: published ({published.source}). Ours with the 95 % interval, by either scoring."
        found.append(Chart(label, note, bars(ordered, label)))
    return found


def _known(value: float) -> float | None:
    """Not a number where nothing was scored."""
    return value if value == value else None


def radar(axes: Sequence[str], series: Sequence[Series], title: str) -> Markup:
    """Percent on each axis, 0 in the middle, 100 at the rim; a gap where a series has no value."""
    width, height = 2 * (_RADIUS + _MARGIN), 2 * _RADIUS + 80
    middle = (width / 2, height / 2)
    parts = [
        f'<polygon class="grid" points="{_points(middle, [ring] * len(axes))}"/>'
        f'<text class="tick" x="{middle[0] + 3:.1f}" y="{middle[1] - _RADIUS * ring / 100 - 2:.1f}">{ring}</text>'
        for ring in _RINGS
    ]
    for number, name in enumerate(axes):
        x, y = _point(middle, number, len(axes), 100)
        parts.append(
            f'<line class="grid" x1="{middle[0]:.1f}" y1="{middle[1]:.1f}" x2="{x:.1f}" y2="{y:.1f}"/>'
        )
        x, y = _point(middle, number, len(axes), 110)
        side = (x - middle[0]) / _RADIUS
        anchor = "middle" if abs(side) < 0.1 else "start" if side > 0 else "end"
        parts.append(f'<text x="{x:.1f}" y="{y + 4:.1f}" text-anchor="{anchor}">{escape(name)}</text>')
    parts += [_outline(middle, one) for one in series]
    return _svg(width, height, title, parts)


def bars(rows: Sequence[Bar], title: str) -> Markup:
    """Bars from 0 to 100 percent, one below the other, each with its value and its interval."""
    parts = []
    for number, row in enumerate(rows):
        y = number * (_BAR + _GAP)
        middle = y + _BAR / 2
        start = _NAMES + 6
        parts.append(
            f'<text class="{escape(row.style)}" x="{_NAMES}" y="{middle + 4:.1f}" text-anchor="end">'
            f"{escape(row.name)}</text>"
            f'<rect class="track" x="{start}" y="{y:.1f}" width="{_TRACK}" height="{_BAR}"/>'
            f'<rect class="bar {escape(row.style)}" x="{start}" y="{y:.1f}" width="{_TRACK * row.percent / 100:.1f}" '
            f'height="{_BAR}"/>'
        )
        if row.low is not None and row.high is not None:
            low, high = (start + _TRACK * end / 100 for end in (row.low, row.high))
            parts.append(f'<path class="interval" d="M{low:.1f} {middle - 4:.1f}v8m0 -4H{high:.1f}m0 -4v8"/>')
        parts.append(
            f'<text class="{escape(row.style)}" x="{start + _TRACK + 6}" y="{middle + 4:.1f}">{row.percent:.1f}</text>'
        )
    width = _NAMES + 6 + _TRACK + _VALUE
    return _svg(width, len(rows) * (_BAR + _GAP) - _GAP, title, parts)


def _outline(middle: tuple[float, float], one: Series) -> str:
    count = len(one.values)
    known = [(k, value) for k, value in enumerate(one.values) if value is not None]
    dots = "".join(
        f'<circle class="{escape(one.style)}" cx="{x:.1f}" cy="{y:.1f}" r="3">'
        f"<title>{escape(one.name)}: {value:.1f}</title></circle>"
        for k, value in known
        for x, y in [_point(middle, k, count, value)]
    )
    if len(known) == count:
        return f'<polygon class="series {escape(one.style)}" points="{_points(middle, [v for _, v in known])}"/>{dots}'
    lines = []
    for (axis, value), (next_axis, next_value) in zip(known, [*known[1:], *known[:1]], strict=True):
        if next_axis == (axis + 1) % count:
            x1, y1 = _point(middle, axis, count, value)
            x2, y2 = _point(middle, next_axis, count, next_value)
            lines.append(
                f'<line class="series {escape(one.style)}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'
            )
    return "".join(lines) + dots


def _point(middle: tuple[float, float], axis: int, axes: int, percent: float) -> tuple[float, float]:
    angle = 2 * math.pi * axis / axes - math.pi / 2
    reach = _RADIUS * percent / 100
    return middle[0] + reach * math.cos(angle), middle[1] + reach * math.sin(angle)


def _points(middle: tuple[float, float], values: Sequence[float]) -> str:
    points = (_point(middle, k, len(values), value) for k, value in enumerate(values))
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)


def _svg(width: float, height: float, title: str, parts: Sequence[str]) -> Markup:
    return Markup(
        f'<svg viewBox="0 0 {width:.0f} {height:.0f}" role="img" aria-label="{escape(title)}">{"".join(parts)}</svg>'
    )
