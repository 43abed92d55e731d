"""Draws a picture of a mini release for people: a row of 8 frames for each clip, with its route below."""

from __future__ import annotations

import json
import textwrap
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from egost.tasks.mini_world.film import read_film
from egost.tasks.mini_world.release_writer import clip_path, read_truths
from egost.tasks.mini_world.walks import SHOWN, shown_frames

_CELL = 128
_TEXT_HEIGHT = 30
_GAP = 4


def contact_sheet(root: Path, out: Path, clips: int = 12) -> None:
    """Write a PNG of the first clips: each one's 8 evenly spaced frames and its forward route as text.

    Raises ReleaseError when there is no mini release in `root`.
    """
    truths = list(read_truths(root).values())
    row_height = _CELL + _TEXT_HEIGHT
    shown = truths[:clips]
    sheet = Image.new("RGB", (SHOWN * (_CELL + _GAP), len(shown) * row_height), "white")
    pen = ImageDraw.Draw(sheet)
    for row, truth in enumerate(shown):
        questions = json.loads((root / f"Part{truth.part}_forward_qa.json").read_text(encoding="utf-8"))
        route = next(q["forward_answer"] for q in questions.values() if q["video"] == truth.clip)
        words = textwrap.fill(f"{truth.clip}: {route}", 175)
        film = read_film(clip_path(root, truth))
        for column, index in enumerate(shown_frames(truth.frames)):
            frame = Image.fromarray(np.ascontiguousarray(film[index]))
            frame.thumbnail((_CELL, _CELL))
            sheet.paste(frame, (column * (_CELL + _GAP), row * row_height))
        pen.multiline_text((2, row * row_height + _CELL), words, "black", spacing=1)
    # 256 colours are enough for flat panels and walls, and keep the file small.
    sheet.quantize(256).save(out, optimize=True)
