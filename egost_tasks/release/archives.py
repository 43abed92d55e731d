"""Unpacks archives of clips safely: nothing outside the target folder, no links, no bombs, whole or not at all."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import lzma
import os
import shutil
import stat
import struct
import tarfile
import zipfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any, TypeVar, cast

from egost.tasks.cache import only_writer, whole_folder
from egost.tasks.errors import CacheError, EgostError, ReleaseError, SettingError, download_command
from egost.tasks.release.layout import CONTROL

T = TypeVar("T")

ARCHIVE_SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.xz", ".txz", ".tar.bz2", ".tbz2")
UNREAD_SUFFIXES = (
    *(
        ".rar",
        ".r00",
        ".7z",
        ".7z.001",
        ".zst",
        ".tzst",
        ".lz4",
        ".lz",
        ".lzma",
        ".tar.z",
        ".cab",
        ".iso",
        ".lzh",
    ),
    *(".arj", ".ace", ".z01", ".tar.br", ".xar", ".wim"),
)
"""Archives that Python's library cannot read."""

SPLIT_SUFFIXES = tuple(f"{suffix}.{first}" for suffix in ARCHIVE_SUFFIXES for first in ("001", "01", "aa"))
"""How the first of several parts of an archive is called."""

MAX_RATIO = 20
"""How many times as large as the archive its files may be. Films cannot be packed: they come near 1."""

MAX_TOTAL = 200 << 30
"""Bytes of all files of an archive."""

UNPACK_LIMIT = "EGOST_UNPACK_LIMIT"
"""Environment variable: GiB of all files of an archive, in the place of MAX_RATIO and MAX_TOTAL."""

MAX_MEMBERS = 20_000
"""Files and folders of an archive. The release has about 800 clips."""

MAX_NESTED = 1
"""How many archives may lie within each other, apart from the outermost."""

_SMALL = 64 << 20
"""Bytes that any archive may become."""

_LONGEST_NAME = 255
"""Bytes of a file's name, on all common file systems."""

_LEFT_FREE = 256 << 20
"""Bytes of the disk that unpacking leaves free."""

_BLOCK = 1 << 14
"""Bytes that are read at once. Python's zip reader holds all that a block becomes, with lzma 7,000 times as much."""

_COMPRESSED: tuple[tuple[bytes, Callable[..., Any]], ...] = (
    (b"\x1f\x8b", gzip.open),
    (b"BZh", bz2.open),
    (b"\xfd7zXZ\x00", lzma.open),
)


@dataclass(frozen=True)
class _Member:
    name: str
    is_folder: bool
    is_plain_file: bool
    is_encrypted: bool
    size: int
    open: Callable[[], IO[bytes]]


def unpack(archive: Path, target: Path) -> Path:
    """Unpack `archive` below `target` unless that was done before; return the folder.

    The files lie in `TARGET/KEY/STEM/...`, where STEM is the archive's name without its suffix, so that
    the clips of `part1.zip` lie in a folder `part1`. KEY follows the archive's path, size and time of
    change; the folder appears by a rename when everything is in it.
    Raises ReleaseError for a broken, encrypted or split archive, for one that becomes too large (MAX_RATIO, MAX_TOTAL,
    MAX_MEMBERS), and for a member that is absolute, leaves the folder, is a link or device, has no usable name, or the
    name of another; CacheError when the target cannot be written; SettingError for a wrong UNPACK_LIMIT.
    """
    status = archive.stat()
    key = hashlib.sha256(f"{archive.absolute()}:{status.st_size}:{status.st_mtime_ns}".encode()).hexdigest()[
        :16
    ]
    folder = target / key
    with only_writer(folder):
        if not folder.is_dir():
            _unpack(archive, folder)
    return folder


def _unpack(archive: Path, folder: Path) -> None:
    """Unpack into the folder, whole or not at all. The caller holds the folder's lock."""
    _refuse_a_part(archive)
    suffix = next(s for s in ARCHIVE_SUFFIXES if archive.name.lower().endswith(s))
    room = _Room(archive, folder.parent)
    files: set[PurePosixPath] = set()
    folders: set[PurePosixPath] = set()
    with whole_folder(folder) as part:
        base = part / (archive.name[: -len(suffix)].lstrip(".") or "clips")
        for count, member in enumerate(_reading(archive, _members(archive))):
            if count >= MAX_MEMBERS:
                raise ReleaseError(f"{archive} holds more than {MAX_MEMBERS:,} files. {_NOT_UNPACKED}")
            name = _safe_name(archive, member)
            if member.is_folder:
                continue
            if name in files or name in folders or files & set(name.parents):
                raise ReleaseError(f"{archive} holds {member.name!r:.80} twice. {_NOT_UNPACKED}")
            files.add(name)
            folders.update(name.parents)
            path = base / name
            path.parent.mkdir(parents=True, exist_ok=True)
            room.take(0, member.size)
            with path.open("wb") as sink:
                for block in _reading(archive, _blocks(member)):
                    room.take(len(block))
                    sink.write(block)


_NOT_UNPACKED = "Nothing was unpacked; do not use this archive."


class _Room:
    """Counts what an archive becomes, and stops before it is too much for the archive or for the disk."""

    def __init__(self, archive: Path, target: Path) -> None:
        self._archive, self._target = archive, target
        self._packed, self._used, self._looked_at = archive.stat().st_size, 0, -1
        self._limit, self._why = _limit(self._packed)

    def take(self, size: int, announced: int = 0) -> None:
        """Count bytes. announced: how many are said to come. Raises ReleaseError, CacheError."""
        self._used += size
        if self._used + announced > self._limit:
            raise ReleaseError(
                f"{self._archive} has {self._packed:,} bytes and becomes more than {self._limit:,} ({self._why}). "
                f"Nothing was unpacked. If it is what it should be, set {UNPACK_LIMIT} to as many GiB as it may become."
            )
        if announced or self._used >> 24 > self._looked_at:
            self._looked_at = self._used >> 24
            free = shutil.disk_usage(self._target).free
            if free - announced < _LEFT_FREE:
                raise CacheError(
                    f"{self._archive} does not fit on the disk of {self._target}, which has {free:,} bytes free. "
                    "Nothing was unpacked. Free some space or set EGOST_CACHE to another folder."
                )


def _limit(packed: int) -> tuple[int, str]:
    """Bytes that an archive of so many bytes may become, and which rule says so."""
    if text := os.environ.get(UNPACK_LIMIT):
        try:
            return int(float(text) * (1 << 30)), f"{UNPACK_LIMIT} is {text}"
        except (ValueError, OverflowError) as error:
            raise SettingError(
                f"{UNPACK_LIMIT} is '{text}'; expected a number of GiB, for example 200"
            ) from error
    by_ratio = max(_SMALL, MAX_RATIO * packed)
    if by_ratio < MAX_TOTAL:
        return by_ratio, f"{MAX_RATIO} times as many are allowed"
    return MAX_TOTAL, f"{MAX_TOTAL >> 30} GiB are allowed"


def _reading(archive: Path, items: Iterable[T]) -> Iterator[T]:
    """What a reader of the archive gives. Whatever it raises is a fault of the archive, and becomes a ReleaseError.

    Python's readers meet broken bytes with a dozen kinds of errors, from struct.error to UnicodeDecodeError.
    """
    iterator = iter(items)
    while True:
        try:
            item = next(iterator)
        except StopIteration:
            return
        except EgostError:
            raise
        except Exception as error:
            raise ReleaseError(
                f"{archive} is no complete archive ({type(error).__name__}: {str(error)[:200]!r}). "
                f"Delete it and run: {download_command()}"
            ) from error
        yield item


def _blocks(member: _Member) -> Iterator[bytes]:
    with member.open() as source:
        while block := source.read(_BLOCK):
            yield block


def _members(archive: Path) -> Iterator[_Member]:
    if archive.name.lower().endswith(".zip"):
        with zipfile.ZipFile(archive) as zipped:
            yield from (_zip_member(zipped, info) for info in zipped.infolist())
        return
    with archive.open("rb") as file:
        magic = file.read(6)
    opener = next((opener for begins, opener in _COMPRESSED if magic.startswith(begins)), Path.open)
    with (
        opener(archive, "rb") as file,
        tarfile.open(fileobj=cast(Any, _TarStream(file)), mode="r:") as handle,
    ):
        yield from (_tar_member(handle, info) for info in handle)
        # Python's reader takes a damaged header or a cut for the end, and never looks at a checksum after it.
        end = cast(_TarStream, handle.fileobj).last
        if end.strip(b"\0") or len(end) < tarfile.BLOCKSIZE:
            raise tarfile.ReadError("it breaks off, or a part of it is damaged")
        size = 0
        while block := file.read(_BLOCK):
            size += len(block)
            if block.strip(b"\0") or size > _SMALL:
                raise tarfile.ReadError("something follows its end")


class _TarStream:
    """What `tarfile` reads from; remembers what it read last, and refuses to read a header of any size at once."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self.last = file, b""
        self.seek, self.tell = file.seek, file.tell

    def read(self, size: int) -> bytes:
        if not 0 <= size <= _SMALL:
            raise tarfile.ReadError(f"a header says that it has {size:,} bytes")
        self.last = self._file.read(size)
        return self.last


def _refuse_a_part(archive: Path) -> None:
    """Raise ReleaseError for a zip that is one of several parts: its end names other disks (APPNOTE 4.3.16)."""
    if not archive.name.lower().endswith(".zip"):
        return
    try:
        with archive.open("rb") as file:
            begins = file.read(4)
            file.seek(max(0, archive.stat().st_size - (1 << 16) - 22))
            tail = file.read()
    except OSError as error:
        raise ReleaseError(
            f"{archive} cannot be read ({error}). Allow it, or copy the archive again."
        ) from error
    end = tail.rfind(b"PK\x05\x06")
    disks = struct.unpack("<HH", tail[end + 4 : end + 8]) if 0 <= end <= len(tail) - 8 else (0, 0)
    # 0xffff says that the number is elsewhere, in an archive of more than 4 GiB.
    if begins == b"PK\x07\x08" or any(0 < disk < 0xFFFF for disk in disks):
        raise split(archive)


def split(archive: Path) -> ReleaseError:
    """What is said of an archive that is one of several parts."""
    return ReleaseError(
        f"{archive} is one part of an archive that was split into several. Join them into one archive, or unpack it "
        "with the program that split it, and move the parts away."
    )


def _zip_member(handle: zipfile.ZipFile, info: zipfile.ZipInfo) -> _Member:
    mode = info.external_attr >> 16
    plain = not stat.S_IFMT(mode) or stat.S_ISREG(mode)
    # Some programs on Windows part folders by a backslash, which the format does not allow (APPNOTE 4.4.17.1).
    name = info.filename.replace("\\", "/")
    folder = name.endswith("/") or stat.S_ISDIR(mode)
    return _Member(name, folder, plain, bool(info.flag_bits & 1), info.file_size, lambda: handle.open(info))


def _tar_member(handle: tarfile.TarFile, info: tarfile.TarInfo) -> _Member:
    def open_member() -> IO[bytes]:
        stream = handle.extractfile(info)
        if stream is None:
            raise tarfile.ReadError(f"{info.name} has no content")
        return stream

    if info.size < 0:
        raise tarfile.ReadError(f"{info.name} says that it has {info.size:,} bytes")
    return _Member(info.name, info.isdir(), info.isreg(), False, info.size, open_member)


def _safe_name(archive: Path, member: _Member) -> PurePosixPath:
    path = PurePosixPath(member.name)
    shown = f"{member.name!r:.80}"
    if path.is_absolute() or ".." in path.parts or "\\" in member.name or os.path.splitdrive(member.name)[0]:
        raise ReleaseError(
            f"{archive} holds {shown}, which would be written outside of its folder. {_NOT_UNPACKED}"
        )
    if not (member.is_folder or member.is_plain_file):
        raise ReleaseError(
            f"{archive} holds {shown}, which is a link or a device. "
            "Nothing was unpacked; pack the clips themselves as plain files."
        )
    if member.is_encrypted:
        raise ReleaseError(
            f"{archive} is encrypted ({shown}). Unpack it with its password, and move it away."
        )
    if member.is_folder and not path.parts:
        return path
    too_long = any(len(os.fsencode(part)) > _LONGEST_NAME for part in path.parts)
    if not path.parts or too_long or CONTROL.search(member.name):
        raise ReleaseError(
            f"{archive} holds {shown}, which no file can be called: it is empty, too long, no UTF-8, or it holds "
            "control characters. Nothing was unpacked; pack the clips again under other names."
        )
    return path
