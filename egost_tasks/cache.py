"""The cache folder, and how a file or a folder appears whole or not at all."""

from __future__ import annotations

import errno
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

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


def not_written(path: Path | str, error: OSError) -> CacheError:
    """What stopped a file or a folder from being written, and what to do."""
    why = _WHY.get(error.errno or 0, f"{error.strerror or error}. Name another place")
    return CacheError(f"{path} cannot be written: {why}, then run the same command again.")


def cache_root() -> Path:
    """`EGOST_CACHE`, else `egost` in the user's cache folder (`XDG_CACHE_HOME`, `~/.cache`)."""
    if folder := os.environ.get("EGOST_CACHE"):
        return Path(folder).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "egost"


def write_whole(path: Path, content: bytes) -> None:
    """Write a file under a temporary name and rename it, so that no reader ever sees half of it.

    Makes the folder. The umask decides who may read the file. A failure leaves nothing behind. Raises CacheError.
    """
    part = path.with_name(f"{path.name}.{secrets.token_hex(8)}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Not `tempfile`, whose files only their owner may read: a cache may be shared.
        with part.open("xb") as file:
            file.write(content)
        part.replace(path)
    except BaseException as error:
        with suppress(OSError):
            part.unlink()
        if isinstance(error, OSError):
            raise not_written(path, error) from error
        raise


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """Give a new empty folder to fill; when the block ends it becomes `folder`, in the place of what was there.

    Until then it lies in the same parent as `NAME.part-RANDOM`; a failure deletes it and leaves `folder` as it was.
    What a killed process left there is deleted first, so only one process at a time may write `folder`: hold a lock.
    Raises OSError.
    """
    for left_over in folder.parent.glob(f"{folder.name}.part*"):
        shutil.rmtree(left_over, ignore_errors=True)
    # A new name each time: a child of a killed process may still be writing into the old folder.
    part = folder.with_name(f"{folder.name}.part-{secrets.token_hex(8)}")
    part.mkdir(parents=True)
    try:
        yield part
        shutil.rmtree(folder, ignore_errors=True)
        part.rename(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)
