"""Draws the pictures of README anew: `python tests/support/pictures.py`, after `make demo`; needs Chromium."""

from __future__ import annotations

import textwrap
from pathlib import Path
from tempfile import TemporaryDirectory

from headless_chromium import chromium_page
from matplotlib.figure import Figure
from PIL import Image
from places import ROOT

import egost

_DOCS = ROOT / "docs"
_WALKS = (0, 2, 4, 37)
_FRAME = 8 / 7
"""Width by height of each picture; frames are cut to it around their middle, so that all rows are alike."""
_LETTERS = 160
"""Of a line of text, as wide as a row."""


def draw_mini_world(path: Path) -> None:
    """Draw some walks of the mini world: the 8 frames that a model sees, and the route."""
    release = egost.open_release("mini")
    routes = [egost.samples(release, "route_forward")[number] for number in _WALKS]
    figure = Figure(figsize=(9, 1.42 * len(routes)), dpi=115, facecolor="white")
    for row, sample in enumerate(routes):
        for column, frame in enumerate(egost.frames(release, sample)):
            height, width = frame.shape[:2]
            wide, high = min(width, round(height * _FRAME)), min(height, round(width / _FRAME))
            left, top = (width - wide) // 2, (height - high) // 2
            place = (0.006 + column * 0.1238, 1 - (row + 0.72) / len(routes), 0.1205, 0.70 / len(routes))
            axes = figure.add_axes(place)
            axes.imshow(
                frame[top : top + high, left : left + wide], aspect="auto", interpolation="antialiased"
            )
            axes.axis("off")
        text = "\n".join(textwrap.wrap(sample.answer, _LETTERS))
        figure.text(0.006, 1 - (row + 0.75) / len(routes), text, va="top", fontsize=7.5, color="#1c2129")
    figure.savefig(path)
    _in_few_colours(path)


def photograph(page: Path, path: Path, width: int = 1280, height: int = 1240, scheme: str = "light") -> None:
    """Take a picture of a report as a browser opens it."""
    with TemporaryDirectory() as folder, chromium_page(Path(folder)) as browser:
        browser.show(width, height, scheme)
        browser.open(page)
        browser.wait("document.documentElement.dataset.ready === 'yes'")
        browser.picture(path)
    _in_few_colours(path)


def _in_few_colours(path: Path) -> None:
    Image.open(path).convert("RGB").quantize(256, kmeans=4).save(path, optimize=True)


if __name__ == "__main__":
    draw_mini_world(_DOCS / "mini_world.png")
    photograph(ROOT / "runs" / "demo" / "report.html", _DOCS / "report.png")
