from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from release_files import write_video

from egost.tasks.clips.clips import Clip, get_clip
from egost.tasks.clips.protocols import parse_protocol
from egost.tasks.errors import ClipError
from egost.tasks.judging.choose import get_judge
from egost.tasks.judging.judge import JudgeFailure, Judgement, RouteItem
from egost.tasks.response_text import route_prediction
from egost.tasks.sample import Sample
from egost.tasks.scoring.generation_notes import Generation
from egost.tasks.scoring.scores import (
    NO_REPLY,
    Response,
    Score,
    as_metrics,
    count_scored,
    count_with_reason,
    failed_reply,
    judge_stopped,
    mean_of_scored,
    route_items,
    score_choice,
    score_route,
    total,
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


GENERATION = Generation("vllm", "m", "abc", {"seed": 1}, "length", True, 900, 16, 700, False, None)


def test_the_metrics_of_a_choice(clip: Clip) -> None:
    metrics = as_metrics(CHOICE, score_choice(CHOICE, Response.read("A", clip)), clip, GENERATION)
    record = metrics.pop("percent")
    assert metrics == {
        "compat": 0.0,
        "score": 0.0,
        "truncated": 100.0,
        "n_scored": 1,
        "n_unscored": None,
        "spatiotemporal": 0.0,
        "chance": pytest.approx(100 / 3),
        "invalid": 0.0,
    }
    assert record == {
        "sample_id": "Part1/direction_forward/1",
        "clip": "1.mp4",
        "clip_id": "Part1/1.mp4",
        "source": "outdoor",
        "question": "Where to?",
        "options": ["left", "right", "on"],
        "choice": {"letter": "A", "how": "letter"},
        "compat_letter": "A",
        # What an engine does not tell is left out.
        "generation": {
            k: v for k, v in asdict(GENERATION).items() if k not in ("reasoning", "cached_tokens")
        },
        "unscored": None,
        "judgement": None,
        "score": 0.0,
        "frames": asdict(clip.manifest),
    }
    landmark = replace(CHOICE, task="landmark")
    other = as_metrics(
        landmark, score_choice(landmark, Response("?")), clip, replace(GENERATION, truncated=False)
    )
    assert "spatiotemporal" not in other
    assert (other["invalid"], other["truncated"], other["percent"]["choice"]["letter"]) == (100.0, 0.0, None)
    no_clip = ClipError("empty", "1.mp4 has zero bytes")
    unscored = as_metrics(CHOICE, score_choice(CHOICE, Response.read("B", no_clip)), no_clip, None)
    assert unscored["percent"]["clip_error"] == str(no_clip) and "frames" not in unscored["percent"]
    assert (
        unscored["percent"]["choice"] is unscored["percent"]["compat_letter"] is unscored["truncated"] is None
    )
    assert unscored["percent"]["generation"] is None


def test_the_metrics_of_a_route(clip: Clip) -> None:
    judgement = Judgement("s", 1, 2, 3, "why", "j")
    metrics = as_metrics(ROUTE, Score(40.0, 30.0, judgement=judgement), clip, None)
    record = metrics.pop("percent")
    as_saved = {name: value for name, value in asdict(judgement).items() if name != "votes"}
    assert (record["score"], record["judgement"], record["choice"]) == (40.0, as_saved, None)
    assert metrics == {
        "compat": 30.0,
        "score": 0.4,
        "truncated": None,
        "n_scored": 1,
        "n_unscored": None,
        "spatiotemporal": 40.0,
        "direction": 1,
        "landmark": 2,
        "semantic": 3,
        "empty": 0.0,
        "judge_failed": None,
    }
    [empty] = score_route([ROUTE], [Response("")], get_judge("offline"))
    assert (empty.percent, empty.compat) == (0, None), "the reference leaves it out"
    assert as_metrics(ROUTE, empty, clip, None)["empty"] == 100.0
    stopped = judge_stopped(ROUTE, get_judge("offline"), RuntimeError("no key"))
    assert (stopped.percent, stopped.compat, stopped.unscored) == (None, None, "judge_failed:judge_stopped")
    assert stopped.judgement == JudgeFailure(ROUTE.id, "judge_stopped", "no key", "offline-rubric-3")
    failed = as_metrics(ROUTE, stopped, clip, None)
    assert failed["judge_failed"] == "judge_stopped"
    assert (failed["direction"], failed["landmark"], failed["semantic"], failed["empty"]) == (None,) * 4


def test_what_a_judge_is_asked() -> None:
    reply = "<think>right</think> Turn left."
    assert route_items([ROUTE, ROUTE], [Response("x", "generation_failed"), Response(reply)]) == [
        RouteItem("Part1/route_reverse/1", "Describe it.", "Turn left at the door.", "Turn left.", "reverse")
    ]
    with pytest.raises(ValueError, match="zip"):
        route_items([ROUTE], [])


def test_what_an_adapter_returns_where_it_got_nothing() -> None:
    assert failed_reply("too_long", "9 tokens") == "[GENERATION_FAILED] too_long: 9 tokens"
    assert Response.read(NO_REPLY, None) == Response(NO_REPLY, "generation_failed")
    assert Response.read("so [GENERATION_FAILED] x", None) == Response("so [GENERATION_FAILED] x")
    assert Response.read("B", None).unscored is None
    score = score_choice(CHOICE, Response("", "generation_failed"))
    assert score == Score(None, 0.0, "generation_failed")


def test_the_figures_of_a_task() -> None:
    """(100 + 50 + 0) / 3: what has no score counts in neither sum nor number, and a 0 counts in both."""
    assert mean_of_scored([{"score": 100.0}, {"unscored": "x"}, 50.0, None, 0.0]) == 50.0
    assert mean_of_scored([80.0]) == 80.0 and math.isnan(mean_of_scored([None, {}]))
    assert total([{"n": 2.5}, {"n": 0.5}, {"n": -1.0}]) == 2.0
    assert (count_scored([1, 0, 1, 1]), count_with_reason([None, "decode_failed:empty", None, None])) == (
        3,
        1,
    )


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
        ("</answer> Turn left. ", "Turn left."),
    ],
)
def test_the_description_in_a_reply(reply: str, prediction: str) -> None:
    assert route_prediction(reply) == prediction
