"""The names of our tasks and groups, where they are not lmms-eval's to read."""

from __future__ import annotations

from collections.abc import Mapping

from egost.tasks.errors import EgostError
from egost.tasks.sample import TASK_KINDS, WAYS, TaskKind, Way, World

_GROUPS: Mapping[str, tuple[TaskKind, ...]] = {
    "": TASK_KINDS,
    "_st": ("route", "direction"),
    "_mcq": ("direction", "landmark", "action"),
    "_route": ("route",),
}
"""What the group YAMLs hold, by the ending of the group's name."""

_PREFIXES: Mapping[str, World] = {"egost": "official", "egost_mini": "mini"}


class TaskNameError(EgostError):
    """No task or group of ours has this name, or the names are of two worlds."""


def task_name(world: World, task: TaskKind, way: Way) -> str:
    """The registered name of a task, for example `egost_mini_direction_forward`."""
    return f"egost{'_mini' * (world == 'mini')}_{task}_{way}"


def named_tasks(names: str) -> tuple[World, list[tuple[TaskKind, Way]]]:
    """The world and the single tasks that names stand for, each once, in the order of the names.

    names: tasks or groups as lmms-eval takes them, with commas between. Raises TaskNameError for one that is none of
    ours, and for tasks of both worlds, whose figures have nothing to do with each other.
    """
    known: dict[str, tuple[World, list[tuple[TaskKind, Way]]]] = {}
    for prefix, world in _PREFIXES.items():
        for ending, kinds in _GROUPS.items():
            known[prefix + ending] = world, [(kind, way) for kind in kinds for way in WAYS]
        for kind in TASK_KINDS:
            for way in WAYS:
                known[f"{prefix}_{kind}_{way}"] = world, [(kind, way)]
    chosen: dict[tuple[TaskKind, Way], None] = {}
    worlds: set[World] = set()
    for name in (name.strip() for name in names.split(",")):
        if name not in known:
            groups = ", ".join(prefix + ending for prefix in _PREFIXES for ending in _GROUPS)
            raise TaskNameError(
                f"'{name}' is none of our tasks; expected {groups}, or single tasks such as egost_direction_forward, "
                "with commas between."
            )
        world, tasks = known[name]
        worlds.add(world)
        chosen |= dict.fromkeys(tasks)
    if len(worlds) > 1:
        raise TaskNameError(
            f"'{names}' mixes the benchmark and the mini world, whose figures cannot stand side by side: name the "
            "tasks of one of them."
        )
    return worlds.pop(), list(chosen)
