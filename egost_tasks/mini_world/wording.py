"""The texts about walks: questions, options and route descriptions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from egost.tasks.mini_world.steps import Action, ClipTruth, Landmark, Step, Turn, way_back
from egost.tasks.sample import TaskKind, Way

ACTION_WORDS: dict[Action, str] = {
    "crouch": "crouch down",
    "tiptoe": "stretch up on tiptoe",
    "look_up": "look up at the ceiling",
    "look_down": "look down at the floor",
    "light": "switch the light off and on again",
    "door": "open a sliding door",
}
_JOINS = (", then ", "; ", ", after that ")
_TURN_FORMS = ("turn {}", "{}")

QUESTIONS: dict[tuple[TaskKind, Way], tuple[str, ...]] = {
    ("route", "forward"): (
        "Describe the route that you walk in this video, from its start A to its end B.",
        "Give directions that would lead somebody along this walk from A, where it begins, to B, where it ends.",
        "How do you get from point A at the start of the video to point B at its end? Name turns and landmarks.",
        "Tell the way from A to B as the video shows it, with every turn and every coloured panel.",
    ),
    ("route", "reverse"): (
        "You are at the end B of this walk, facing back. Describe the route that leads you back to its start A.",
        "Give directions for the way back: from B, where the video ends, to A, where it begins.",
        "How do you get from point B back to point A on the route of the video? Name turns and landmarks.",
        "Tell the way from B back to A, with every turn as you take it on the way back and every coloured panel.",
    ),
    ("direction", "forward"): (
        "Which turns do you take, in order, on the way from A to B?",
        "In which directions do you turn on this walk, from its start to its end?",
        "Walking from A to B as in the video, how do you turn, one turn after the other?",
        "Which sequence of turns leads you from the beginning of the video to its end?",
    ),
    ("direction", "reverse"): (
        "You stand at B, facing back the way you came. Which turns bring you back to A, in order?",
        "In which directions must you turn to retrace this walk from its end to its start?",
        "Walking back from B to A, how do you turn, one turn after the other?",
        "Which sequence of turns leads you back from the end of the video to its beginning?",
    ),
    ("landmark", "forward"): (
        "Which panels do you walk up to, in order, on the way from A to B?",
        "In which order do you reach the coloured panels on this walk?",
        "Going from the start of the video to its end, which landmarks do you come to, one after the other?",
        "Which sequence of wall panels marks your way from A to B?",
    ),
    ("landmark", "reverse"): (
        "Going back from B to A, which panels do you come to, in order? Begin with the one at B.",
        "In which order do the coloured panels follow each other on the way back, from the end to the start?",
        "Retracing the walk from its end B, which landmarks do you come to, one after the other, B's own first?",
        "Which sequence of wall panels marks the way back from B to A?",
    ),
    ("action", "forward"): (
        "What do you do on the way from A to B, in order?",
        "Which actions does the walker do in this video, one after the other?",
        "Which sequence of actions belongs to this walk from its start to its end?",
        "In which order do the actions happen between A and B?",
    ),
    ("action", "reverse"): (
        "Going back from B to A, in which order do you come to the places of these actions?",
        "If you retrace the walk from its end to its start, in which order do you reach the spots of the actions?",
        "Which sequence of actions marks the way back, from the place of the last one to that of the first?",
        "Walking back from B to A and doing each action where it was done, what do you do, in order?",
    ),
}
"""Wordings of each question. In reverse, actions are those of the video, met in the opposite order of places."""


def ask(rng: np.random.Generator, task: TaskKind, way: Way) -> str:
    """One of the wordings of a task's question; it says nothing about the clip."""
    wordings = QUESTIONS[task, way]
    return wordings[int(rng.integers(len(wordings)))]


def tell_turn_options(rng: np.random.Generator, options: Sequence[Sequence[Turn]]) -> list[str]:
    """Texts of sequences of turns, all in one form."""
    form = _TURN_FORMS[int(rng.integers(len(_TURN_FORMS)))]
    return joined(rng, [[form.format(turn) for turn in option] for option in options])


def tell_landmark_options(rng: np.random.Generator, options: Sequence[Sequence[Landmark]]) -> list[str]:
    """Texts of sequences of panels, all in one form."""
    article = "the " if rng.random() < 0.5 else ""
    return joined(rng, [[f"{article}{panel}" for panel in option] for option in options])


def tell_action_options(rng: np.random.Generator, options: Sequence[Sequence[Action]]) -> list[str]:
    """Texts of sequences of actions, all in one form."""
    return joined(rng, [[ACTION_WORDS[action] for action in option] for option in options])


def tell_route(rng: np.random.Generator, truth: ClipTruth, way: Way) -> str:
    """The route of a clip in plain sentences, from A to B or the way back from B to A."""
    between = [step for step in truth.steps if step.kind in ("turn", "action")]
    turns = list(truth.turns)
    if way == "reverse":
        between.reverse()
        turns = list(way_back(truth.turns))
    sentences = [_opening(rng, truth, way)]
    for step in between:
        sentences.append(
            _action_sentence(rng, step) if step.action else _turn_sentence(rng, step, turns.pop(0))
        )
    return " ".join([*sentences, _ending(rng, truth, way)])


def joined(rng: np.random.Generator, options: Sequence[Sequence[str]]) -> list[str]:
    """Texts of sequences, all joined in one form."""
    join = _JOINS[int(rng.integers(len(_JOINS)))]
    return [join.join(option) for option in options]


def _opening(rng: np.random.Generator, truth: ClipTruth, way: Way) -> str:
    last = truth.landmarks[-1]
    if way == "reverse":
        return one_of(
            rng, f"Start at the {last} with your back to it.", f"Begin at B, where the {last} is behind you."
        )
    return one_of(rng, "Start at A.", "Begin at A and walk on.")


def _turn_sentence(rng: np.random.Generator, step: Step, turn: Turn) -> str:
    return one_of(
        rng,
        f"Walk straight to the {step.landmark} and turn {turn} there.",
        f"Go ahead until you come to the {step.landmark}, then turn {turn}.",
        f"At the {step.landmark}, turn {turn}.",
        f"Continue straight and turn {turn} at the {step.landmark}.",
    )


def _action_sentence(rng: np.random.Generator, step: Step) -> str:
    assert step.action is not None
    words = ACTION_WORDS[step.action]
    return one_of(rng, f"On the way, {words}.", f"As you walk on, {words}.", f"{words.capitalize()} here.")


def _ending(rng: np.random.Generator, truth: ClipTruth, way: Way) -> str:
    if way == "reverse":
        return one_of(
            rng, "Walk straight on to A, where the walk began.", "Go straight until you are back at A."
        )
    last = truth.landmarks[-1]
    return one_of(
        rng, f"Walk straight and end at the {last}.", f"Go straight until you reach the {last} at B."
    )


def one_of(rng: np.random.Generator, *texts: str) -> str:
    """One of some texts."""
    return texts[int(rng.integers(len(texts)))]
