"""The first steps of GRPO against stored figures; `python tests/training/test_grpo_golden.py` stores them anew."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import pytest
from places import GOLDEN as FOLDER
from video_runs import World, logged, make_trainer, make_world

GOLDEN = FOLDER / "training" / "grpo.json"
FIGURES = ("loss", "grad_norm", "reward", "reward_std", "kl", "entropy", "completions/mean_length")


def figures(world: World, output: Path) -> dict[str, list[float]]:
    """The figures of four steps: two clips and a route, groups of 4, all weights trained."""
    trainer = make_trainer(world, output, rows=(0, 1, 2), max_steps=4)
    trainer.train()
    return {name: logged(trainer, name) for name in FIGURES}


def test_the_first_steps_are_as_stored(world: World, tmp_path: Path) -> None:
    stored = json.loads(GOLDEN.read_text(encoding="utf-8"))
    found = figures(world, tmp_path)
    for name in FIGURES:
        assert found[name] == pytest.approx(stored[name], rel=1e-4, abs=1e-7), name
    assert stored["kl"][0] == 0 < min(stored["kl"][1:])
    assert min(stored["grad_norm"]) > 0


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        made = figures(make_world(Path(folder)), Path(folder, "run"))
    GOLDEN.write_text(json.dumps(made, indent=1) + "\n", encoding="utf-8")
