"""What judging a task has cost, as metrics of the task."""

from __future__ import annotations

import threading
from typing import Any

from egost.tasks.judging.judge import Judge

_FIELDS = ("calls", "cached", "retries", "tokens_in", "tokens_out", "usd", "wall_s")

_seen: dict[str, dict[str, float]] = {}
_lock = threading.Lock()


def increments(judge: Judge) -> dict[str, Any]:
    """How far a judge's account has grown since the last call in this process, as `judge_...` metrics.

    The judge serves all samples and threads at once, so that one increment says nothing of one sample; the
    sum of a task's increments is what the task has cost, over all ranks. Nothing for a judge without a server.
    Each value is a dictionary, because of numbers lmms-eval would make a standard error.
    """
    with _lock:
        used = judge.usage
        if used is None:
            return {}
        now = {field: value for field in _FIELDS if (value := getattr(used, field)) is not None}
        before = _seen.get(judge.name, {})
        _seen[judge.name] = now
    return {f"judge_{field}": {"n": value - before.get(field, 0)} for field, value in now.items()}
