"""The last step: a release in the official layout, which the loader and the eight tasks read, with a data card."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from egost.tasks.cache import write_whole
from egost.tasks.construction.calibration import read_drafts
from egost.tasks.construction.data_card import card_of, card_text
from egost.tasks.construction.drafts import Draft, draft_from_json, drafts_sha256
from egost.tasks.construction.scenes import PART_OF_SCENE
from egost.tasks.construction.workfolder import (
    ClipRow,
    WorkFolder,
    WorkFolderError,
    read_lines,
    read_object,
    write_object,
)
from egost.tasks.errors import EgostError
from egost.tasks.mini_world.question_files import QuestionFiles, choice_entry, file_name, route_entry
from egost.tasks.progress import counted
from egost.tasks.release.hub import RELEASE_RECORD
from egost.tasks.release.questions import QUESTION_FILES
from egost.tasks.release.release import CONSTRUCTED, PART_FOLDERS
from egost.tasks.sample import LETTERS, TASK_KINDS, WAYS

CARD, CARD_TEXT = "egost_card.json", "README.md"

_STARTED = ".egost_construct.json"


class PublishError(EgostError):
    """A construction is not ready to be published, or its release cannot be written."""


@dataclass(frozen=True)
class Publication:
    """What was published. revision: what stands for the release's revision in the results of a run.

    missing_tasks: those of the eight that have no question; findings: cues that the calibration found; unlicensed:
    sources whose licence is not given.
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
    The folder is empty, does not exist, or holds an earlier publication under this name, which is brought up to date;
    a run that was killed goes on. Clips are linked where the disk allows it, else copied.
    Raises PublishError where the calibration is missing, is older than the questions, or did not pass; where the folder
    holds anything else or cannot be written; where a clip is missing. Also WorkFolderError.
    """
    if not re.fullmatch(r"\w[\w.-]{0,63}", name):
        raise PublishError(f"the name {name!r} holds more than letters, digits and ._-")
    clips = folder.clips()
    kept, report = _calibrated(folder, with_findings)
    used = {draft.clip: clips[draft.clip] for draft in kept}
    for row in used.values():
        if not (folder.clip_folder / row.clip).is_file():
            raise PublishError(
                f"the clip {folder.clip_folder / row.clip} is missing. Run: egost construct clips SPEC {folder.root}"
            )
    revision = f"{name}{CONSTRUCTED}{drafts_sha256(kept)[:12]}"
    try:
        _claim(root, name)
        _place_clips(folder, root, list(used.values()), progress)
        for file, entries in question_files(kept).items():
            content = json.dumps(entries, indent=1, ensure_ascii=False) + "\n"
            write_whole(root / file, content.encode())
        card = card_of(name, revision, kept, used, report)
        write_object(root / CARD, card)
        write_whole(root / CARD_TEXT, card_text(card).encode())
        # Last, so that whoever finds a revision finds all that belongs to it.
        write_object(root / RELEASE_RECORD, {"roots": [], "revision": revision, "clips_revision": revision})
    except OSError as error:
        raise PublishError(
            f"{root} cannot be written ({error}). Make room, or name another folder."
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


def question_files(drafts: Sequence[Draft]) -> QuestionFiles:
    """Content of each of the 26 files by its name; ids are numbers of clips, in the order of the drafts."""
    files: QuestionFiles = {name: {} for name in sorted(QUESTION_FILES)}
    numbers = {
        clip: str(number) for number, clip in enumerate(dict.fromkeys(draft.clip for draft in drafts), 1)
    }
    for draft in drafts:
        if draft.task == "route":
            entry = route_entry(draft.clip, draft.way, draft.question, draft.answer)
        else:
            texts = [option.text for option in draft.options]
            right = LETTERS.index(draft.answer)
            entry = choice_entry(draft.clip, draft.way, draft.question, texts, right)
        files[file_name(PART_OF_SCENE[draft.scene], draft.way, draft.task)][numbers[draft.clip]] = entry
    return files


def _calibrated(folder: WorkFolder, with_findings: bool) -> tuple[list[Draft], dict[str, Any]]:
    again = f"Run: egost construct calibrate {folder.root}"
    if not (folder.calibration.is_file() and folder.kept.is_file()):
        raise PublishError(f"{folder.root} is not calibrated ({folder.calibration.name} is missing). {again}")
    report = read_object(folder.calibration)
    kept = [
        draft_from_json(row, f"{folder.kept}, line {number}")
        for number, row in enumerate(read_lines(folder.kept), 1)
    ]
    drafts = read_drafts(folder)
    if (report.get("questions_sha256"), report.get("kept_sha256")) != (
        drafts_sha256(drafts),
        drafts_sha256(kept),
    ):
        raise PublishError(f"the questions in {folder.root} have changed since they were calibrated. {again}")
    if not kept:
        raise PublishError(
            f"the calibration of {folder.root} left no question to publish: see {folder.dropped}."
        )
    found = [f"{cue['name']} ({cue['of']})" for cue in report["cues"] if cue["found"]]
    if found and not with_findings:
        raise PublishError(
            f"the calibration of {folder.root} found that text gives answers away: {', '.join(found)}. Write the "
            "questions anew, or publish all the same by --with-findings; the data card says so then."
        )
    return kept, report


def _claim(root: Path, name: str) -> None:
    """Make the folder this publication's, or find that it is."""
    root.mkdir(parents=True, exist_ok=True)
    started = root / _STARTED
    if started.is_file():
        try:
            earlier = read_object(started).get("name")
        except WorkFolderError as error:
            raise PublishError(f"{error} Delete {root}, or name another folder.") from error
        if earlier != name:
            raise PublishError(f"{root} holds the release {earlier!r}, not {name!r}. Name another folder.")
    elif others := sorted(path.name for path in root.iterdir() if not path.name.startswith(_STARTED)):
        raise PublishError(f"{root} is not empty (for example {others[0]}). Name an empty folder.")
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
