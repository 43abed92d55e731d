"""What an agreement means, in words, as JSON and as a picture.

meaning(found)                       # one sentence about the raters, one about each judge
draw(found, Path("agreement.png"))
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from egost.results.labels.agreement import Agreement, Figure, Pair, Points
from egost.results.labels.corrected import FEWEST_CLIPS
from egost.tasks.cache import write_picture
from egost.tasks.json_text import without_nan

TENTATIVE, RELIABLE = 0.667, 0.8
"""Alpha from which data allow tentative conclusions, and from which they can be relied on (Krippendorff 2004)."""

_WORDS = (
    *((0.0, "poor"), (0.2, "slight"), (0.4, "fair"), (0.6, "moderate"), (0.8, "substantial")),
    (math.inf, "almost perfect"),
)
"""What a kappa up to here is called (Landis & Koch 1977, Biometrics 33)."""

_INK, _QUIET = "#0072b2", "#666666"


def meaning(found: Agreement) -> list[str]:
    """What the figures mean: of the raters, then of each judge, by the percents."""
    return [_of_raters(found), *(_of_judge(judge, of["percent"]) for judge, of in found.judges.items())]


def _of_raters(found: Agreement) -> str:
    names = " and ".join(found.names)
    if len(found.names) == 1:
        return (
            f"{names} labelled alone: how far people agree is not known. A second rater tells: egost judge label RUN "
            "--rater NAME."
        )
    if not found.alpha:
        return f"{names} have labelled no route in common yet: how far people agree is not known."
    alpha = found.alpha["percent"]
    if math.isnan(alpha.value):
        return f"{names} gave all routes one score: how far people agree cannot be told."
    return (
        f"{names} agree with an alpha of {alpha:.2f}: {_verdict(alpha, 'their labels')}. No judge can be asked to "
        "agree with people better than they do with each other."
    )


def _of_judge(judge: str, pair: Pair) -> str:
    on = f"{pair.n} routes of {pair.clips} clips"
    if pair.clips < FEWEST_CLIPS:
        return f"{judge}: {on} are too few to tell anything; {FEWEST_CLIPS} clips are the least."
    if math.isnan(pair.rho.value):
        return f"{judge}: people or the judge gave all of {on} one score, so that agreement cannot be told."
    word = next(word for end, word in _WORDS if pair.kappa.value <= end)
    difference = pair.difference
    if difference.low > 0:
        leans = f"It flatters: {difference:.1f} points above people."
    elif difference.high < 0:
        leans = f"It is strict: {difference:.1f} points from people."
    else:
        leans = f"Whether it flatters cannot be told: {difference:.1f} points from people."
    return (
        f"{judge}: {word} agreement with people on {on}, kappa {pair.kappa:.2f}: "
        f"{_verdict(pair.alpha, 'its scores')}. {leans}"
    )


def _verdict(alpha: Figure, what: str) -> str:
    if alpha.low >= RELIABLE:
        return f"{what} can be relied on (alpha {RELIABLE:g} or more)"
    if alpha.low >= TENTATIVE:
        return f"{what} allow tentative conclusions (alpha {TENTATIVE:g} or more)"
    if alpha.high < TENTATIVE:
        return f"{what} are not worth ranking models by (alpha below {TENTATIVE:g}); corrected by labels they are"
    return f"too few labels to tell whether {what} are worth ranking models by (alpha {TENTATIVE:g} or more)"


def lines(found: Agreement) -> Iterator[tuple[str, ...]]:
    """A row for each pair of raters, and for each judge, and each thing that was scored; below `HEADS`."""
    for who, of in (*found.raters.items(), *((f"people, {judge}", of) for judge, of in found.judges.items())):
        for what, pair in of.items():
            if pair.n:
                figures = (pair.kappa, pair.alpha, pair.rho)
                yield who, what, str(pair.n), *(f"{one:.2f}" for one in figures), f"{pair.difference:.1f}"


HEADS = ("who", "what", "n", "kappa", "alpha", "rho", "second - first")


def to_json(found: Agreement) -> dict[str, Any]:
    """All figures and sentences; null where nothing can be told."""
    plain: dict[str, Any] = without_nan({**asdict(found), "meaning": meaning(found)})
    return plain


def draw(found: Agreement, path: Path) -> None:
    """Draw two pictures for each judge as one PNG, whole or not at all.

    Left, its percents against people's; right, the difference against the mean of both (Bland & Altman 1986), with the
    mean difference and the limits between which 95 % of differences lie. Raises CacheError.
    """
    from matplotlib.figure import Figure as Picture  # a second of CPU

    picture = Picture(figsize=(10, 4.2 * len(found.points)), dpi=120, layout="constrained")
    rows = picture.subplots(len(found.points), 2, squeeze=False)
    for (judge, points), (left, right) in zip(found.points.items(), rows, strict=True):
        pair = found.judges[judge]["percent"]
        left.set_title(f"{judge:.100}\nkappa {pair.kappa:.2f}, n {pair.n}", fontsize=10, loc="left")
        right.set_title(f"judge - people: {pair.difference:.1f}", fontsize=10, loc="left")
        _scatter(left, points)
        _bland_altman(right, points, pair.difference)
    write_picture(path, picture)


def _scatter(axes: Any, points: Points) -> None:
    _dots(axes, points.people, points.judge)
    axes.plot([0, 100], [0, 100], color=_QUIET, linewidth=1, linestyle=":")
    axes.set(xlim=(-4, 104), ylim=(-4, 104), xlabel="people, %", ylabel="judge, %", aspect="equal")


def _bland_altman(axes: Any, points: Points, difference: Figure) -> None:
    people, judge = np.array(points.people), np.array(points.judge)
    apart = judge - people
    _dots(axes, (people + judge) / 2, apart)
    axes.axhline(0, color=_QUIET, linewidth=1, linestyle=":")
    axes.axhline(difference.value, color=_INK, linewidth=1.5)
    if not math.isnan(difference.low):
        axes.axhspan(difference.low, difference.high, color=_INK, alpha=0.15)
    if len(apart) > 1:
        for side in (-1.96, 1.96):
            axes.axhline(difference.value + side * apart.std(ddof=1), color=_INK, linewidth=1, linestyle="--")
    most = max(20.0, 1.15 * float(np.abs(apart).max()))
    axes.set(xlim=(-4, 104), ylim=(-most, most), xlabel="mean of people and judge, %", ylabel="points")


def _dots(axes: Any, x: Any, y: Any) -> None:
    """A dot for each place, the larger the more samples are there."""
    places = Counter(zip(np.round(x, 3), np.round(y, 3), strict=True))
    axes.scatter(
        *zip(*places, strict=True), s=[18 * n for n in places.values()], color=_INK, alpha=0.6, linewidth=0
    )
    axes.spines[["top", "right"]].set_visible(False)
