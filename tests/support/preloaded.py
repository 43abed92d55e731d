"""Starts commands in processes in which the packages of others that take longest are imported already.

Each start of lmms-eval spends 7 to 10 s of CPU on importing torch, transformers and their like. Here one process a
session imports these once, and each command runs in a fork of it, which imports lmms-eval and egost itself: what a
command loads of ours, and in which order, is as in a process of its own. The packages read some settings when they
are imported, so a command whose environment differs in more than settings of egost needs such a process.
"""

from __future__ import annotations

import atexit
import multiprocessing
import os
import subprocess
import sys
import threading
import traceback
from collections.abc import Sequence
from pathlib import Path
from pkgutil import resolve_name
from tempfile import TemporaryDirectory
from unittest.mock import patch

from places import ROOT

PACKAGES = (
    "torch",
    "torchvision.models",
    "transformers.pipelines",
    "sklearn.metrics",
    "sklearn.svm",
    "nltk",
    "sacrebleu",
    "pytablewriter",
    "pandas",
    "scipy.stats",
    "datasets",
    "evaluate",
    "accelerate",
    "openai",
    "av",
)

_context = multiprocessing.get_context("forkserver")


def run_preloaded(
    entry: str, arguments: Sequence[str], cwd: Path, env: dict[str, str], timeout: float
) -> subprocess.CompletedProcess[str]:
    """What a console script does, `module:function`, with its arguments, in a process of its own."""
    _context.set_forkserver_preload(list(PACKAGES))
    with TemporaryDirectory() as folder, patch.dict(os.environ, env, clear=True):
        files = Path(folder) / "stdout", Path(folder) / "stderr"
        process = _context.Process(target=_run, args=(entry, list(arguments), cwd, env, *files))
        process.start()
        process.join(timeout)
        if process.exitcode is None:
            process.kill()
            raise subprocess.TimeoutExpired([entry, *arguments], timeout)
        return subprocess.CompletedProcess(
            [entry, *arguments], process.exitcode, *(file.read_text(encoding="utf-8") for file in files)
        )


def _run(
    entry: str, arguments: list[str], cwd: Path, env: dict[str, str], stdout: Path, stderr: Path
) -> None:
    os.environ.clear()
    os.environ.update(env)
    os.chdir(cwd)
    for number, file in enumerate((stdout, stderr), 1):
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(descriptor, number)
        os.close(descriptor)
    # As for a console script: nothing of the tests, nor of the folder that they were started in.
    own = [
        path
        for path in sys.path
        if not Path(path).is_relative_to(ROOT) or Path(path).is_relative_to(sys.prefix)
    ]
    given = [path for path in env.get("PYTHONPATH", "").split(os.pathsep) if path]
    sys.path[:] = [str(Path(sys.executable).parent), *given, *own]
    sys.argv = [entry, *arguments]
    code = 0
    try:
        resolve_name(entry)()
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
        code = 1
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
