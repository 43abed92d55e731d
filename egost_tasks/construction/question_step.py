"""The third step: from annotated routes to drafts of questions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from egost.tasks.construction.annotations import Annotation, AnnotationError, check
from egost.tasks.construction.costs import cost_of
from egost.tasks.construction.drafts import (
    Draft,
    Items,
    Option,
    annotation_sha256,
    draft_id,
    truth_of,
    turned_round,
)
from egost.tasks.construction.scenes import ACTION_SCENE
from egost.tasks.construction.wording import ask, tell_options, tell_route
from egost.tasks.construction.workfolder import WorkFolder, write_lines, write_object
from egost.tasks.construction.writers import (
    CHOICE_TASKS,
    ChoiceRequest,
    LeftOut,
    Unwritten,
    Writer,
    Written,
    request_rng,
)
from egost.tasks.mini_world.question_files import Letters, shuffled
from egost.tasks.sample import LETTERS, WAYS, TaskKind, Way

TEMPLATES = "templates-1"
"""The writer that a route's description is recorded with."""


@dataclass(frozen=True)
class Questions:
    """What a writing left: the drafts, and what was left out and why."""

    drafts: tuple[Draft, ...]
    left_out: tuple[LeftOut, ...]


def write_questions(folder: WorkFolder, writer: Writer, *, seed: int = 0) -> Questions:
    """Write all questions of the annotated clips into a working folder.

    Where several people annotated a clip, the steps of the first by name count; calibration compares them. An
    annotation with a problem (see `annotations.check`) is left out by the problem's name, and so is a choice whose
    truth is empty (a route without a turn) or that the writer could not write.
    Raises AnnotationError where there is no annotation, WorkFolderError, and what the writer raises.
    """
    with folder.step("questions"):
        used, left_out = _used_annotations(folder)
        requests, without = _requests(used)
        left_out += without
        by_clip = {annotation.clip: annotation for annotation in used}
        written = writer(requests)
        letters, drafts = Letters(seed), [_route(a, way, seed) for a in used for way in WAYS]
        for request, options in zip(requests, written, strict=True):
            if isinstance(options, Unwritten):
                left_out += [
                    LeftOut(draft_id(request.task, way, request.clip), options.reason, options.message)
                    for way in request.ways
                ]
                continue
            annotation = by_clip[request.clip]
            drafts += [
                _choice(annotation, request, options, way, letters, writer.name, seed) for way in request.ways
            ]
        write_lines(folder.questions, drafts)
        report = {
            "writer": writer.name,
            "seed": seed,
            "written": dict(Counter(f"{draft.task}_{draft.way}" for draft in drafts)),
            "cost": asdict(cost_of(folder.writer_replies)),
            "left_out": [asdict(item) for item in left_out],
        }
        write_object(folder.writing, report)
    return Questions(tuple(drafts), tuple(left_out))


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
        raise AnnotationError(
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
            there, back = (truth_of(annotation, task, way) for way in WAYS)
            mirrored = back == turned_round(task, there)
            for way, truth in zip(WAYS, (there, back), strict=True):
                if not truth:
                    message = f"its {way} route has no {task}."
                    left_out.append(LeftOut(draft_id(task, way, annotation.clip), f"no_{task}", message))
            for ways in (WAYS,) if mirrored else tuple((way,) for way in WAYS):
                if truth := truth_of(annotation, task, ways[0]):
                    requests.append(
                        ChoiceRequest(
                            annotation.clip,
                            annotation.scene,
                            task,
                            ways,
                            truth,
                            annotation.steps(ways[0]),
                            _names(used, annotation, task, ways[0]),
                        )
                    )
    return requests, left_out


def _names(used: Sequence[Annotation], own: Annotation, task: TaskKind, way: Way) -> tuple[str, ...]:
    """What other clips of this kind of scene name, or all others where no clip of its kind does."""
    if task == "direction":
        return ()
    others = [a for a in used if a.clip != own.clip]
    same = [name for a in others if a.scene == own.scene for name in truth_of(a, task, way)]
    return tuple(same or (name for a in others for name in truth_of(a, task, way)))


def _route(annotation: Annotation, way: Way, seed: int) -> Draft:
    rng = request_rng(seed, "route", annotation.clip, way)
    return Draft(
        id=draft_id("route", way, annotation.clip),
        clip=annotation.clip,
        task="route",
        way=way,
        scene=annotation.scene,
        question=ask(rng, "route", way, annotation.scene),
        options=(),
        answer=tell_route(rng, annotation.steps(way), way),
        annotator=annotation.annotator,
        annotation_sha256=annotation_sha256(annotation),
        writer=TEMPLATES,
        snapshot="",
    )


def _choice(
    annotation: Annotation,
    request: ChoiceRequest,
    written: Written,
    way: Way,
    letters: Letters,
    writer: str,
    seed: int,
) -> Draft:
    rng = request_rng(seed, "choice", request.clip, request.task, way)
    options: list[Items] = [written.right, *written.wrong]
    if way != request.ways[0]:
        options = [turned_round(request.task, items) for items in options]
    texts = tell_options(rng, request.task, options)
    right = letters.deal(f"{request.task}_{way}", len(options)) if written.place is None else written.place
    return Draft(
        id=draft_id(request.task, way, request.clip),
        clip=request.clip,
        task=request.task,
        way=way,
        scene=request.scene,
        question=ask(rng, request.task, way, request.scene),
        options=tuple(Option(texts[k], options[k]) for k in shuffled(rng, len(options), right)),
        answer=LETTERS[right],
        annotator=annotation.annotator,
        annotation_sha256=annotation_sha256(annotation),
        writer=writer,
        snapshot=written.snapshot,
    )
