"""Takes annotations that were made elsewhere into a working folder.

CSV, a row for each step in the order of its route: clip, annotator, scene, way (`forward` or `reverse`), time_s,
direction (empty: straight), landmark, action. JSON: a list of annotations as their files hold them, or one of them.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from egost.tasks.construction.annotations import Annotation, AnnotationError, check, from_json
from egost.tasks.construction.workfolder import WorkFolder
from egost.tasks.sample import WAYS

COLUMNS = ("clip", "annotator", "scene", "way", "time_s", "direction", "landmark", "action")

_SHOWN = 20
"""Problems that a message lists at most."""


def import_annotations(folder: WorkFolder, file: Path) -> list[Annotation]:
    """Check the annotations of a CSV or JSON file and store them all, over earlier ones of the same annotator.

    Raises AnnotationError, and stores nothing, where the file is missing or cannot be read, where a clip is not in
    the folder or is of another scene, or where `check` finds a problem.
    """
    annotations = read_annotations(file)
    clips = folder.clips()
    wrong: list[str] = []
    for annotation in annotations:
        who = f"{annotation.clip} by {annotation.annotator}"
        row = clips.get(annotation.clip)
        if row is None:
            wrong.append(f"{who}: unknown_clip: {folder.manifest} has no such clip.")
        elif row.scene != annotation.scene:
            wrong.append(f"{who}: other_scene: {annotation.scene}; the clip's is {row.scene}.")
        else:
            wrong += [f"{who}: {problem}" for problem in check(annotation, row.duration_s)]
    if wrong:
        more = f"\n  and {len(wrong) - _SHOWN} more" if len(wrong) > _SHOWN else ""
        listed = "".join(f"\n  {line}" for line in wrong[:_SHOWN])
        raise AnnotationError(f"nothing of {file} was imported, it has {len(wrong)} problems:{listed}{more}")
    for annotation in annotations:
        folder.annotations.save(annotation)
    return annotations


def read_annotations(file: Path) -> list[Annotation]:
    """The annotations of a CSV or JSON file. Raises AnnotationError where it is missing or holds anything else."""
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise AnnotationError(f"{file} cannot be read ({error}). Name a CSV or JSON file.") from error
    if file.suffix.lower() == ".csv":
        contents = _from_csv(file, text)
    else:
        try:
            found = json.loads(text)
        except ValueError as error:
            raise AnnotationError(f"{file} is no JSON ({error}); a CSV file must end in .csv.") from error
        contents = found if isinstance(found, list) else [found]
    annotations = [
        from_json(content, f"{file}, annotation {number}") for number, content in enumerate(contents, 1)
    ]
    names = [(a.clip, a.annotator) for a in annotations]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise AnnotationError(f"{file} has the clip {twice[0][0]} by {twice[0][1]} twice. Remove one.")
    if not annotations:
        raise AnnotationError(f"{file} holds no annotation.")
    return annotations


def _from_csv(file: Path, text: str) -> list[dict[str, Any]]:
    reader = csv.DictReader(text.splitlines())
    if missing := set(COLUMNS) - set(reader.fieldnames or ()):
        raise AnnotationError(
            f"{file} lacks the columns {', '.join(sorted(missing))}. Expected: {', '.join(COLUMNS)}."
        )
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for number, row in enumerate(reader, 2):
        if row["way"] not in WAYS:
            raise AnnotationError(f"{file}, line {number}: the way is {row['way']!r}; expected {_or(WAYS)}.")
        try:
            time_s = float(row["time_s"])
        except (TypeError, ValueError) as error:
            raise AnnotationError(
                f"{file}, line {number}: time_s is {row['time_s']!r}; expected seconds."
            ) from error
        key = (row["clip"], row["annotator"])
        route = found.setdefault(
            key, {"clip": key[0], "annotator": key[1], "scene": row["scene"], "forward": []}
        )
        if route["scene"] != row["scene"]:
            raise AnnotationError(
                f"{file}, line {number}: {key[0]} has the scenes {route['scene']} and {row['scene']}."
            )
        route.setdefault(row["way"], []).append(
            {
                "direction": row["direction"] or "straight",
                "landmark": row["landmark"],
                "action": row["action"],
                "time_s": time_s,
            }
        )
    return list(found.values())


def _or(names: Sequence[str]) -> str:
    return " or ".join(names)
