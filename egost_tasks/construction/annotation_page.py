"""The page on which a person annotates the routes of the clips: what the page is sent, and how annotations are stored.

    serve_annotation(WorkFolder(Path("walks")), "ana", port=0, announce=print)

The page is `pages/annotate.html`. It asks `GET /api/clips` (all clips with their states), `GET /api/clips/CLIP` and
`GET /clips/CLIP` (the video, in ranges). After each change it sends `PUT /api/clips/CLIP` with `forward` and `reverse`,
as an annotation's file has them, and `revision`, the state that it changes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any, Literal

from aiohttp import web

from egost.tasks.construction.annotations import (
    DIRECTIONS,
    LONGEST_TEXT,
    Annotation,
    Problem,
    ProblemName,
    check,
    from_json,
    propose_reverse,
)
from egost.tasks.construction.clip_routes import asked_clip, clip_facts, clip_route
from egost.tasks.construction.drafts import annotation_sha256
from egost.tasks.construction.spec import SCENE_WORDS
from egost.tasks.construction.workfolder import ClipRow, WorkFolder
from egost.tasks.errors import ConstructionError
from egost.tasks.local_page import error_reply, read_json, serve_page

State = Literal["none", "begun", "whole", "problems"]
"""State of one clip: not annotated; parts are missing; complete; the annotation contradicts itself or the clip."""

_LACKS: frozenset[ProblemName] = frozenset({"no_steps", "no_landmark", "empty_step"})


def serve_annotation(folder: WorkFolder, annotator: str, port: int, announce: Callable[[str], None]) -> None:
    """Serve the page for one annotator until the process is interrupted.

    announce: called with the page's address once the server listens. Raises ConstructionError where there are no
    clips, where the annotator's name cannot be the name of a folder, and where the port is taken.
    """
    for clip, row in folder.clips().items():
        Annotation(clip, annotator, row.scene, ())
    desk = _Desk(folder, annotator)
    routes = [
        web.get("/api/clips", desk.overview),
        web.get("/api/clips/{clip}", desk.show),
        web.put("/api/clips/{clip}", desk.save),
        clip_route(folder),
    ]
    serve_page("egost.tasks.construction", "annotate", routes, port, announce)


def state_of(annotation: Annotation | None, problems: Sequence[Problem]) -> State:
    """The state of a clip. problems: from `check`."""
    if annotation is None:
        return "none"
    if not problems:
        return "whole"
    return "begun" if all(problem.name in _LACKS for problem in problems) else "problems"


class _Desk:
    """One annotator's work on one folder. Each request reads `clips.jsonl`, because clips may be cut meanwhile."""

    def __init__(self, folder: WorkFolder, annotator: str) -> None:
        self._folder = folder
        self._annotator = annotator

    async def overview(self, _: web.Request) -> web.Response:
        return web.json_response(
            {
                "annotator": self._annotator,
                "directions": DIRECTIONS,
                "longest_text": LONGEST_TEXT,
                "clips": [self._line(row) for row in self._folder.clips().values()],
            }
        )

    async def show(self, request: web.Request) -> web.Response:
        row = asked_clip(self._folder, request)
        return web.json_response(_clip_content(row, self._folder.annotations.load(row.clip, self._annotator)))

    async def save(self, request: web.Request) -> web.Response:
        row = asked_clip(self._folder, request)
        sent = await read_json(request)
        # No `await` from here on: two requests never save at the same time.
        before = self._folder.annotations.load(row.clip, self._annotator)
        if sent.get("revision") != _revision(before):
            return error_reply(
                409, "this clip was changed elsewhere (another window, or an import). Load the page again."
            )
        content = {
            "clip": row.clip,
            "annotator": self._annotator,
            "scene": row.scene,
            "forward": sent.get("forward"),
            "reverse": sent.get("reverse"),
        }
        try:
            annotation = from_json(content, row.clip)
        except ConstructionError as error:
            return error_reply(400, str(error))
        self._folder.annotations.save(annotation)
        return web.json_response(_clip_content(row, annotation))

    def _line(self, row: ClipRow) -> dict[str, Any]:
        line = {**clip_facts(row), "scene": SCENE_WORDS[row.scene]}
        try:
            annotation = self._folder.annotations.load(row.clip, self._annotator)
        except ConstructionError as error:
            return {**line, "state": "problems", "error": str(error)}
        problems = check(annotation, row.duration_s) if annotation else []
        return {**line, "state": state_of(annotation, problems)}


def _clip_content(row: ClipRow, annotation: Annotation | None) -> dict[str, Any]:
    """What the page shows of a clip: its steps, the proposed way back, and the problems."""
    problems = check(annotation, row.duration_s) if annotation else []
    forward = annotation.forward if annotation else ()
    reverse = annotation.reverse if annotation else None
    return {
        "forward": [asdict(step) for step in forward],
        "reverse": None if reverse is None else [asdict(step) for step in reverse],
        "proposed": [asdict(step) for step in propose_reverse(forward)],
        "problems": [asdict(problem) for problem in problems],
        "state": state_of(annotation, problems),
        "revision": _revision(annotation),
    }


def _revision(annotation: Annotation | None) -> str:
    return annotation_sha256(annotation) if annotation else ""
