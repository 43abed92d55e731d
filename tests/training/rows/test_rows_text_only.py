"""The text-only guesser on the 630 released rows: it finds most of them, so it would notice a giveaway."""

from __future__ import annotations

import numpy as np
import pytest

from egost.tasks.sample import Sample
from egost.tasks.text_only_baseline import (
    accuracy_of,
    always_first,
    linear_baseline,
    longest_option,
    most_like_others,
)
from egost.training.rows.released_rows import read_rows


@pytest.fixture(scope="module")
def released() -> list[Sample]:
    return [
        Sample(str(r.index), r.task, r.way, 0, r.clip, r.question, r.options, r.letter) for r in read_rows()
    ]


def test_wording_alone_finds_most_released_rows_of_other_clips(released: list[Sample]) -> None:
    floor = accuracy_of(released, linear_baseline(released))
    print(floor)
    assert (floor.questions, floor.clips) == (630, 214)
    assert floor.chance == pytest.approx(0.271, abs=0.001)
    assert 0.911 <= floor.accuracy <= 0.954
    assert floor.low > 0.9


@pytest.mark.parametrize(("features", "least", "most"), [("words", 0.88, 0.93), ("surface", 0.5, 0.7)])
def test_each_kind_of_sign_alone(released: list[Sample], features: str, least: float, most: float) -> None:
    accuracy = float(linear_baseline(released, features=features).mean())  # type: ignore[arg-type]
    print(features, accuracy)
    assert least <= accuracy <= most


def test_simple_rules(released: list[Sample]) -> None:
    found = [float(rule(released).mean()) for rule in (always_first, longest_option, most_like_others)]
    assert found == pytest.approx([0.346, 0.235, 0.3285], abs=0.005)


def test_other_sources_tell_less_but_enough(released: list[Sample]) -> None:
    correct = linear_baseline(released, by="source")
    sources = np.array([s.source for s in released])
    by_source = {str(name): float(correct[sources == name].mean()) for name in np.unique(sources)}
    print(by_source)
    assert set(by_source) == {"adt", "aria_everyday", "nymeria", "outdoor", "sun3d"}
    assert all(0.59 <= share <= 0.9 for share in by_source.values()), by_source
