"""The names of our tasks and groups: put together and taken apart here, and nowhere else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from egost.tasks.errors import SettingError
from egost.tasks.sample import TASK_KINDS, WAYS, TaskKind, Way, World

TASK_FOLDER = Path(__file__).resolve().parent / "yamls"
"""The YAMLs of our tasks and groups, by world, and nothing else that lmms-eval would read."""

_PREFIXES: Mapping[World, str] = {"official": "egost", "mini": "egost_mini"}

_GROUPS: Mapping[str, tuple[TaskKind, ...]] = {
    "": TASK_KINDS,
    "_st": ("route", "direction"),
    "_mcq": ("direction", "landmark", "action"),
    "_route": ("route",),
}
"""What the group YAMLs hold, by the ending of the group's name."""


@dataclass(frozen=True)
class TaskName:
    """A registered task or group of ours, for example `egost_mini_route` or `egost_action_reverse`.

    world: which release it is of. tasks: kind and way of each single task in it.
    """

    name: str
    world: World
    tasks: tuple[tuple[TaskKind, Way], ...]

    @property
    def is_group(self) -> bool:
        """Whether lmms-eval knows it as a group of tasks."""
        return len(self.tasks) > 1

    @property
    def kinds(self) -> frozenset[TaskKind]:
        """The kinds of questions that it holds."""
        return frozenset(kind for kind, _ in self.tasks)


def task_name(world: World, task: TaskKind, way: Way) -> str:
    """The registered name of a task, for example `egost_mini_direction_forward`."""
    return f"{_PREFIXES[world]}_{task}_{way}"


def parse_task_name(name: str) -> TaskName | None:
    """The task or group of ours that has this name; None for another name."""
    return TASK_NAMES.get(name)


def named_tasks(names: str) -> tuple[World, list[tuple[TaskKind, Way]]]:
    """The world and the single tasks of the names, each once, in the order of the names.

    names: tasks or groups, separated by commas as in lmms-eval's `--tasks`. Raises SettingError for a name that is
    none of ours, and for names of both worlds, whose figures cannot be compared.
    """
    chosen: dict[tuple[TaskKind, Way], None] = {}
    worlds: set[World] = set()
    for name in (name.strip() for name in names.split(",")):
        found = parse_task_name(name)
        if found is None:
            groups = ", ".join(prefix + ending for prefix in _PREFIXES.values() for ending in _GROUPS)
            raise SettingError(
                f"'{name}' is none of our tasks; expected {groups}, or single tasks such as egost_direction_forward, "
                "separated by commas."
            )
        worlds.add(found.world)
        chosen |= dict.fromkeys(found.tasks)
    if len(worlds) > 1:
        raise SettingError(
            f"'{names}' mixes the benchmark and the mini world, whose figures cannot be compared: name tasks of one "
            "of them."
        )
    return worlds.pop(), list(chosen)


def _known_names() -> dict[str, TaskName]:
    names = []
    for world, prefix in _PREFIXES.items():
        for ending, kinds in _GROUPS.items():
            tasks = tuple((kind, way) for kind in kinds for way in WAYS)
            names.append(TaskName(prefix + ending, world, tasks))
        for kind in TASK_KINDS:
            names += [TaskName(task_name(world, kind, way), world, ((kind, way),)) for way in WAYS]
    return {name.name: name for name in names}


TASK_NAMES: Mapping[str, TaskName] = _known_names()
"""All of our tasks and groups by their names, those of the benchmark first."""
