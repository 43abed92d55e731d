"""Both readings of a reply: hand-written replies with their expected letters, and what must always hold."""

from __future__ import annotations

import json
import random
import time
from typing import Any

import pytest
from places import GOLDEN, ROOT

from egost.tasks.sample import chance_level
from egost.tasks.scoring.choices import Choice, compat_choice, strict_choice
from egost.tasks.text_files import lines_of

GOLDEN = [json.loads(line) for line in lines_of(GOLDEN / "replies.jsonl")]
TURNS = [
    "turn left, go straight",
    "turn right, go straight",
    "go straight, turn left",
    "turn around, go straight",
]


def test_corpus_is_large_and_holds_every_state() -> None:
    assert len(GOLDEN) >= 600
    invalid = [row for row in GOLDEN if row["strict"] is None]
    assert 3 * len(invalid) >= len(GOLDEN) and all(row["why"] for row in invalid)
    assert len({(row["reply"], *row["options"]) for row in GOLDEN}) == len(GOLDEN)
    assert {row["how"] for row in GOLDEN} == {
        "answer_tag", "declaration", "letter", "option_text",
        "empty", "truncated_think", "no_declaration", "letter_not_offered", "ambiguous",
    }  # fmt: skip


@pytest.mark.parametrize("row", GOLDEN, ids=lambda row: row["reply"][:40])
def test_golden_reply(row: dict[str, Any]) -> None:
    assert strict_choice(row["reply"], row["options"]) == Choice(row["strict"], row["how"])
    assert compat_choice(row["reply"]) == row["compat"]


def test_strict_never_returns_a_letter_that_is_not_offered() -> None:
    rng = random.Random(0)
    pieces = [
        "A", "B", "C", "D", "E", "(B)", "b)", "the answer is ", "Answer: ", "I choose ", "so ", " or ", "not ", ". ",
        "\n", "<answer>", "</answer>", "<think>", "</think>", "**C**", "答案是", "D is correct. ", "toy birdhouse",
    ]  # fmt: skip
    for _ in range(4000):
        reply = "".join(rng.choices(pieces, k=rng.randint(0, 9)))
        options = [f"place {i}" for i in range(rng.randint(1, 5))]
        choice = strict_choice(reply, options)
        offered = "ABCDE"[: len(options)]
        assert choice.letter is None or choice.letter in offered, reply
        assert (choice.letter is None) == (
            choice.how not in ("answer_tag", "declaration", "letter", "option_text")
        ), reply


def test_every_option_of_a_question_can_be_chosen_in_every_common_form() -> None:
    forms = [
        "{x}",
        "({x})",
        "{x}.",
        "{x}. {text}",
        "{text}",
        "The answer is {x}.",
        "<answer>{x}</answer>",
        "**{x}**",
    ]
    for n in (1, 2, 3, 4):
        for letter, text in zip("ABCD", TURNS[:n], strict=False):
            for form in forms:
                reply = form.format(x=letter, text=text)
                assert strict_choice(reply, TURNS[:n]).letter == letter, reply


@pytest.mark.parametrize(
    ("reply", "letter", "how"),
    [
        ("The answer is B?", None, "no_declaration"),
        ("Is it B?", None, "no_declaration"),
        ("- B. Turn right", None, "ambiguous"),
        ("- B. Turn left at Gate A", "B", "letter"),
        ("B. Turn left at Gate A", "B", "letter"),
        ("B. Turn right", None, "ambiguous"),
    ],
)
def test_a_letter_with_a_question_mark_or_another_options_text_is_none(
    reply: str, letter: str | None, how: str
) -> None:
    assert strict_choice(reply, ["Turn right", "Turn left at Gate A"]) == Choice(letter, how)


def test_thinking_never_changes_the_choice() -> None:
    for row in GOLDEN:
        if row["how"] == "truncated_think" or "think" in row["reply"].lower():
            continue
        prefixed = f"<think>The answer is A. <answer>B</answer> I choose C.</think>{row['reply']}"
        assert strict_choice(prefixed, row["options"]) == Choice(row["strict"], row["how"])


LONG = [
    ("The wearer passes the kitchen table and turns left near the window. " * 1600 + "The answer is C.", "C"),
    ("<think>" + "Option A is close; so is B. " * 4000 + "</think><answer>D</answer>", "D"),
    ("A. turn left, go straight\n" * 4000 + "Answer: B", "B"),
    ("so the option the " * 6000, None),
    ("the answer is " * 7500, None),
    ("<think>" * 15000, None),
    ("<answer>" * 13000, None),
    ("<answer>A" * 11000, "A"),
    (" " * 100_000 + "B" + "\n" * 100_000, "B"),
    ("(" * 100_000, None),
    ("选" * 100_000, None),
]


def cost(reply: str) -> float:
    """Seconds of CPU for both readings. The least of many tries: other processes empty the caches meanwhile."""

    def seconds() -> float:
        start = time.process_time()
        strict_choice(reply, TURNS)
        compat_choice(reply)
        return time.process_time() - start

    return min(seconds() for _ in range(10))


@pytest.mark.parametrize(("reply", "letter"), LONG, ids=lambda value: str(value)[:20])
def test_the_time_of_a_long_reply_grows_no_faster_than_its_length(reply: str, letter: str | None) -> None:
    assert strict_choice(reply, TURNS).letter == letter
    # Twice the length takes twice the time at most; four times would be quadratic.
    assert cost(reply) < 3 * cost(reply[: len(reply) // 2]) + 0.002


def test_chance_level_is_the_mean_of_one_in_n() -> None:
    assert chance_level([4, 2, 1]) == pytest.approx((0.25 + 0.5 + 1) / 3)
    assert chance_level(iter([4] * 511 + [3] * 102 + [2] * 16 + [1])) == pytest.approx(0.271, abs=5e-4)


@pytest.mark.parametrize("counts", [[], [4, 0]])
def test_chance_level_refuses_a_question_without_options(counts: list[int]) -> None:
    with pytest.raises(ValueError, match="at least one question"):
        chance_level(counts)


CASES = ROOT.parent / "shared" / "cases" / "mcq_replies.jsonl"


@pytest.mark.skipif(not CASES.exists(), reason="the handed-over replies are not here")
def test_the_handed_over_replies() -> None:
    for line in lines_of(CASES):
        case = json.loads(line)
        assert strict_choice(case["reply"], case["options"]).letter == case["should_be"], case["id"]
