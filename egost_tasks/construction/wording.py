"""How routes and choices are worded: a template for each kind of scene and way (paper, section 3.2).

Directions and actions are asked about as in the mini world; what these templates name beside that is the kind of
scene. The wordings are this project's own.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from egost.tasks.construction.annotations import Step, Steps
from egost.tasks.construction.drafts import Items
from egost.tasks.construction.scenes import Scene
from egost.tasks.mini_world.wording import QUESTIONS, joined, one_of
from egost.tasks.sample import TaskKind, Way

ROUTE_QUESTIONS: dict[tuple[Scene, Way], tuple[str, ...]] = {
    ("outdoor_street", "forward"): (
        "The video was filmed while walking along streets and paths from A to B. Describe the way from A to B.",
        "How would you lead somebody on foot from A, where this video begins, to B, where it ends?",
    ),
    ("outdoor_street", "reverse"): (
        "You have walked from A to B along these streets and paths. Describe the way from B back to A.",
        "How would you lead somebody on foot back from B, where this video ends, to A, where it begins?",
    ),
    ("outdoor_open", "forward"): (
        "The video crosses open ground from A to B. Describe the way across it from A to B.",
        "Give directions over the grounds in the video from A, its start, to B, its end.",
    ),
    ("outdoor_open", "reverse"): (
        "You have crossed the open ground in the video from A to B. Describe the way across it from B back to A.",
        "Give directions back over the grounds in the video, from B, its end, to A, its start.",
    ),
    ("indoor_single", "forward"): (
        "The video moves through one room from A to B. Describe this way through the room from A to B.",
        "Tell how to get through the room in the video from A, its start, to B, its end.",
    ),
    ("indoor_single", "reverse"): (
        "You have moved through the room in the video from A to B. Describe the way back through it from B to A.",
        "Tell how to get back through the room in the video, from B, its end, to A, its start.",
    ),
    ("indoor_multi", "forward"): (
        "The video goes through a building from A to B. Describe the way from A to B and what is done on it.",
        "Tell how to get through the building in the video from A, its start, to B, its end, and what is done.",
    ),
    ("indoor_multi", "reverse"): (
        "You have gone through the building in the video from A to B. Describe the way from B back to A and what was "
        "done where.",
        "Tell how to get back through the building in the video, from B to A, and where on it what was done.",
    ),
}

LANDMARK_QUESTIONS: dict[tuple[Scene, Way], tuple[str, ...]] = {
    ("outdoor_street", "forward"): (
        "Which landmarks along the street do you come to from A to B, in order?",
    ),
    ("outdoor_street", "reverse"): (
        "Walking back along the street from B to A, which landmarks do you come to, in order? Begin at B.",
    ),
    ("outdoor_open", "forward"): (
        "Crossing the grounds from A to B, which landmarks do you come to, in order?",
    ),
    ("outdoor_open", "reverse"): (
        "Crossing the grounds back from B to A, which landmarks do you come to, in order? Begin at B.",
    ),
    ("indoor_single", "forward"): ("Which things in the room do you come to from A to B, in order?",),
    ("indoor_single", "reverse"): (
        "Going back through the room from B to A, which things do you come to, in order? Begin at B.",
    ),
    ("indoor_multi", "forward"): ("Which landmarks in the building do you come to from A to B, in order?",),
    ("indoor_multi", "reverse"): (
        "Going back through the building from B to A, which landmarks do you come to, in order? Begin at B.",
    ),
}


def ask(rng: np.random.Generator, task: TaskKind, way: Way, scene: Scene) -> str:
    """A question's text, by task, way and kind of scene; it says nothing about the clip."""
    if task == "route":
        return one_of(rng, *ROUTE_QUESTIONS[scene, way])
    if task == "landmark":
        return one_of(rng, *LANDMARK_QUESTIONS[scene, way])
    return one_of(rng, *QUESTIONS[task, way])


def tell_options(rng: np.random.Generator, task: TaskKind, options: Sequence[Items]) -> list[str]:
    """Texts of options, all in one form, so that none stands out by its style."""
    if task == "direction":
        form = _turn_words if rng.random() < 0.5 else str
        return joined(rng, [[form(item) for item in items] for items in options])
    if task == "landmark":
        article = "the " if rng.random() < 0.5 else ""
        return joined(rng, [[article + _bare(item) for item in items] for items in options])
    return joined(rng, options)


def tell_route(rng: np.random.Generator, steps: Steps, way: Way) -> str:
    """The reference description of a route in plain sentences, one for each step."""
    sentences = [
        one_of(rng, "Start at A.", "Begin at A.")
        if way == "forward"
        else one_of(rng, "Start at B.", "Begin at B.")
    ]
    sentences += [_sentence(rng, step, last=k == len(steps) - 1) for k, step in enumerate(steps)]
    return " ".join([*sentences, f"That is {'B' if way == 'forward' else 'A'}."])


def _sentence(rng: np.random.Generator, step: Step, last: bool) -> str:
    at = f"the {_bare(step.landmark)}"
    if step.direction != "straight":
        does = _turn_words(step.direction) + (f" and {step.action}" if step.action else "")
        return one_of(
            rng, f"At {at}, {does}.", f"Walk on to {at} and {does} there.", f"When you come to {at}, {does}."
        )
    if step.landmark and step.action:
        return one_of(rng, f"At {at}, {step.action}.", f"Walk on to {at} and {step.action} there.")
    if step.action:
        return one_of(rng, f"On the way, {step.action}.", f"As you walk on, {step.action}.")
    if last:
        return one_of(rng, f"Walk straight on and end at {at}.", f"Go straight until you reach {at}.")
    return one_of(rng, f"Walk straight past {at}.", f"Go straight on by {at}.")


def _turn_words(direction: str) -> str:
    return f"go {direction}" if direction in ("up", "down") else f"turn {direction}"


def _bare(landmark: str) -> str:
    first, _, rest = landmark.partition(" ")
    return rest if rest and first.casefold() in ("the", "a", "an") else landmark
