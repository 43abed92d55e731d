"""The page on which a person decides on doubtful questions: what the page is sent, and how decisions are stored.

    serve_review(WorkFolder(Path("walks")), port=0, announce=print)

The page is `pages/review.html`. It asks `GET /api/items` (all items of `review.jsonl` with their states), `GET
/api/items/ID` and `GET /clips/CLIP` (the video, in ranges). It sends each decision as `PUT /api/items/ID` with
`verdict` (`accept`, `edit` or `reject`), `edited` (with `edit`: `question`, `options` and `answer` as a draft has
them), and `revision`, the state that it changes. The next calibration reads the decisions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any, Literal, get_args

from aiohttp import web

from egost.tasks.construction.checks import Finding, check_draft
from egost.tasks.construction.clip_routes import clip_facts, clip_route
from egost.tasks.construction.drafts import (
    Decision,
    Draft,
    Option,
    Review,
    Verdict,
    as_decided,
    decisions_in,
    read_reviews,
    write_reviews,
    written_drafts,
)
from egost.tasks.construction.spec import SCENE_WORDS
from egost.tasks.construction.workfolder import WorkFolder
from egost.tasks.errors import ConstructionError
from egost.tasks.local_page import error_reply, read_json, serve_page
from egost.tasks.sample import LETTERS

State = Literal["open", "accepted", "edited", "rejected"]
"""State of one item: not decided yet, or the decision."""

_STATES: dict[Verdict, State] = {"accept": "accepted", "edit": "edited", "reject": "rejected"}


def serve_review(folder: WorkFolder, port: int, announce: Callable[[str], None]) -> None:
    """Serve the page until the process is interrupted.

    announce: called with the page's address once the server listens. Raises ConstructionError where the calibration
    has not run, where there are no clips, and where the port is taken.
    """
    if not folder.review.is_file():
        raise ConstructionError(
            f"{folder.root} has nothing to review ({folder.review.name} is missing). Run: egost construct calibrate "
            f"{folder.root}"
        )
    folder.clips()
    read_reviews(folder)
    desk = _Desk(folder)
    items = "/api/items/{id:.+}"
    routes = [web.get("/api/items", desk.overview), web.get(items, desk.show), web.put(items, desk.decide)]
    serve_page("egost.tasks.construction", "review", [*routes, clip_route(folder)], port, announce)


def state_of(review: Review) -> State:
    """The state of an item."""
    return _STATES[review.decision.verdict] if review.decision else "open"


class _Desk:
    """The items of one folder. Each request reads the files again, because a calibration may run meanwhile."""

    def __init__(self, folder: WorkFolder) -> None:
        self._folder = folder

    async def overview(self, _: web.Request) -> web.Response:
        items = [{"id": review.draft.id, "state": state_of(review)} for review in read_reviews(self._folder)]
        return web.json_response({"items": items, "letters": LETTERS})

    async def show(self, request: web.Request) -> web.Response:
        reviews = read_reviews(self._folder)
        return web.json_response(self._item(reviews, reviews[_place(reviews, request)]))

    async def decide(self, request: web.Request) -> web.Response:
        sent = await read_json(request)
        verdict: Any = sent.get("verdict")
        if verdict not in get_args(Verdict):
            return error_reply(400, f"the verdict is {verdict!r}; expected accept, edit or reject.")
        # No `await` from here on, and a calibration has to wait, so nothing changes between reading and writing.
        with self._folder.step("calibration"):
            reviews = read_reviews(self._folder)
            place = _place(reviews, request)
            before = reviews[place]
            if sent.get("revision") != before.revision:
                return error_reply(
                    409,
                    "this item was changed elsewhere (another window, or a calibration). Load the page again.",
                )
            draft = before.draft
            edited = _edited(draft, sent.get("edited")) if verdict == "edit" else None
            findings = self._check(reviews, draft, edited) if verdict != "reject" else []
            if drops := [finding for finding in findings if finding.verdict == "drop"]:
                names = ", ".join(dict.fromkeys(finding.name for finding in drops))
                return error_reply(
                    422,
                    f"the calibration would drop it anyway: {names}.",
                    problems=[asdict(f) for f in findings],
                )
            after = replace(before, decision=Decision(verdict, edited))
            reviews[place] = after
            write_reviews(self._folder, reviews)
        return web.json_response(self._item(reviews, after))

    def _check(self, reviews: Sequence[Review], draft: Draft, edited: Draft | None) -> list[Finding]:
        """The findings of the calibration on a draft, as it was written or as it is edited."""
        written = {found.id: found for found in written_drafts(self._folder)}
        if written.get(draft.id) != draft:
            message = "the question has been rewritten since. Run: egost construct calibrate"
            return [Finding("stale_question", "drop", message)]
        decisions = decisions_in(reviews)
        current = {name: as_decided(found, decisions) for name, found in written.items()}
        known = draft.clip in self._folder.clips()
        steps = self._folder.annotations.of_clip(draft.clip) if known else []
        return check_draft(edited or draft, steps, current)

    def _item(self, reviews: Sequence[Review], review: Review) -> dict[str, Any]:
        """What the page shows of an item."""
        draft = review.draft
        edited = review.decision.edited if review.decision else None
        row = self._folder.clips().get(draft.clip)
        annotations = self._folder.annotations.of_clip(draft.clip)
        routes = sorted(annotations, key=lambda a: a.annotator != draft.annotator)
        return {
            "id": draft.id,
            "way": draft.way,
            "scene": SCENE_WORDS[draft.scene],
            "writer": draft.writer,
            "clip": clip_facts(row) if row else None,
            "reasons": [{"name": name, "message": message} for name, message in review.reasons],
            "draft": _content(draft),
            "edited": _content(edited) if edited else None,
            "problems": [asdict(f) for f in self._check(reviews, draft, edited)] if edited else [],
            "routes": [
                {"annotator": a.annotator, "steps": [asdict(step) for step in a.steps(draft.way)]}
                for a in routes
            ],
            "state": state_of(review),
            "revision": review.revision,
        }


def _place(reviews: Sequence[Review], request: web.Request) -> int:
    asked = request.match_info["id"]
    for place, review in enumerate(reviews):
        if review.draft.id == asked:
            return place
    raise web.HTTPNotFound(text=f"there is no item {asked!r} to decide on.")


def _content(draft: Draft) -> dict[str, Any]:
    """What a person may change of a draft."""
    return {
        "question": draft.question,
        "options": [asdict(option) for option in draft.options],
        "answer": draft.answer,
    }


def _edited(draft: Draft, sent: object) -> Draft:
    """A draft with a person's changes; a change that lacks a text is answered with status 400."""
    if not isinstance(sent, Mapping) or not isinstance(sent.get("options"), list):
        raise web.HTTPBadRequest(text="an edit needs a question, options and an answer.")
    options = tuple(_option(option) for option in sent["options"])
    if len(options) != len(draft.options):
        raise web.HTTPBadRequest(
            text=f"the edit has {len(options)} options; the question has {len(draft.options)}."
        )
    answer = _text(sent.get("answer"), "the answer")
    if options and answer not in LETTERS[: len(options)]:
        raise web.HTTPBadRequest(
            text=f"the right letter is {answer!r}; expected one of {LETTERS[: len(options)]}."
        )
    return replace(
        draft, question=_text(sent.get("question"), "the question"), options=options, answer=answer
    )


def _option(sent: object) -> Option:
    if not isinstance(sent, Mapping) or not isinstance(sent.get("items"), list):
        raise web.HTTPBadRequest(text="an option needs a text and a list of items.")
    return Option(
        _text(sent.get("text"), "an option"),
        tuple(_text(item, "an item of an option") for item in sent["items"]),
    )


def _text(sent: object, what: str) -> str:
    # A lone surrogate cannot be written to a file.
    if not isinstance(sent, str) or not sent.strip() or any("\ud800" <= c <= "\udfff" for c in sent):
        raise web.HTTPBadRequest(text=f"{what} is {sent!r}; expected a text.")
    return sent.strip()
