"""Renders a walk, a grid ray-caster for all columns of all frames at once in numpy, and writes frames as H.264.

Walls are one cell high. Each ray is followed cell by cell to the first wall or closed part of a door; the
rows of its column then follow from the distance (perspective with a horizontal field of view of 84 degrees).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from egost.tasks.mini_world.maps import HEADINGS, WorldMap
from egost.tasks.mini_world.steps import PATTERNS
from egost.tasks.mini_world.walks import Camera, ClipPlan

Floats = NDArray[np.floating[Any]]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

_HALF_VIEW = float(np.tan(np.radians(42.0)))
_FISHEYE_VIEW = float(np.radians(62.0))
"""Half of what a fisheye sees, by equal angles across the picture."""

_CHUNK = 16
"""Frames that are rendered together; more would not fit a core's cache."""

_COLOURS = {
    "red": (214, 32, 36),
    "blue": (38, 74, 222),
    "green": (36, 160, 58),
    "yellow": (246, 222, 40),
    "purple": (140, 44, 178),
    "orange": (248, 132, 20),
    "cyan": (50, 218, 232),
    "white": (246, 246, 246),
}
_WALLS = ((142, 134, 122), (128, 136, 140), (146, 138, 132), (124, 132, 122), (138, 128, 136))
_FLOORS = ((96, 82, 68), (84, 86, 90), (104, 96, 84), (78, 88, 80))
_CEILINGS = ((176, 178, 184), (186, 182, 172), (168, 174, 170))
_SKY, _GRASS, _LEAVES, _TRUNK = (150, 196, 238), (98, 138, 66), (52, 108, 46), (86, 60, 38)
_DOOR = (112, 62, 26)
_INK = (22, 22, 26)

_OPEN, _WALL, _DOORWAY = 0, 1, 2


@dataclass(frozen=True)
class _Hits:
    """What each ray meets; all arrays have the shape (frames, columns).

    distance: along the camera's axis, cells; across: 0 to 1 over the face from the viewer's left;
    panel: index of the landmark on the face, -1 for none; door: whether the face is a door;
    sideways: whether the face looks east or west.
    """

    distance: Floats
    across: Floats
    panel: Ints
    door: Bools
    sideways: Bools


@dataclass(frozen=True)
class _Grid:
    """The map as arrays: kind (rows, columns) and panel (rows, columns, headings), -1 for no panel."""

    kind: Ints
    panel: Ints
    origin: tuple[int, int]


def render(plan: ClipPlan) -> NDArray[np.uint8]:
    """All frames of a clip: RGB, shape (frames, height, width, 3), the same bytes for the same plan."""
    truth = plan.truth
    grid = _grid(plan.world)
    look = np.random.default_rng(plan.look_seed)
    wall, floor, ceiling = (
        np.array(tones[int(look.integers(len(tones)))], np.float32) * np.float32(look.uniform(0.92, 1.08))
        for tones in (_WALLS, _FLOORS, _CEILINGS)
    )
    outdoor = plan.look == "outdoor"
    if outdoor:
        floor, ceiling = np.array(_GRASS, np.float32), np.array(_SKY, np.float32)
    roll = np.float32(look.choice((-1, 1)) * look.uniform(0.12, 0.22))
    painted = np.array([_COLOURS[panel.colour] for panel in plan.world.panels], np.float32)
    patterns = np.array([PATTERNS.index(panel.pattern) for panel in plan.world.panels])
    film = np.empty((truth.frames, truth.height, truth.width, 3), np.uint8)
    for start in range(0, truth.frames, _CHUNK):
        part = slice(start, start + _CHUNK)
        camera = Camera(
            *(
                getattr(plan.camera, name)[part]
                for name in ("x", "y", "angle", "height", "pitch", "light", "door")
            )
        )
        across = (np.arange(truth.width, dtype=np.float32) + 0.5) / truth.width * 2 - 1
        lens = None
        right = across * np.float32(_HALF_VIEW)
        if plan.look == "fisheye":
            # Straight lines bend, more so towards the sides, and the horizon slopes.
            lens = 1 + np.float32(0.3) * across**2, roll * across
            right = np.tan(across * np.float32(_FISHEYE_VIEW))
        cos, sin = np.cos(camera.angle)[:, None], np.sin(camera.angle)[:, None]
        ray_x, ray_y = cos - sin * right, sin + cos * right
        hits = _cast(grid, camera, ray_x, ray_y)
        tones = (wall, floor, ceiling)
        image = _paint(
            camera, hits, ray_x, ray_y, truth.height, tones, painted, patterns, lens, outdoor=outdoor
        )
        film[part] = np.clip(image * camera.light[:, None, None, None], 0, 255).astype(np.uint8)
    return film


def _grid(world: WorldMap) -> _Grid:
    cells = np.array(sorted(world.open_cells))
    origin = cells.min(axis=0) - 2
    columns, rows = cells.max(axis=0) - origin + 3
    kind = np.full((rows, columns), _WALL)
    kind[cells[:, 1] - origin[1], cells[:, 0] - origin[0]] = _OPEN
    for x, y in world.doors:
        kind[y - origin[1], x - origin[0]] = _DOORWAY
    panel = np.full((rows, columns, len(HEADINGS)), -1)
    for index, ((x, y), heading) in enumerate(zip(world.panel_cells, world.headings, strict=True)):
        panel[y - origin[1], x - origin[0], heading] = index
    return _Grid(kind, panel, (int(origin[0]), int(origin[1])))


def _cast(grid: _Grid, camera: Camera, ray_x: Floats, ray_y: Floats) -> _Hits:
    shape = ray_x.shape
    x = np.broadcast_to(camera.x[:, None] - grid.origin[0], shape)
    y = np.broadcast_to(camera.y[:, None] - grid.origin[1], shape)
    column, row = np.floor(x).astype(np.int64), np.floor(y).astype(np.int64)
    with np.errstate(divide="ignore"):
        over_x, over_y = np.abs(1 / ray_x), np.abs(1 / ray_y)
    step_x, step_y = np.where(ray_x > 0, 1, -1), np.where(ray_y > 0, 1, -1)
    next_x = np.where(ray_x > 0, column + 1 - x, x - column) * over_x
    next_y = np.where(ray_y > 0, row + 1 - y, y - row) * over_y
    distance = np.zeros(shape, np.float32)
    across = np.zeros(shape, np.float32)
    sideways = np.zeros(shape, bool)
    going = np.ones(shape, bool)
    closed_from = np.broadcast_to(camera.door[:, None], shape)
    while going.any():
        along_x = next_x < next_y
        reached = np.where(along_x, next_x, next_y)
        distance = np.where(going, reached, distance)
        sideways = np.where(going, along_x, sideways)
        column = np.where(going & along_x, column + step_x, column)
        row = np.where(going & ~along_x, row + step_y, row)
        next_x = np.where(going & along_x, next_x + over_x, next_x)
        next_y = np.where(going & ~along_x, next_y + over_y, next_y)
        place = np.where(along_x, y + reached * ray_y, x + reached * ray_x)
        place = place - np.floor(place)
        flipped = np.where(along_x, step_x < 0, step_y > 0)
        across = np.where(going, np.where(flipped, 1 - place, place), across)
        kind = grid.kind[row, column]
        going = going & ((kind == _OPEN) | ((kind == _DOORWAY) & (across < closed_from)))
    heading = np.where(sideways, np.where(step_x > 0, 0, 2), np.where(step_y > 0, 1, 3))
    door = grid.kind[row, column] == _DOORWAY
    return _Hits(
        np.maximum(distance, 1e-3).astype(np.float32),
        across.astype(np.float32),
        grid.panel[row, column, heading],
        door,
        sideways,
    )


def _paint(
    camera: Camera,
    hits: _Hits,
    ray_x: Floats,
    ray_y: Floats,
    rows: int,
    tones: tuple[Floats, Floats, Floats],
    painted: Floats,
    patterns: Ints,
    lens: tuple[Floats, Floats] | None,
    *,
    outdoor: bool,
) -> Floats:
    """lens: by how much each column is stretched, and shifted; None for straight lines and a level horizon."""
    wall, floor, ceiling = tones
    columns = ray_x.shape[1]
    focal = np.float32(columns / 2 / _HALF_VIEW)
    horizon = rows * (np.float32(0.5) + camera.pitch)
    below = ((np.arange(rows, dtype=np.float32)[None] + 0.5 - horizon[:, None]) / focal)[:, :, None]
    if lens:
        below = below * lens[0] + lens[1]
    height = camera.height[:, None, None]
    up = height - below * hits.distance[:, None, :]

    on_wall = (up >= 0) & (up <= 1)
    gap = np.where(below >= 0, height, 1 - height)
    depth = np.minimum(gap / np.maximum(np.abs(below), 1e-3), 40).astype(np.float32)
    ground_x = camera.x[:, None, None] + ray_x[:, None, :] * depth
    ground_y = camera.y[:, None, None] + ray_y[:, None, :] * depth
    tile = (np.floor(ground_x * 2) + np.floor(ground_y * 2)) % 2
    level = np.where((below >= 0)[..., None], floor, ceiling)
    flat = level * (1 - 0.13 * tile)[..., None] / (1 + 0.14 * depth)[..., None]
    if outdoor:
        sky = ceiling * np.clip(1 + 0.3 * below, 0.6, 1)[..., None]
        flat = np.where((below < 0)[..., None], sky, flat)
        bare, seen_over = _hedges(hits, up)
        on_wall &= ~seen_over
    else:
        bare = _walls(hits, up, wall)

    face = _faces(hits, up, bare, painted, patterns)
    lit = np.where(hits.sideways, 1.0, 0.74) / (1 + 0.08 * hits.distance)
    # A panel keeps its brightness on every face: its colour is the answer to questions.
    lit = np.where(hits.panel >= 0, 1 / (1 + 0.03 * hits.distance), lit).astype(np.float32)
    image = np.where(on_wall[..., None], face * lit[:, None, :, None], flat)
    return np.asarray(image, np.float32)


def _walls(hits: _Hits, up: Floats, wall: Floats) -> Floats:
    """Colours of brick walls before light, shape (frames, rows, columns, 3)."""
    across = np.broadcast_to(hits.across[:, None, :], up.shape)
    course = np.floor(up * 5)
    brick = (across * 2.5 + 0.5 * (course % 2)) % 1
    mortar = (brick < 0.05) | (up * 5 - course < 0.08)
    # A rail at the height of standing eyes: level when the walker stands, slanting when it crouches or stretches.
    rail = np.abs(up - 0.5) < 0.035
    return wall * np.where(rail, 0.45, np.where(mortar, 0.84, 1.0))[..., None].astype(np.float32)


def _hedges(hits: _Hits, up: Floats) -> tuple[Floats, Bools]:
    """Colours of what stands in a wall's place outdoors, shape (frames, rows, columns, 3), and where the sky is seen.

    Faces to east and west are houses with windows, the others hedges with a tree behind them. A fence has the rail.
    """
    across = np.broadcast_to(hits.across[:, None, :], up.shape)
    house = np.broadcast_to((hits.sideways & (hits.panel < 0))[:, None, :], up.shape)
    window = (np.abs(across % 0.5 - 0.25) < 0.1) & (np.abs(up - 0.68) < 0.12)
    bricks = np.where(
        window[..., None], np.array((70, 92, 120), np.float32), np.array((188, 150, 120), np.float32)
    )
    leaf = (np.floor(across * 18) + 7 * np.floor(up * 22)) % 3
    leaves = np.array(_LEAVES, np.float32) * (0.8 + 0.2 * leaf)[..., None].astype(np.float32)
    trunk = (np.abs(across - 0.5) < 0.06) & (up > 0.55)
    crown = (across - 0.5) ** 2 + (up - 0.84) ** 2 < 0.04
    green = np.where((trunk & ~crown)[..., None], np.array(_TRUNK, np.float32), leaves)
    face = np.where(house[..., None], bricks, green)
    face = np.where((np.abs(up - 0.5) < 0.035)[..., None], np.array((36, 32, 30), np.float32), face)
    over = ~house & (up > 0.6) & ~trunk & ~crown & ~(hits.panel >= 0)[:, None, :] & ~hits.door[:, None, :]
    return np.asarray(face, np.float32), over


def _faces(hits: _Hits, up: Floats, bare: Floats, painted: Floats, patterns: Ints) -> Floats:
    """Colours of the wall faces before light, shape (frames, rows, columns, 3). bare: without doors and panels."""
    across = np.broadcast_to(hits.across[:, None, :], up.shape)
    plank = (across * 4) % 1 < 0.08
    handle = (np.abs(across - 0.85) < 0.05) & (np.abs(up - 0.45) < 0.06)
    door = np.array(_DOOR, np.float32) * np.where(plank, 0.6, 1.0)[..., None].astype(np.float32)
    door = np.where(handle[..., None], np.float32(225), door)
    face = np.where(hits.door[:, None, :, None], door, bare)

    u, v = (across - 0.06) / 0.88, (up - 0.08) / 0.84
    inside = (hits.panel >= 0)[:, None, :] & (u >= 0) & (u < 1) & (v >= 0) & (v < 1)
    frame = (np.minimum(u, 1 - u) < 0.035) | (np.minimum(v, 1 - v) < 0.035)
    pattern = patterns[hits.panel][:, None, :]
    stripes = np.floor(u * 7) % 2 == 1
    checks = (np.floor(u * 4) + np.floor(v * 4)) % 2 == 1
    dots = ((u * 3) % 1 - 0.5) ** 2 + ((v * 3) % 1 - 0.5) ** 2 < 0.085
    inked = np.select([pattern == 1, pattern == 2, pattern == 3], [stripes, checks, dots], False) | frame
    panel = np.where(inked[..., None], np.array(_INK, np.float32), painted[hits.panel][:, None])
    return np.asarray(np.where(inside[..., None], panel, face), np.float32)


_X264 = "qp=21:b-adapt=0:bframes=2:scenecut=0:weightp=0:aq-mode=0:mbtree=0:threads=1"
"""One thread, and nothing that x264's look-ahead decides: with it, 144 x 112 frames gave other bytes each time."""


def write_film(path: Path, frames: Iterable[NDArray[np.uint8]], rate: Fraction) -> None:
    """Encode RGB frames, each of shape (height, width, 3) with even sizes, as H.264 in yuv420p.

    The frames are taken one by one; there must be one at least. The file appears whole or not at all, also where the
    frames end with an exception; the same frames give the same bytes on one machine.
    """
    part = path.with_name(f".{path.name}.part")
    try:
        _encode(part, frames, rate)
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def _encode(path: Path, frames: Iterable[NDArray[np.uint8]], rate: Fraction) -> None:
    remaining = iter(frames)
    first = next(remaining)
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=rate)
        stream.height, stream.width = first.shape[:2]
        stream.pix_fmt = "yuv420p"
        stream.codec_context.thread_count = 1
        stream.options = {"preset": "veryfast", "x264-params": _X264}
        for pixels in chain([first], remaining):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())
