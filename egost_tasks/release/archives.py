"""Unpacks archives of clips safely: nothing outside the target folder, no links, no bombs, whole or not at all."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import tarfile
import zipfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any, TypeVar, cast

from egost.tasks.cache import only_writer, whole_folder
from egost.tasks.errors import CacheError, EgostError, ReleaseError, SettingError
from egost.tasks.progress import counted
from egost.tasks.release.archive_parts import COMPRESSED, Packed, check_spanned, packed
from egost.tasks.release.layout import CONTROL

T = TypeVar("T")

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


@dataclass(frozen=True)
class _Member:
    name: str
    is_folder: bool
    is_plain_file: bool
    is_encrypted: bool
    size: int
    open: Callable[[], IO[bytes]]
    at: Callable[[], int]
    """How many bytes of the archive were read when it is asked."""


def unpack(archive: Path, target: Path) -> Path:
    """Unpack `archive` below `target` unless that was done before; return the folder.

    archive: the file, or any part of one that was split; the others lie beside it, and are read where they are.
    The files lie in `TARGET/KEY/STEM/...`, where STEM is the archive's name without its suffix and number, so that
    the clips of `part1.zip` lie in a folder `part1`. KEY follows path, size and time of change of the archive and its
    parts; the folder appears by a rename when everything is in it. What a killed process had unpacked is kept.
    Raises ReleaseError for a broken or encrypted archive, for parts that do not belong together, for one that becomes
    too large (MAX_RATIO, MAX_TOTAL, MAX_MEMBERS), and for a member that is absolute, leaves the folder, is a link or
    device, has no usable name, or the name of another; CacheError when the target cannot be written; SettingError for a
    wrong UNPACK_LIMIT.
    """
    whole = packed(archive)
    stats = [(file, file.stat()) for file in whole.files]
    facts = "\n".join(f"{file.absolute()}:{stat.st_size}:{stat.st_mtime_ns}" for file, stat in stats)
    folder = target / hashlib.sha256(facts.encode()).hexdigest()[:16]
    with only_writer(folder):
        if not folder.is_dir():
            _unpack(whole, folder)
    return folder


def _unpack(archive: Packed, folder: Path) -> None:
    """Unpack into the folder, whole or not at all. The caller holds the folder's lock."""
    room = _Room(archive, folder.parent)
    files: set[PurePosixPath] = set()
    folders: set[PurePosixPath] = set()
    size = archive.starts[-1] >> 20
    parts = f" ({len(archive.files)} parts)" if len(archive.files) > 1 else ""
    with (
        whole_folder(folder, goes_on=True) as part,
        counted(f"unpacking {archive.path.name}{parts}", "MiB", size, shown=True) as advance,
    ):
        done = 0
        base, half = part / (archive.stem.lstrip(".") or "clips"), part / ".half"
        for count, member in enumerate(_reading(archive, _members(archive))):
            if count >= MAX_MEMBERS:
                raise ReleaseError(f"{archive.path} holds more than {MAX_MEMBERS:,} files. {_NOT_UNPACKED}")
            name = _safe_name(archive.path, member)
            if member.is_folder:
                continue
            if name in files or name in folders or files & set(name.parents):
                raise ReleaseError(f"{archive.path} holds {member.name!r:.80} twice. {_NOT_UNPACKED}")
            files.add(name)
            folders.update(name.parents)
            path = base / name
            path.parent.mkdir(parents=True, exist_ok=True)
            room.take(0, member.size)
            if path.is_file():  # of a killed process
                room.take(path.stat().st_size)
                continue
            with half.open("wb") as sink:
                for block in _reading(archive, _blocks(member)):
                    room.take(len(block))
                    sink.write(block)
                    while done < min(size, member.at() >> 20):
                        done += 1
                        advance()
            half.replace(path)
        while done < size:
            done += 1
            advance()


_NOT_UNPACKED = "Nothing was unpacked; do not use this archive."


class _Room:
    """Counts what an archive becomes, and stops before it is too much for the archive or for the disk."""

    def __init__(self, archive: Packed, target: Path) -> None:
        self._archive, self._target = archive.path, target
        self._packed, self._used, self._looked_at = archive.starts[-1], 0, -1
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


def _reading(archive: Packed, items: Iterable[T]) -> Iterator[T]:
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
            raise archive.broken(error) from error
        yield item


def _blocks(member: _Member) -> Iterator[bytes]:
    with member.open() as source:
        while block := source.read(_BLOCK):
            yield block


def _members(archive: Packed) -> Iterator[_Member]:
    if archive.is_zip:
        directory = check_spanned(archive)
        with archive.open() as file, zipfile.ZipFile(file) as zipped:
            if archive.spanned:
                _place(zipped, archive.starts, directory)
            yield from (_zip_member(zipped, info, file.tell) for info in zipped.infolist())
        return
    with archive.open() as file:
        magic = file.read(6)
        file.seek(0)
        opener = next((opener for begins, opener in COMPRESSED if magic.startswith(begins)), None)
        # A tar has no checksum of what its files hold. Of two parts either may be the longer one.
        if not opener and len(archive.files) > 1:
            if archive.starts[-1] % tarfile.BLOCKSIZE:
                raise tarfile.ReadError(f"no tar has {archive.starts[-1]:,} bytes")
            if len(archive.files) > 2 and archive.cut_short():
                raise tarfile.ReadError("its parts are of several sizes")
        with (
            opener(file, "rb") if opener else nullcontext(file) as plain,
            tarfile.open(fileobj=cast(Any, _TarStream(plain)), mode="r:") as handle,
        ):
            yield from (_tar_member(handle, info, file.tell) for info in handle)
            # Python's reader takes a damaged header or a cut for the end, and never looks at a checksum after it.
            end = cast(_TarStream, handle.fileobj).last
            if end.strip(b"\0") or len(end) < tarfile.BLOCKSIZE:
                raise tarfile.ReadError("it breaks off, or a part of it is damaged")
            size = 0
            while block := plain.read(_BLOCK):
                size += len(block)
                if block.strip(b"\0") or size > _SMALL:
                    raise tarfile.ReadError("something follows its end")


def _place(zipped: zipfile.ZipFile, starts: list[int], directory: int) -> None:
    """Let a zip's reader find the members of one in parts: each is recorded by its part and its place in that part.

    The reader takes all of them to be in the part where the directory begins. Some versions of Python also note where
    each member must end, by which they refuse those that overlap.
    """
    end = zipped.start_dir
    for info in zipped.infolist():
        info.header_offset += starts[info.volume] - starts[directory]
    for info in sorted(zipped.infolist(), key=lambda info: info.header_offset, reverse=True):
        if hasattr(info, "_end_offset"):
            cast(Any, info)._end_offset = end
        end = info.header_offset


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


def _zip_member(handle: zipfile.ZipFile, info: zipfile.ZipInfo, at: Callable[[], int]) -> _Member:
    mode = info.external_attr >> 16
    plain = not stat.S_IFMT(mode) or stat.S_ISREG(mode)
    # Some programs on Windows part folders by a backslash, which the format does not allow (APPNOTE 4.4.17.1).
    name = info.filename.replace("\\", "/")
    folder = name.endswith("/") or stat.S_ISDIR(mode)
    encrypted = bool(info.flag_bits & 1)
    return _Member(name, folder, plain, encrypted, info.file_size, lambda: handle.open(info), at)


def _tar_member(handle: tarfile.TarFile, info: tarfile.TarInfo, at: Callable[[], int]) -> _Member:
    def open_member() -> IO[bytes]:
        stream = handle.extractfile(info)
        if stream is None:
            raise tarfile.ReadError(f"{info.name} has no content")
        return stream

    if info.size < 0:
        raise tarfile.ReadError(f"{info.name} says that it has {info.size:,} bytes")
    return _Member(info.name, info.isdir(), info.isreg(), False, info.size, open_member, at)


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
