"""Child processes end with their parent, even where that is killed and can tell them nothing."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable

GRACE = 1.0
"""Seconds that a child has to finish what it is writing."""


def end_when(parent_is_gone: Callable[[], object]) -> None:
    """End this process soon after a call returns: one that reads a pipe which the system closes with the parent."""

    def watch() -> None:
        parent_is_gone()
        time.sleep(GRACE)
        os._exit(1)

    threading.Thread(target=watch, name="egost-parent", daemon=True).start()
