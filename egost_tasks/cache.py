"""Where everything is kept that can be made again: frames, indices, unpacked archives, the mini world."""

from __future__ import annotations

import os
import secrets
from pathlib import Path


def cache_root() -> Path:
    """`EGOST_CACHE`, else `egost` in the user's cache folder (`XDG_CACHE_HOME`, `~/.cache`)."""
    if folder := os.environ.get("EGOST_CACHE"):
        return Path(folder).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "egost"


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that nobody ever sees half of it: beside, then renamed; who may read it, the umask says.

    Makes the folder. A failure leaves nothing behind. Raises OSError.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f"{path.name}.{secrets.token_hex(8)}.part")
    try:
        # Not `tempfile`, whose files nobody else may read: a cache may be shared.
        with beside.open("xb") as file:
            file.write(content)
        beside.replace(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
