"""The working folder of a construction: where each step leaves what the next one reads (see the package)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from egost.tasks.cache import write_whole
from egost.tasks.construction.annotations import AnnotationStore
from egost.tasks.construction.scenes import Scene
from egost.tasks.errors import EgostError


class WorkFolderError(EgostError):
    """A working folder lacks what a step needs, holds what cannot be read, or is in use."""


@dataclass(frozen=True, slots=True)
class ClipRow:
    """One clip as `clips.jsonl` records it.

    clip: its file name in `clips/`. file, start_s, end_s: what it was cut from, seconds. source, scene, licence: as
    the spec gave them; licence is empty where it gave none. width, height: pixels. rate: frames a second, as a
    fraction `30000/1001`. frames: their number. duration_s: seconds. sha256: of its bytes.
    made_from: hash of the source's state, the cut and the settings; another one means that it must be cut again.
    """

    clip: str
    file: str
    start_s: float
    end_s: float
    source: str
    scene: Scene
    licence: str
    width: int
    height: int
    rate: str
    frames: int
    duration_s: float
    sha256: str
    made_from: str


@dataclass(frozen=True, slots=True)
class WorkFolder:
    """Paths and contents of one working folder."""

    root: Path

    @property
    def clip_folder(self) -> Path:
        """Where the cut clips lie."""
        return self.root / "clips"

    @property
    def manifest(self) -> Path:
        """One `ClipRow` a line, in the order of the spec."""
        return self.root / "clips.jsonl"

    @property
    def lengths_plot(self) -> Path:
        """Lengths and sources of the clips."""
        return self.root / "lengths.png"

    @property
    def annotations(self) -> AnnotationStore:
        """All annotations."""
        return AnnotationStore(self.root / "annotations")

    @property
    def questions(self) -> Path:
        """One `Draft` a line."""
        return self.root / "questions.jsonl"

    @property
    def writing(self) -> Path:
        """How the questions were written: writer, what was left out and why, costs."""
        return self.root / "writing.json"

    @property
    def calibration(self) -> Path:
        """The report of the calibration."""
        return self.root / "calibration.json"

    @property
    def dropped(self) -> Path:
        """Drafts that cannot be published, with the reasons."""
        return self.root / "dropped.jsonl"

    @property
    def review(self) -> Path:
        """Drafts that a person has to decide on, with the reasons and the verdict."""
        return self.root / "review.jsonl"

    @property
    def kept(self) -> Path:
        """Drafts that passed the calibration, to be published."""
        return self.root / "kept.jsonl"

    @property
    def writer_replies(self) -> Path:
        """Replies of a writer's server, one file each."""
        return self.root / "replies" / "writer"

    @property
    def judge_replies(self) -> Path:
        """Replies of the server that judges options, one file each."""
        return self.root / "replies" / "judge"

    def clips(self) -> dict[str, ClipRow]:
        """The clips that are cut, by file name. Raises WorkFolderError where there are none."""
        if not self.manifest.is_file():
            raise WorkFolderError(
                f"{self.root} has no clips ({self.manifest.name} is missing). Run: egost construct clips SPEC "
                f"{self.root}"
            )
        rows = read_lines(self.manifest)
        try:
            clips = [ClipRow(**row) for row in rows]
        except TypeError as error:
            raise WorkFolderError(
                f"{self.manifest} is no manifest of clips ({error}). Delete it and run: egost construct clips SPEC "
                f"{self.root}"
            ) from error
        return {clip.clip: clip for clip in clips}

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Hold the folder for one step. Raises WorkFolderError where another process has it or it cannot be made."""
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            with FileLock(self.root / f".{name}.lock", timeout=0):
                yield
        except Timeout as error:
            raise WorkFolderError(
                f"another process runs this step ({name}) in {self.root}. Wait for its end."
            ) from error
        except OSError as error:
            raise WorkFolderError(
                f"{self.root} cannot be worked in ({error}). Make room, or name another folder."
            ) from error


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The objects of a JSONL file. Raises WorkFolderError for anything else."""
    try:
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, ValueError) as error:
        raise WorkFolderError(
            f"{path} cannot be read ({error}). Run the step that writes it again."
        ) from error
    if not all(isinstance(row, dict) for row in rows):
        raise WorkFolderError(f"{path}: expected one object a line. Run the step that writes it again.")
    return rows


def read_object(path: Path) -> dict[str, Any]:
    """The object of a JSON file. Raises WorkFolderError for anything else."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise WorkFolderError(
            f"{path} cannot be read ({error}). Run the step that writes it again."
        ) from error
    if not isinstance(content, dict):
        raise WorkFolderError(f"{path}: expected an object. Run the step that writes it again.")
    return content


def write_lines(path: Path, rows: Iterable[Any]) -> None:
    """Write dataclasses or dictionaries as JSONL, whole. Raises OSError."""
    plain = (row if isinstance(row, dict) else asdict(row) for row in rows)
    write_whole(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in plain).encode())


def write_object(path: Path, content: dict[str, Any]) -> None:
    """Write a JSON file, whole. Raises OSError."""
    write_whole(path, (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode())
