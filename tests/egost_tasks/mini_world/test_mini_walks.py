"""Walks: the camera does what the truth says, and the 8 frames show it."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from egost.tasks.errors import ReleaseError
from egost.tasks.mini_world.option_sets import turn_words
from egost.tasks.mini_world.steps import way_back
from egost.tasks.mini_world.walks import SPLITS, ClipPlan, plan_clip, shown_frames


@pytest.fixture(scope="module")
def plans() -> list[ClipPlan]:
    return [plan_clip(0, "test", number) for number in range(300)]


def test_shown_frames_of_a_hand_worked_clip() -> None:
    assert shown_frames(24) == [0, 3, 6, 9, 13, 16, 19, 23]


def test_a_plan_depends_on_its_arguments_alone() -> None:
    first, again = plan_clip(3, "train", 5), plan_clip(3, "train", 5)
    assert first.truth == again.truth
    assert first.world == again.world
    assert np.array_equal(first.camera.x, again.camera.x)
    assert plan_clip(4, "train", 5).truth.map_hash != first.truth.map_hash


def test_splits_share_no_map() -> None:
    hashes = {
        split: {plan_clip(seed, split, number).truth.map_hash for seed in (0, 1) for number in range(150)}
        for split in SPLITS
    }
    assert not hashes["train"] & hashes["test"]
    assert {int(h, 16) % 2 for h in hashes["train"]} == {0}
    assert {int(h, 16) % 2 for h in hashes["test"]} == {1}
    assert len(hashes["test"]) == 300


def test_unknown_split_is_refused() -> None:
    with pytest.raises(ReleaseError, match="train, test"):
        plan_clip(0, "dev", 0)


def test_clips_are_as_long_and_large_as_promised(plans: list[ClipPlan]) -> None:
    for plan in plans:
        rate = float(np.divide(*(int(n) for n in f"{plan.truth.rate}/1".split("/")[:2])))
        assert 3 <= plan.truth.frames / rate <= 8.2
        assert plan.truth.width >= 112
        assert plan.truth.height >= 112
        assert plan.truth.width % 2 == plan.truth.height % 2 == 0
    assert len({plan.truth.rate for plan in plans}) == 6
    assert len({(plan.truth.width, plan.truth.height) for plan in plans}) == 4


def test_two_fifths_of_the_clips_hold_actions(plans: list[ClipPlan]) -> None:
    assert Counter(p.truth.part for p in plans) == {1: 60, 2: 60, 3: 60, 4: 120}
    assert all(bool(p.truth.actions) == (p.truth.part == 4) for p in plans)
    assert {p.truth.part for p in plans[:4]} == {1, 2, 3, 4}


def test_each_step_is_shown(plans: list[ClipPlan]) -> None:
    for plan in plans:
        shown = shown_frames(plan.truth.frames)
        told = [frame for step in plan.truth.steps for frame in step.frames]
        assert told == sorted(set(told))
        assert set(told) <= set(shown)
        assert all(len(s.frames) == (2 if s.kind == "turn" else 1) for s in plan.truth.steps)
        assert (told[0], told[-1]) == (0, plan.truth.frames - 1)


def test_the_camera_turns_as_the_truth_says(plans: list[ClipPlan]) -> None:
    for plan in plans:
        quarters = np.diff(plan.camera.angle) / (np.pi / 2)
        turns = [step for step in plan.truth.steps if step.kind == "turn"]
        for step, following in zip(turns, [*turns[1:], plan.truth.steps[-1]], strict=True):
            before, middle = step.frames
            done = quarters[before : following.frames[0]].sum()
            expected = {"left": [-1.0], "right": [1.0], "around": [-2.0, 2.0]}[step.turn or "left"]
            assert any(abs(done - value) < 1e-3 for value in expected)
            part = abs(quarters[before:middle].sum())
            assert 0.3 < part < 0.9
        assert abs(np.abs(quarters).sum() - sum(2 if t == "around" else 1 for t in plan.truth.turns)) < 1e-3


def test_the_camera_stays_on_open_ground(plans: list[ClipPlan]) -> None:
    for plan in plans:
        cells = set(
            zip(np.floor(plan.camera.x).astype(int), np.floor(plan.camera.y).astype(int), strict=True)
        )
        assert cells <= plan.world.open_cells
        assert not set(plan.world.panel_cells) & plan.world.open_cells


def test_actions_show_in_the_camera(plans: list[ClipPlan]) -> None:
    seen: Counter[str] = Counter()
    for plan in plans:
        camera = plan.camera
        for step in plan.truth.steps:
            at = step.frames[0]
            if step.action:
                seen[step.action] += 1
                assert {
                    "crouch": camera.height[at] < 0.2,
                    "tiptoe": camera.height[at] > 0.8,
                    "look_up": camera.pitch[at] > 0.4,
                    "look_down": camera.pitch[at] < -0.4,
                    "light": camera.light[at] < 0.35,
                    "door": 0.3 < camera.door[at] < 0.7,
                }[step.action], (plan.truth.clip, step)
            else:
                for frame in step.frames:
                    assert abs(camera.height[frame] - 0.5) < 0.05
                    assert camera.pitch[frame] == 0
                    assert camera.light[frame] == 1
        assert camera.height.min() > 0.05
        assert camera.height.max() < 0.95
    assert min(seen[action] for action in seen) > 20
    assert len(seen) == 6


def test_turns_are_drawn_evenly(plans: list[ClipPlan]) -> None:
    many = plans + [plan_clip(1, "test", number) for number in range(600)]
    for part, length, around in ((1, 2, True), (2, 3, True), (4, 2, False), (4, 1, False)):
        words = turn_words(length, around=around)
        drawn = Counter(p.truth.turns for p in many if p.truth.part == part and len(p.truth.turns) == length)
        assert set(drawn) <= set(words)
        expected = drawn.total() / len(words)
        square = sum((drawn[word] - expected) ** 2 / expected for word in words)
        assert square < len(words) - 1 + 4 * np.sqrt(2 * len(words)), (part, drawn)


def test_the_way_back_mirrors_and_reverses() -> None:
    assert way_back(("left", "left", "around", "right")) == ("left", "around", "right", "right")
    assert way_back(way_back(("left", "around"))) == ("left", "around")
