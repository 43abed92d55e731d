"""Routes as people annotate them: the ordered steps of a clip, how they are written down, and what can be wrong.

    annotation = Annotation("huji_12.mp4", "ana", "outdoor_street", (Step("left", "fountain", "", 4.2),))
    print(check(annotation, duration=31.0))

The paper's annotators described each clip's route from A to B and from B to A (section 3.2). Their format was not
released, so this format is the project's own.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, get_args

from egost.tasks.construction.spec import SCENES, Scene, read_list
from egost.tasks.errors import ConstructionError
from egost.tasks.json_text import shown
from egost.tasks.judging.route_text import MIRROR as TURNS_BACK
from egost.tasks.sample import WAYS, Way

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

MIRROR: Mapping[str, Direction] = {**TURNS_BACK, "straight": "straight"}
"""What a direction becomes on the way back."""

LONGEST_TEXT = 120
"""Most characters of a landmark or an action: a name, not a story. This project's own rule."""

COLUMNS = ("clip", "annotator", "scene", "way", "time_s", "direction", "landmark", "action")
"""Columns of a CSV file of annotations, which has one row for each step."""

_VERSION = 1
_NAME = re.compile(r"[^\W_][\w .+-]{0,119}")
_FIELDS = frozenset({"direction", "landmark", "action", "time_s"})


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that happens on a route.

    direction: where the walker goes next; `up` and `down` are stairs, ramps and lifts.
    landmark: what is there, without an article (`red door`); empty where the annotator names nothing.
    action: what the walker does there, in the base form (`open the fridge`); empty where there is no action.
    time_s: when it happens, in seconds from the start of the clip, also on the way back.

    Raises ConstructionError for an unknown direction, for a text that is longer than `LONGEST_TEXT` or has several
    lines, and for a time that is not a finite number.
    """

    direction: Direction
    landmark: str
    action: str
    time_s: float

    def __post_init__(self) -> None:
        if self.direction not in DIRECTIONS:
            raise ConstructionError(
                f"a step has the direction {self.direction!r:.40}; expected one of {', '.join(DIRECTIONS)}."
            )
        for name in ("landmark", "action"):
            text = getattr(self, name)
            if not isinstance(text, str) or len(text) > LONGEST_TEXT or not text.isprintable():
                raise ConstructionError(
                    f"a step's {name} is {text!r:.60}; expected a text of one line and at most {LONGEST_TEXT} "
                    "characters."
                )
            object.__setattr__(self, name, " ".join(text.split()))
        number = isinstance(self.time_s, (int, float)) and not isinstance(self.time_s, bool)
        if not number or not abs(self.time_s) < 1e9:
            raise ConstructionError(f"a step's time_s is {self.time_s!r:.40}; expected seconds.")


Steps = tuple[Step, ...]


@dataclass(frozen=True, slots=True)
class Annotation:
    """The routes of one clip by one annotator.

    clip: file name of the clip in the working folder. annotator: a name that can be the name of a folder.
    forward: the steps from A to B, with ascending times. reverse: the steps from B to A, with descending times; None
    where they follow from the forward steps (see `propose_reverse`).

    Raises ConstructionError for an unknown scene and for a name that cannot be the name of a file.
    """

    clip: str
    annotator: str
    scene: Scene
    forward: Steps
    reverse: Steps | None = None

    def __post_init__(self) -> None:
        check_name("clip", self.clip)
        check_name("annotator", self.annotator)
        if self.scene not in SCENES:
            raise ConstructionError(
                f"the scene of {self.clip} is {self.scene!r:.40}; expected one of {', '.join(SCENES)}."
            )

    def steps(self, way: Way) -> Steps:
        """The steps of one way; the proposed steps where the annotator wrote no way back."""
        if way == "forward":
            return self.forward
        return propose_reverse(self.forward) if self.reverse is None else self.reverse


@dataclass(frozen=True, slots=True)
class Problem:
    """Something wrong with an annotation.

    way: the route that has the problem. step: index of the step in that route, None for the route as a whole.
    message: for people.
    """

    name: ProblemName
    way: Way
    step: int | None
    message: str

    def __str__(self) -> str:
        where = self.way if self.step is None else f"{self.way} step {self.step + 1}"
        return f"{self.name} ({where}): {self.message}"


def check_name(what: str, name: object) -> None:
    """Raise ConstructionError unless this name of a clip or an annotator can be the name of a file."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ConstructionError(
            f"the {what} of an annotation is {name!r:.60}; expected a name of letters, digits, spaces and ._+- that "
            "begins with a letter or digit."
        )


def propose_reverse(steps: Steps) -> Steps:
    """The way back: the same places in the opposite order, with left and right, up and down exchanged.

    Times stay times of the clip, so they descend.
    """
    return tuple(Step(MIRROR[s.direction], s.landmark, s.action, s.time_s) for s in reversed(steps))


def turns(steps: Steps) -> tuple[Direction, ...]:
    """The changes of direction in order; going straight on is not one."""
    return tuple(step.direction for step in steps if step.direction != "straight")


def landmarks(steps: Steps) -> tuple[str, ...]:
    """The landmarks in the order of the route; a landmark named twice in a row counts once."""
    named = [step.landmark for step in steps if step.landmark]
    return tuple(name for k, name in enumerate(named) if k == 0 or name.casefold() != named[k - 1].casefold())


def actions(steps: Steps) -> tuple[str, ...]:
    """The actions in the order of the route."""
    return tuple(step.action for step in steps if step.action)


def check(annotation: Annotation, duration: float) -> list[Problem]:
    """The problems of an annotation; empty when it can be used. duration: of the clip, in seconds.

    Rules: every route has steps and a landmark; every turn has a landmark; every step has a turn, a landmark or an
    action; times lie within the clip, ascend forward and descend in reverse, and differ from each other; the way back
    mirrors each turn (left for right, up for down) and has the actions in the opposite order.
    """
    problems = _route_problems("forward", annotation.forward, duration)
    if annotation.reverse is None:
        return problems
    problems += _route_problems("reverse", annotation.reverse, duration)
    expected = propose_reverse(annotation.forward)
    parts: tuple[tuple[ProblemName, str, Callable[[Steps], tuple[str, ...]]], ...] = (
        ("reverse_turns_differ", "turns", turns),
        ("reverse_actions_differ", "actions", actions),
    )
    for name, what, of in parts:
        found, wanted = ([text.casefold() for text in of(steps)] for steps in (annotation.reverse, expected))
        if found != wanted:
            step = _first_difference(annotation.reverse, of, wanted)
            message = (
                f"its {what} are {_listed(found)}; by the forward steps they should be {_listed(wanted)}."
            )
            problems.append(Problem(name, "reverse", step, message))
    return problems


def to_json(annotation: Annotation) -> dict[str, Any]:
    """The annotation as plain values, the content of its file."""
    return {"version": _VERSION, **asdict(annotation)}


def from_json(content: Any, where: str) -> Annotation:
    """The annotation in the content of a file, the inverse of `to_json`. where: the file, for messages.

    Raises ConstructionError for any other content.
    """
    try:
        if (version := content.get("version", _VERSION)) != _VERSION or isinstance(version, bool):
            raise ValueError(f"version {shown(version)}, expected {_VERSION}")
        reverse = content.get("reverse")
        return Annotation(
            content["clip"],
            content["annotator"],
            content["scene"],
            _steps(content["forward"]),
            None if reverse is None else _steps(reverse),
        )
    except ConstructionError as error:
        raise ConstructionError(f"{where}: {error}") from error
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ConstructionError(
            f"{where} is not an annotation ({type(error).__name__}: {error}). Expected an object with clip, annotator, "
            "scene, forward and perhaps reverse; a step has direction, landmark, action and time_s."
        ) from error


def read_annotations(file: Path) -> list[Annotation]:
    """The annotations of a CSV or JSON file.

    CSV: one row for each step, in the order of its route, with the columns `COLUMNS`; way is `forward` or `reverse`,
    an empty direction is `straight`. JSON: one annotation in the form of `to_json`, or a list of them.
    Raises ConstructionError where the file is missing or holds anything else.
    """
    found = read_list(file)
    if file.suffix.lower() == ".csv":
        found = _from_rows(file, found)
    contents = found if isinstance(found, list) else [found]
    annotations = [from_json(item, f"{file}, annotation {number}") for number, item in enumerate(contents, 1)]
    names = [(annotation.clip, annotation.annotator) for annotation in annotations]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ConstructionError(f"{file} has the clip {twice[0][0]} by {twice[0][1]} twice. Remove one.")
    if not annotations:
        raise ConstructionError(f"{file} holds no annotation.")
    return annotations


def _from_rows(file: Path, rows: Sequence[Mapping[str, str]]) -> list[dict[str, Any]]:
    if rows and (missing := set(COLUMNS) - rows[0].keys()):
        raise ConstructionError(
            f"{file} lacks the columns {', '.join(sorted(missing))}. Expected: {', '.join(COLUMNS)}."
        )
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for number, row in enumerate(rows, 2):
        where = f"{file}, line {number}"
        if row["way"] not in WAYS:
            raise ConstructionError(f"{where}: the way is {shown(row['way'])}; expected {' or '.join(WAYS)}.")
        try:
            time_s = float(row["time_s"])
        except (TypeError, ValueError) as error:
            raise ConstructionError(
                f"{where}: time_s is {shown(row['time_s'])}; expected seconds."
            ) from error
        clip, annotator, scene = row["clip"], row["annotator"], row["scene"]
        content = {"clip": clip, "annotator": annotator, "scene": scene, "forward": []}
        route = found.setdefault((clip, annotator), content)
        if route["scene"] != scene:
            raise ConstructionError(
                f"{where}: {clip} has the scenes {shown(route['scene'])} and {shown(scene)}."
            )
        step = {name: row[name] for name in ("direction", "landmark", "action")}
        route.setdefault(row["way"], []).append(
            {**step, "direction": step["direction"] or "straight", "time_s": time_s}
        )
    return list(found.values())


def _steps(content: Any) -> Steps:
    if not isinstance(content, list):
        raise TypeError(f"steps are a {type(content).__name__}, expected a list")
    found = []
    for fields in content:
        if unknown := sorted(fields.keys() - _FIELDS):
            raise ValueError(f"a step has the unknown fields {shown(unknown)}")
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


def _first_difference(
    steps: Steps, of: Callable[[Steps], tuple[str, ...]], wanted: Sequence[str]
) -> int | None:
    """The first step that differs from what is wanted; None where only steps at the end are missing."""
    found = [(k, text.casefold()) for k, step in enumerate(steps) for text in of((step,))]
    return next((k for j, (k, text) in enumerate(found) if list(wanted[j : j + 1]) != [text]), None)


def _listed(items: Sequence[str]) -> str:
    return ", ".join(items) or "none"
