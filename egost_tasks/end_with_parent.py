"""Child processes end with their parent, even where that is killed and can tell them nothing."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import cache
from typing import Any

GRACE = 1.0
"""Seconds that a child has to finish what it is writing."""


def end_when(parent_is_gone: Callable[[], object]) -> None:
    """End this process soon after a call returns: one that reads a pipe which the system closes with the parent."""

    def watch() -> None:
        parent_is_gone()
        time.sleep(GRACE)
        # vLLM's engine, for one, is a process that outlives whoever started it, and holds the GPU.
        import psutil  # for this moment alone

        for child in psutil.Process().children(recursive=True):
            with suppress(psutil.Error):
                child.kill()
        os._exit(1)

    threading.Thread(target=watch, name="egost-parent", daemon=True).start()


_CHILD = (
    "import os, runpy, sys; from egost.tasks.end_with_parent import end_when; end_when(lambda: os.read({pipe}, 1)); "
    "del sys.argv[0]; runpy.run_path(sys.argv[0], run_name='__main__')"
)


@cache
def _pipe() -> tuple[int, int]:
    return os.pipe()


def start_script(
    command: Sequence[str], environment: Mapping[str, str], *, pass_fds: Sequence[int] = (), **how: Any
) -> subprocess.Popen[bytes]:
    """Start a script of Python with its arguments in a child that ends with this process. how: see Popen."""
    theirs, _ = _pipe()
    # -P: no file of the current folder is taken for a module, as where the script is started itself.
    child = [sys.executable, "-P", "-c", _CHILD.format(pipe=theirs), *command]
    return subprocess.Popen(child, env=environment, pass_fds=[theirs, *pass_fds], **how)
