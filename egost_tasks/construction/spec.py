"""The list of clips to cut out of videos, with the kind of scene of each: a CSV file, or a JSON list of objects.

Columns: file (relative to the list), start and end (seconds, `m:ss` or `h:mm:ss`; empty for the beginning or the end),
source (the collection, for example `sun3d`), scene (one of `SCENES`). Optional: licence (of the source, for the data
card) and name (of the clip; by default made of source, file and start).
"""

from __future__ import annotations

import math
import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any, Literal, get_args

from egost.tasks.cache import write_whole
from egost.tasks.errors import ConstructionError
from egost.tasks.json_text import read_json, shown
from egost.tasks.release.layout import VIDEO_SUFFIXES
from egost.tasks.text_files import csv_rows, csv_text

Scene = Literal["outdoor_street", "outdoor_open", "indoor_single", "indoor_multi"]
"""The four kinds of scene, two outdoors and two indoors (paper, section 3.2). The names are this project's own."""

SCENES: tuple[Scene, ...] = get_args(Scene)

PART_OF_SCENE: dict[Scene, int] = {
    "outdoor_street": 1,
    "outdoor_open": 2,
    "indoor_single": 3,
    "indoor_multi": 4,
}
"""The part that each kind of scene fills: the official release has outdoor clips in parts 1 and 2, rooms of SUN3D in
part 3 and homes of Aria in part 4."""

ACTION_SCENE: Scene = "indoor_multi"
"""The only kind with questions about actions, since only part 4 has files for them."""

SCENE_WORDS: dict[Scene, str] = {
    "outdoor_street": "along streets and paths",
    "outdoor_open": "over open ground: a park, a campus, a square",
    "indoor_single": "within one room",
    "indoor_multi": "through several rooms or floors",
}
"""Each kind in words, for the pages."""

REQUIRED = ("file", "start", "end", "source", "scene")
OPTIONAL = ("licence", "name")

_SHOWN = 20
_CLOCK = re.compile(r"(?:(?:(\d+):)?([0-5]?\d):)?(\d+(?:\.\d+)?)")
_NOT_IN_NAMES = re.compile(r"[^\w.-]+")


@dataclass(frozen=True, slots=True)
class Cut:
    """One clip to cut.

    clip: its file name. path: the video; file: the same as the list names it. start_s: seconds; end_s: seconds, None
    for the end of the video. source, scene, licence: as the list gives them; licence is empty where there is none.
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
    """The clips of a list, in its order.

    Raises one ConstructionError that names all problems: a missing or unknown column or value, `missing_file`,
    `reversed_times` (the end is not after the start), `overlapping_times` (two clips of one video share time),
    `same_name` (two clips would have the same name).
    """
    rows = _rows(file)
    wrong: list[str] = []
    cuts: list[Cut] = []
    for number, row in enumerate(rows, 1):
        try:
            cuts.append(_cut(file.parent, row))
        except (ConstructionError, OSError) as error:
            wrong.append(f"clip {number} ({shown(row.get('file'))}): {error}")
    wrong += _clashes(cuts)
    if wrong:
        raise ConstructionError(f"{file} has {len(wrong)} problems, nothing was cut:{bullets(wrong)}")
    return cuts


def draft_spec(videos: Path, file: Path, scene: str = "") -> int:
    """Write a list with one clip for each video of a folder, from its beginning to its end; return how many.

    source: the folder that a video lies in. scene: of all of them; empty where a person has to say it.
    Raises ConstructionError where there is no video, or the list is there already.
    """
    if scene and scene not in SCENES:
        raise ConstructionError(f"the scene is {shown(scene)}; expected one of {', '.join(SCENES)}.")
    found = sorted(
        path for path in videos.rglob("*") if path.suffix.lower() in VIDEO_SUFFIXES and path.is_file()
    )
    if not found:
        raise ConstructionError(
            f"{videos} holds no video ({', '.join(VIDEO_SUFFIXES)}). Name another folder."
        )
    if file.exists():
        raise ConstructionError(
            f"{file} is there already, and is not written anew. Complete it, then: egost construct clips {file} "
            f"{file.parent}"
        )
    blank = dict.fromkeys(REQUIRED + OPTIONAL, "")
    rows = [
        {
            **blank,
            "file": os.path.relpath(path, file.parent),
            "source": path.absolute().parent.name,
            "scene": scene,
        }
        for path in found
    ]
    write_whole(file, csv_text(REQUIRED + OPTIONAL, rows).encode())
    return len(rows)


def read_list(file: Path) -> Any:
    """The rows of a CSV file as dictionaries, or whatever a JSON file holds. Raises ConstructionError."""
    try:
        if file.suffix.lower() == ".csv":
            return csv_rows(file)
        return read_json(file)
    except (OSError, ValueError) as error:
        raise ConstructionError(
            f"{file} cannot be read ({error}). Name a JSON file, or a CSV file that ends in .csv."
        ) from error


def bullets(problems: Sequence[str]) -> str:
    """The first problems for a message, each on a line of its own, and how many more there are."""
    more = f"\n  and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
    return "".join(f"\n  {line}" for line in problems[:_SHOWN]) + more


def _rows(file: Path) -> list[dict[str, Any]]:
    rows = read_list(file)
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ConstructionError(f"{file}: expected a list of objects with {', '.join(REQUIRED)}.")
    if not rows:
        raise ConstructionError(f"{file} lists no clip.")
    found = set().union(*rows)
    missing, unknown = set(REQUIRED) - found, found - set(REQUIRED + OPTIONAL)
    if missing or unknown:
        wrong = [f"lacks {sorted(missing)}"] if missing else []
        wrong += [f"has the unknown {shown(sorted(map(str, unknown)))}"] if unknown else []
        raise ConstructionError(
            f"{file} {' and '.join(wrong)}. Columns: {', '.join(REQUIRED)}; optional: {', '.join(OPTIONAL)}."
        )
    return rows


def _cut(folder: Path, row: dict[str, Any]) -> Cut:
    given = {
        name: str(row.get(name) if row.get(name) is not None else "").strip() for name in REQUIRED + OPTIONAL
    }
    for name in ("file", "source"):
        if not given[name]:
            raise ConstructionError(f"no {name} is given.")
    if given["scene"] not in SCENES:
        raise ConstructionError(f"the scene is {shown(given['scene'])}; expected one of {', '.join(SCENES)}.")
    path = folder / given["file"]
    if not path.is_file():
        raise ConstructionError(f"missing_file: there is no file {path}.")
    start_s = _seconds("start", given["start"]) or 0.0
    end_s = _seconds("end", given["end"])
    if end_s is not None and end_s <= start_s:
        raise ConstructionError(f"reversed_times: it ends at {end_s:g} s and starts at {start_s:g} s.")
    name = given["name"] or _made_name(given["source"], path.stem, start_s)
    if not re.fullmatch(r"\w[\w.-]*", name):
        raise ConstructionError(f"the name {shown(name)} has other characters than letters, digits and ._-")
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
        raise ConstructionError(f"its {what} is {shown(text)}; expected seconds, m:ss or h:mm:ss.")
    hours, minutes, seconds = (float(part or 0) for part in found.groups())
    if math.isinf(at := 3600 * hours + 60 * minutes + seconds):
        raise ConstructionError(f"its {what} is {shown(text)}; no video is that long.")
    return at


def _clashes(cuts: Sequence[Cut]) -> list[str]:
    counts = Counter(cut.clip for cut in cuts)
    wrong = [
        f"same_name: {n} clips would be {clip}. Give each a name of its own."
        for clip, n in counts.items()
        if n > 1
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
