"""Where everything is kept that can be made again: frames, indices, unpacked archives, the mini world."""

from __future__ import annotations

import os
from pathlib import Path


def cache_root() -> Path:
    """`EGOST_CACHE`, else `egost` in the user's cache folder (`XDG_CACHE_HOME`, `~/.cache`)."""
    if folder := os.environ.get("EGOST_CACHE"):
        return Path(folder).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "egost"
