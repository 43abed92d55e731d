"""Fixtures of the training tests."""

from __future__ import annotations

import os

import pytest
from video_runs import World, make_world

os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Two clips of the mini world and an untrained checkpoint, made once."""
    return make_world(tmp_path_factory.mktemp("world"))
