"""The judge's contract: scores in range, failures apart, a judge by its name."""

from __future__ import annotations

from typing import get_args

import pytest

from egost.tasks.judging.choose import chosen_judge, get_judge
from egost.tasks.judging.judge import JudgeError, JudgeFailure, Judgement, RouteItem, judge_empty
from egost.tasks.sample import World

WORLDS: tuple[World, ...] = get_args(World)


def item(prediction: str, reference: str = "Turn left at the sofa.") -> RouteItem:
    return RouteItem("Part1/route_forward/1", "Describe the route.", reference, prediction, "forward")


def test_percent_is_the_mean_of_three_times_twenty() -> None:
    assert Judgement("s", 5, 5, 5, "", "j").percent == 100
    assert Judgement("s", 0, 0, 0, "", "j").percent == 0
    assert Judgement("s", 2, 3, 5, "", "j").percent == pytest.approx((2 + 3 + 5) / 3 * 20)


@pytest.mark.parametrize("score", [-1, 6, 2.5, "3", None, True])
def test_a_score_out_of_range_is_refused(score: object) -> None:
    with pytest.raises(JudgeError, match=r"landmark=.*sample s.*0 to 5"):
        Judgement("s", 5, score, 5, "", "j")  # type: ignore[arg-type]


@pytest.mark.parametrize("prediction", ["", "  \n\t"])
def test_an_empty_prediction_is_zero_by_rule_and_flagged(prediction: str) -> None:
    verdict = judge_empty(item(prediction), "j")
    assert verdict is not None and verdict.empty and verdict.percent == 0
    assert get_judge("offline")([item(prediction)])[0] == judge_empty(item(prediction), "offline-rubric-3")
    assert judge_empty(item("left"), "j") is None


def test_an_empty_reference_is_unscored_and_not_zero() -> None:
    [verdict] = get_judge("offline")([item("Turn left.", reference=" ")])
    assert verdict == JudgeFailure("Part1/route_forward/1", "empty_reference", "", "offline-rubric-3")


def test_a_batch_keeps_its_order_and_length() -> None:
    judge = get_judge("offline")
    verdicts = judge([item("Turn left at the sofa."), item(""), item("Turn right at the sofa.")])
    assert [v.direction for v in verdicts if isinstance(v, Judgement)] == [5, 0, 0]
    assert judge([]) == []
    assert {v.judge for v in verdicts} == {judge.name}


def test_the_mini_world_has_a_judge_without_asking_and_the_benchmark_has_not() -> None:
    assert chosen_judge("mini").name == "offline-rubric-3"
    with pytest.raises(JudgeError, match=r"EGOST_JUDGE=gpt-4o and OPENAI_API_KEY.*EGOST_JUDGE=offline"):
        chosen_judge("official")


def test_the_environment_names_the_judge_of_both_worlds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EGOST_JUDGE", "offline")
    assert chosen_judge("official").name == "offline-rubric-3"
    monkeypatch.setenv("EGOST_JUDGE", "no-such-judge")
    for world in WORLDS:
        with pytest.raises(JudgeError, match=r"'no-such-judge'.*offline.*openai:MODEL@BASE_URL"):
            chosen_judge(world)


def test_a_judge_behind_a_server_wants_its_key_before_anything_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.setenv("EGOST_JUDGE", "gpt-4o")
    with pytest.raises(JudgeError, match="gpt-4o-2024-08-06 needs a key: set OPENAI_API_KEY"):
        chosen_judge("official")


def test_the_same_name_is_the_same_judge_and_repeats_are_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = "openai:m@http://127.0.0.1:9/v1"
    assert get_judge(spec) is get_judge(spec)
    assert get_judge(spec) is not get_judge(spec, repeats=2)
    monkeypatch.setenv("EGOST_JUDGE_REPEATS", "2")
    assert get_judge(spec) is get_judge(spec, repeats=2)
    monkeypatch.setenv("EGOST_JUDGE_REPEATS", "some")
    with pytest.raises(JudgeError, match="EGOST_JUDGE_REPEATS is 'some'"):
        get_judge(spec)
