"""What happens in a walk: the exact truth about a clip, and the texts of questions, options and routes that tell it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, Literal, TypeVar, get_args

import numpy as np

from egost.tasks.sample import TaskKind, Way

Turn = Literal["left", "right", "around"]
Action = Literal["crouch", "tiptoe", "look_up", "look_down", "light", "door"]
StepKind = Literal["start", "turn", "action", "end"]

TURNS: tuple[Turn, ...] = get_args(Turn)
ACTIONS: tuple[Action, ...] = get_args(Action)
COLOURS = ("red", "blue", "green", "yellow", "purple", "orange", "cyan", "white")
PATTERNS = ("plain", "striped", "checkered", "dotted")

MIRROR: dict[Turn, Turn] = {"left": "right", "right": "left", "around": "around"}
"""What a turn becomes on the way back."""

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, order=True)
class Landmark:
    """A panel on a wall, named by its colour (`COLOURS`) and its pattern (`PATTERNS`)."""

    colour: str
    pattern: str

    def __str__(self) -> str:
        return f"{self.colour} {self.pattern} panel"


LANDMARKS = tuple(Landmark(colour, pattern) for colour, pattern in product(COLOURS, PATTERNS))


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that happens in a clip.

    frames: indices of the frames that show it, among the 8 evenly spaced ones; a turn has two, one before
    the junction and one in the middle of the turn.
    time_s: time of the last of them, in seconds from the clip's start.
    landmark: the panel that is walked up to (turn, end); None otherwise.
    """

    kind: StepKind
    frames: tuple[int, ...]
    time_s: float
    turn: Turn | None = None
    landmark: Landmark | None = None
    action: Action | None = None


@dataclass(frozen=True, slots=True)
class ClipTruth:
    """All that is true of one clip, as the manifest of a mini release records it.

    clip: file name; part: 1 to 4; width, height in pixels; rate: frames a second, as a fraction `25/2`;
    frames: their number; map_hash: SHA-256 of the map, hexadecimal; steps: in the order of the walk.
    """

    clip: str
    part: int
    width: int
    height: int
    rate: str
    frames: int
    map_hash: str
    steps: tuple[Step, ...]

    @property
    def turns(self) -> tuple[Turn, ...]:
        """The turns from A to B."""
        return tuple(step.turn for step in self.steps if step.turn)

    @property
    def landmarks(self) -> tuple[Landmark, ...]:
        """The panels in the order in which the walk from A to B comes up to them."""
        return tuple(step.landmark for step in self.steps if step.landmark)

    @property
    def actions(self) -> tuple[Action, ...]:
        """The actions from A to B."""
        return tuple(step.action for step in self.steps if step.action)


def way_back(turns: tuple[Turn, ...]) -> tuple[Turn, ...]:
    """The turns from B to A: in the opposite order, left and right exchanged."""
    return tuple(MIRROR[turn] for turn in reversed(turns))


def backwards(items: tuple[_T, ...]) -> tuple[_T, ...]:
    """Landmarks or actions in the order in which the way from B to A comes to them."""
    return items[::-1]


def truth_from_json(entry: dict[str, Any]) -> ClipTruth:
    """The truth that `dataclasses.asdict` made a JSON entry of.

    Raises KeyError or TypeError for an entry of another shape.
    """
    steps = tuple(
        Step(
            **{
                **step,
                "frames": tuple(step["frames"]),
                "landmark": Landmark(**step["landmark"]) if step["landmark"] else None,
            }
        )
        for step in entry["steps"]
    )
    return ClipTruth(**{**entry, "steps": steps})


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
