"""Questions as they are written, before and after calibration, with where each comes from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from egost.tasks.construction.annotations import MIRROR, Annotation, actions, landmarks, to_json, turns
from egost.tasks.construction.scenes import PART_OF_SCENE, Scene
from egost.tasks.construction.workfolder import WorkFolderError
from egost.tasks.sample import LETTERS, Sample, TaskKind, Way

Items = tuple[str, ...]
"""What an option says: directions, landmarks or actions in order."""


@dataclass(frozen=True, slots=True)
class Option:
    """One option: what people read, and what it says."""

    text: str
    items: Items


@dataclass(frozen=True, slots=True)
class Draft:
    """One question about one clip.

    id: unique in a working folder, `TASK_WAY/CLIP`. options: in their order, none for a route. answer: the right
    letter, or the route's reference description. annotator, annotation_sha256: whose steps it was written from, and
    their state. writer: who wrote its wrong options, with version; snapshot: the model that a writer's server named,
    else empty.
    """

    id: str
    clip: str
    task: TaskKind
    way: Way
    scene: Scene
    question: str
    options: tuple[Option, ...]
    answer: str
    annotator: str
    annotation_sha256: str
    writer: str
    snapshot: str

    @property
    def right(self) -> Option:
        """The right option of a choice."""
        return self.options[LETTERS.index(self.answer)]

    @property
    def wrong(self) -> tuple[Option, ...]:
        """The other options of a choice."""
        return tuple(option for k, option in enumerate(self.options) if LETTERS[k] != self.answer)

    def sample(self) -> Sample:
        """The question as the benchmark's own code takes it; its id is the draft's."""
        texts = tuple(option.text for option in self.options)
        part = PART_OF_SCENE[self.scene]
        return Sample(self.id, self.task, self.way, part, self.clip, self.question, texts, self.answer)


def draft_id(task: TaskKind, way: Way, clip: str) -> str:
    """The id of a draft."""
    return f"{task}_{way}/{clip}"


def truth_of(annotation: Annotation, task: TaskKind, way: Way) -> Items:
    """What the right option of a choice must say, by the steps."""
    steps = annotation.steps(way)
    if task == "direction":
        return turns(steps)
    return landmarks(steps) if task == "landmark" else actions(steps)


def turned_round(task: TaskKind, items: Items) -> Items:
    """What an option says of the way back where it says `items` of the way there."""
    if task != "direction":
        return items[::-1]
    mirror: dict[str, str] = dict(MIRROR.items())
    return tuple(mirror[item] for item in reversed(items))


def annotation_sha256(annotation: Annotation) -> str:
    """Hash of all that an annotation says."""
    return hashlib.sha256(json.dumps(to_json(annotation), sort_keys=True).encode()).hexdigest()


def drafts_sha256(drafts: Iterable[Draft]) -> str:
    """Hash of drafts in their order."""
    return hashlib.sha256(repr(list(drafts)).encode()).hexdigest()


def draft_from_json(row: dict[str, Any], where: str) -> Draft:
    """The draft that `dataclasses.asdict` made a row of. Raises WorkFolderError for anything else."""
    try:
        options = tuple(Option(option["text"], tuple(option["items"])) for option in row["options"])
        draft = Draft(**{**row, "options": options})
        if options:
            _ = draft.right
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise WorkFolderError(
            f"{where}: no draft of a question ({type(error).__name__}: {error}). Run: egost construct questions"
        ) from error
    return draft
