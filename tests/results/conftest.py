"""The runs that the tests of this room share: a saved one to be read, and one that is made anew.

`tests/saved/mini_run` holds what `DemoHome.evaluate` wrote once, with /home/somebody as the place of its files;
`test_saved_run.py` holds it against a run of today.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from demo_runs import DemoHome
from places import ROOT

from egost.results.run import Run, read_run

SAVED = ROOT / "tests" / "saved" / "mini_run"


@pytest.fixture(scope="session")
def fresh_run(demo_home: DemoHome) -> Run:
    """A run of today, to be read alone; its frames are in `demo_home.cache`."""
    return read_run(demo_home.output)


@pytest.fixture(scope="session")
def demo_run() -> Run:
    """The saved run, to be read alone: a test that changes its files takes `copied_run`."""
    return read_run(SAVED)


@pytest.fixture
def copied_run(demo_run: Run, tmp_path: Path) -> Run:
    """A copy of the run for one test, which may break it."""
    shutil.copytree(demo_run.results_file.parent, tmp_path / "run")
    return read_run(tmp_path / "run")
