from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from release_files import write_video

from egost.tasks.clips.clips import Clip, get_clip
from egost.tasks.clips.protocols import parse_protocol
from egost.tasks.errors import ClipError
from egost.tasks.judging.judge import JudgeFailure, Judgement, RouteItem
from egost.tasks.sample import Sample
from egost.tasks.scoring.scores import (
    Response,
    as_metrics,
    failed_reply,
    route_prediction,
    score_choice,
    score_route,
)

CHOICE = Sample(
    "Part1/direction_forward/1", "direction", "forward", 1, "1.mp4", "Where to?", ("left", "right", "on"), "B"
)
ROUTE = Sample(
    "Part1/route_reverse/1", "route", "reverse", 1, "1.mp4", "Describe it.", (), "Turn left at the door."
)


class Strict:
    """A judge that gives 5 to a prediction that equals the reference, and cannot read one that says so."""

    name = "strict-1"
    usage = None

    def start(self, items: Sequence[RouteItem]) -> None: ...

    def __call__(self, items: Sequence[RouteItem]) -> list[Judgement | JudgeFailure]:
        return [
            JudgeFailure(item.sample_id, "unreadable", "mumble", self.name)
            if "unreadable" in item.prediction
            else Judgement(item.sample_id, *(3 * [5 * (item.prediction == item.reference)]), "", self.name)
            for item in items
        ]


@pytest.fixture
def clip(tmp_path: Path) -> Clip:
    return get_clip(write_video(tmp_path / "1.mp4"), parse_protocol("uniform8"))


def test_a_choice_is_right_wrong_or_unscored(clip: Clip) -> None:
    right = score_choice(CHOICE, Response.read("The answer is B.", clip))
    assert (right.percent, right.compat, right.unscored) == (100, 100, None)
    wrong = score_choice(CHOICE, Response.read("A", clip))
    assert (wrong.percent, wrong.compat) == (0, 0)
    invalid = score_choice(CHOICE, Response.read("Based on the video, I cannot tell.", clip))
    assert (invalid.percent, invalid.compat) == (0, 100), "the reference reads a B where nothing is said"


@pytest.mark.parametrize(
    ("reply", "failed", "reason"),
    [
        ("B", True, "decode_failed:empty"),
        ("[GENERATION_FAILED] out of memory", False, "generation_failed"),
        (failed_reply("out_of_memory", "30 GiB: asked"), False, "generation_failed:out_of_memory"),
        ("[LMMS_EVAL_REQUEST_FAILED after 5 retries] B", False, "generation_failed"),
    ],
)
def test_a_failure_is_no_zero(clip: Clip, reply: str, failed: bool, reason: str) -> None:
    seen: Clip | ClipError = ClipError("empty", "1.mp4 has zero bytes") if failed else clip
    score = score_choice(CHOICE, Response.read(reply, seen))
    assert (score.percent, score.compat, score.unscored) == (None, 0, reason)
    metrics = as_metrics(CHOICE, score, seen, None)
    assert "score" not in metrics["percent"] and metrics["n_unscored"] == reason
    assert metrics["chance"] is None and metrics["invalid"] is None
    [route] = score_route([ROUTE], [Response.read(reply, seen)], Strict())
    assert (route.percent, route.compat, route.unscored) == (None, 0, reason)


def test_routes_are_judged_in_one_batch_and_keep_their_order(clip: Clip) -> None:
    replies = [ROUTE.answer, "[GENERATION_FAILED] x", "unreadable", "Turn right."]
    scores = score_route([ROUTE] * 4, [Response.read(reply, clip) for reply in replies], Strict())
    assert [s.percent for s in scores] == [100, None, None, 0]
    assert [s.unscored for s in scores] == [None, "generation_failed", "judge_failed:unreadable", None]
    assert [s.compat for s in scores] == [100, 0, 0, 0], "the reference turns errors into 0"
    metrics = as_metrics(ROUTE, scores[2], clip, None)
    assert metrics["judge_failed"] == "unreadable" and metrics["direction"] is None
    assert metrics["percent"]["judgement"]["text"] == "mumble"
    assert as_metrics(ROUTE, scores[0], clip, None)["direction"] == 5


class Compat(Strict):
    """A judge that was asked in the reference's form: it could be read there, and here only the second time."""

    def __call__(self, items: Sequence[RouteItem]) -> list[Judgement | JudgeFailure]:
        unreadable = JudgeFailure("s", "bad_scores", "{'direction': 4.5, ...}", self.name, compat=250 / 3)
        return [unreadable, Judgement("s", 1, 1, 1, "", self.name, compat=0.0)][: len(items)]


def test_compat_counts_what_the_reference_reads_in_the_judges_reply(clip: Clip) -> None:
    scores = score_route([ROUTE] * 2, [Response.read("Turn left.", clip)] * 2, Compat())
    assert [(s.percent, s.compat, s.unscored) for s in scores] == [
        (None, pytest.approx(83.3333), "judge_failed:bad_scores"),
        (20, 0, None),
    ]


def test_the_record_holds_what_was_seen(clip: Clip) -> None:
    record = as_metrics(CHOICE, score_choice(CHOICE, Response.read("B", clip)), clip, None)["percent"]
    assert record["score"] == 100 and record["frames"]["pixels_sha256"] == clip.manifest.pixels_sha256
    assert record["frames"]["protocol"] == "uniform8" and len(record["frames"]["indices"]) == 8
    assert record["choice"] == {"letter": "B", "how": "letter"}


@pytest.mark.parametrize(
    ("reply", "prediction"),
    [
        ("Turn left.", "Turn left."),
        ("<think>Maybe right.</think> Turn left. ", "Turn left."),
        ("<think>x</think><answer> Turn left. </answer>", "Turn left."),
        ("<think>It goes on and on", ""),
        ("", ""),
        ("<answer> </answer>", ""),
        ("<answer>Turn right.</answer> No: <answer>Turn left.</answer>", "Turn left."),
    ],
)
def test_the_description_in_a_reply(reply: str, prediction: str) -> None:
    assert route_prediction(reply) == prediction
