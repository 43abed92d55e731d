from __future__ import annotations

import os
from pathlib import Path

import pytest

from egost.tasks.progress import usable_cores

CORES = len(os.sched_getaffinity(0))
FREE = "max 100000\n"


def cores(folder: Path, **limits: str) -> int:
    """The cores of a process in the group `/job/step`. limits: `cpu.max` by the group's last name."""
    (folder / "of").write_text("0::/job/step\n")
    group = folder / "groups"
    for name in ("groups", "job", "step"):
        group = group if name == "groups" else group / name
        group.mkdir(exist_ok=True)
        (group / "cpu.max").write_text(limits.get(name, FREE))
    return usable_cores(folder / "of", folder / "groups")


def test_a_control_group_cuts_them_wherever_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(16)))
    assert cores(tmp_path) == 16
    assert cores(tmp_path, step="400000 100000\n") == 4
    assert cores(tmp_path, job="250000 100000\n") == 3, "half a core is worth a thread"
    assert cores(tmp_path, groups="50000 100000\n", step=FREE) == 1
    assert cores(tmp_path, step="9900000 100000\n") == 16
    assert usable_cores(tmp_path / "none", tmp_path / "none") == 16


@pytest.mark.parametrize(
    ("ranks", "each"), [("1", 16), ("8", 2), ("5", 3), ("64", 1), ("", 16), ("many", 16)]
)
def test_ranks_of_a_machine_share_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ranks: str, each: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(16)))
    monkeypatch.setenv("LOCAL_WORLD_SIZE", ranks)
    assert cores(tmp_path) == each


def test_affinity_cuts_them(tmp_path: Path) -> None:
    allowed = os.sched_getaffinity(0)
    assert cores(tmp_path) == CORES
    os.sched_setaffinity(0, {min(allowed)})
    try:
        assert cores(tmp_path) == 1
    finally:
        os.sched_setaffinity(0, allowed)
