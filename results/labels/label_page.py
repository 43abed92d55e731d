"""The page on which people score routes: what it is sent, and how each label is stored at once.

    serve_labels(labels_path(run.results_file), run.records, "anna", port=0, announce=print)

The page is `pages/label.html`. It asks `GET /api/items` (numbers in an order of this rater's own, with their states)
and `GET /api/items/N` (question, frames, reference, response), and sends `PUT /api/items/N` with `scores`. It is told
neither the model's name nor what a judge said. Several raters may work on one file at once, each with a server of
their own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from aiohttp import web

from egost.results.labels.label_file import Triple, matched, read_labels
from egost.results.records import SampleRecord
from egost.results.thumbnails import Thumbnails, thumbnails
from egost.tasks.cache import cache_root, only_writer
from egost.tasks.json_text import shown
from egost.tasks.judging.judge import ASPECTS, BEST
from egost.tasks.local_page import error_reply, read_json, serve_page
from egost.tasks.response_text import route_prediction

_FRAMES_LIMIT = 64_000_000
"""Bytes of the frames of all drawn samples, which the server holds."""

RUBRIC = (
    (
        "direction",
        "The changes of direction, one after the other. 5: exactly those of the reference, in their order. Each "
        "one that is missing, opposite, elsewhere or too many lowers it. 0: none agrees. Straight on is no change.",
    ),
    (
        "landmark",
        "The places and things by which the way is found. 5: each one of the reference is named, under whatever "
        "name. Each missing one lowers it, in proportion. Further ones cost nothing. 0: none is named.",
    ),
    (
        "semantic",
        "Meaning and logic of the whole. 5: who follows it takes the reference's walk: same steps, same order, each "
        "turn at its landmark. Another order, contradictions or the other way lower it. 0: no route, or another one.",
    ),
)
"""What each score means (paper, section 5.1 and figure 6), as the judge is told it."""


def serve_labels(
    labels_file: Path,
    records: Sequence[SampleRecord],
    rater: str,
    port: int,
    announce: Callable[[str], None],
) -> None:
    """Serve the page for one rater until the process is interrupted.

    records: those of the labelled run. Frames are shown where this machine's cache has them. Raises RunError where the
    file is of other responses, SettingError where the port is taken.
    """
    labels = read_labels(labels_file)
    by_id = matched(labels, records)
    order = [sample for sample in labels.order(rater) if sample in by_id]
    seen = [frames.pixels_sha256 for sample in order if (frames := by_id[sample].frames)]
    desk = _Desk(labels_file, by_id, order, thumbnails(seen, _FRAMES_LIMIT, cache_root()), rater)
    items = "/api/items/{number:[0-9]{1,6}}"
    routes = [web.get("/api/items", desk.overview), web.get(items, desk.show), web.put(items, desk.save)]
    serve_page("egost.results.labels", "label", routes, port, announce)


class _Desk:
    """The items of one rater. Each request reads the file again, because other raters write into it, too."""

    def __init__(
        self,
        file: Path,
        records: dict[str, SampleRecord],
        order: list[str],
        pictures: Thumbnails,
        rater: str,
    ) -> None:
        self._file, self._records, self._order = file, records, order
        self._pictures, self._rater = pictures, rater

    async def overview(self, _: web.Request) -> web.Response:
        given = read_labels(self._file).labels
        items = [
            {"id": str(number), "state": "labelled" if (sample, self._rater) in given else "open"}
            for number, sample in enumerate(self._order, 1)
        ]
        return web.json_response({"rater": self._rater, "items": items, "aspects": ASPECTS, "rubric": RUBRIC})

    async def show(self, request: web.Request) -> web.Response:
        record = self._records[self._asked(request)]
        given = read_labels(self._file).labels.get((record.sample.id, self._rater))
        return web.json_response(
            {
                "way": record.sample.way,
                "question": record.sample.question,
                "reference": record.sample.answer,
                "response": route_prediction(record.response),
                "frames": self._pictures.frames.get(record.frames.pixels_sha256, ()) if record.frames else (),
                "scores": given,
            }
        )

    async def save(self, request: web.Request) -> web.Response:
        sample = self._asked(request)
        sent = (await read_json(request)).get("scores")
        if not isinstance(sent, list) or len(sent) != len(ASPECTS):
            return error_reply(
                400, f"the scores are {shown(sent)}; expected three whole numbers from 0 to {BEST}."
            )
        scores: Triple = (sent[0], sent[1], sent[2])
        with only_writer(self._file):
            read_labels(self._file).with_label(sample, self._rater, scores).write(self._file)
        return web.json_response({"scores": scores})

    def _asked(self, request: web.Request) -> str:
        number = int(request.match_info["number"])
        if not 1 <= number <= len(self._order):
            raise web.HTTPNotFound(text=f"there is no item {number}; expected 1 to {len(self._order)}.")
        return self._order[number - 1]
