"""The cache folder, and how a file or a folder appears whole or not at all."""

from __future__ import annotations

import errno
import io
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock

from egost.tasks.errors import CacheError

_WHY = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), "the disk is full. Free some space"),
    errno.EFBIG: "it is longer than this process may write (ulimit -f). Raise the limit",
    errno.EROFS: "the disk is read-only. Name a place on another disk",
    **dict.fromkeys(
        (errno.EACCES, errno.EPERM), "this user may not write there. Name another place, or allow it"
    ),
    **dict.fromkeys(
        (errno.ENOTDIR, errno.EEXIST), "a file is in the place of its folder. Name another place"
    ),
    errno.EISDIR: "a folder of this name is in its place. Name another place",
    errno.ENAMETOOLONG: "its name is too long. Name a shorter one",
}


_READS_OR_WRITES = (errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG)


def not_written(path: Path | str, error: Exception) -> CacheError:
    """What stopped a file or a folder from being written, and what to do."""
    number = getattr(error, "errno", None) or _number_in(str(error))
    why = _WHY.get(number, f"{getattr(error, 'strerror', None) or error}. Name another place")
    elsewhere = ", or set EGOST_CACHE to another folder" if Path(path).is_relative_to(cache_root()) else ""
    return CacheError(f"{path} cannot be written: {why}{elsewhere}, then run the same command again.")


def not_used(error: OSError) -> CacheError:
    """What is said of an error of the system where nobody knows whether it came by reading or by writing."""
    path = error.filename or "the output"
    if error.errno in _WHY and error.errno not in _READS_OR_WRITES:
        return not_written(path, error)
    return CacheError(
        f"{path} cannot be read or written: {error.strerror or error}. Check its name and who may use it, then run the "
        "same command again."
    )


def _number_in(said: str) -> int:
    """The system's number of an error that a package in Rust words, such as safetensors; 0 where it has none."""
    found = re.search(r"os error (\d+)", said)
    return int(found[1]) if found else 0


@contextmanager
def writing(path: Path, also: type[Exception] = OSError) -> Iterator[None]:
    """Let an error of the disk leave the block as one sentence. also: what else means that. Raises CacheError."""
    try:
        yield
    except (OSError, also) as error:
        raise not_written(path, error) from error


def cache_root() -> Path:
    """`EGOST_CACHE`, else `egost` in the user's cache folder (`XDG_CACHE_HOME`, `~/.cache`)."""
    if folder := os.environ.get("EGOST_CACHE"):
        return Path(folder).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "egost"


def free_gib(place: Path) -> float:
    """What is free, in GiB, on the disk where a folder is or will be."""
    there = next(folder for folder in (place, *place.absolute().parents) if folder.exists())
    return shutil.disk_usage(there).free / 2**30


def write_whole(path: Path, content: bytes) -> None:
    """Write a file under a temporary name and rename it, so that no reader ever sees half of it.

    Makes the folder. The umask decides who may read the file. A failure leaves nothing behind. Raises CacheError.
    """
    part = path.with_name(f"{path.name}.{secrets.token_hex(8)}.part")
    with writing(path):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            # Not `tempfile`, whose files only their owner may read: a cache may be shared.
            with part.open("xb") as file:
                file.write(content)
            part.replace(path)
        except BaseException:
            with suppress(OSError):
                part.unlink()
            raise


def write_picture(path: Path, figure: Any, **options: Any) -> None:
    """Write a matplotlib figure as a PNG, like `write_whole`. options: of its `savefig`. Raises CacheError."""
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png", **options)
    write_whole(path, drawn.getvalue())


@contextmanager
def only_writer(folder: Path) -> Iterator[None]:
    """Wait for the lock of a folder that `whole_folder` fills: `NAME.lock` beside it, while it is held.

    Raises CacheError.
    """
    lock = folder.with_name(f"{folder.name}.lock")
    with writing(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(lock):
            try:
                yield
            finally:
                # Whoever waits opens it anew at each try, and takes no lock on a file that is gone.
                lock.unlink(missing_ok=True)


@contextmanager
def whole_folder(folder: Path, also: type[Exception] = OSError, *, goes_on: bool = False) -> Iterator[Path]:
    """Give a new empty folder to fill; when the block ends it becomes `folder`, in the place of what was there.

    Until then it lies in the same parent as `NAME.part-RANDOM`; a failure deletes it and leaves `folder` as it was.
    What a killed process left there is deleted first, so only one process at a time may write `folder`: hold a lock.
    also: an error of a package that writes into it and means the disk. goes_on: give what was left there instead, and
    leave it to the next process where this one is interrupted; for who writes each file whole. Raises CacheError.
    """
    left = sorted(folder.parent.glob(f"{folder.name}.part*"))
    # A new name each time: a child of a killed process may still be writing into the old folder.
    part = left.pop() if goes_on and left else folder.with_name(f"{folder.name}.part-{secrets.token_hex(8)}")
    for left_over in left:
        shutil.rmtree(left_over, ignore_errors=True)
    with writing(folder, also):
        try:
            part.mkdir(parents=True, exist_ok=goes_on)
            yield part
            shutil.rmtree(folder, ignore_errors=True)
            part.rename(folder)
        except BaseException as error:
            if isinstance(error, Exception) or not goes_on:
                shutil.rmtree(part, ignore_errors=True)
            raise
