"""Ego-ST Bench and ST-R1: the Python API. The command `egost` is in `egost.main`.

A name is imported when it is first used, since every room of the package imports this module first.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

if sys.platform == "win32":
    raise SystemExit("egost runs on Linux and macOS. On Windows, install and run it in WSL.")

if TYPE_CHECKING:
    from egost.api import (
        frames,
        interval,
        judge_routes,
        open_release,
        read_run,
        render_prompt,
        samples,
        score,
    )
    from egost.results.run import Run
    from egost.tasks.errors import EgostError
    from egost.tasks.judging.judge import JudgeFailure, Judgement
    from egost.tasks.release.release import Release
    from egost.tasks.sample import Sample
    from egost.tasks.scoring.scores import Score

    __version__: str

__all__ = [
    "EgostError",
    "JudgeFailure",
    "Judgement",
    "Release",
    "Run",
    "Sample",
    "Score",
    "__version__",
    "frames",
    "interval",
    "judge_routes",
    "open_release",
    "read_run",
    "render_prompt",
    "samples",
    "score",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("egost")
    if name not in __all__:
        raise AttributeError(f"module {__name__} has no attribute {name}")
    if name == "EgostError":
        from egost.tasks import errors

        return errors.EgostError
    from egost import api

    return getattr(api, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
