"""Pictures: a panel is where geometry says, in its colour, and to the proper side in a turn."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from numpy.typing import NDArray

from egost.tasks.mini_world.maps import WorldMap
from egost.tasks.mini_world.raycast import render
from egost.tasks.mini_world.steps import ClipTruth, Landmark
from egost.tasks.mini_world.walks import Camera, ClipPlan, plan_clip, shown_frames

RGB = {
    "red": (214, 32, 36),
    "blue": (38, 74, 222),
    "green": (36, 160, 58),
    "yellow": (246, 222, 40),
    "purple": (140, 44, 178),
    "orange": (248, 132, 20),
    "cyan": (50, 218, 232),
    "white": (246, 246, 246),
}


def standing(panel: Landmark, distance: float, **changes: float) -> ClipPlan:
    """One frame, 112 x 112, looking east at a panel `distance` cells ahead at the end of a corridor."""
    values = {
        "x": 9 - distance,
        "y": 0.5,
        "angle": 0.0,
        "height": 0.5,
        "pitch": 0.0,
        "light": 1.0,
        "door": 1.0,
    }
    camera = Camera(**{name: np.array([value], np.float32) for name, value in (values | changes).items()})
    world = WorldMap(((0, 0), (8, 0)), (0,), frozenset((x, 0) for x in range(9)), (panel,), ())
    return ClipPlan(0, ClipTruth("mini.mp4", 1, 112, 112, "10", 1, "", ()), world, camera, 0)


def coloured(frame: NDArray[np.uint8], colour: str) -> NDArray[np.bool_]:
    """Pixels whose hue is that of a colour, whatever the light on it."""
    pixels = frame.astype(float)
    bright = pixels.sum(axis=-1, keepdims=True)
    target = np.array(RGB[colour], float)
    near = np.abs(pixels / np.maximum(bright, 1) - target / target.sum()).sum(axis=-1) < 0.06
    return near & (bright[..., 0] > (600 if colour == "white" else 150))


def test_a_panel_has_the_size_that_its_distance_gives() -> None:
    focal = 56 / np.tan(np.radians(42))
    for distance in (1.0, 2.0, 4.0):
        seen = coloured(render(standing(Landmark("red", "plain"), distance))[0], "red")
        rows, columns = np.flatnonzero(seen.any(axis=1)), np.flatnonzero(seen.any(axis=0))
        assert np.ptp(rows) + 1 == pytest.approx(0.84 * 0.93 * focal / distance, abs=2)
        assert np.ptp(columns) + 1 == pytest.approx(0.88 * 0.93 * focal / distance, abs=2)
        assert columns.mean() == pytest.approx(55.5, abs=1)


def test_the_camera_moves_the_picture() -> None:
    red = Landmark("red", "plain")

    def centre(**changes: float) -> tuple[float, float]:
        rows, columns = np.nonzero(coloured(render(standing(red, 3.0, **changes))[0], "red"))
        return float(rows.mean()), float(columns.mean())

    row, column = centre()
    assert centre(height=0.2)[0] < row - 3
    assert centre(height=0.8)[0] > row + 3
    assert centre(pitch=0.25)[0] == pytest.approx(row + 28, abs=1)
    assert centre(angle=np.radians(-20))[1] > column + 15
    assert centre(angle=np.radians(20))[1] < column - 15


def test_darkness_scales_the_picture() -> None:
    lit, dark = (
        render(standing(Landmark("cyan", "dotted"), 2.0, light=v))[0].astype(float) for v in (1, 0.25)
    )
    assert dark.mean() == pytest.approx(lit.mean() / 4, rel=0.05)


def test_patterns_differ() -> None:
    frames = {
        p: render(standing(Landmark("green", p), 1.5))[0] for p in ("plain", "striped", "checkered", "dotted")
    }
    share = {p: coloured(frame, "green").mean() for p, frame in frames.items()}
    assert share["plain"] > share["dotted"] > share["striped"] > 0.03
    on_panel = coloured(frames["plain"], "green")
    for one, other in combinations(frames, 2):
        differs = np.abs(frames[one].astype(int) - frames[other]).max(axis=-1) > 60
        assert differs[on_panel].mean() > 0.2, (one, other)


def test_a_door_hides_what_is_behind_until_it_opens() -> None:
    closed = standing(Landmark("red", "plain"), 4.0, door=0.0)
    closed = replace(closed, world=replace(closed.world, doors=((6, 0),)))
    assert not coloured(render(closed)[0], "red").any()
    half = replace(closed, camera=replace(closed.camera, door=np.array([0.5], np.float32)))
    full = replace(closed, camera=replace(closed.camera, door=np.array([1.0], np.float32)))
    seen_half, seen_full = (int(coloured(render(plan)[0], "red").sum()) for plan in (half, full))
    assert 0.3 * seen_full < seen_half < 0.7 * seen_full


@pytest.mark.parametrize(("split", "generator"), [("train", 1), ("test", 1), ("test", 2)])
def test_the_shown_frames_show_each_landmark_and_the_side_of_each_turn(split: str, generator: int) -> None:
    for number in range(24):
        plan = plan_clip(7, split, number, generator)
        keep = shown_frames(plan.truth.frames)
        camera = Camera(
            *(
                getattr(plan.camera, name)[keep]
                for name in ("x", "y", "angle", "height", "pitch", "light", "door")
            )
        )
        truth = replace(plan.truth, frames=len(keep))
        film = dict(zip(keep, render(replace(plan, camera=camera, truth=truth)), strict=True))
        for step in plan.truth.steps:
            if step.landmark is None:
                continue
            seen = coloured(film[step.frames[0]], step.landmark.colour)
            assert seen.mean() > 0.025, (plan.truth.clip, step)
            if step.kind == "turn" and step.turn != "around":
                columns = np.nonzero(coloured(film[step.frames[1]], step.landmark.colour))[1]
                side = columns.mean() / plan.truth.width
                assert side > 0.5 if step.turn == "left" else side < 0.5, (plan.truth.clip, step)


def test_outdoors_there_is_sky_over_grass_and_a_fence_at_the_eyes() -> None:
    indoors = standing(Landmark("red", "plain"), 6.0)
    frame = render(replace(indoors, look="outdoor"))[0].astype(int)
    sky, ground = frame[2, 56], frame[110, 56]
    assert sky[2] > sky[1] > sky[0] and ground[1] > ground[0] > ground[2]
    # The corridor's ceiling and floor are grey and brown.
    ceiling, floor = render(indoors)[0].astype(int)[[2, 110], 56]
    assert np.ptp(ceiling) < 20 and floor[1] < floor[0] + 12
    # Standing eyes are half-way up, where the fence's rail is: darker than what is above and below it.
    rail, above, below = (frame[row, 2:8].sum() for row in (56, 44, 68))
    assert rail < above and rail < below


def test_a_fisheye_bends_lines_and_tilts_the_horizon() -> None:
    plan = standing(Landmark("white", "plain"), 1.0)
    straight, bent = (
        coloured(render(replace(plan, look=look))[0], "white") for look in ("corridor", "fisheye")
    )
    tops = [[np.flatnonzero(seen[:, column])[0] for column in (40, 72)] for seen in (straight, bent)]
    # The panel fills the picture's middle: its upper edge is level for a lens that keeps lines straight.
    assert abs(tops[0][0] - tops[0][1]) <= 1 and abs(tops[1][0] - tops[1][1]) >= 3


def test_the_same_plan_gives_the_same_bytes() -> None:
    first, again = (render(plan_clip(1, "train", 4)) for _ in range(2))
    assert first.dtype == np.uint8
    assert np.array_equal(first, again)
