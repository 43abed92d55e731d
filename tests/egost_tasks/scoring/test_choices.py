"""Both readings of a reply: hand-written replies with their expected letters, and what must always hold."""

from __future__ import annotations

import random
import time
from typing import Any

import pytest
from places import GOLDEN, ROOT

from egost.tasks.sample import chance_level
from egost.tasks.scoring.answer_patterns import dressed_letter
from egost.tasks.scoring.choices import Choice, compat_choice, strict_choice
from egost.tasks.text_files import json_lines

GOLDEN = [row for _, row in json_lines(GOLDEN / "replies.jsonl")]
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


def test_golden_replies() -> None:
    def read(row: dict[str, Any]) -> tuple[Choice, str | None]:
        return strict_choice(row["reply"], row["options"]), compat_choice(row["reply"])

    wrong = [
        (row, read(row)) for row in GOLDEN if read(row) != (Choice(row["strict"], row["how"]), row["compat"])
    ]
    assert not wrong


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


DECLARATIONS = r"""
The answer is B.|B
My choice is (C)|C
The option is D|D
My selection: B|B
pick: C|C
The solution is D|D
Response: B|B
Conclusion: C|C
My guess is D|D
The answer letter is B|B
The answer here is C|C
The answer to this question is D|D
The answer for the question is B|B
The option was C|C
The answer should be D|D
The answer has to be B|B
The answer must be most likely C|C
The answer seems to be D|D
answer -> B|B
answer => C|C
answer → D|D
"answer": "B"|B
The answer is the correct option C|C
### Answer B|B
The final answer (C)|C
Each answer is B|None
Ans. C|C
ans: D|D
Ans - B|B
The correct one is C|C
The best match is D|D
The closest description is B|B
The most accurate sequence is C|C
The most plausible route is D|D
Correct: B|B
Final: C|C
Selected: D|D
Selection: B|B
Correction: C|C
Corrected answer D|D
$\boxed{B}$|B
\boxed{\text{C}}|C
答案是D|D
答案应该是B|B
正确选项为C|C
我认为是D|D
我觉得选B|B
因此C|C
所以D|D
应该选B|B
我选择的是C|C
不选D|None
I choose B|B
I am choosing C|C
I chose D|D
I pick B|B
I'm picking C|C
I select D|D
I'd go with B|B
I am going for C|C
I went with D|D
I opt for B|B
I settle on C|C
I vote for D|D
I will answer with B|B
I would say C|C
I guess D|D
I think it's B|B
I believe that it must be C|C
I think it is D|D
It is B|B
It must be C|C
This would be D|D
That has to be B|B
Which leaves C|C
This leaves us with only D|D
leaving B|B
So, C|C
Therefore D|D
Thus: B|B
Hence, C|C
Finally, D|D
=> B|B
∴ C|C
⇒ D|D
i.e. B|B
Namely, C|C
The answer is A. No, wait, B|B
The answer is A. Actually, it's C|C
The answer is A. Sorry, I meant D|D
The answer is A. On second thought, B|B
The answer is A. Scratch that, C|C
The answer is A. Rather D|D
The answer is A. Actually make that B|B
The walk matches option C|C
This corresponds to option D|D
It is consistent with option B|B
The clip points to choice C|C
The video agrees with answer D|D
This fits the option B|B
It supports option C|C
It aligns with option D|D
The walk is described by option B|B
Only the first turn matches option C|None
The last landmark matches option D|None
The answer is not B but C|C
The answer is not A, but rather D|D
B is correct|B
C must be the right answer|C
(D) is clearly the best option|D
B seems to be the most likely choice|B
C is the one that fits|C
D is the option which matches the video|D
B is most consistent|B
C is the most plausible|C
D ist die richtige|D
B est correcte|B
C es correcta|C
D é correta|D
B is fully consistent with the video|B
C best matches the clip|C
D matches best|D
B是正确|B
C 选项是对的|C
A or B is correct|None
B is not correct|None
The answer is not B|None
I do not think the answer is B|None
If the answer is D, the walker turned|None
I wonder whether the answer is B|None
I doubt the answer is C|None
如果答案是D|None
The answer is B or C|None
The answer is B/C|None
The answer is B and C|None
The answer is either B or C|None
The answer is a left turn|None
The answer is A left turn|None
The answer is A because it turns|A
I think B is wrong|None
So B is wrong|None
I choose turn around, go straight|D
The answer is turn right, go straight|B
I choose the turn around, go straight|D
The answer is B. turn left, go straight|None
The answer is b|B
The answer is "c"|C
The answer is 「D」|D
The answer is option D|D
답은 B가 아닙니다|None
"""
"""A response, and behind the bar the letter that it declares among `TURNS`."""


@pytest.mark.parametrize("line", DECLARATIONS.strip().splitlines())
def test_the_letter_that_a_sentence_declares(line: str) -> None:
    reply, _, letter = line.rpartition("|")
    assert str(strict_choice(reply, TURNS).letter) == letter


def test_a_letter_in_its_dress_fills_a_short_line() -> None:
    assert (
        dressed_letter("-" * 79 + "B")
        == dressed_letter("(b).")
        == dressed_letter("Probably the option B")
        == "B"
    )
    assert dressed_letter("-" * 80 + "B") is dressed_letter("B C") is dressed_letter("") is None


@pytest.mark.parametrize(
    ("reply", "options", "letter", "how"),
    [
        ("A) Incorrect.\nB) Correct.", 2, "B", "declaration"),
        ("A) Incorrect.\nB) Correct.", 1, None, "letter_not_offered"),
        ("A) Correct.\nB) Incorrect.\nC) Wrong.", 3, "A", "declaration"),
        ("A) Correct.\nB) Correct.", 2, None, "ambiguous"),
        ("A ✗\nB ✗\nC ✓", 3, "C", "declaration"),
        ("A) turn left, go straight: no\nB) turn right, go straight: yes", 2, "B", "declaration"),
        ("A) No.\nB) Perhaps.", 2, None, "ambiguous"),
        ("A\nB", 2, None, "ambiguous"),
        ("I looked at it.\nB", 2, "B", "declaration"),
        ("It is **B** then", 2, "B", "declaration"),
        ("**A** against **B**", 2, None, "ambiguous"),
        ("not **B**", 2, None, "no_declaration"),
    ],
)
def test_options_in_turn_alone_and_in_bold(reply: str, options: int, letter: str | None, how: str) -> None:
    assert strict_choice(reply, TURNS[:options]) == Choice(letter, how)


def test_thinking_never_changes_the_choice() -> None:
    for row in GOLDEN:
        if row["how"] == "truncated_think" or "think" in row["reply"].lower():
            continue
        prefixed = f"<think>The answer is A. <answer>B</answer> I choose C.</think>{row['reply']}"
        assert strict_choice(prefixed, row["options"]) == Choice(row["strict"], row["how"])


LONG = [
    ("The wearer passes the kitchen table and turns left near the window. " * 400 + "The answer is C.", "C"),
    ("<think>" + "Option A is close; so is B. " * 1000 + "</think><answer>D</answer>", "D"),
    ("A. turn left, go straight\n" * 1000 + "Answer: B", "B"),
    ("so the option the " * 1500, None),
    ("the answer is " * 1875, None),
    ("<think>" * 3750, None),
    ("<answer>" * 3250, None),
    ("<answer>A" * 2750, "A"),
    (" " * 25_000 + "B" + "\n" * 25_000, "B"),
    ("(" * 25_000, None),
    ("选" * 25_000, None),
]


def cost(reply: str) -> float:
    """Seconds of CPU for both readings."""
    start = time.process_time()
    strict_choice(reply, TURNS)
    compat_choice(reply)
    return time.process_time() - start


@pytest.mark.parametrize(("reply", "letter"), LONG, ids=lambda value: str(value)[:20])
def test_the_time_of_a_long_reply_grows_no_faster_than_its_length(reply: str, letter: str | None) -> None:
    assert strict_choice(reply, TURNS).letter == letter
    # Eight times the length would take 64 times as long if it were quadratic. A busy machine triples no ratio.
    # The least of several tries counts: other processes empty the caches meanwhile.
    bound = 30 * min(cost(reply[: len(reply) // 8]) for _ in range(5)) + 0.005
    assert any(cost(reply) < bound for _ in range(5))


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
    for _, case in json_lines(CASES):
        assert strict_choice(case["reply"], case["options"]).letter == case["should_be"], case["id"]
