"""What happens in a walk: the words for turns, landmarks and actions, and the exact truth about a clip."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Any, Literal, TypeVar, get_args

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
