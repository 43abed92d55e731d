"""An archive as one file, be it whole or split into parts, which are read where they are and never joined on disk."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import re
import string
import struct
import tarfile
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import IO, Any

from egost.tasks.errors import ReleaseError, download_command
from egost.tasks.release.archive_names import ARCHIVE_SUFFIXES, INSIDE, SPAN, ArchiveName, archive_name

COMPRESSED: tuple[tuple[bytes, Callable[..., Any]], ...] = (
    (b"\x1f\x8b", gzip.open),
    (b"BZh", bz2.open),
    (b"\xfd7zXZ\x00", lzma.open),
)


@dataclass(frozen=True)
class Packed:
    """An archive. stem: its name without suffix and number. files: its parts in order, or itself alone.

    spanned: it is a zip whose directory says in which part, and where in that part, each member begins.
    """

    stem: str
    files: tuple[Path, ...]
    spanned: bool = False

    @property
    def path(self) -> Path:
        """The file that messages name."""
        return self.files[-1 if self.spanned else 0]

    @property
    def is_zip(self) -> bool:
        """By its name; by its first bytes where the name says nothing."""
        named = archive_name(self.path)
        assert named is not None
        return named.suffix == ".zip" or (not named.suffix and _head(self.path).startswith(b"PK"))

    @property
    def starts(self) -> list[int]:
        """Where each part begins in the whole, and, last, how many bytes there are."""
        return [0, *accumulate(file.stat().st_size for file in self.files)]

    def open(self) -> IO[bytes]:
        """All bytes in order, as one file. Raises OSError."""
        return io.BufferedReader(_Joined(self), 1 << 16)

    def broken(self, error: Exception) -> ReleaseError:
        """What is said where a reader stumbles over the archive."""
        why = f"({type(error).__name__}: {str(error)[:200]!r})"
        if len(self.files) == 1 and self.path.name.lower().endswith(ARCHIVE_SUFFIXES):
            what = f"{self.path} is no complete archive {why}"
        else:
            what = (
                f"{self.path} is one part of an archive that was split into several. What is there, {len(self.files)} "
                f"in all, is no complete archive {why}: {self._suspect()}"
            )
        return ReleaseError(f"{what}. Delete it and run: {download_command()}")

    def _suspect(self) -> str:
        """Which part may be to blame, as far as sizes and first bytes tell."""
        if self.spanned:
            return "a part is damaged, or out of order"
        if odd := self.cut_short():
            return odd
        first, *others = self.files
        if not begins_archive(first):
            return f"no archive begins as {first.name} does; a part before it is missing, or they are out of order"
        for file in filter(begins_archive, others):
            return f"{file.name} begins an archive, so the parts are out of order"
        return f"a part after {self.files[-1].name} is missing, or one is damaged or out of order"

    def cut_short(self) -> str | None:
        """What is odd about the parts' sizes, None if nothing is: all have one size, but the last may have less."""
        sizes = [file.stat().st_size for file in self.files]
        for file, size in zip(self.files[:-1], sizes, strict=False):
            # `split -n` gives some parts a byte more, or the last one the remainder.
            if max(sizes) - size > len(sizes):
                return (
                    f"{file.name} has {size:,} bytes and another part {max(sizes):,}; it was cut short, or the parts "
                    "are out of order"
                )
        return None


class _Joined(io.RawIOBase):
    """The parts of an archive, one open at a time."""

    def __init__(self, packed: Packed) -> None:
        self._files, self._starts = packed.files, packed.starts
        self._at, self._which, self._file = 0, 0, self._files[0].open("rb")

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._starts[-1]}[whence]
        if at < 0:
            raise OSError(f"nothing lies {-at:,} bytes before the archive")
        self._at = at
        return at

    def readinto(self, buffer: Any) -> int:
        if self._at >= self._starts[-1]:
            return 0
        which = bisect_right(self._starts, self._at) - 1
        if which != self._which:
            self._file.close()
            self._which, self._file = which, self._files[which].open("rb")
        self._file.seek(self._at - self._starts[which])
        count = self._file.readinto(memoryview(buffer)[: self._starts[which + 1] - self._at])
        if not count:
            raise OSError(f"{self._files[which].name} became shorter while it was read")
        self._at += count
        return count

    def close(self) -> None:
        self._file.close()
        super().close()


def packed(archive: Path) -> Packed:
    """The archive that a file is, or is a part of, with its other parts in the same folder. Raises ReleaseError."""
    if named := archive_name(archive):
        others = filter(None, map(archive_name, archive.parent.iterdir()))
        for one in all_packed(one.path for one in others if one.of == named.of and one.path.is_file()):
            if archive in one.files:
                return one
    raise ReleaseError(f"{archive} is no archive: expected {', '.join(ARCHIVE_SUFFIXES)}, or parts of one.")


def all_packed(paths: Iterable[Path]) -> list[Packed]:
    """The archives that some files are, each once. What is there whole counts before the same in parts.

    Raises ReleaseError for a missing part, and for two sets of parts of one archive.
    """
    groups: dict[tuple[Path, str, str], list[ArchiveName]] = defaultdict(list)
    for file in filter(None, map(archive_name, paths)):
        groups[file.of].append(file)
    return [one for group in groups.values() for one in _of_one_name(group)]


def _of_one_name(files: list[ArchiveName]) -> Iterator[Packed]:
    stem = files[0].stem
    wholes = [file for file in files if not file.label]
    spans = [file for file in files if file.form == SPAN]
    inside = _ordered(file for file in files if file.form == INSIDE)
    parts = [file for file in files if file.label and file.form not in (SPAN, INSIDE)]
    if len(inside) > 1 and not any(begins_archive(file.path) for file in inside[1:]):
        parts += inside
    else:
        yield from (Packed(file.path.name[: -len(file.suffix)], (file.path,)) for file in inside)
    last = next((file.path for file in wholes if spans and _counts_parts(file.path)), None)
    if last:
        yield Packed(stem, (*_complete(spans), last), spanned=True)
    elif wholes:
        yield from (Packed(stem, (file.path,)) for file in wholes)
    elif spans:
        raise _missing(spans[0].path, f"{stem}.zip")
    elif parts := _really_parts(parts):
        _refuse_two_sets(parts)
        yield Packed(stem, _complete(parts))


def _ordered(files: Iterable[ArchiveName]) -> list[ArchiveName]:
    return sorted(files, key=lambda file: (file.form, file.label.isalpha(), file.number))


def _really_parts(files: list[ArchiveName]) -> list[ArchiveName]:
    """Those that are parts, in order: `clips.zip.bak` is none, nor is `walk.001` that is no archive."""
    parts = _ordered(files)
    for form in {file.form for file in parts}:
        letters = [file for file in parts if file.form == form and file.label.isalpha()]
        if letters:
            width = len(letters[0].label) if re.fullmatch("a+[a-z]", letters[0].label) else 0
            follows = re.compile(rf"[a-z]{{{width}}}|z[a-z]{{{width + 1},}}" if width else "")
            others = {file for file in letters if not follows.fullmatch(file.label)}
            parts = [file for file in parts if file not in others]
    bare = parts and not parts[0].suffix
    return [] if bare and not begins_archive(parts[0].path) else parts


def _refuse_two_sets(parts: list[ArchiveName]) -> None:
    seen: dict[int | str, ArchiveName] = {}
    one = parts[0]
    for part in parts:
        alike = (part.form, part.label.isdigit()) == (one.form, one.label.isdigit())
        if other := seen.get(part.number) if alike else one:
            raise ReleaseError(
                f"{other.path} and {part.path.name} are of two sets of parts of one archive. Move one set away."
            )
        seen[part.number] = part


def _complete(files: list[ArchiveName]) -> tuple[Path, ...]:
    """The parts in order. Raises ReleaseError where one is missing between them, or the first one is."""
    parts = {file.label: file for file in _ordered(files)}
    at = next(iter(parts))
    begins = "a" * len(at) if at.isalpha() else "1".zfill(len(at))
    if at not in (begins, "0" * len(at)):
        raise _missing(parts[at].path, parts[at].with_label(begins).name)
    ordered = [parts.pop(at)]
    while parts:
        following = _following(at)
        at = next((label for label in following if label in parts), "")
        if not at:
            raise _missing(ordered[0].path, ordered[-1].with_label(following[0]).name)
        ordered.append(parts.pop(at))
    return tuple(file.path for file in ordered)


def _following(label: str) -> list[str]:
    """What may come after a part's number: `02` after `01`, `ab` after `aa`.

    `split` makes its own numbers longer: `9000` after `89`, `zaaa` after `yz`.
    """
    signs = string.digits if label.isdigit() else string.ascii_lowercase
    number, text = 1 + sum(signs.index(s) * len(signs) ** i for i, s in enumerate(reversed(label))), ""
    while number:
        number, sign = divmod(number, len(signs))
        text = signs[sign] + text
    labels, longer = [text.rjust(len(label), signs[0])], len(label) // 2
    if label == signs[-1] * (longer - 1) + signs[-2] + signs[-1] * longer:
        labels.append(signs[-1] * longer + signs[0] * (longer + 2))
    return labels


def _missing(part: Path, missing: str) -> ReleaseError:
    return ReleaseError(
        f"{part} is one part of an archive that was split into several, and {missing} is missing beside it. Run: "
        f"{download_command()}, or move the other parts away."
    )


def check_spanned(archive: Packed) -> int:
    """The number, from 0, of the part where a zip's directory begins. Raises ReleaseError where parts are missing."""
    try:
        with archive.open() as file:
            marked = file.read(4) == b"PK\x07\x08"
            last, directory = _disks(file)
    except OSError as error:
        raise _unreadable(archive.path, error) from error
    if last >= len(archive.files) or ((marked or directory) and not archive.spanned):
        number = len(archive.files) if archive.spanned else 1
        raise _missing(archive.path, archive.path.with_suffix(f".z{number:02}").name)
    return directory


def _disks(file: IO[bytes]) -> tuple[int, int]:
    """The last part's number and that of the part where the directory begins, by the end of a zip (APPNOTE 4.3.16)."""
    size = file.seek(0, io.SEEK_END)
    file.seek(max(0, size - (1 << 16) - 22))
    tail = file.read()
    end = tail.rfind(b"PK\x05\x06")
    numbers = struct.unpack("<HH", tail[end + 4 : end + 8]) if 0 <= end <= len(tail) - 8 else (0, 0)
    # 0xffff says that the number is elsewhere, in an archive of more than 4 GiB.
    return (0, 0) if 0xFFFF in numbers else numbers


def _counts_parts(archive: Path) -> bool:
    try:
        with archive.open("rb") as file:
            return any(_disks(file))
    except OSError as error:
        raise _unreadable(archive, error) from error


def _unreadable(path: Path, error: OSError) -> ReleaseError:
    return ReleaseError(f"{path} cannot be read ({error}). Allow it, or copy the archive again.")


def _head(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(tarfile.BLOCKSIZE)
    except OSError as error:
        raise _unreadable(path, error) from error


def begins_archive(path: Path) -> bool:
    """Whether a file begins as an archive does that egost reads."""
    head = _head(path)
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08", *(magic for magic, _ in COMPRESSED))):
        return True
    try:
        tarfile.TarInfo.frombuf(head, "utf-8", "surrogateescape")
    except (tarfile.HeaderError, ValueError):
        return False
    return True
