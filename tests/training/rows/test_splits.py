"""Nested, stratified subsets; what is held out stays out; no clip on both sides where clips are divided."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from egost.tasks.sample import Sample
from egost.training import TrainingError
from egost.training.rows.released_rows import read_rows
from egost.training.rows.training_rows import SUBSETS, split_rows


@pytest.fixture(scope="module")
def samples() -> list[Sample]:
    """4212 samples, as many as the paper divides, with the released rows' own clips, tasks and sources."""
    rows = read_rows()
    return [
        Sample(
            f"Part{1 + n % 4}/{r.task}_{r.way}/{n}", r.task, r.way, 1 + n % 4, f"{Path(r.clip).stem}_{n // 5}.mp4"
            if r.clip[0] not in "0123456789" else f"{n // 5}.mp4", r.question, r.options, r.letter
        )
        for n, r in ((n, rows[n % len(rows)]) for n in range(4212))
    ]  # fmt: skip


@pytest.mark.parametrize("by", ["rows", "clips"])
def test_each_subset_holds_the_smaller_ones(samples: list[Sample], by: str) -> None:
    splits = [split_rows(samples, size, seed=3, by=by) for size in SUBSETS]  # type: ignore[arg-type]
    for size, smaller, larger in zip(SUBSETS, splits, splits[1:], strict=False):
        assert len(smaller.train) == size
        assert {s.id for s in smaller.train} < {s.id for s in larger.train}


def test_the_rest_is_the_test(samples: list[Sample]) -> None:
    split = split_rows(samples, 630, seed=0)
    assert (len(split.train), len(split.test), split.left_out) == (630, 3582, ())
    assert not {s.id for s in split.train} & {s.id for s in split.test}
    assert split.shared_clips > 0
    assert split_rows(samples, 630, seed=0) == split
    assert {s.id for s in split_rows(samples, 630, seed=1).train} != {s.id for s in split.train}


@pytest.mark.parametrize("size", SUBSETS)
def test_every_subset_has_the_proportions_of_the_whole(samples: list[Sample], size: int) -> None:
    train = split_rows(samples, size, seed=0).train
    for of in (lambda s: s.task, lambda s: s.source, lambda s: (s.task, s.way, s.source)):
        whole, part = Counter(map(of, samples)), Counter(map(of, train))
        strata = 1 if of(samples[0]) not in ("direction", "landmark", "action") else 10
        for name, count in whole.items():
            assert abs(part[name] - size * count / len(samples)) <= 2 + strata, (name, part[name])


def test_no_clip_on_both_sides_where_clips_are_divided(samples: list[Sample]) -> None:
    split = split_rows(samples, 252, seed=0, by="clips")
    assert len(split.train) == 252 and split.shared_clips == 0
    assert len(split.train) + len(split.test) + len(split.left_out) == 4212


@pytest.mark.parametrize("source", ["sun3d", "outdoor"])
def test_a_source_that_is_held_out_is_the_test_alone(samples: list[Sample], source: str) -> None:
    split = split_rows(samples, 630, seed=0, hold_out=source)  # type: ignore[arg-type]
    assert source not in {s.source for s in split.train}
    assert {s.source for s in split.test} == {source}
    assert len(split.test) == sum(s.source == source for s in samples)


def test_what_cannot_be_divided_is_said(samples: list[Sample]) -> None:
    with pytest.raises(TrainingError, match=r"5000 training rows .* Ask for 1 to 4212"):
        split_rows(samples, 5000, seed=0)
    with pytest.raises(TrainingError, match="nothing to hold out"):
        split_rows([s for s in samples if s.source != "sun3d"], 63, seed=0, hold_out="sun3d")
