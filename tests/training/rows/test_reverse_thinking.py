"""Reasoning by the other way's route: it leads to the right option by content and names no letter."""

from __future__ import annotations

import re

import pytest

from egost.tasks.mini_world.release_writer import question_files
from egost.tasks.mini_world.walks import plan_clip
from egost.tasks.release.layout import read_questions
from egost.tasks.sample import Sample
from egost.training.rows.reverse_thinking import OTHER_WAY, names_an_option, think, without_point_names


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> list[Sample]:
    import json

    folder = tmp_path_factory.mktemp("questions")
    files = question_files((plan_clip(1, "train", number).truth for number in range(60)), 1)
    paths = {name: folder / name for name in files}
    for name, content in files.items():
        paths[name].write_text(json.dumps(content))
    return read_questions(paths)[0]


def other(sample: Sample, samples: list[Sample]) -> Sample:
    [route] = [
        s for s in samples if s.task == "route" and s.clip == sample.clip and s.way == OTHER_WAY[sample.way]
    ]
    return route


def test_it_retells_the_other_way_and_ends_with_what_is_right(samples: list[Sample]) -> None:
    for sample in samples:
        route = other(sample, samples)
        text = think(sample, route, 0)
        assert without_point_names(route.answer) in text
        assert names_an_option(text, max(len(sample.options), 2)) is None, text
        if sample.options:
            right = sample.options[sample.letters.index(sample.answer)]
            assert text.rstrip(".").endswith(right.rstrip("."))
            wrong = [o for o in sample.options if o != right]
            assert not any(text.rstrip(".").endswith(f": {o.rstrip('.')}") for o in wrong)


def test_turns_are_turned_round(samples: list[Sample]) -> None:
    asked = [s for s in samples if s.task == "direction"]
    texts = [think(s, other(s, samples), 0) for s in asked]
    spoken = [
        re.search(r"turn(?:s:)? ([^.;]*)[.;] (?:Turned round: |the opposite way, that is )([^.]*)\.", t)
        for t in texts
    ]
    told = [m for m in spoken if m]
    assert len(told) == len(asked), "the mini world's annotations agree turn by turn"
    mirror = {"left": "right", "right": "left", "around": "around"}
    for m in told:
        there, back = m[1].split(", then "), m[2].split(", then ")
        assert back == [mirror[t] for t in reversed(there)]


def test_the_seed_chooses_the_wording(samples: list[Sample]) -> None:
    sample = samples[0]
    texts = {think(sample, other(sample, samples), seed) for seed in range(12)}
    assert len(texts) > 3
    assert think(sample, other(sample, samples), 5) == think(sample, other(sample, samples), 5)


def test_another_clip_s_route_is_refused(samples: list[Sample]) -> None:
    routes = [s for s in samples if s.task == "route" and s.way == "reverse"]
    sample = next(s for s in samples if s.way == "forward" and s.clip != routes[0].clip)
    with pytest.raises(ValueError, match="not the other way's route"):
        think(sample, routes[0], 0)


@pytest.mark.parametrize(
    "text",
    [
        "So the answer is C.", "so it is (b)", "That is option d.", "I choose B", "the second option fits", "Option 2.",
        "A. turn left", "Hence the correct answer is A", "choice: c", "It must be B because of the door", "D",
    ],
)  # fmt: skip
def test_a_text_that_names_an_option_is_noticed(text: str) -> None:
    assert names_an_option(text, 4) is not None


@pytest.mark.parametrize(
    "text",
    [
        "A door stands on the left, and I pass it.", "Then I turn left at the sofa.", "I walk to the end.",
        "The other options do not matter; a red panel comes first.", "Vitamin-C bottle, T-junction, U-turn.",
        "The answer is a red panel, then a blue one.",
    ],
)  # fmt: skip
def test_plain_english_names_none(text: str) -> None:
    assert names_an_option(text, 4) is None


def test_points_lose_their_letters() -> None:
    assert without_point_names("Start at A. Walk from point A to B, then rest. Point B is a door.") == (
        "Start at the beginning. Walk from the beginning to the end, then rest. The end is a door."
    )
    assert without_point_names("A door leads to A room.") == "A door leads to A room."
