"""Maps of the mini world: corridors and rooms on a grid, carved along a walk.

A cell is one unit wide and one unit high. x grows to the east, y to the south.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from egost.tasks.mini_world.steps import Landmark, Turn

Cell = tuple[int, int]

HEADINGS: tuple[Cell, ...] = ((1, 0), (0, 1), (-1, 0), (0, -1))
"""East, south, west, north: each is a right turn from the one before."""

_QUARTERS: dict[Turn, int] = {"left": -1, "right": 1, "around": 2}
_STUB_SHARE = 0.35
_ATTEMPTS = 400


@dataclass(frozen=True)
class WorldMap:
    """A map and the walk through it.

    corners: cells where the walk starts, turns and ends, one more than there are segments.
    headings: index into `HEADINGS` of each segment.
    open_cells: cells that can be walked on.
    panels: landmark on the wall cell ahead of each turn and of the end.
    doors: door cells, in the order of the walk.
    """

    corners: tuple[Cell, ...]
    headings: tuple[int, ...]
    open_cells: frozenset[Cell]
    panels: tuple[Landmark, ...]
    doors: tuple[Cell, ...]

    @property
    def lengths(self) -> tuple[int, ...]:
        """Cells that each segment moves on."""
        return tuple(abs(b[0] - a[0]) + abs(b[1] - a[1]) for a, b in pairwise(self.corners))

    @property
    def panel_cells(self) -> tuple[Cell, ...]:
        """Wall cell of each panel; the walk faces it with the heading of the same index."""
        return tuple(
            _ahead(cell, heading, 1) for cell, heading in zip(self.corners[1:], self.headings, strict=True)
        )

    @property
    def hash(self) -> str:
        """SHA-256 of layout, panels and doors, wherever on the grid the map lies."""
        x0, y0 = (min(cell[axis] for cell in self.open_cells) for axis in (0, 1))
        walls = [
            [x - x0, y - y0, heading, str(panel)]
            for (x, y), heading, panel in zip(self.panel_cells, self.headings, self.panels, strict=True)
        ]
        content = [
            sorted([x - x0, y - y0] for x, y in self.open_cells),
            walls,
            [[x - x0, y - y0] for x, y in self.doors],
        ]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def carve(
    rng: np.random.Generator,
    turns: Sequence[Turn],
    panels: Sequence[Landmark],
    min_lengths: Sequence[int],
    door: tuple[int, int] | None,
    room_share: float,
) -> WorldMap | None:
    """A map for a walk with the given turns, or None when none was found.

    min_lengths: cells that each segment has at least.
    door: segment and its cell (counted from the segment's start) that holds a door.
    room_share: chance of a room around each corner where the walk turns left or right.

    Corridors touch each other nowhere but at the walk's own corners, so that an opening that can be seen is
    the walk's way or a blind one that was added on purpose.
    """
    headings = [int(rng.integers(4))]
    for turn in turns:
        headings.append((headings[-1] + _QUARTERS[turn]) % 4)
    for _ in range(_ATTEMPTS):
        path = _path(rng, turns, headings, min_lengths)
        if path is not None:
            break
    else:
        return None
    corners, cells = path
    doors = () if door is None else (_ahead(corners[door[0]], headings[door[0]], door[1]),)
    bare = WorldMap(tuple(corners), tuple(headings), frozenset(cells), tuple(panels), doors)
    return _add_rooms_and_stubs(rng, bare, turns, room_share)


def _path(
    rng: np.random.Generator, turns: Sequence[Turn], headings: Sequence[int], min_lengths: Sequence[int]
) -> tuple[list[Cell], set[Cell]] | None:
    corners: list[Cell] = [(0, 0)]
    cells: set[Cell] = {(0, 0)}
    edges: set[frozenset[Cell]] = set()
    expected = 1
    length = 0
    for segment, heading in enumerate(headings):
        back = length if segment and turns[segment - 1] == "around" else 0
        length = back + int(min_lengths[segment] + rng.integers(3))
        expected += length - back
        walked = [_ahead(corners[-1], heading, step) for step in range(length + 1)]
        edges |= {frozenset(pair) for pair in pairwise(walked)}
        cells |= set(walked)
        corners.append(walked[-1])
    walls = {_ahead(cell, heading, 1) for cell, heading in zip(corners[1:], headings, strict=True)}
    touching = {frozenset((cell, near)) for cell in cells for near in _around(cell) if near in cells}
    if len(cells) != expected or touching != edges or walls & cells:
        return None
    return corners, cells


def _add_rooms_and_stubs(
    rng: np.random.Generator, bare: WorldMap, turns: Sequence[Turn], room_share: float
) -> WorldMap:
    world = bare
    for corner, (cell, heading, turn) in enumerate(
        zip(bare.corners[1:], bare.headings, turns, strict=False), start=1
    ):
        wants_room, wants_stub, stub_length = rng.random(), rng.random(), int(rng.integers(1, 3))
        if turn == "around":
            continue
        closed = (heading - _QUARTERS[turn]) % 4
        if wants_room < room_share:
            sides = [_ahead(cell, (heading + quarter) % 4, 1) for quarter in (1, -1)]
            room = [*sides, *(_ahead(side, heading, -1) for side in sides)]
            world = _opened(world, room, {cell, _ahead(cell, heading, -1), bare.corners[corner]})
        elif wants_stub < _STUB_SHARE:
            stub = [_ahead(cell, closed, step + 1) for step in range(stub_length)]
            world = _opened(world, stub, {cell})
    return world


def _opened(world: WorldMap, cells: Sequence[Cell], may_touch: set[Cell]) -> WorldMap:
    """The map with more open cells, or as it was where they would open a way that must stay closed."""
    new = set(cells) - world.open_cells
    touched = {near for cell in new for near in _around(cell)} & world.open_cells
    if new & set(world.panel_cells) or touched - may_touch - set(cells):
        return world
    return replace(world, open_cells=world.open_cells | new)


def _ahead(cell: Cell, heading: int, steps: int) -> Cell:
    dx, dy = HEADINGS[heading % 4]
    return cell[0] + dx * steps, cell[1] + dy * steps


def _around(cell: Cell) -> list[Cell]:
    return [_ahead(cell, heading, 1) for heading in range(4)]
