"""Runs the `egost` command as a subprocess."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from lmms_eval_command import environment
from places import ROOT

EGOST = Path(sys.executable).with_name("egost")
"""For tests that start what trains or evaluates, and watch it: slow."""


def egost(*arguments: str, cwd: Path, cache: Path, **settings: str) -> subprocess.CompletedProcess[str]:
    """`egost ARGUMENTS` in a folder, for what starts no lmms-eval."""
    return subprocess.run(
        [sys.executable, "-c", "from egost.main import app; app()", *arguments],
        cwd=cwd,
        env=environment(cache, **{"COLUMNS": "200", "PYTHONPATH": str(ROOT), **settings}),
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


def egost_run(*arguments: str, cwd: Path, cache: Path, **settings: str) -> subprocess.CompletedProcess[str]:
    """`egost run ARGUMENTS` in a folder: starts the real lmms-eval."""
    return egost("run", *arguments, cwd=cwd, cache=cache, **settings)
