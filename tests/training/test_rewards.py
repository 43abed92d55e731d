"""The reward of a completion is the score that an evaluation gives the same text."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pytest
from places import GOLDEN

from egost.tasks.judging.judge import JudgeFailure, Judgement, RouteItem
from egost.tasks.judging.rubric import OfflineRubric
from egost.tasks.sample import Sample
from egost.tasks.scoring.scores import Response, score_choice, score_route
from egost.training.rewards import Rewards, follows_format
from egost.training.rows.training_rows import TrainingRow

REPLIES = GOLDEN / "replies.jsonl"

CHOICE = Sample("c", "landmark", "forward", 1, "1.mp4", "Which?", ("a door", "a desk", "a tree"), "B")
ROUTE = Sample(
    "r", "route", "forward", 1, "1.mp4", "Describe.", (), "Turn left at the door, then turn right."
)
ROWS = (TrainingRow(CHOICE, "", ""), TrainingRow(ROUTE, "", ""))


def test_accuracy_is_the_scorers_own_verdict_on_every_golden_reply() -> None:
    replies = [json.loads(line)["reply"] for line in REPLIES.read_text(encoding="utf-8").splitlines()]
    counted: dict[str, float] = {}
    earned = Rewards(ROWS, None).accuracy(
        completions=replies, row=[0] * len(replies), log_metric=counted.__setitem__
    )
    scores = [score_choice(CHOICE, Response(reply)) for reply in replies]
    assert earned == [score.percent / 100 for score in scores]
    assert 0 < sum(earned) < len(earned)
    assert counted == {"completions/invalid": sum(s.choice.letter is None for s in scores)}


def test_a_stray_letter_before_the_answer_earns_nothing() -> None:
    replies = ["<think>B</think> <answer>A</answer>", "B or A", "<think>B", ""]
    assert Rewards(ROWS, None).accuracy(completions=replies, row=[0] * 4, log_metric=_ignore) == [0.0] * 4


@pytest.mark.parametrize(
    ("reply", "strict", "as_released"),
    [
        ("<think>left</think> <answer>B</answer>", 1.0, 1.0),
        # Thinking that never closes: nothing was answered here, and the released code does not look.
        ("<think>the door is first <answer>B</answer>", 0.0, 1.0),
        ("<think>left</think> <answer>\nB. a desk</answer>", 1.0, 1.0),
        ("<think>left</think> <answer>a desk</answer>", 1.0, 0.0),
        ("<answer>A</answer> <answer>B</answer>", 1.0, 0.0),
        ("<answer> </answer>", 0.0, 0.0),
        ("<answer>B", 1.0, 0.0),
        ("B", 1.0, 0.0),
        ("", 0.0, 0.0),
    ],
)
def test_a_choice_is_read_as_the_evaluation_or_as_the_released_code(
    reply: str, strict: float, as_released: float
) -> None:
    for reads, earned in (("strict", strict), ("as_released", as_released)):
        rewards = Rewards(ROWS, None, reads)  # type: ignore[arg-type]
        assert rewards.accuracy(completions=[reply], row=[0], log_metric=_ignore) == [earned], reads


def test_what_the_released_code_cannot_read_is_counted() -> None:
    counted: dict[str, float] = {}
    replies = ["<answer>B</answer>", "B", "<answer></answer>"]
    Rewards(ROWS, None, "as_released").accuracy(
        completions=replies, row=[0] * 3, log_metric=counted.__setitem__
    )
    assert counted == {"completions/invalid": 2}


def test_a_route_earns_the_judges_score() -> None:
    judge = OfflineRubric()
    replies = ["<think>x</think> <answer>Turn left at the door, then turn right.</answer>", "Turn right.", ""]
    earned = Rewards(ROWS, judge).route(completions=replies, row=[1] * 3, log_metric=_ignore)
    scores = score_route([ROUTE] * 3, [Response(reply) for reply in replies], judge)
    assert earned == [score.percent / 100 for score in scores]
    assert earned[0] == 1.0 > earned[1] > earned[2] == 0.0


def test_a_mixed_batch_is_rewarded_by_task() -> None:
    rewards = Rewards(ROWS, OfflineRubric())
    batch = {
        "completions": ["B", "Turn left at the door, then turn right."],
        "row": [0, 1],
        "log_metric": _ignore,
    }
    assert rewards.accuracy(**batch) == [1.0, None]
    assert rewards.route(**batch) == [None, 1.0]


class HalfBroken:
    """A judge whose server gives an unreadable reply about every second route."""

    name = "half-broken"
    usage = None

    def start(self, items: Sequence[RouteItem]) -> None: ...

    def __call__(self, items: Sequence[RouteItem]) -> list[Judgement | JudgeFailure]:
        return [
            JudgeFailure(item.sample_id, "parse_failure", "?", self.name)
            if i % 2
            else Judgement(item.sample_id, 3, 3, 3, "", self.name)
            for i, item in enumerate(items)
        ]


def test_a_failed_judgement_is_none_and_counted() -> None:
    counted: dict[str, float] = {}
    earned = Rewards(ROWS, HalfBroken()).route(
        completions=["Turn left."] * 4, row=[1] * 4, log_metric=counted.__setitem__
    )
    assert earned == [0.6, None, 0.6, None]
    assert counted == {"completions/judge_failed": 2}


@pytest.mark.parametrize(
    ("text", "follows"),
    [
        ("<think>left</think> <answer>B</answer>", True),
        ("<think>left</think><answer> B </answer>\n", True),
        ("<think>left</think> <answer>B. a desk</answer>", False),
        ("<think>left</think> <answer>D</answer>", False),
        ("<think> </think> <answer>B</answer>", False),
        ("<think>a</think> <think>b</think> <answer>B</answer>", False),
        ("B <think>left</think> <answer>B</answer>", False),
        ("<answer>B</answer>", False),
        ("<think>left <answer>B</answer>", False),
        ("<think>x</think> <answer>B</answer> and more", False),
        ("<think>one\ntwo</think>\n<answer>\nC\n</answer>", True),
        ("<think>x</think> so <answer>B</answer>", False),
        ("<think>x</think> <answer></answer>", False),
        ("<think>x</think> <answer>AB</answer>", False),
        ("<think>x <answer>y</think> <answer>B</answer>", False),
    ],
)
def test_the_format_reward_wants_each_tag_once(text: str, follows: bool) -> None:
    assert follows_format(CHOICE, text) is follows
    assert Rewards(ROWS, None).format(completions=[text], row=[0]) == [float(follows)]


def test_the_format_of_a_route_takes_any_text_as_its_answer() -> None:
    assert follows_format(ROUTE, "<think>x</think> <answer>Turn left.</answer>")
    assert not follows_format(ROUTE, "<think>x</think> <answer> </answer>")


def test_an_invalid_reply_earns_nothing_and_is_counted() -> None:
    counted: dict[str, float] = {}
    replies = ["B", "Turn left.", "perhaps", "A or B"]
    rewards = Rewards(ROWS, None)
    earned = rewards.accuracy(completions=replies, row=[0, 1, 0, 0], log_metric=counted.__setitem__)
    assert earned == [1.0, None, 0.0, 0.0] and counted == {"completions/invalid": 2}
    assert rewards.route(completions=replies, row=[0, 1, 0, 0], log_metric=_ignore) == [None] * 4, "no judge"
    assert Rewards(ROWS, HalfBroken()).route(completions=["B"], row=[0], log_metric=_ignore) == [None]
    for reward in (rewards.accuracy, rewards.format, rewards.route):
        with pytest.raises(ValueError, match="zip"):
            reward(completions=["B", "B"], row=[0], log_metric=_ignore)


def _ignore(_name: str, _value: float) -> None: ...
