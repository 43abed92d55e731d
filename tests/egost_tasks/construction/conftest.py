"""Walks of the mini world, planned once for all tests of the construction; none is rendered."""

from __future__ import annotations

import pytest

from egost.tasks.mini_world.steps import ClipTruth
from egost.tasks.mini_world.walks import plan_clip


@pytest.fixture(scope="session")
def truths() -> list[ClipTruth]:
    return [plan_clip(0, "test", number).truth for number in range(40)]
