"""Unpacks archives of clips safely: nothing outside the target folder, no links, whole or not at all."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from filelock import FileLock

from egost.tasks.cache import whole_folder
from egost.tasks.errors import CacheError, ReleaseError, download_command

ARCHIVE_SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz")

_BROKEN = (
    zipfile.BadZipFile,
    tarfile.TarError,
    EOFError,
    zlib.error,
    NotImplementedError,
    RuntimeError,
)
"""What the readers of a broken, encrypted or unknown archive raise."""


@dataclass(frozen=True)
class _Member:
    name: str
    is_folder: bool
    is_plain_file: bool
    open: Callable[[], IO[bytes]]


def unpack(archive: Path, target: Path) -> Path:
    """Unpack `archive` below `target` unless that was done before; return the folder.

    The files lie in `TARGET/KEY/STEM/...`, where STEM is the archive's name without its suffix, so that
    the clips of `part1.zip` lie in a folder `part1`. KEY follows the archive's path, size and time of
    change; the folder appears by a rename when everything is in it.
    Raises ReleaseError for a broken archive or a member that is absolute, leaves the folder or is a link
    or device; CacheError when the target cannot be written.
    """
    status = archive.stat()
    key = hashlib.sha256(f"{archive.absolute()}:{status.st_size}:{status.st_mtime_ns}".encode()).hexdigest()[
        :16
    ]
    folder = target / key
    try:
        target.mkdir(parents=True, exist_ok=True)
        with FileLock(target / f"{key}.lock"):
            if not folder.is_dir():
                _unpack(archive, folder)
    except OSError as error:
        raise CacheError(
            f"cannot unpack {archive} into {target}: {error}. Free some space or set EGOST_CACHE to another folder."
        ) from error
    return folder


def _unpack(archive: Path, folder: Path) -> None:
    """Unpack into the folder, whole or not at all. The caller holds the folder's lock."""
    suffix = next(s for s in ARCHIVE_SUFFIXES if archive.name.lower().endswith(s))
    try:
        with whole_folder(folder) as part, _members(archive) as members:
            base = part / archive.name[: -len(suffix)]
            for member in members:
                path = base / _safe_name(archive, member)
                if member.is_folder:
                    continue
                path.parent.mkdir(parents=True, exist_ok=True)
                with member.open() as source, path.open("wb") as sink:
                    shutil.copyfileobj(source, sink, 1 << 20)
    except _BROKEN as error:
        raise ReleaseError(
            f"{archive} is no complete archive ({error}). Delete it and run: {download_command()}"
        ) from error


@contextmanager
def _members(archive: Path) -> Iterator[Iterator[_Member]]:
    if archive.name.lower().endswith(".zip"):
        with zipfile.ZipFile(archive) as handle:
            yield (_zip_member(handle, info) for info in handle.infolist())
    else:
        with tarfile.open(archive) as handle:
            yield (_tar_member(handle, info) for info in handle)


def _zip_member(handle: zipfile.ZipFile, info: zipfile.ZipInfo) -> _Member:
    mode = info.external_attr >> 16
    plain = not stat.S_IFMT(mode) or stat.S_ISREG(mode)
    # Some programs on Windows part folders by a backslash, which the format does not allow (APPNOTE 4.4.17.1).
    name = info.filename.replace("\\", "/")
    return _Member(name, name.endswith("/"), plain, lambda: handle.open(info))


def _tar_member(handle: tarfile.TarFile, info: tarfile.TarInfo) -> _Member:
    def open_member() -> IO[bytes]:
        stream = handle.extractfile(info)
        if stream is None:
            raise tarfile.ReadError(f"{info.name} has no content")
        return stream

    return _Member(info.name, info.isdir(), info.isreg(), open_member)


def _safe_name(archive: Path, member: _Member) -> PurePosixPath:
    path = PurePosixPath(member.name)
    if path.is_absolute() or ".." in path.parts or "\\" in member.name or os.path.splitdrive(member.name)[0]:
        raise ReleaseError(
            f"{archive} holds '{member.name}', which would be written outside of its folder. "
            "Nothing was unpacked; do not use this archive."
        )
    if not (member.is_folder or member.is_plain_file):
        raise ReleaseError(
            f"{archive} holds '{member.name}', which is a link or a device. "
            "Nothing was unpacked; pack the clips themselves as plain files."
        )
    return path
