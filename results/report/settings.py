"""What made a run's figures, as rows for people: its manifest, spread out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from typing import Any

from egost.results.run import Run
from egost.results.run_manifest import run_manifest

_COUNTS = ("asked", "scored", "unscored")
"""What a manifest tells of a task beside its settings; the report's tables tell it already."""


def settings(run: Run) -> list[tuple[str, str]]:
    """Names and values, only what the run tells; what all tasks have alike stands once. Raises RunError."""
    told = asdict(run_manifest(run))
    tasks = told.pop("tasks").values()
    rows = list(_spread(told))
    names = dict.fromkeys(name for task in tasks for name in task if name not in _COUNTS)
    for name in names:
        values = dict.fromkeys(_text(task[name]) for task in tasks)
        rows.append((name.replace("_", " "), "; ".join(value for value in values if value)))
    return [(name, value) for name, value in rows if value]


def _spread(value: Mapping[str, Any], name: str = "") -> Iterator[tuple[str, str]]:
    for key, inner in value.items():
        path = f"{name} {key}".strip().replace("_", " ")
        if isinstance(inner, Mapping):
            yield from _spread(inner, path)
        else:
            yield path, _text(inner)


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_text(inner)}" for key, inner in value.items() if _text(inner))
    if isinstance(value, Iterable) and not isinstance(value, str):
        return "; ".join(map(_text, value))
    return f"{value:g}" if isinstance(value, float) else str(value)
