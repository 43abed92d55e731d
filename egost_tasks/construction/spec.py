"""The list of what is to be cut out of which video: a CSV file, or a JSON list of objects.

Columns: file (relative to the list), start and end (seconds, `m:ss` or `h:mm:ss`; empty: from the beginning, to the
end), source (the collection, for example `sun3d`), scene (one of `scenes.SCENES`); and, where there are any,
licence (of the source, for the data card) and name (of the clip, instead of one made of source, file and start).
"""

from __future__ import annotations

import csv
import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

from egost.tasks.construction.scenes import SCENES, Scene
from egost.tasks.errors import EgostError

REQUIRED = ("file", "start", "end", "source", "scene")
OPTIONAL = ("licence", "name")

_SHOWN = 20
_CLOCK = re.compile(r"(?:(?:(\d+):)?([0-5]?\d):)?(\d+(?:\.\d+)?)")
_NOT_IN_NAMES = re.compile(r"[^\w.-]+")


class SpecError(EgostError):
    """A list of clips cannot be read, or asks for what cannot be cut."""


@dataclass(frozen=True, slots=True)
class Cut:
    """One clip that is to be cut.

    clip: its file name. path: the video; file: the same as the list names it. start_s: seconds; end_s: seconds, None
    for the end of the video. source, scene, licence: as the list gives them; licence is empty where it gives none.
    """

    clip: str
    path: Path
    file: str
    start_s: float
    end_s: float | None
    source: str
    scene: Scene
    licence: str


def read_spec(file: Path) -> list[Cut]:
    """The clips that a list asks for, in its order.

    Raises SpecError, with all that is wrong at once: a column or value that is missing or unknown, `missing_file`,
    `reversed_times` (an end that is not behind its start), `overlapping_times` (two clips of one video share time),
    `same_name` (two clips would have one name).
    """
    rows = _rows(file)
    wrong: list[str] = []
    cuts: list[Cut] = []
    for number, row in enumerate(rows, 1):
        try:
            cuts.append(_cut(file.parent, row))
        except SpecError as error:
            wrong.append(f"clip {number} ({row.get('file')}): {error}")
    wrong += _clashes(cuts)
    if wrong:
        more = f"\n  and {len(wrong) - _SHOWN} more" if len(wrong) > _SHOWN else ""
        raise SpecError(
            f"{file} has {len(wrong)} problems, nothing was cut:"
            + "".join(f"\n  {line}" for line in wrong[:_SHOWN])
            + more
        )
    return cuts


def _rows(file: Path) -> list[dict[str, Any]]:
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError(f"{file} cannot be read ({error}). Name a CSV or JSON file.") from error
    rows: Any
    if file.suffix.lower() == ".csv":
        rows = list(csv.DictReader(text.splitlines()))
    else:
        try:
            rows = json.loads(text)
        except ValueError as error:
            raise SpecError(f"{file} is no JSON ({error}); a CSV file must end in .csv.") from error
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise SpecError(f"{file}: expected a list of objects with {', '.join(REQUIRED)}.")
    if not rows:
        raise SpecError(f"{file} asks for no clip.")
    found = set().union(*rows)
    missing, unknown = set(REQUIRED) - found, found - set(REQUIRED + OPTIONAL)
    if missing or unknown:
        told = [f"lacks {sorted(missing)}"] if missing else []
        told += [f"has the unknown {sorted(map(str, unknown))}"] if unknown else []
        raise SpecError(
            f"{file} {' and '.join(told)}. Columns: {', '.join(REQUIRED)}; also: {', '.join(OPTIONAL)}."
        )
    return rows


def _cut(folder: Path, row: dict[str, Any]) -> Cut:
    given = {
        name: str(row.get(name) if row.get(name) is not None else "").strip() for name in REQUIRED + OPTIONAL
    }
    for name in ("file", "source"):
        if not given[name]:
            raise SpecError(f"no {name} is given.")
    if given["scene"] not in SCENES:
        raise SpecError(f"the scene is {given['scene']!r}; expected one of {', '.join(SCENES)}.")
    path = folder / given["file"]
    if not path.is_file():
        raise SpecError(f"missing_file: there is no file {path}.")
    start_s = _seconds("start", given["start"]) or 0.0
    end_s = _seconds("end", given["end"])
    if end_s is not None and end_s <= start_s:
        raise SpecError(f"reversed_times: it ends at {end_s:g} s and starts at {start_s:g} s.")
    name = given["name"] or _made_name(given["source"], path.stem, start_s)
    if not re.fullmatch(r"\w[\w.-]*", name):
        raise SpecError(f"the name {name!r} holds more than letters, digits and ._-")
    return Cut(
        f"{name}.mp4", path, given["file"], start_s, end_s, given["source"], given["scene"], given["licence"]
    )


def _made_name(source: str, stem: str, start_s: float) -> str:
    prefix = "" if stem.startswith(f"{source}_") else f"{source}_"
    return _NOT_IN_NAMES.sub("-", f"{prefix}{stem}" + (f"_{start_s:g}s" if start_s else ""))


def _seconds(what: str, text: str) -> float | None:
    if not text:
        return None
    found = _CLOCK.fullmatch(text)
    if found is None:
        raise SpecError(f"its {what} is {text!r}; expected seconds, m:ss or h:mm:ss.")
    hours, minutes, seconds = (float(part or 0) for part in found.groups())
    return 3600 * hours + 60 * minutes + seconds


def _clashes(cuts: Sequence[Cut]) -> list[str]:
    counts = Counter(cut.clip for cut in cuts)
    wrong = [
        f"same_name: {n} clips would be {clip}. Give them a name each." for clip, n in counts.items() if n > 1
    ]
    by_file: dict[Path, list[Cut]] = {}
    for cut in cuts:
        by_file.setdefault(cut.path.resolve(), []).append(cut)
    for same in by_file.values():
        for a, b in combinations(sorted(same, key=lambda cut: cut.start_s), 2):
            if a.end_s is None or b.start_s < a.end_s:
                end = "its end" if a.end_s is None else f"{a.end_s:g} s"
                wrong.append(
                    f"overlapping_times: of {a.file}, one clip goes from {a.start_s:g} s to {end}, another starts at "
                    f"{b.start_s:g} s."
                )
    return wrong
