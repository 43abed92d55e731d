"""What a person asks `egost train data` for, in words, and the rows that this stands for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar, get_args

from egost.tasks.errors import EgostError
from egost.tasks.release.release import Release, open_release
from egost.tasks.sample import TASK_KINDS, World
from egost.training.rows.build_rows import BuildPlan, Built, build_released, build_rows
from egost.training.rows.rows import StR1Row, read_rows, released_subset
from egost.training.rows.splits import By, HoldOut

T = TypeVar("T", bound=str)


class ChoiceError(EgostError):
    """A word that `egost train data` does not know."""


@dataclass(frozen=True)
class RowChoices:
    """The options of the command as they were typed.

    root: folder of the release, None for the one that the tasks use. tasks: names with commas between.
    writer: who writes the reasoning, None for templates. released: path or size of the authors' rows.
    """

    world: str
    root: Path | None
    rows: int
    tasks: str
    seed: int
    by: str
    hold_out: str | None
    with_think: bool
    writer: str | None
    released: str | None


def chosen_rows(asked: RowChoices) -> Built:
    """The rows that the options ask for. Raises ChoiceError for a word that is none, and as the builders do."""
    world = _one_of("--world", asked.world, get_args(World))
    release = _release(world, asked.root)
    if asked.released is not None:
        if asked.writer or asked.hold_out:
            raise ChoiceError(
                "--released takes the authors' rows and reasoning: leave --writer and --hold-out out."
            )
        return build_released(release, _released(asked.released), with_think=asked.with_think)
    plan = BuildPlan(
        rows=asked.rows,
        seed=asked.seed,
        tasks=tuple(_one_of("--tasks", task.strip(), TASK_KINDS) for task in asked.tasks.split(",")),
        by=_one_of("--by", asked.by, get_args(By)),
        hold_out=_one_of("--hold-out", asked.hold_out, get_args(HoldOut)) if asked.hold_out else None,
        with_think=asked.with_think,
    )
    if asked.writer is None:
        return build_rows(release, plan)
    if not asked.with_think:
        raise ChoiceError("--no-think wants no reasoning, so that there is nothing for --writer to write.")
    from egost.training.rows.thought_writer import thought_writer, writer_endpoint

    endpoint = writer_endpoint(asked.writer)
    return build_rows(release, plan, thought_writer(endpoint), endpoint.label)


def _release(world: World, root: Path | None) -> Release:
    if root is None:
        return open_release(world)
    if world == "mini":
        from egost.tasks.mini_world import mini_revision

        return Release("mini", (root,), mini_revision(root))
    if not root.is_dir():
        raise ChoiceError(f"--root {root} is no folder; it must hold the release.")
    from egost.tasks.release.hub import recorded_revision

    return Release("official", (root,), recorded_revision(root))


def _released(named: str) -> list[StR1Row]:
    if named.isdecimal():
        rows = read_rows()
        return list(rows) if int(named) == len(rows) else [rows[k] for k in released_subset(int(named))]
    return list(read_rows(Path(named)))


def _one_of(option: str, word: str, words: tuple[T, ...]) -> T:
    for known in words:
        if word == known:
            return known
    raise ChoiceError(f"{option} is {word!r}; expected one of {', '.join(words)}.")
