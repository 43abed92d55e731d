"""The released code's rules, typed a second time from their description, against ours on random inputs.

Nothing here shares a line with what it checks: exact fractions and whole numbers where ours take floating point,
loops where ours take patterns.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from fractions import Fraction
from statistics import fmean

from places import ROOT

from egost.results.published_tables import published_table
from egost.results.records import SampleRecord
from egost.results.run import read_run
from egost.tasks.clips.protocols import parse_protocol, ref_internvl, ref_qwen, uniform
from egost.tasks.judging.prompt import compat_percent
from egost.tasks.scoring.choices import compat_choice


def eight_of(frames: Sequence[int]) -> list[int]:
    return [frames[(len(frames) - 1) * i // 7] for i in range(8)]


def nearest_even(value: Fraction) -> int:
    below, rest = divmod(value, 1)
    return int(below) + (rest > Fraction(1, 2) or (rest == Fraction(1, 2) and below % 2 == 1))


def is_a_tie(value: Fraction, scale: int) -> bool:
    """Whether single precision may round a number of this scale the other way."""
    return abs(value % 1 - Fraction(1, 2)) < Fraction(scale, 2**22)


def test_one_frame_a_second_and_then_eight_of_them() -> None:
    draw = random.Random(1)
    compared = 0
    for _ in range(1000):
        frames, rate = draw.randint(2, 20_000), draw.choice([10, 24, 25, 30, 60])
        seconds = frames // rate if frames % rate == 0 else Fraction(frames, rate)
        wanted = min(max(seconds, 4), 768, frames)
        number = max(2, int(wanted) // 2 * 2)
        exact = [Fraction((frames - 1) * i, number - 1) for i in eight_of(range(number))]
        if any(is_a_tie(value, frames) for value in exact):
            continue
        compared += 1
        assert ref_qwen(frames, frames / rate) == [nearest_even(value) for value in exact], (frames, rate)
    assert compared > 700


def test_eight_of_all_frames_and_the_middles_of_eight_segments() -> None:
    for frames in (1, 2, 7, 8, 9, 300, *random.Random(2).sample(range(1, 100_000), 500)):
        assert uniform(frames) == eight_of(range(frames))
        segment = Fraction(frames - 1, 8)
        assert ref_internvl(frames) == [int(segment / 2 + nearest_even(segment * i)) for i in range(8)]


def in_patches(width: int, height: int, least: int, most: int) -> tuple[int, int]:
    """By whole numbers alone: (28 k)^2 x pixels is compared with side^2 x limit, so that no root is taken."""
    pixels = width * height

    def patches(side: int, fits: Callable[[int], bool]) -> int:
        return next(k for k in range(1, 2 * side + 200) if fits(k))

    near = [nearest_even(Fraction(side, 28)) for side in (width, height)]
    if near[0] * near[1] * 784 > most:
        # The last number of patches that is not too large is the one before the first that is.
        near = [
            patches(side, lambda k, side=side: ((k + 1) * 28) ** 2 * pixels > side**2 * most)  # type: ignore[misc]
            for side in (width, height)
        ]
    elif near[0] * near[1] * 784 < least:
        near = [
            patches(side, lambda k, side=side: (k * 28) ** 2 * pixels >= side**2 * least)  # type: ignore[misc]
            for side in (width, height)
        ]
    return near[0] * 28, near[1] * 28


def test_frames_between_128_patches_and_360_by_420() -> None:
    protocol = parse_protocol("ref-qwen+cap100352-151200")
    draw = random.Random(3)
    for _ in range(500):
        width, height = draw.randint(60, 2600), draw.randint(60, 2600)
        if max(width, height) > 8 * min(width, height):
            continue
        assert protocol.frame_size(width, height) == in_patches(width, height, 100352, 151200), (
            width,
            height,
        )
    assert in_patches(704, 704, 100352, 151200) == (364, 364)
    assert in_patches(320, 240, 100352, 151200) == (392, 280)


def first_letter(reply: str) -> str | None:
    start = reply.find("<answer>")
    end = reply.find("</answer>", start)
    text = reply[start + len("<answer>") : end] if start >= 0 and end >= 0 else reply
    for character in text:
        if character in ("A", "B", "C", "D"):
            return character
    return None


def test_the_letter_is_the_first_of_the_answer_or_of_the_reply() -> None:
    draw = random.Random(4)
    pieces = [
        *("A", "B", "C", "D", "a", ". ", "option", "_", "1"),
        "<answer>",
        "</answer>",
        "<think>",
        "</think>",
        "B.",
        "option C",
        "Based on",
        " ",
        "\n",
        "no",
        "(D)",
        "E",
    ]
    for _ in range(9000):
        reply = "".join(draw.choices(pieces, k=draw.randint(0, 8)))
        assert compat_choice(reply) == first_letter(reply), reply
    assert compat_choice("Based on the video, D.") == "B"
    assert compat_choice("I can tell nothing") is None


def test_the_judges_three_keys_are_summed_whatever_else_it_says() -> None:
    draw = random.Random(5)
    keys = ("direction", "landmark", "semantic and logic", "semantic", "total")
    values = (0, 1, 2, 3, 4, 5, 4.5, 7, 2.25, 2.5, 0.1)
    for _ in range(2500):
        told = {key: draw.choice(values) for key in draw.sample(keys, draw.randint(0, 5))}
        total = told.get("direction", 0) + told.get("landmark", 0) + told.get("semantic and logic", 0)
        around = draw.choice(
            ["{}", "Here it is: {}", "```python\n{}\n```", "{} I hope that helps.", "The scores:\n{}\nDone."]
        )
        assert abs(compat_percent(around.replace("{}", repr(told))) - total * 20 / 3) < 1e-9, told
    assert abs(compat_percent("{'direction': 4, 'landmark': 3, 'semantic': 5}") - 140 / 3) < 1e-9
    assert compat_percent("no dictionary") == compat_percent("{'direction': }") == 0


def test_averages_are_plain_means_of_tasks() -> None:
    run = read_run(ROOT / "tests" / "saved" / "mini_run")
    by_task: dict[str, list[SampleRecord]] = {}
    for record in run.records:
        by_task.setdefault(record.task, []).append(record)
    means = {name: fmean(r.percent for r in of if r.percent is not None) for name, of in by_task.items()}
    assert len(means) == 8 and len({len(of) for of in by_task.values()}) > 1, "tasks of different sizes"
    [whole] = [figure for figure in run.figures if figure.name == "egost_mini"]
    assert abs(whole.percent - sum(means.values()) / 8) < 1e-9
    four = [mean for name, mean in means.items() if "route" in name or "direction" in name]
    assert whole.spatiotemporal is not None and abs(whole.spatiotemporal - sum(four) / 4) < 1e-9
    for row in published_table(1).rows:
        # Route forward and reverse, direction forward and reverse; then landmark and action.
        figures = list(row.figures.values())
        assert abs(figures[0] - sum(figures[2:6]) / 4) <= 0.1 + 1e-9, row.model
        assert abs(figures[1] - sum(figures[2:10]) / 8) <= 0.1 + 1e-9, row.model
