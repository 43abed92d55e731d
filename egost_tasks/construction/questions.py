"""The third step: writes drafts of questions from annotated routes, with wrong options from a writer.

A template for each kind of scene and way words the questions (paper, section 3.2). Questions about directions and
actions are those of the mini world. All wordings are this project's own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from egost.tasks.chat.calls import chosen_pacing
from egost.tasks.construction.annotations import Annotation, Step, Steps, check
from egost.tasks.construction.drafts import (
    CHOICE_TASKS,
    Draft,
    Items,
    Option,
    annotation_sha256,
    draft_id,
    truth_of,
    turned_round,
)
from egost.tasks.construction.spec import ACTION_SCENE, Scene
from egost.tasks.construction.workfolder import Cost, WorkFolder, cost_of, write_lines, write_object
from egost.tasks.construction.writers import (
    ChoiceRequest,
    OfflineWriter,
    Unwritten,
    Writer,
    Written,
    request_rng,
)
from egost.tasks.errors import ConstructionError
from egost.tasks.mini_world.release_writer import Letters, shuffled
from egost.tasks.mini_world.steps import QUESTIONS, joined, one_of
from egost.tasks.sample import LETTERS, WAYS, TaskKind, Way

TEMPLATES = "templates-1"
"""Name and version of the templates, recorded as the writer of a route's description."""


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


@dataclass(frozen=True)
class Questions:
    """The drafts that were written, what was left out and why, and what the writer's replies cost so far."""

    drafts: tuple[Draft, ...]
    left_out: tuple[LeftOut, ...]
    cost: Cost


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A clip or question without a draft. reason: a short stable word; message: for people."""

    id: str
    reason: str
    message: str


def write_questions(folder: WorkFolder, writer: Writer, *, seed: int = 0) -> Questions:
    """Write all questions of the annotated clips into a working folder.

    Where several people annotated a clip, the questions follow the annotator whose name sorts first; the calibration
    compares them. Left out with a reason are annotations with a problem (see `annotations.check`), choices whose right
    option is empty (a route without a turn) and choices that the writer could not write.
    Raises ConstructionError where no annotation can be used, and what the writer raises.
    """
    with folder.step("questions"):
        used, left_out = _used_annotations(folder)
        requests, without = _requests(used)
        left_out += without
        written = writer(requests)
        letters, drafts = Letters(seed), [_route(a, way, seed) for a in used for way in WAYS]
        for request, options in zip(requests, written, strict=True):
            for way in request.ways:
                if isinstance(options, Unwritten):
                    name = draft_id(request.task, way, request.annotation.clip)
                    left_out.append(LeftOut(name, options.reason, options.message))
                else:
                    drafts.append(_choice(request, options, way, letters, writer.name, seed))
        write_lines(folder.questions, drafts)
        cost = cost_of(folder.writer_replies)
        report = {
            "writer": writer.name,
            "seed": seed,
            "written": dict(Counter(f"{draft.task}_{draft.way}" for draft in drafts)),
            "cost": asdict(cost),
            "left_out": [asdict(item) for item in left_out],
        }
        write_object(folder.writing, report)
    return Questions(tuple(drafts), tuple(left_out), cost)


def get_writer(spec: str, folder: Path, seed: int) -> Writer:
    """The writer of a name: `offline`, or a model behind a server (see `model_calls.find_endpoint`).

    folder: for the replies of a server. Raises ConstructionError.
    """
    if spec == "offline":
        return OfflineWriter(seed)
    # Here, since the client takes seconds to import and the offline writer does not need it.
    from egost.tasks.construction.model_calls import OpenAIWriter, find_endpoint

    return OpenAIWriter(find_endpoint(spec, "--writer"), folder, chosen_pacing())


def _used_annotations(folder: WorkFolder) -> tuple[list[Annotation], list[LeftOut]]:
    clips = folder.clips()
    found: dict[str, Annotation] = {}
    for annotation in folder.annotations.all():
        found.setdefault(annotation.clip, annotation)
    used, left_out = [], []
    for clip, row in clips.items():
        annotated = found.get(clip)
        if annotated is None:
            left_out.append(LeftOut(clip, "not_annotated", "nobody has annotated this clip."))
        elif annotated.scene != row.scene:
            message = f"annotated as {annotated.scene}, the clip's scene is {row.scene}."
            left_out.append(LeftOut(clip, "other_scene", message))
        elif problems := check(annotated, row.duration_s):
            left_out += [LeftOut(clip, problem.name, str(problem)) for problem in problems]
        else:
            used.append(annotated)
    if not used:
        why = "; ".join(f"{item.id}: {item.message}" for item in left_out[:3])
        raise ConstructionError(
            f"{folder.annotations.folder} has no annotation that can be used ({why}). Run: egost construct annotate "
            f"{folder.root}"
        )
    return used, left_out


def _requests(used: Sequence[Annotation]) -> tuple[list[ChoiceRequest], list[LeftOut]]:
    requests, left_out = [], []
    for annotation in used:
        for task in CHOICE_TASKS:
            if task == "action" and annotation.scene != ACTION_SCENE:
                continue
            truths = {way: truth_of(annotation, task, way) for way in WAYS}
            for way, truth in truths.items():
                if not truth:
                    message = f"its {way} route has no {task}."
                    left_out.append(LeftOut(draft_id(task, way, annotation.clip), f"no_{task}", message))
            mirrored = truths["reverse"] == turned_round(task, truths["forward"])
            for ways in (WAYS,) if mirrored else tuple((way,) for way in WAYS):
                if truths[ways[0]]:
                    names = _names(used, annotation, task, ways[0])
                    requests.append(ChoiceRequest(annotation, task, ways, names))
    return requests, left_out


def _names(used: Sequence[Annotation], own: Annotation, task: TaskKind, way: Way) -> tuple[str, ...]:
    """The names in other clips of this kind of scene, or in all other clips where there are none of this kind."""
    if task == "direction":
        return ()
    others = [a for a in used if a.clip != own.clip]
    same = [name for a in others if a.scene == own.scene for name in truth_of(a, task, way)]
    return tuple(same or (name for a in others for name in truth_of(a, task, way)))


def _route(annotation: Annotation, way: Way, seed: int) -> Draft:
    rng = request_rng(seed, "route", annotation.clip, way)
    question = ask(rng, "route", way, annotation.scene)
    answer = route_text(rng, annotation.steps(way), way)
    return _draft(annotation, "route", way, question, (), answer, TEMPLATES, "")


def _choice(
    request: ChoiceRequest, written: Written, way: Way, letters: Letters, writer: str, seed: int
) -> Draft:
    annotation, task = request.annotation, request.task
    rng = request_rng(seed, "choice", annotation.clip, task, way)
    items: list[Items] = [written.right, *written.wrong]
    if way != request.ways[0]:
        items = [turned_round(task, each) for each in items]
    texts = option_texts(rng, task, items)
    right = letters.deal(f"{task}_{way}", len(items)) if written.place is None else written.place
    question = ask(rng, task, way, annotation.scene)
    options = tuple(Option(texts[k], items[k]) for k in shuffled(rng, len(items), right))
    return _draft(annotation, task, way, question, options, LETTERS[right], writer, written.snapshot)


def _draft(
    annotation: Annotation,
    task: TaskKind,
    way: Way,
    question: str,
    options: tuple[Option, ...],
    answer: str,
    writer: str,
    snapshot: str,
) -> Draft:
    clip, annotator, state = annotation.clip, annotation.annotator, annotation_sha256(annotation)
    name = draft_id(task, way, clip)
    return Draft(
        name, clip, task, way, annotation.scene, question, options, answer, annotator, state, writer, snapshot
    )


def ask(rng: np.random.Generator, task: TaskKind, way: Way, scene: Scene) -> str:
    """The text of a question for a task, way and kind of scene; it says nothing about the clip."""
    if task == "route":
        return one_of(rng, *ROUTE_QUESTIONS[scene, way])
    if task == "landmark":
        return one_of(rng, *LANDMARK_QUESTIONS[scene, way])
    return one_of(rng, *QUESTIONS[task, way])


def option_texts(rng: np.random.Generator, task: TaskKind, options: Sequence[Items]) -> list[str]:
    """Texts of options, all in one form, so that none is conspicuous by its style."""
    if task == "direction":
        form = _turn_words if rng.random() < 0.5 else str
        return joined(rng, [[form(item) for item in items] for items in options])
    if task == "landmark":
        article = "the " if rng.random() < 0.5 else ""
        return joined(rng, [[article + _bare(item) for item in items] for items in options])
    return joined(rng, options)


def route_text(rng: np.random.Generator, steps: Steps, way: Way) -> str:
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
