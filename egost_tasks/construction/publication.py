"""The last step: publishes the questions as a release in the official layout, with a data card.

The data card says what is in the release, where it comes from and how it was checked.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

from egost.tasks.cache import write_whole
from egost.tasks.construction.cutting import CUTTING_VERSION
from egost.tasks.construction.drafts import Draft, drafts_sha256, read_drafts, written_drafts
from egost.tasks.construction.questions import TEMPLATES
from egost.tasks.construction.spec import PART_OF_SCENE
from egost.tasks.construction.workfolder import ClipRow, WorkFolder, read_object, write_object
from egost.tasks.errors import ConstructionError
from egost.tasks.progress import counted
from egost.tasks.release import CONSTRUCTED, layout
from egost.tasks.release.hub import RELEASE_RECORD
from egost.tasks.release.layout import PART_FOLDERS
from egost.tasks.sample import TASK_KINDS, WAYS
from egost.tasks.text_files import filled

CARD, CARD_TEXT = "egost_card.json", "README.md"
_CARD_TEXT = Path(__file__).with_name("card.md.jinja")
NO_LICENCE = "not given"

_STARTED = ".egost_construct.json"


@dataclass(frozen=True)
class Publication:
    """A published release. revision: what the results of a run record as the release's revision.

    missing_tasks: tasks of the eight that have no question. findings: cues that the calibration found. unlicensed:
    sources without a licence.
    """

    root: Path
    revision: str
    card: dict[str, Any]
    missing_tasks: tuple[str, ...]
    findings: tuple[str, ...]
    unlicensed: tuple[str, ...]


def publish(
    folder: WorkFolder, root: Path, *, name: str, with_findings: bool = False, progress: bool = True
) -> Publication:
    """Write the kept questions and their clips into a folder, in the official layout.

    name: of the benchmark, part of its revision: letters, digits and ._- only. with_findings: publish although the
    calibration found that the set gives answers away; the card says so.
    The folder is empty, does not exist, or holds an earlier publication under this name, which is brought up to date.
    A run that was killed goes on. Clips are hard links where the disk allows it, else copies.
    Raises ConstructionError where the calibration is missing, older than the questions or did not pass, where the
    folder holds anything else or cannot be written, and where a clip is missing.
    """
    if not re.fullmatch(r"\w[\w.-]{0,63}", name):
        raise ConstructionError(f"the name {name!r} has other characters than letters, digits and ._-")
    clips = folder.clips()
    kept, report = _calibrated(folder, with_findings)
    used = {draft.clip: clips[draft.clip] for draft in kept}
    for row in used.values():
        if not (folder.clip_folder / row.clip).is_file():
            raise ConstructionError(
                f"the clip {folder.clip_folder / row.clip} is missing. Run: egost construct clips SPEC {folder.root}"
            )
    revision = f"{name}{CONSTRUCTED}{drafts_sha256(kept)[:12]}"
    try:
        _claim(root, name)
        _place_clips(folder, root, list(used.values()), progress)
        layout.write_question_files(root, question_files(kept))
        card = _card(name, revision, kept, used, report)
        write_object(root / CARD, card)
        write_whole(root / CARD_TEXT, filled(_CARD_TEXT, card).encode())
        # Last, so that whoever finds a revision finds all that belongs to it.
        write_object(root / RELEASE_RECORD, {"roots": [], "revision": revision, "clips_revision": revision})
    except OSError as error:
        raise ConstructionError(
            f"{root} cannot be written ({error}). Free some space, or name another folder."
        ) from error
    present = {f"{draft.task}_{draft.way}" for draft in kept}
    return Publication(
        root,
        revision,
        card,
        tuple(t for task in TASK_KINDS for way in WAYS if (t := f"{task}_{way}") not in present),
        tuple(card["findings"]),
        tuple(sorted({row.source for row in used.values() if not row.licence})),
    )


def question_files(drafts: Sequence[Draft]) -> layout.QuestionFiles:
    """Content of each of the 26 files by its name; ids are numbers of clips, in the order of the drafts."""
    numbers = {clip: str(n) for n, clip in enumerate(dict.fromkeys(draft.clip for draft in drafts), 1)}
    samples = (draft.sample() for draft in drafts)
    return layout.question_files(
        replace(s, id=layout.sample_id(s.part, s.task, s.way, numbers[s.clip])) for s in samples
    )


def _calibrated(folder: WorkFolder, with_findings: bool) -> tuple[list[Draft], dict[str, Any]]:
    again = f"Run: egost construct calibrate {folder.root}"
    if not (folder.calibration.is_file() and folder.kept.is_file()):
        raise ConstructionError(
            f"{folder.root} is not calibrated ({folder.calibration.name} is missing). {again}"
        )
    report = read_object(folder.calibration)
    kept = read_drafts(folder.kept)
    hashes = drafts_sha256(written_drafts(folder)), drafts_sha256(kept)
    if (report.get("questions_sha256"), report.get("kept_sha256")) != hashes:
        raise ConstructionError(
            f"the questions in {folder.root} have changed since they were calibrated. {again}"
        )
    if not kept:
        raise ConstructionError(
            f"the calibration of {folder.root} left no question to publish: see {folder.dropped}."
        )
    found = [f"{cue['name']} ({cue['of']})" for cue in report["cues"] if cue["found"]]
    if found and not with_findings:
        raise ConstructionError(
            f"the calibration of {folder.root} found that text gives answers away: {', '.join(found)}. Write the "
            "questions anew, or publish them anyway with --with-findings; the data card says so then."
        )
    return kept, report


def _claim(root: Path, name: str) -> None:
    """Mark the folder as this publication's, or check the mark."""
    root.mkdir(parents=True, exist_ok=True)
    started = root / _STARTED
    if started.is_file():
        try:
            earlier = read_object(started).get("name")
        except ConstructionError as error:
            raise ConstructionError(f"{error} Delete {root}, or name another folder.") from error
        if earlier != name:
            raise ConstructionError(
                f"{root} holds the release {earlier!r}, not {name!r}. Name another folder."
            )
    elif others := sorted(path.name for path in root.iterdir() if not path.name.startswith(_STARTED)):
        raise ConstructionError(f"{root} is not empty (for example {others[0]}). Name an empty folder.")
    else:
        write_object(started, {"name": name})
    for left_over in root.glob("*.part"):
        left_over.unlink()


def _place_clips(folder: WorkFolder, root: Path, rows: Sequence[ClipRow], progress: bool) -> None:
    wanted = {root / PART_FOLDERS[PART_OF_SCENE[row.scene]] / row.clip: row for row in rows}
    for part in PART_FOLDERS.values():
        (root / part).mkdir(exist_ok=True)
        for path in (root / part).iterdir():
            if path not in wanted:
                path.unlink()
    with counted("placing clips", "clips", len(wanted), progress) as advance:
        for path, row in wanted.items():
            source = folder.clip_folder / row.clip
            if not (path.is_file() and _is_clip(path, source, row)):
                beside = path.with_name(f".{path.name}.part")
                beside.unlink(missing_ok=True)
                try:
                    os.link(source, beside)
                except OSError:
                    shutil.copyfile(source, beside)
                beside.replace(path)
            advance()


def _is_clip(path: Path, source: Path, row: ClipRow) -> bool:
    return path.samefile(source) or (
        path.stat().st_size == source.stat().st_size
        and hashlib.sha256(path.read_bytes()).hexdigest() == row.sha256
    )


def _card(
    name: str, revision: str, drafts: Sequence[Draft], clips: Mapping[str, ClipRow], report: Mapping[str, Any]
) -> dict[str, Any]:
    """The card as plain values.

    drafts: what is published. clips: the rows of their clips. report: of the calibration.
    """
    choices = [draft for draft in drafts if draft.options]
    seconds = [row.duration_s for row in clips.values()]
    licences: dict[str, set[str]] = {}
    for row in clips.values():
        licences.setdefault(row.source, set()).add(row.licence or NO_LICENCE)
    return {
        "name": name,
        "revision": revision,
        "questions_sha256": drafts_sha256(drafts),
        "questions": len(drafts),
        "clips": len(clips),
        "by_task": _counts(f"{draft.task}_{draft.way}" for draft in drafts),
        "by_source": _counts(clips[draft.clip].source for draft in drafts),
        "by_scene": _counts(draft.scene for draft in drafts),
        "by_number_of_options": _counts(str(len(draft.options)) for draft in choices),
        "by_right_letter": _counts(draft.answer for draft in choices),
        "by_writer": _counts(draft.writer for draft in drafts),
        "snapshots": sorted({draft.snapshot for draft in choices if draft.snapshot}),
        "clips_by_source": _counts(row.source for row in clips.values()),
        "clips_by_scene": _counts(row.scene for row in clips.values()),
        "lengths_s": {
            "shortest": min(seconds),
            "median": median(seconds),
            "longest": max(seconds),
            "total": round(sum(seconds), 3),
        },
        "licences": {source: sorted(found) for source, found in sorted(licences.items())},
        "annotators": len({draft.annotator for draft in drafts}),
        "agreements": [
            {name: value for name, value in agreement.items() if name != "annotators"}
            for agreement in report["agreements"]
        ],
        "left_out": {"dropped": report["dropped"], "waiting for a person": report["pending"]},
        "checks": report["cues"],
        "findings": [f"{cue['name']} ({cue['of']})" for cue in report["cues"] if cue["found"]],
        "versions": {
            "egost": version("egost"),
            "cutting": CUTTING_VERSION,
            "templates": TEMPLATES,
            "av": version("av"),
        },
    }


def _counts(names: Iterable[str]) -> dict[str, int]:
    return dict(sorted(Counter(names).items()))
