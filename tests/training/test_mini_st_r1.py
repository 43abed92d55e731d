"""The shipped checkpoint `mini-st-r1`: it reasons from the film by the other way's route, and says what taught it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from scipy.stats import binomtest

from egost.model_adapters.model_names import MINI_BASE, MINI_ST_R1, model_named
from egost.model_adapters.run_plan import RunOptions, plan_run
from egost.tasks.mini_world import write_mini_release
from egost.tasks.mini_world.walks import plan_clip
from egost.tasks.release.release import Release
from egost.tasks.release.trained_on import MANIFEST, read_manifest
from egost.tasks.sample import Sample
from egost.tasks.scoring.scores import Response, score_choice

ASKED = 24


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Release:
    root = tmp_path_factory.mktemp("mini") / "release"
    write_mini_release(root, clips=ASKED, seed=4243, split="test", progress=False)
    return Release("mini", (root,), "test")


def test_it_says_what_it_was_trained_on() -> None:
    from egost.training.demo.demo import CHOICES_TO_A_ROUTE, FULL, TRAIN_SEED

    manifest = json.loads((MINI_ST_R1 / MANIFEST).read_text())
    rows = read_manifest(MINI_ST_R1 / MANIFEST).rows
    assert manifest["method"] == "grpo"
    choices = FULL.rows[-1]
    asked = {row.sample for row in rows}
    assert len(asked) == choices + choices // CHOICES_TO_A_ROUTE
    assert sum("/route_" in sample for sample in asked) == choices // CHOICES_TO_A_ROUTE
    assert {row.release_revision for row in rows} == {
        f"mini-1 train seed {TRAIN_SEED} clips {FULL.train_clips}"
    }
    assert not Path(manifest["settings"]["model"]["model_name_or_path"]).is_absolute()


def test_its_walks_are_not_those_of_its_base() -> None:
    from egost.training.demo.demo import FULL, MAPS, TRAIN_SEED, map_mark

    seen = set((MINI_BASE / MAPS).read_text().split())
    walked = {map_mark(plan_clip(TRAIN_SEED, "train", number)) for number in range(FULL.train_clips)}
    assert len(walked) == FULL.train_clips and seen.isdisjoint(walked)


def test_it_is_asked_as_it_was_taught() -> None:
    prompts = {
        name: plan_run(model_named(name), RunOptions("egost_mini"), {}).settings["EGOST_PROMPT"]
        for name in ("mini-base", "mini-st-r1")
    }
    assert prompts == {"mini-base": "direct", "mini-st-r1": "think"}


@pytest.mark.parametrize("kind", ["direction", "landmark", "action"])
def test_it_answers_from_the_film_by_the_other_way(release: Release, kind: str) -> None:
    from mini_asker import Asker

    asker = Asker(MINI_ST_R1, release, "think", choice_tokens=192)
    samples = release.samples(kind, "forward")[:ASKED] + release.samples(kind, "reverse")[:ASKED]
    seen, blind = (asker.replies(samples, control) for control in ("seen", "blind"))
    assert sum(reply.startswith("<think>") and "</think>" in reply for reply in seen) >= 0.9 * len(seen)
    chance = sum(1 / len(sample.options) for sample in samples) / len(samples)
    assert binomtest(_right(samples, seen), len(samples), chance, "greater").pvalue < 1e-4
    assert binomtest(_right(samples, blind), len(samples), chance, "greater").pvalue > 1e-3


def test_it_has_not_forgotten_how_to_tell_a_route(release: Release) -> None:
    from mini_asker import Asker, mean_of_routes

    asker = Asker(MINI_ST_R1, release, "think", choice_tokens=192)
    samples = release.samples("route", "forward")[:12] + release.samples("route", "reverse")[:12]
    seen, blind = (mean_of_routes(samples, asker.replies(samples, control)) for control in ("seen", "blind"))
    assert seen > 75 > 50 > blind


def _right(samples: list[Sample], replies: list[str]) -> int:
    return sum(
        score_choice(sample, Response(reply)).percent == 100.0
        for sample, reply in zip(samples, replies, strict=True)
    )
