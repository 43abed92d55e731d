"""The working folder of a construction: its files, and how they are read and written (the package lists them)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from pydantic import FiniteFloat, TypeAdapter, ValidationError

from egost.tasks.cache import write_whole
from egost.tasks.chat.reply_store import STORE, stored_bodies
from egost.tasks.chat.usage import price_usd
from egost.tasks.construction.annotations import (
    Annotation,
    check,
    check_name,
    from_json,
    read_annotations,
    to_json,
)
from egost.tasks.construction.spec import Scene, bullets
from egost.tasks.errors import ConstructionError
from egost.tasks.json_text import Count, read_json, wrong_field
from egost.tasks.text_files import json_lines, write_json_lines


@dataclass(frozen=True, slots=True)
class ClipRow:
    """One clip as `clips.jsonl` records it.

    clip: its file name in `clips/`. file, start_s, end_s: the source video, and where the clip lies in it in seconds.
    source, scene, licence: as the list of clips gave them; licence is empty where there was none. width, height:
    pixels. rate: frames a second, as a fraction `30000/1001`. frames: their number. duration_s: seconds. sha256: of
    the clip's bytes. made_from: hash of the source's state, the cut and the settings; the clip is cut again when it
    changes.
    """

    clip: str
    file: str
    start_s: FiniteFloat
    end_s: FiniteFloat
    source: str
    scene: Scene
    licence: str
    width: Count
    height: Count
    rate: str
    frames: Count
    duration_s: FiniteFloat
    sha256: str
    made_from: str


_CLIP = TypeAdapter(ClipRow)


class WorkFolder:
    """Paths and contents of one working folder; the docstring of the package says what each file holds."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.clip_folder = root / "clips"
        self.manifest = root / "clips.jsonl"
        self.lengths_plot = root / "lengths.png"
        self.annotations = AnnotationStore(root / "annotations")
        self.questions = root / "questions.jsonl"
        self.writing = root / "writing.json"
        self.calibration = root / "calibration.json"
        self.dropped = root / "dropped.jsonl"
        self.review = root / "review.jsonl"
        self.kept = root / "kept.jsonl"
        self.writer_replies = root / "replies" / "writer"
        self.judge_replies = root / "replies" / "judge"

    def clips(self) -> dict[str, ClipRow]:
        """The clips that are cut, by file name. Raises ConstructionError where there are none."""
        again = f"egost construct clips SPEC {self.root}"
        if not self.manifest.is_file():
            raise ConstructionError(
                f"{self.root} has no clips ({self.manifest.name} is missing). Run: {again}"
            )
        try:
            clips = [_CLIP.validate_json(json.dumps(row), strict=True) for row in read_lines(self.manifest)]
        except ValidationError as error:
            raise ConstructionError(
                f"{self.manifest} is not a list of cut clips ({wrong_field(error)}). Delete it and run: {again}"
            ) from error
        return {clip.clip: clip for clip in clips}

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Lock the folder for one step. Raises ConstructionError where it is locked or cannot be made."""
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            with FileLock(self.root / f".{name}.lock", timeout=0):
                yield
        except Timeout as error:
            raise ConstructionError(
                f"another process runs this step ({name}) in {self.root}. Wait until it ends."
            ) from error
        except OSError as error:
            raise ConstructionError(
                f"{self.root} cannot be written ({error}). Free some space, or name another folder."
            ) from error


class AnnotationStore:
    """Annotations on disk, `FOLDER/ANNOTATOR/CLIP.json`; each file appears whole."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def save(self, annotation: Annotation) -> None:
        """Write an annotation over the annotator's earlier one of this clip.

        Raises CacheError when it cannot be written.
        """
        write_object(self._path(annotation.clip, annotation.annotator), to_json(annotation))

    def load(self, clip: str, annotator: str) -> Annotation | None:
        """An annotator's annotation of a clip, None when there is none. Raises ConstructionError for a broken file."""
        path = self._path(clip, annotator)
        return _read_annotation(path) if path.is_file() else None

    def all(self) -> Iterator[Annotation]:
        """All annotations by clip, then annotator. Raises ConstructionError for a broken file."""
        paths = [path for path in self.folder.glob("*/*.json") if not path.name.startswith(".")]
        for path in sorted(paths, key=lambda path: (path.name, path.parent.name)):
            yield _read_annotation(path)

    def of_clip(self, clip: str) -> list[Annotation]:
        """All annotations of a clip, by annotator. Raises ConstructionError for a broken file."""
        return [annotation for annotation in self.all() if annotation.clip == clip]

    def _path(self, clip: str, annotator: str) -> Path:
        check_name("clip", clip)
        check_name("annotator", annotator)
        return self.folder / annotator / f"{clip}.json"


def _read_annotation(path: Path) -> Annotation:
    try:
        content = read_json(path)
    except (OSError, ValueError) as error:
        raise ConstructionError(f"{path} cannot be read ({error}). Annotate the clip again.") from error
    return from_json(content, str(path))


def import_annotations(folder: WorkFolder, file: Path) -> list[Annotation]:
    """Check the annotations of a CSV or JSON file and store them all, over earlier ones of the same annotator.

    Raises ConstructionError, and stores nothing, where `read_annotations` cannot read the file, where a clip is not in
    the folder or has another scene, or where `check` finds a problem.
    """
    annotations = read_annotations(file)
    clips = folder.clips()
    wrong: list[str] = []
    for annotation in annotations:
        which = f"{annotation.clip} by {annotation.annotator}"
        row = clips.get(annotation.clip)
        if row is None:
            wrong.append(f"{which}: unknown_clip: {folder.manifest} has no such clip.")
        elif row.scene != annotation.scene:
            wrong.append(f"{which}: other_scene: {annotation.scene}; the clip's scene is {row.scene}.")
        else:
            wrong += [f"{which}: {problem}" for problem in check(annotation, row.duration_s)]
    if wrong:
        raise ConstructionError(
            f"nothing of {file} was imported, it has {len(wrong)} problems:{bullets(wrong)}"
        )
    for annotation in annotations:
        folder.annotations.save(annotation)
    return annotations


@dataclass(frozen=True, slots=True)
class Cost:
    """What the kept replies cost: their number, their tokens, and US dollars; None where a price is not known."""

    replies: int
    tokens_in: int
    tokens_out: int
    usd: float | None


def cost_of(folder: Path) -> Cost:
    """What all replies in a folder cost, whichever process asked for them."""
    # Earlier versions kept each reply in a file of its own.
    older = {path.stem: read_object(path) for path in sorted(folder.glob("*.json"))}
    replies = {**older, **stored_bodies(folder / STORE)}.values()
    prices = [price_usd(r["snapshot"], r["tokens_in"], r["tokens_out"]) for r in replies]
    known = [price for price in prices if price is not None]
    return Cost(
        len(replies),
        sum(reply["tokens_in"] for reply in replies),
        sum(reply["tokens_out"] for reply in replies),
        sum(known) if len(known) == len(prices) else None,
    )


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The objects of a JSONL file. Raises ConstructionError for anything else."""
    try:
        rows = [row for _, row in json_lines(path)]
    except (OSError, ValueError) as error:
        raise _unreadable(path, str(error)) from error
    if not all(isinstance(row, dict) for row in rows):
        raise _unreadable(path, "expected one object a line")
    return rows


def read_object(path: Path) -> dict[str, Any]:
    """The object of a JSON file. Raises ConstructionError for anything else."""
    try:
        content = read_json(path)
    except (OSError, ValueError) as error:
        raise _unreadable(path, str(error)) from error
    if not isinstance(content, dict):
        raise _unreadable(path, "expected an object")
    return content


def _unreadable(path: Path, why: str) -> ConstructionError:
    return ConstructionError(f"{path} cannot be read ({why}). Run the step that writes it again.")


def write_lines(path: Path, rows: Iterable[Any]) -> None:
    """Write dataclasses or dictionaries as JSONL, whole. Raises CacheError."""
    plain = (row if isinstance(row, dict) else asdict(row) for row in rows)
    write_json_lines(path, plain)


def write_object(path: Path, content: dict[str, Any]) -> None:
    """Write a JSON file, whole. Raises CacheError."""
    write_whole(path, (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode())
