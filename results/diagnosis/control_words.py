"""What the figures of the controls mean, in a sentence each."""

from __future__ import annotations

import math

from egost.results.intervals import Difference

_CONTROLS = {
    "blind": ("without the video", "uses the video", "can be had without the video"),
    "shuffled": ("with the frames shuffled", "uses the order of the frames", "does not need their order"),
    "reversed": (
        "with the frames reversed",
        "uses the direction of time",
        "does not need the direction of time",
    ),
    "middle": ("with the middle frame alone", "uses more than one frame", "can be had from one frame"),
    "most frequent letter": (
        "than always giving the letter that is right most often",
        "is more than the choice of a letter",
        "can be had with one letter",
    ),
    "longest option": (
        "than always taking the longest option",
        "is more than looking at lengths",
        "can be had by looking at lengths",
    ),
    "words of the options": (
        "than a linear guesser that learns from the options of other clips and sees no video",
        "is more than the wording gives away",
        "can be had from the wording of the options",
    ),
}
"""By the control's name: how it was run, what a gap says of the score, and what no gap says of it."""


def gap_meaning(name: str, gap: Difference) -> str:
    """What the gap of a control means."""
    how, uses, does_without = _CONTROLS[name]
    if math.isnan(gap.low):
        return f"Too few clips or scores to tell whether it is better {how}."
    points = f"{abs(gap.value):.1f} points ({gap.low:+.1f} to {gap.high:+.1f})"
    if gap.low > 0:
        lost = f"{points} better {how}" if how.startswith("than") else f"{points} are lost {how}"
        return f"{lost}: the score {uses}."
    if gap.high < 0:
        worse = f"{points} worse {how}" if how.startswith("than") else f"{points} are won {how}"
        return f"{worse}: the score {does_without}, and more."
    side = "better" if how.startswith("than") else "lost"
    return f"Not clearly {side} {how}, {points}: for all that these samples show, the score {does_without}."


def circular_meaning(gap: Difference, same_text: float) -> str:
    """What rotating the options shows. same_text: percent of questions with one choice in all rotations."""
    kept = (
        "no question has several options"
        if math.isnan(same_text)
        else f"the same option is chosen wherever it stands in {same_text:.1f} % of the questions"
    )
    if math.isnan(gap.low) or gap.low <= 0:
        return f"Right in all rotations is not clearly less than right as asked; {kept}."
    return (
        f"{gap.value:.1f} points ({gap.low:+.1f} to {gap.high:+.1f}) do not stand when the options are rotated: there "
        f"the letter or the place decided; {kept}."
    )


def turned_meaning(n: int, turned: float, before: float, kept: float) -> str:
    """What reversing the frames does to the answer. Percent of n questions: see `Turned`."""
    return (
        f"Of {n} questions that offer the other way's answer, {turned:.1f} % get it when the frames are reversed and "
        f"{before:.1f} % when they are not; {kept:.1f} % still get their own way's."
    )


def consistency_meaning(pairs: int, both: float, by_chance: float) -> str:
    """What the two ways of a clip say together. Percent of the pairs: see `Consistency`."""
    return (
        f"Of {pairs} pairs of a forward and a reverse question on the same clip, {both:.1f} % are right both ways; "
        f"{by_chance:.1f} % would be if the two had nothing to do with each other."
    )
