"""The SHA-256 of source clips, remembered so that a second start does not read gigabytes again."""

from __future__ import annotations

import hashlib
import json
import stat
from contextlib import suppress
from pathlib import Path

from egost.tasks.cache import cache_root, write_whole
from egost.tasks.errors import CacheError, ClipError, download_command
from egost.tasks.json_text import read_json

_known: dict[tuple[Path, tuple[int, int]], str] = {}


def source_sha256(source: Path, folder: Path | None = None) -> str:
    """SHA-256 of a clip's bytes, read only where path, size or time of change are new to `folder`.

    source: an absolute path. folder: by default in the cache folder.
    Raises ClipError (`missing`, `empty`, `unreadable`).
    """
    state = _state(source)
    if known := _known.get((source, state)):
        return known
    folder = folder or cache_root() / "clips" / "sources"
    memo = folder / f"{hashlib.sha256(str(source).encode()).hexdigest()[:32]}.json"
    sha256 = _remembered(memo, state)
    if not sha256:
        try:
            sha256 = file_sha256(source)
        except OSError as error:
            raise ClipError("unreadable", f"{source} cannot be read: {error.strerror}") from error
        # The memo saves time and nothing else, so a cache that only can be read from does without it.
        with suppress(CacheError):
            memory = {"source": str(source), "state": state, "sha256": sha256}
            write_whole(memo, json.dumps(memory).encode())
    _known[source, state] = sha256
    return sha256


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes. Raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _state(source: Path) -> tuple[int, int]:
    """(size in bytes, time of change in ns) of a clip. Raises ClipError (`missing`, `empty`, `unreadable`)."""
    try:
        status = source.stat()
    except OSError as error:
        raise ClipError(
            "missing", f"there is no clip {source} ({error.strerror}). Run: egost data status"
        ) from error
    if not stat.S_ISREG(status.st_mode):
        raise ClipError(
            "unreadable", f"{source} is no file (a folder, a pipe or a device); expected a video file."
        )
    if status.st_size == 0:
        raise ClipError("empty", f"{source} has zero bytes. Delete it and run: {download_command()}")
    return status.st_size, status.st_mtime_ns


def _remembered(memo: Path, state: tuple[int, int]) -> str | None:
    try:
        known = read_json(memo)
        return str(known["sha256"]) if known["state"] == list(state) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None
