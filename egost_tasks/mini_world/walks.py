"""Plans a clip: what happens in it, on which map, and where the camera is in each frame.

The walk is timed so that the 8 evenly spaced frames (`linspace(0, n-1, 8)`, truncated; the reference's
sampling, see `egost.tasks.clips.protocols`) show the start, each junction before the turn and in the middle of it,
each action, and the end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import count
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from egost.tasks.errors import ReleaseError
from egost.tasks.mini_world.maps import WorldMap, carve
from egost.tasks.mini_world.option_sets import turn_words
from egost.tasks.mini_world.steps import (
    ACTIONS,
    COLOURS,
    PATTERNS,
    Action,
    ClipTruth,
    Landmark,
    Step,
    StepKind,
    Turn,
)

Floats = NDArray[np.float32]

Look = Literal["corridor", "outdoor", "fisheye"]
"""How a walk looks: indoors; between hedges, trees and houses under the sky; indoors by a tilted, bobbing fisheye."""

_NAMES: dict[Look, str] = {
    "corridor": "sun3d_mini_{split}_{seed}_{number}.mp4",
    "outdoor": "{number}.mp4",
    "fisheye": "AriaEverydayActivities_mini_{split}_{seed}_{number}.mp4",
}
"""Of clips of mini-2: named as the official release's, so that its sources are told from them (`clip_source`)."""

_CORRIDOR: tuple[Look, str] = ("corridor", "mini_{split}_{seed}_{number}.mp4")
"""The one look of mini-1, and how its clips are named."""

GENERATORS = (1, 2)
"""Versions of the release. mini-1 is of corridors; mini-2 has as many walks of each look."""

SPLITS = ("train", "test")
"""Each owns half of all map hashes (their last bit), so that no map can be in both."""

SHOWN = 8
"""Frames that an evaluated model sees (paper, section 5.1: 8 frames a clip)."""

SIZES = ((112, 112), (128, 112), (144, 112), (128, 128))
"""Width and height in pixels: even, as yuv420p wants, and at least 112 x 112."""

RATES = (Fraction(8), Fraction(10), Fraction(12), Fraction(25, 2), Fraction(15000, 1001), Fraction(15))
DURATION_S = (3.0, 8.0)

_PART_OF = (4, 1, 2, 3, 4, 1, 4, 2, 3, 4)
"""Part of a clip by the last digit of its number: 40 % belong to part 4, the one with actions."""

ACTION_PART = 4
"""The only part with actions, as in the official release."""

_STANDING = 0.5
_TURN_COST = 1.2
"""Cells that could be walked in the time of a quarter turn."""


@dataclass(frozen=True)
class Camera:
    """The camera in each frame of a clip; all arrays have the shape (frames,).

    x, y: cells; angle: radians, 0 is east and pi/2 is south; height: 0 floor to 1 ceiling;
    pitch: shift of the horizon in image heights, positive when it looks up; light: 1 lit to 0 dark;
    door: share of the doorway that is open, 0 to 1.
    """

    x: Floats
    y: Floats
    angle: Floats
    height: Floats
    pitch: Floats
    light: Floats
    door: Floats


@dataclass(frozen=True)
class ClipPlan:
    """A clip before it is rendered: the truth about it, its map and its camera.

    number: of the clip in its release; look_seed: seed of wall colours and the like. look: what it is painted as.
    """

    number: int
    truth: ClipTruth
    world: WorldMap
    camera: Camera
    look_seed: int
    look: Look = "corridor"


@dataclass(frozen=True)
class _Story:
    """What a walk holds, before it has a map; actions are pairs of segment and action."""

    turns: tuple[Turn, ...]
    panels: tuple[Landmark, ...]
    actions: tuple[tuple[int, Action], ...]


@dataclass(frozen=True)
class _Moment:
    """A point of the walk that one of the 8 frames shows: how far the walk is then, and what happens."""

    progress: float
    kind: StepKind | None
    index: int = 0


def shown_frames(frames: int) -> list[int]:
    """Indices of the 8 evenly spaced frames, `linspace(0, frames - 1, 8)` truncated (facts of the paper's code)."""
    return [int(index) for index in np.linspace(0, frames - 1, SHOWN)]


def plan_clip(seed: int, split: str, number: int, generator: int = 1) -> ClipPlan:
    """The plan of one clip: the same for the same arguments, whatever else the release holds.

    generator: of `GENERATORS`. Both walk the same ways; what they look like differs.
    Raises ReleaseError for an unknown split.
    """
    if split not in SPLITS:
        raise ReleaseError(f"unknown split {split!r} of the mini world; expected one of {', '.join(SPLITS)}.")
    part = _PART_OF[number % len(_PART_OF)]
    look, form = _CORRIDOR if generator == 1 else tuple(_NAMES.items())[number % len(_NAMES)]
    name = form.format(split=split, seed=seed, number=number)
    for attempt in count():
        rng = np.random.default_rng([seed, number, attempt])
        story = _story(rng, part)
        world = _world(rng, story, part)
        if world is not None and int(world.hash, 16) % len(SPLITS) == SPLITS.index(split):
            return _film(rng, story, world, part, number, name, look)
    raise AssertionError("count() does not end")


def _story(rng: np.random.Generator, part: int) -> _Story:
    n_turns = {1: 2, 2: 3, 3: int(rng.integers(2, 4)), 4: 2 if rng.random() < 0.7 else 1}[part]
    words = turn_words(n_turns, around=part != ACTION_PART)
    turns = words[int(rng.integers(len(words)))]
    colours = rng.permutation(len(COLOURS))[: n_turns + 1]
    patterns = rng.integers(len(PATTERNS), size=n_turns + 1)
    panels = tuple(Landmark(COLOURS[c], PATTERNS[p]) for c, p in zip(colours, patterns, strict=True))
    if part != ACTION_PART:
        return _Story(turns, panels, ())
    n_actions = 4 - n_turns
    segments = sorted(int(s) for s in rng.permutation(np.repeat(np.arange(n_turns + 1), 2))[:n_actions])
    actions = [ACTIONS[a] for a in rng.permutation(len(ACTIONS))[:n_actions]]
    return _Story(turns, panels, tuple(zip(segments, actions, strict=True)))


def _world(rng: np.random.Generator, story: _Story, part: int) -> WorldMap | None:
    segments = len(story.turns) + 1
    in_segment = [[a for s, a in story.actions if s == segment] for segment in range(segments)]
    min_lengths = [2 + 2 * len(actions) if actions else 2 + (k == 0) for k, actions in enumerate(in_segment)]
    door = next(
        (
            (segment, _door_cell(order))
            for segment, actions in enumerate(in_segment)
            for order, action in enumerate(actions)
            if action == "door"
        ),
        None,
    )
    room_share = 0.85 if part == 3 else 0.15
    return carve(rng, story.turns, story.panels, min_lengths, door, room_share)


def _door_cell(order: int) -> int:
    return 2 + 2 * order


# --- the way of the camera ---------------------------------------------------------------------------


def _film(
    rng: np.random.Generator,
    story: _Story,
    world: WorldMap,
    part: int,
    number: int,
    name: str,
    look: Look,
) -> ClipPlan:
    width, height = SIZES[int(rng.integers(len(SIZES)))]
    rate = RATES[int(rng.integers(len(RATES)))]
    frames = int(np.ceil(rng.uniform(*DURATION_S) * float(rate)))
    knots, poses, corner_at = _way(rng, world)
    moments = _moments(rng, story, world, corner_at)
    shown = shown_frames(frames)
    progress = np.interp(np.arange(frames), shown, [moment.progress for moment in moments])
    x, y, angle = (np.interp(progress, knots, poses[:, axis]) for axis in range(3))
    walked = np.concatenate([[0.0], np.cumsum(np.hypot(np.diff(x), np.diff(y)))])
    tall = _STANDING + 0.012 * np.sin(2 * np.pi * walked)
    pitch, light, door = np.zeros(frames), np.ones(frames), np.ones(frames)
    if look == "fisheye":
        # A head nods twice a cell; less than a third of what looking up or down does.
        pitch += 0.06 * np.sin(4 * np.pi * walked)
    for slot, moment in enumerate(moments):
        if moment.kind != "action":
            continue
        action = story.actions[moment.index][1]
        bump = _bump(frames, shown[slot], shown[1])
        amount = rng.uniform(0.9, 1.0) * bump
        if action == "crouch":
            tall -= 0.38 * amount
        elif action == "tiptoe":
            tall += 0.4 * amount
        elif action == "look_up":
            pitch += 0.55 * amount
        elif action == "look_down":
            pitch -= 0.55 * amount
        elif action == "light":
            light -= 0.8 * amount
        else:
            face = moment.progress + 0.7
            door = np.clip((1.15 - (face - progress)) / 0.9, 0, 1)
    camera = Camera(*(a.astype(np.float32) for a in (x, y, angle, tall, pitch, light, door)))
    truth = ClipTruth(
        name,
        part,
        width,
        height,
        str(rate),
        frames,
        world.hash,
        _steps(story, moments, shown, rate),
    )
    return ClipPlan(number, truth, world, camera, int(rng.integers(2**31)), look)


def _way(
    rng: np.random.Generator, world: WorldMap
) -> tuple[NDArray[np.float64], NDArray[np.float64], list[float]]:
    """Knots of the walk: progress (cells, with turns at `_TURN_COST`), poses (x, y, angle) there.

    The third value is the progress at which each segment starts, after the turn into it.
    """
    knots, poses, starts = [0.0], [], [0.0]
    angle = world.headings[0] * np.pi / 2
    poses.append((world.corners[0][0] + 0.5, world.corners[0][1] + 0.5, angle))
    for segment, length in enumerate(world.lengths):
        knots.append(knots[-1] + length)
        x, y = world.corners[segment + 1]
        poses.append((x + 0.5, y + 0.5, angle))
        if segment + 1 == len(world.headings):
            break
        quarters = (world.headings[segment + 1] - world.headings[segment] + 1) % 4 - 1
        if quarters == 2 and rng.random() < 0.5:
            quarters = -2
        angle += quarters * np.pi / 2
        knots.append(knots[-1] + abs(quarters) * _TURN_COST)
        starts.append(knots[-1])
        poses.append((x + 0.5, y + 0.5, angle))
    return np.array(knots), np.array(poses), starts


def _moments(
    rng: np.random.Generator, story: _Story, world: WorldMap, starts: Sequence[float]
) -> list[_Moment]:
    moments = [_Moment(0.0, "start")]
    number = 0
    for segment, (start, length) in enumerate(zip(starts, world.lengths, strict=True)):
        here = [action for at, action in story.actions if at == segment]
        for order, action in enumerate(here):
            jitter = 0.0 if action == "door" else float(rng.uniform(-0.25, 0.1))
            moments.append(_Moment(start + _door_cell(order) - 1.2 + jitter, "action", number))
            number += 1
        end = start + length
        if segment == len(story.turns):
            moments.append(_Moment(end - float(rng.uniform(0.6, 0.9)), "end"))
            break
        moments.append(_Moment(end - float(rng.uniform(0.75, 1.2)), "turn", segment))
        around = story.turns[segment] == "around"
        share = rng.uniform(0.3, 0.42) * 2 if around else rng.uniform(0.35, 0.6)
        moments.append(_Moment(end + float(share) * _TURN_COST, "turn", segment))
    while len(moments) < SHOWN:
        gaps = np.diff([moment.progress for moment in moments])
        widest = int(np.argmax(gaps))
        at = moments[widest].progress + float(rng.uniform(0.4, 0.6)) * float(gaps[widest])
        moments.insert(widest + 1, _Moment(at, None))
    return moments


def _bump(frames: int, centre: int, gap: int) -> NDArray[np.float64]:
    """1 around the frame at which an action is shown, 0 from three quarters of the way to the next shown frame."""
    nearness = 1 - np.abs(np.arange(frames) - centre) / (0.75 * gap)
    rise = np.clip(1.6 * nearness, 0, 1)
    return np.asarray(rise * rise * (3 - 2 * rise))


def _steps(
    story: _Story, moments: Sequence[_Moment], shown: Sequence[int], rate: Fraction
) -> tuple[Step, ...]:
    steps: list[Step] = []
    for slot, moment in enumerate(moments):
        frame = shown[slot]
        time_s = round(frame / float(rate), 3)
        if moment.kind == "turn":
            turn, panel = story.turns[moment.index], story.panels[moment.index]
            if steps[-1].kind == "turn" and steps[-1].landmark == panel:
                steps[-1] = Step("turn", (*steps[-1].frames, frame), time_s, turn, panel)
            else:
                steps.append(Step("turn", (frame,), time_s, turn, panel))
        elif moment.kind == "action":
            steps.append(Step("action", (frame,), time_s, action=story.actions[moment.index][1]))
        elif moment.kind == "end":
            steps.append(Step("end", (frame,), time_s, landmark=story.panels[-1]))
        elif moment.kind == "start":
            steps.append(Step("start", (frame,), time_s))
    return tuple(steps)
