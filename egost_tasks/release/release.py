"""A release on disk: where its files are, and which clip belongs to which sample.

It holds 26 question files (see `layout.py`) and clips in one folder a part, loose or inside archives. The mini world
has the same layout, so that one loader reads both.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from egost.tasks.cache import cache_root
from egost.tasks.errors import ClipError, ReleaseError, download_command
from egost.tasks.file_hashes import source_sha256
from egost.tasks.json_text import read_json
from egost.tasks.release.archive_names import is_packed, is_unread
from egost.tasks.release.archive_parts import all_packed
from egost.tasks.release.archives import MAX_NESTED, unpack
from egost.tasks.release.hub import cached_snapshots, recorded_revision
from egost.tasks.release.layout import (
    PART_FOLDERS,
    QUESTION_FILES,
    VIDEO_SUFFIXES,
    Excluded,
    clip_key,
    is_question_file,
    part_folder,
    read_questions,
)
from egost.tasks.sample import Sample, World

MINI_MANIFEST = "egost_mini.json"
"""File of a mini release that says how it was made, with the exact truth about each clip."""

MAX_MISSING_SHARE = 0.02
"""Above this share of missing clips a release counts as half a download and is not evaluated."""


@dataclass(frozen=True)
class SampleIndex:
    """The samples of a release, the entries that are none, and the hash of the question files."""

    samples: tuple[Sample, ...]
    excluded: tuple[Excluded, ...]
    files_sha256: str

    @property
    def excluded_counts(self) -> dict[str, int]:
        """Number of entries left out, by reason."""
        return dict(Counter(item.reason for item in self.excluded))


@dataclass(frozen=True)
class Release:
    """A release on disk.

    world: `official`, or `mini` for the rendered world, whose numbers are no benchmark results.
    roots: folders that hold it; the hub keeps questions and clips in two repositories.
    revision: commit of the questions' repository, or what replaces it (`mini-1 test seed 0 clips 40`, `local`).
    """

    world: World
    roots: tuple[Path, ...]
    revision: str

    @cached_property
    def question_files(self) -> dict[str, Path]:
        """Path of each question file that was found, by its name.

        Raises ReleaseError for a `Part*.json` that is none of the 26 or that exists twice.
        """
        found: dict[str, Path] = {}
        for path in (path for root in self.roots for path in _walk(root, _is_json)):
            if not is_question_file(path.name):
                continue
            if path.name in found and not path.samefile(found[path.name]):
                raise ReleaseError(
                    f"{path.name} exists twice, as {found[path.name]} and {path}: remove one of them."
                )
            found[path.name] = path
        return dict(sorted(found.items()))

    @property
    def missing_question_files(self) -> list[str]:
        """Names of the 26 question files that are not there."""
        return sorted(QUESTION_FILES - self.question_files.keys())

    @cached_property
    def index(self) -> SampleIndex:
        """All samples and what was left out of them, read from the question files at first use.

        Raises ReleaseError when question files are missing or cannot be understood.
        """
        if missing := self.missing_question_files:
            raise ReleaseError(
                f"{len(missing)} of {len(QUESTION_FILES)} question files are missing in "
                f"{', '.join(map(str, self.roots))}: {', '.join(missing[:4])}{' ...' if len(missing) > 4 else ''}. "
                f"{self._how_to_get()}"
            )
        samples, excluded = read_questions(self.question_files)
        return SampleIndex(tuple(samples), tuple(excluded), _sha256(self.question_files))

    @cached_property
    def clips(self) -> dict[tuple[str | None, str], Path]:
        """Path of each video by its part folder (None where it lies in none) and `clip_key`.

        Unpacks the archives that were not unpacked yet; a member whose own path names no part folder lies in the
        one that the archive lies in. A loose file counts before the same one in an archive. Raises ReleaseError for two
        different files of one name in one place, and for an archive that cannot be unpacked.
        """
        found: dict[tuple[str | None, str], Path] = {}
        for place, path in (video for root in self.roots for video in _videos(root, None)):
            first = found.setdefault((place, clip_key(path.name)), path)
            if not _same(first, path):
                raise ReleaseError(
                    f"clip {path.name} exists twice with other contents, as {first} and {path}: remove one of them."
                )
        return found

    def clip_path(self, sample: Sample) -> Path:
        """The sample's video: in its part's folder, else in no part's folder.

        Raises ClipError `missing`.
        """
        for folder in (PART_FOLDERS[sample.part], None):
            if path := self.clips.get((folder, clip_key(sample.clip))):
                return path
        raise ClipError(
            "missing",
            f"clip {sample.clip} of sample {sample.id} is not in {PART_FOLDERS[sample.part]}/ under "
            f"{', '.join(map(str, self.roots))}. {self._how_to_get()}",
        )

    def missing_clips(self, samples: Iterable[Sample]) -> list[str]:
        """`FOLDER/NAME` of each clip that a sample needs and that is not there."""
        needed = {(PART_FOLDERS[s.part], s.clip) for s in samples}
        return sorted(
            f"{folder}/{name}"
            for folder, name in needed
            if not {(folder, clip_key(name)), (None, clip_key(name))} & self.clips.keys()
        )

    def samples(self, task: str, way: str) -> list[Sample]:
        """The samples of one of the eight tasks, in the order of the release.

        Raises ReleaseError when there are none, or when so many clips of the release are missing
        (`MAX_MISSING_SHARE`) that the download must be half done.
        """
        every = self.index.samples
        missing = self.missing_clips(every)
        clips = len({(s.part, s.clip) for s in every})
        if len(missing) > MAX_MISSING_SHARE * clips:
            raise ReleaseError(
                f"{len(missing)} of {clips} clips are missing in {', '.join(map(str, self.roots))}, for example "
                f"{missing[0]}: the download is not complete. {self._how_to_get()}"
            )
        chosen = [s for s in every if s.task == task and s.way == way]
        if not chosen:
            raise ReleaseError(
                f"the release in {self.roots[0]} has no sample of {task}_{way}. {self._how_to_get()}"
            )
        return chosen

    @cached_property
    def unread_archives(self) -> list[Path]:
        """The archives in which clips may be that only another program can unpack."""
        return [path for root in self.roots for path in _walk(root, is_unread)]

    def _how_to_get(self) -> str:
        if self.world == "mini":
            return "Run: egost data mini"
        if unread := self.unread_archives:
            names = f"{', '.join(map(str, unread[:4]))}{' ...' if len(unread) > 4 else ''}"
            return (
                f"egost cannot unpack {names}: unpack that with the program that it was made with. Then run: "
                "egost data status"
            )
        return f"Run: {download_command()} (gets what is missing), then: egost data status"


def _sha256(files: Mapping[str, Path]) -> str:
    """One hash of the names and contents of files."""
    digest = hashlib.sha256()
    for name, path in sorted(files.items()):
        digest.update(f"{name}:{hashlib.sha256(path.read_bytes()).hexdigest()};".encode())
    return digest.hexdigest()


def _is_json(path: Path) -> bool:
    return path.suffix.lower() == ".json"


def _is_video(path: Path) -> bool:
    return path.suffix.lower() in VIDEO_SUFFIXES


def _walk(root: Path, wanted: Callable[[Path], bool]) -> list[Path]:
    """The wanted files under a folder, links to folders followed, but for a folder that was read already."""
    found: list[Path] = []
    read: set[tuple[str | None, str]] = set()
    for folder, subfolders, names in os.walk(root, followlinks=True):
        # Two parts may be links to one folder; a link may lead back up.
        place = _part_folder(Path(folder, "any").relative_to(root)), os.path.realpath(folder)
        if place in read:
            subfolders.clear()
            continue
        read.add(place)
        subfolders[:] = sorted(name for name in subfolders if not name.startswith((".", "__MACOSX")))
        # `._1.mp4` holds what a Mac knows of 1.mp4, and no film.
        visible = [name for name in names if not name.startswith("._")]
        paths = filter(wanted, (Path(folder, name) for name in sorted(visible)))
        # A link whose target is gone is no file: the hub's cache is made of links.
        found += [path for path in paths if path.is_file()]
    return found


def _videos(root: Path, part: str | None, nested: int = 0) -> Iterator[tuple[str | None, Path]]:
    """The videos under a folder, loose ones first, then those in archives, each with its part folder.

    part: of what names none. nested: in how many archives the folder lies.
    """
    for path in _walk(root, _is_video):
        yield _part_folder(path.relative_to(root)) or part, path
    for archive in (one.path for one in all_packed(_walk(root, is_packed))):
        if nested > MAX_NESTED:
            raise ReleaseError(
                f"{archive} lies in {nested} other archives. Unpack those, and move them away."
            )
        own_part = _part_folder(archive.relative_to(root)) or part
        yield from _videos(unpack(archive, cache_root() / "unpacked"), own_part, nested + 1)


def _same(a: Path, b: Path) -> bool:
    """Whether two files have the same bytes."""
    size = a.stat().st_size
    if a.samefile(b) or size != b.stat().st_size:
        return a.samefile(b)
    return not size or source_sha256(a.absolute()) == source_sha256(b.absolute())


def _part_folder(path: Path) -> str | None:
    """The part folder that a path lies in, by the innermost folder that names a part."""
    named = [part_folder(name) for name in path.parts[:-1]]
    return next((folder for folder in reversed(named) if folder), None)


@cache
def open_release(world: World) -> Release:
    """The release that this process works with.

    `official`: the folder in `EGOST_DATA`, else the snapshots that `egost data download` put into the
    hub's cache. `mini`: the folder in `EGOST_MINI_DATA`, else `mini` in the cache folder.
    Raises ReleaseError when there is nothing.
    """
    if world == "mini":
        return release_in(mini_root(), "mini")
    if folder := os.environ.get("EGOST_DATA"):
        root = Path(folder).expanduser()
        if not root.is_dir():
            if root.exists():
                raise ReleaseError(f"EGOST_DATA names {root}, which is a file; it must name a folder.")
            raise ReleaseError(f"EGOST_DATA names {root}, which does not exist. Run: {download_command()}")
        return release_in(root, "official")
    if snapshots := cached_snapshots():
        return Release("official", snapshots.roots, snapshots.revision)
    raise ReleaseError(
        "the Ego-ST Bench release is not on this machine. Run: egost data download, "
        "or set EGOST_DATA to the folder that holds it. To try the suite without it: egost data mini, then "
        "lmms-eval --tasks egost_mini ..."
    )


def release_in(root: Path, world: World) -> Release:
    """The release that lies in one folder. Raises ReleaseError where its record or manifest cannot be read."""
    revision = mini_revision(root) if world == "mini" else recorded_revision(root)
    return Release(world, (root,), revision)


def mini_root() -> Path:
    """Where the mini world is: `EGOST_MINI_DATA`, else `mini` in the cache folder."""
    folder = os.environ.get("EGOST_MINI_DATA")
    return Path(folder).expanduser() if folder else cache_root() / "mini"


def mini_revision(root: Path) -> str:
    """The revision of a mini release: generator version, split, seed and number of clips.

    Raises ReleaseError when the manifest is missing or cannot be understood.
    """
    made = read_mini_manifest(root)["made_with"]
    return f"mini-{made['generator']} {made['split']} seed {made['seed']} clips {made['clips']}"


def read_mini_manifest(root: Path) -> dict[str, Any]:
    """The manifest of a mini release: `made_with` (the generator's arguments) and `walks` (the truth about each clip).

    Raises ReleaseError when it is missing or cannot be understood.
    """
    try:
        manifest: dict[str, Any] = read_json(root / MINI_MANIFEST)
        if not {"generator", "seed", "split", "clips"} <= manifest["made_with"].keys():
            raise KeyError("made_with")
    except FileNotFoundError as error:
        raise ReleaseError(
            f"there is no mini world in {root} ({MINI_MANIFEST} is missing). Run: egost data mini"
        ) from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise broken_mini_manifest(root / MINI_MANIFEST, error) from error
    return manifest


def broken_mini_manifest(path: Path, error: Exception) -> ReleaseError:
    """What is said of a manifest that cannot be understood."""
    return ReleaseError(
        f"{path} is no manifest of a mini release ({type(error).__name__}: {error}). "
        "Delete the folder and run: egost data mini"
    )
