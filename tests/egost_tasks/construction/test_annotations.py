"""Routes as people annotate them: what is right, what is caught by name, and what lies on disk."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from egost.tasks.construction.annotations import (
    Annotation,
    Step,
    check,
    from_json,
    landmarks,
    propose_reverse,
    to_json,
    turns,
)
from egost.tasks.construction.workfolder import AnnotationStore
from egost.tasks.errors import ConstructionError

FORWARD = (
    Step("straight", "bench", "", 1.0),
    Step("left", "red door", "", 3.5),
    Step("straight", "", "open the door", 4.0),
    Step("up", "stairs", "", 6.25),
)
ROUTE = Annotation("huji_1.mp4", "ana", "indoor_multi", FORWARD)


def test_the_way_back_is_the_forward_way_turned_round() -> None:
    back = propose_reverse(FORWARD)
    assert turns(back) == ("down", "right")
    assert landmarks(back) == ("stairs", "red door", "bench")
    assert [step.time_s for step in back] == [6.25, 4.0, 3.5, 1.0]
    assert propose_reverse(back) == FORWARD
    assert ROUTE.steps("reverse") == back
    assert check(replace(ROUTE, reverse=back), 8.0) == check(ROUTE, 8.0) == []


@pytest.mark.parametrize(
    ("changes", "name", "where"),
    [
        ({"forward": ()}, "no_steps", "forward"),
        ({"forward": (Step("left", "", "", 1.0),)}, "no_landmark", "forward step 1"),
        ({"forward": (Step("straight", "", "crouch", 1.0),)}, "no_landmark", "forward"),
        ({"forward": (*FORWARD, Step("straight", "", "", 7.0))}, "empty_step", "forward step 5"),
        ({"forward": (*FORWARD, Step("left", "lift", "", 8.5))}, "outside_clip", "forward step 5"),
        ({"forward": (*FORWARD, Step("left", "lift", "", -1.0))}, "outside_clip", "forward step 5"),
        ({"forward": (*FORWARD, Step("left", "lift", "", 6.0))}, "reversed_times", "forward step 5"),
        ({"forward": (*FORWARD, Step("left", "lift", "", 6.25))}, "overlapping_times", "forward step 5"),
        ({"reverse": propose_reverse(FORWARD)[::-1]}, "reversed_times", "reverse step 2"),
        ({"reverse": FORWARD[::-1]}, "reverse_turns_differ", "reverse step 1"),
        ({"reverse": propose_reverse(FORWARD[:3])}, "reverse_turns_differ", "reverse step 2"),
        ({"reverse": propose_reverse(FORWARD[2:])}, "reverse_turns_differ", "reverse"),
        ({"reverse": propose_reverse((FORWARD[1], FORWARD[3]))}, "reverse_actions_differ", "reverse"),
    ],
)
def test_each_problem_has_a_name_and_a_place(changes: dict[str, Any], name: str, where: str) -> None:
    problems = check(replace(ROUTE, **changes), 8.0)
    assert f"{name} ({where}): " in "\n".join(map(str, problems))


@pytest.mark.parametrize(
    ("step", "said"),
    [
        (("forth", "door", "", 1.0), "expected one of left, right"),
        (("left", "a\nb", "", 1.0), "one line"),
        (("left", "x" * 121, "", 1.0), "one line"),
        (("left", "door", "", float("nan")), "expected seconds"),
        (("left", "door", "", "soon"), "expected seconds"),
    ],
)
def test_a_step_that_is_none_cannot_be_made(step: Any, said: str) -> None:
    with pytest.raises(ConstructionError, match=said):
        Step(*step)


def test_a_store_gives_back_what_was_saved(tmp_path: Path) -> None:
    store = AnnotationStore(tmp_path)
    other = replace(ROUTE, annotator="ben", reverse=propose_reverse(FORWARD))
    for annotation in (ROUTE, other, replace(ROUTE, clip="adt 2.mp4")):
        store.save(annotation)
    assert [(a.clip, a.annotator) for a in store.all()] == [
        ("adt 2.mp4", "ana"),
        ("huji_1.mp4", "ana"),
        ("huji_1.mp4", "ben"),
    ]
    assert store.of_clip("huji_1.mp4") == [ROUTE, other]
    assert store.load("huji_1.mp4", "ben") == other
    assert store.load("huji_1.mp4", "cleo") is None
    store.save(replace(ROUTE, forward=FORWARD[:2]))
    assert store.load("huji_1.mp4", "ana") == replace(ROUTE, forward=FORWARD[:2])
    assert not list(tmp_path.rglob("*.part"))


@pytest.mark.parametrize("name", ["../x", "", ".hidden", "a/b", "x" * 200, "a\0b"])
def test_no_name_leads_out_of_the_store(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConstructionError):
        AnnotationStore(tmp_path).load(name, "ana")
    with pytest.raises(ConstructionError):
        replace(ROUTE, annotator=name)


@pytest.mark.parametrize(
    "broken",
    [
        [],
        {"clip": "a.mp4"},
        {**to_json(ROUTE), "version": 2},
        {**to_json(ROUTE), "scene": "space"},
        {**to_json(ROUTE), "forward": {"left": 1}},
        {**to_json(ROUTE), "forward": [{"direction": "left", "time": 3}]},
    ],
)
def test_what_is_no_annotation_is_said_with_its_file(tmp_path: Path, broken: Any) -> None:
    with pytest.raises(ConstructionError, match=r"here\.json"):
        from_json(broken, "here.json")
    (tmp_path / "ana").mkdir()
    (tmp_path / "ana" / "a.mp4.json").write_text(json.dumps(broken)[:-1])
    with pytest.raises(ConstructionError, match=r"a\.mp4\.json cannot be read"):
        list(AnnotationStore(tmp_path).all())
