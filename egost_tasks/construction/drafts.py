"""Questions before and after calibration, with the annotation and the writer that each one comes from."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from egost.tasks.construction.annotations import MIRROR, Annotation, actions, landmarks, to_json, turns
from egost.tasks.construction.spec import PART_OF_SCENE, Scene
from egost.tasks.construction.workfolder import WorkFolder, read_lines
from egost.tasks.errors import ConstructionError
from egost.tasks.sample import LETTERS, Sample, TaskKind, Way

CHOICE_TASKS: tuple[TaskKind, ...] = ("direction", "landmark", "action")

Items = tuple[str, ...]
"""What an option says: directions, landmarks or actions in order."""


@dataclass(frozen=True, slots=True)
class Draft:
    """One question about one clip.

    id: unique in a working folder, `TASK_WAY/CLIP`. options: in their order, none for a route. answer: the right
    letter, or the reference description of the route. annotator, annotation_sha256: the annotation that it was written
    from. writer: who wrote the wrong options, with version; snapshot: the model that the writer's server named, else
    empty.
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
        """The question as a sample of the benchmark, with the draft's id."""
        texts = tuple(option.text for option in self.options)
        part = PART_OF_SCENE[self.scene]
        return Sample(self.id, self.task, self.way, part, self.clip, self.question, texts, self.answer)


@dataclass(frozen=True, slots=True)
class Option:
    """One option: the text that people read, and the items that it says."""

    text: str
    items: Items


def draft_id(task: TaskKind, way: Way, clip: str) -> str:
    """The id of a draft."""
    return f"{task}_{way}/{clip}"


def truth_of(annotation: Annotation, task: TaskKind, way: Way) -> Items:
    """The items of the right option of a choice, by the annotated steps."""
    steps = annotation.steps(way)
    if task == "direction":
        return turns(steps)
    return landmarks(steps) if task == "landmark" else actions(steps)


def turned_round(task: TaskKind, items: Items) -> Items:
    """The items of an option for the way back, from its items for the way there."""
    if task != "direction":
        return items[::-1]
    return tuple(MIRROR[item] for item in reversed(items))


def annotation_sha256(annotation: Annotation) -> str:
    """Hash of the content of an annotation."""
    return hashlib.sha256(json.dumps(to_json(annotation), sort_keys=True).encode()).hexdigest()


def drafts_sha256(drafts: Iterable[Draft]) -> str:
    """Hash of drafts in their order."""
    return hashlib.sha256(repr(list(drafts)).encode()).hexdigest()


def draft_from_json(row: dict[str, Any], where: str) -> Draft:
    """The draft in a row that `dataclasses.asdict` made. Raises ConstructionError for anything else."""
    try:
        options = tuple(Option(option["text"], tuple(option["items"])) for option in row["options"])
        draft = Draft(**{**row, "options": options})
        texts = [value for name, value in row.items() if name != "options"]
        texts += [text for option in options for text in (option.text, *option.items)]
        if not all(isinstance(text, str) for text in texts):
            raise TypeError("a field is not a text")
        if options:
            _ = draft.right
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise ConstructionError(
            f"{where}: no draft of a question ({type(error).__name__}: {error}). Run: egost construct questions"
        ) from error
    return draft


def read_drafts(path: Path) -> list[Draft]:
    """The drafts of a JSONL file. Raises ConstructionError for anything else."""
    return [draft_from_json(row, f"{path}, line {number}") for number, row in enumerate(read_lines(path), 1)]


def written_drafts(folder: WorkFolder) -> list[Draft]:
    """The drafts as they were written. Raises ConstructionError where there are none, or two have the same id."""
    again = f"Run: egost construct questions {folder.root}"
    if not folder.questions.is_file():
        raise ConstructionError(
            f"{folder.root} has no questions ({folder.questions.name} is missing). {again}"
        )
    drafts = read_drafts(folder.questions)
    if twice := [name for name, n in Counter(draft.id for draft in drafts).items() if n > 1]:
        raise ConstructionError(f"{folder.questions} has {twice[0]} twice. {again}")
    return drafts
