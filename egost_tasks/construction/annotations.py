"""Routes as people annotate them: ordered steps of a clip, forward and in reverse.

    store = AnnotationStore(folder)
    store.save(Annotation("huji_12.mp4", "ana", "outdoor_street", (Step("left", "fountain", "", 4.2),)))
    for annotation in store.all():
        print(annotation.clip, check(annotation, duration=31.0))

The paper's annotators described each clip's route from A to B and from B to A (section 3.2); nothing of their format
was released, so this one is the project's own.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, get_args

from egost.tasks.cache import write_whole
from egost.tasks.construction.scenes import SCENES, Scene
from egost.tasks.errors import EgostError
from egost.tasks.sample import Way

Direction = Literal["left", "right", "around", "up", "down", "straight"]
DIRECTIONS: tuple[Direction, ...] = get_args(Direction)

ProblemName = Literal[
    "no_steps",
    "no_landmark",
    "empty_step",
    "outside_clip",
    "reversed_times",
    "overlapping_times",
    "reverse_turns_differ",
    "reverse_actions_differ",
]

MIRROR: dict[Direction, Direction] = {
    "left": "right",
    "right": "left",
    "around": "around",
    "up": "down",
    "down": "up",
    "straight": "straight",
}
"""What a direction becomes on the way back."""

LONGEST_TEXT = 120
"""Most characters of a landmark or an action: a name, not a story. This project's own rule."""

_VERSION = 1
_NAME = re.compile(r"[^\W_][\w .+-]{0,119}")
_FIELDS = frozenset({"direction", "landmark", "action", "time_s"})


class AnnotationError(EgostError):
    """An annotation cannot be read or stored, or its route makes no sense."""


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that happens on a route.

    direction: how the walker goes on there; `up` and `down` are stairs, ramps and lifts.
    landmark: what stands there, without an article (`red door`); empty where nothing is named.
    action: what the walker does there, in the base form (`open the fridge`); empty where nothing is done.
    time_s: when it happens, in seconds from the start of the clip, also on the way back.

    Raises AnnotationError for an unknown direction, a text of several lines or above `LONGEST_TEXT`, or a time that is
    no finite number.
    """

    direction: Direction
    landmark: str
    action: str
    time_s: float

    def __post_init__(self) -> None:
        if self.direction not in DIRECTIONS:
            raise AnnotationError(
                f"a step goes {self.direction!r:.40}; expected one of {', '.join(DIRECTIONS)}."
            )
        for name in ("landmark", "action"):
            text = getattr(self, name)
            if not isinstance(text, str) or len(text) > LONGEST_TEXT or not text.isprintable():
                raise AnnotationError(
                    f"a step's {name} is {text!r:.60}; expected a text of one line and at most {LONGEST_TEXT} "
                    "characters."
                )
            object.__setattr__(self, name, " ".join(text.split()))
        number = isinstance(self.time_s, (int, float)) and not isinstance(self.time_s, bool)
        if not number or not abs(self.time_s) < 1e9:
            raise AnnotationError(f"a step's time_s is {self.time_s!r:.40}; expected seconds.")


Steps = tuple[Step, ...]


@dataclass(frozen=True, slots=True)
class Annotation:
    """What one annotator says of one clip.

    clip: file name of the clip in the working folder. annotator: who; a name that can be a folder's.
    forward: the steps from A to B, their times ascending. reverse: those from B to A, their times descending; None
    where they are what `propose_reverse` makes of the forward steps.

    Raises AnnotationError for an unknown scene or a name that cannot be a file's.
    """

    clip: str
    annotator: str
    scene: Scene
    forward: Steps
    reverse: Steps | None = None

    def __post_init__(self) -> None:
        for what, name in (("clip", self.clip), ("annotator", self.annotator)):
            if not isinstance(name, str) or not _NAME.fullmatch(name):
                raise AnnotationError(
                    f"the {what} of an annotation is {name!r:.60}; expected a name of letters, digits, spaces and "
                    "._+- that begins with a letter or digit."
                )
        if self.scene not in SCENES:
            raise AnnotationError(
                f"the scene of {self.clip} is {self.scene!r:.40}; expected one of {', '.join(SCENES)}."
            )

    def steps(self, way: Way) -> Steps:
        """The steps of one way; the proposed ones where nobody wrote the way back."""
        if way == "forward":
            return self.forward
        return propose_reverse(self.forward) if self.reverse is None else self.reverse


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong with an annotation.

    way: the route that has it; step: its index there, None for the route as a whole. message: for people.
    """

    name: ProblemName
    way: Way
    step: int | None
    message: str

    def __str__(self) -> str:
        where = self.way if self.step is None else f"{self.way} step {self.step + 1}"
        return f"{self.name} ({where}): {self.message}"


def propose_reverse(steps: Steps) -> Steps:
    """The way back: the same places in the opposite order, left and right, up and down exchanged.

    Times stay those of the clip, so they descend.
    """
    return tuple(Step(MIRROR[s.direction], s.landmark, s.action, s.time_s) for s in reversed(steps))


def turns(steps: Steps) -> tuple[Direction, ...]:
    """The changes of direction in order; going straight on is none."""
    return tuple(step.direction for step in steps if step.direction != "straight")


def landmarks(steps: Steps) -> tuple[str, ...]:
    """The landmarks in the order in which the route comes to them; one named twice in a row counts once."""
    named = [step.landmark for step in steps if step.landmark]
    return tuple(name for k, name in enumerate(named) if k == 0 or name.casefold() != named[k - 1].casefold())


def actions(steps: Steps) -> tuple[str, ...]:
    """The actions in the order in which the route comes to their places."""
    return tuple(step.action for step in steps if step.action)


def check(annotation: Annotation, duration: float) -> list[Problem]:
    """All that is wrong with an annotation of a clip of so many seconds; empty when it can be used.

    Rules: every route has steps and a landmark; a turn is made at a landmark; a step says something; times lie in the
    clip, ascend forward and descend in reverse, and no two are the same; the way back takes each turn the other way
    round (left for right, up for down) and comes to the actions in the opposite order.
    """
    problems = _route_problems("forward", annotation.forward, duration)
    if annotation.reverse is None:
        return problems
    problems += _route_problems("reverse", annotation.reverse, duration)
    expected = propose_reverse(annotation.forward)
    told = ("reverse_turns_differ", "turns", turns), ("reverse_actions_differ", "actions", actions)
    for name, what, of in told:
        found, wanted = ([text.casefold() for text in of(steps)] for steps in (annotation.reverse, expected))
        if found != wanted:
            problems.append(
                Problem(
                    name,  # type: ignore[arg-type]
                    "reverse",
                    _first_other(annotation.reverse, of, wanted),
                    f"its {what} are {_listed(found)}; going back along the forward steps they are {_listed(wanted)}.",
                )
            )
    return problems


def to_json(annotation: Annotation) -> dict[str, Any]:
    """The annotation as plain values, as its file holds it."""
    return {"version": _VERSION, **asdict(annotation)}


def from_json(content: Any, where: str) -> Annotation:
    """The annotation that `to_json` made plain values of; where: its file, for messages.

    Raises AnnotationError for anything else.
    """
    try:
        if content.get("version", _VERSION) != _VERSION:
            raise ValueError(f"version {content['version']!r}, expected {_VERSION}")
        reverse = content.get("reverse")
        return Annotation(
            content["clip"],
            content["annotator"],
            content["scene"],
            _steps(content["forward"]),
            None if reverse is None else _steps(reverse),
        )
    except AnnotationError as error:
        raise AnnotationError(f"{where}: {error}") from error
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise AnnotationError(
            f"{where} is no annotation ({type(error).__name__}: {error}). Expected an object with clip, annotator, "
            "scene, forward and perhaps reverse; a step has direction, landmark, action and time_s."
        ) from error


class AnnotationStore:
    """Annotations on disk, `FOLDER/ANNOTATOR/CLIP.json`; each file appears whole."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def save(self, annotation: Annotation) -> Path:
        """Write an annotation, over what this annotator said of the clip before; return its file.

        Raises AnnotationError when it cannot be written.
        """
        path = self._path(annotation.clip, annotation.annotator)
        content = json.dumps(to_json(annotation), indent=1, ensure_ascii=False) + "\n"
        try:
            write_whole(path, content.encode())
        except OSError as error:
            raise AnnotationError(f"{path} cannot be written: {error}. Make room and save again.") from error
        return path

    def load(self, clip: str, annotator: str) -> Annotation | None:
        """What an annotator said of a clip, None when nothing. Raises AnnotationError for a broken file."""
        path = self._path(clip, annotator)
        return _read(path) if path.is_file() else None

    def all(self) -> Iterator[Annotation]:
        """All annotations by clip, then annotator. Raises AnnotationError for a broken file."""
        paths = [path for path in self.folder.glob("*/*.json") if not path.name.startswith(".")]
        for path in sorted(paths, key=lambda path: (path.name, path.parent.name)):
            yield _read(path)

    def of_clip(self, clip: str) -> list[Annotation]:
        """What all annotators said of a clip, by annotator. Raises AnnotationError for a broken file."""
        paths = sorted(folder / f"{clip}.json" for folder in self.folder.glob("*/"))
        return [_read(path) for path in paths if path.is_file()]

    def _path(self, clip: str, annotator: str) -> Path:
        for name in (clip, annotator):
            if not _NAME.fullmatch(name):
                raise AnnotationError(f"{name!r:.60} cannot be the name of a clip or an annotator.")
        return self.folder / annotator / f"{clip}.json"


def _read(path: Path) -> Annotation:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise AnnotationError(f"{path} cannot be read ({error}). Annotate the clip again.") from error
    return from_json(content, str(path))


def _steps(content: Any) -> Steps:
    if not isinstance(content, list):
        raise TypeError(f"steps are a {type(content).__name__}, expected a list")
    found = []
    for fields in content:
        if unknown := sorted(fields.keys() - _FIELDS):
            raise ValueError(f"a step has the unknown fields {unknown}")
        found.append(
            Step(
                fields["direction"],
                fields.get("landmark") or "",
                fields.get("action") or "",
                fields["time_s"],
            )
        )
    return tuple(found)


def _route_problems(way: Way, steps: Steps, duration: float) -> list[Problem]:
    if not steps:
        return [Problem("no_steps", way, None, "the route has no step.")]
    problems = []
    if not landmarks(steps):
        problems.append(Problem("no_landmark", way, None, "the route names no landmark."))
    for k, step in enumerate(steps):
        if step.direction != "straight" and not step.landmark:
            message = f"it goes {step.direction} at no landmark."
            problems.append(Problem("no_landmark", way, k, message))
        elif not (step.landmark or step.action):
            problems.append(Problem("empty_step", way, k, "it has neither a turn, a landmark nor an action."))
        if not 0 <= step.time_s <= duration:
            message = f"it happens at {step.time_s:g} s, the clip lasts {duration:g} s."
            problems.append(Problem("outside_clip", way, k, message))
    for k, (before, after) in enumerate(pairwise(steps), 1):
        passed = after.time_s - before.time_s if way == "forward" else before.time_s - after.time_s
        times = f"it happens at {after.time_s:g} s, the step before it at {before.time_s:g} s"
        if passed == 0:
            problems.append(Problem("overlapping_times", way, k, f"{times}."))
        elif passed < 0:
            order = "ascend" if way == "forward" else "descend, from the clip's end to its start"
            problems.append(Problem("reversed_times", way, k, f"{times}; times must {order}."))
    return problems


def _first_other(steps: Steps, of: Callable[[Steps], tuple[str, ...]], wanted: Sequence[str]) -> int | None:
    """The first step that tells something else than what is wanted; None where only steps are missing at the end."""
    told = [(k, text.casefold()) for k, step in enumerate(steps) for text in of((step,))]
    return next((k for j, (k, text) in enumerate(told) if list(wanted[j : j + 1]) != [text]), None)


def _listed(items: Sequence[str]) -> str:
    return ", ".join(items) or "none"
