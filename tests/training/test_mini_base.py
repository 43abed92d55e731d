"""The shipped checkpoint `mini-base`: it loads, it is small, it met no test walk, and it sees the film."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from pretraining import films
from pretraining.vocabulary import IN_WORDS
from scipy.stats import binomtest

from egost.model_adapters.model_names import MINI_BASE
from egost.tasks.mini_world import write_mini_release
from egost.tasks.mini_world.walks import plan_clip
from egost.tasks.release.release import Release
from egost.tasks.sample import Sample

if TYPE_CHECKING:
    from mini_asker import Asker

CLIPS = 30
SEED = 4242
PROMPT = {"name": "words", "version": 1, "route": "$question", "max_new_tokens": {"choice": 40, "route": 200}}


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Release:
    root = tmp_path_factory.mktemp("mini") / "release"
    write_mini_release(root, clips=CLIPS, seed=SEED, split="test", progress=False)
    return Release("mini", (root,), "test")


@pytest.fixture(scope="module")
def asker(release: Release) -> Asker:
    from mini_asker import Asker

    return Asker(MINI_BASE, release)


def test_it_is_whole_and_small(asker: Asker) -> None:
    from egost.training.demo.demo import MAPS

    names = {path.name for path in MINI_BASE.iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json", "README.md", MAPS, "recipe.json"} <= names
    assert (MINI_BASE / "model.safetensors").stat().st_size <= 10_000_000
    assert sum(p.numel() for p in asker.model.parameters()) <= 3_000_000
    assert json.loads((MINI_BASE / "config.json").read_text())["model_type"] == "qwen2_vl"


def test_its_films_share_no_map_with_test_and_training_walks() -> None:
    from egost.training.demo.demo import MAPS, map_mark

    marks = set((MINI_BASE / MAPS).read_text().split())
    recipe = json.loads((MINI_BASE / "recipe.json").read_text())
    assert len(marks) >= 0.999 * recipe["pool"]
    assert all(map_mark(films.plan(number)) in marks for number in range(0, recipe["pool"], 97))
    for split in ("test", "train"):
        for seed in (0, SEED):
            others = {map_mark(plan_clip(seed, split, number)) for number in range(500)}
            assert marks.isdisjoint(others)


def test_the_likelihood_of_the_right_route_falls_when_the_film_is_swapped(
    release: Release, asker: Asker
) -> None:
    samples = release.samples("route", "forward")[:12]
    own = [_loss(asker, sample, sample) for sample in samples]
    swapped = [_loss(asker, sample, samples[k - 1]) for k, sample in enumerate(samples)]
    assert sum(swapped) / len(own) > 1.5 * sum(own) / len(own)
    assert sum(o < s for o, s in zip(own, swapped, strict=True)) >= 10


def test_it_tells_the_route_from_the_film_alone(release: Release, asker: Asker) -> None:
    from mini_asker import mean_of_routes

    samples = release.samples("route", "reverse")[:16]
    seen, blind = (mean_of_routes(samples, asker.replies(samples, control)) for control in ("seen", "blind"))
    assert seen > 85 > 50 > blind


def test_it_finds_the_letter_of_what_it_says_in_words(release: Release, tmp_path: Path) -> None:
    from mini_asker import Asker

    prompt = tmp_path / "words.yaml"
    prompt.write_text(yaml.safe_dump({**PROMPT, "choice": f"$question\n\n$options\n\n{IN_WORDS}"}))
    asker = Asker(MINI_BASE, release, str(prompt), choice_tokens=40)
    samples = release.samples("direction", "reverse") + release.samples("landmark", "forward")
    replies = asker.replies(samples, "seen")
    ends = [re.search(r"([ABCD])(</answer>)?$", reply) for reply in replies]
    assert all(ends)
    right = sum(end is not None and end[1] == s.answer for s, end in zip(samples, ends, strict=True))
    chance = sum(1 / len(sample.options) for sample in samples) / len(samples)
    assert binomtest(right, len(samples), chance, "greater").pvalue < 0.001


def _loss(asker: Asker, sample: Sample, shown: Sample) -> float:
    """Mean negative log-likelihood of a sample's route, with the film of another."""
    import torch

    text = asker.chat(sample, film=True) + f"{sample.answer}<|im_end|>"
    inputs: Any = asker.processor(text=[text], videos=[asker.film(shown)], return_tensors="pt")
    labels = inputs["input_ids"].clone()
    labels[:, : -len(asker.processor.tokenizer(f"{sample.answer}<|im_end|>").input_ids)] = -100
    with torch.inference_mode():
        return float(asker.model(**inputs, labels=labels).loss)


def test_lmms_eval_runs_it(release: Release, tmp_path: Path) -> None:
    from lmms_eval_command import lmms_eval, on_cpu, saved

    out = tmp_path / "out"
    done = lmms_eval(
        *on_cpu(MINI_BASE),
        "--tasks",
        "egost_mini_direction_forward",
        "--limit",
        "8",
        "--output_path",
        str(out),
        "--log_samples",
        cwd=tmp_path,
        cache=tmp_path / "cache",
        EGOST_MINI_DATA=str(release.roots[0]),
    )
    assert done.returncode == 0, done.stderr[-2000:]
    _, samples = saved(out)
    replies = [row["filtered_resps"][0] for row in samples["egost_mini_direction_forward"]]
    assert len(replies) == 8
    assert set("".join(replies)) <= set("ABCD")
