"""What controls show: a model's answers under each control as scored records, the paired gaps, and their meaning.

found = compare_controls(replies, rotations, about)     # replies: records by control, `AS_ASKED` among them
write_controls(folder, found, replies, rotations)
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from egost.results.diagnosis.controls import (
    AS_ASKED,
    About,
    Arm,
    Circular,
    Consistency,
    Controls,
    Gap,
    Records,
    Turned,
)
from egost.results.intervals import Difference, estimate, paired
from egost.results.records import SampleRecord
from egost.results.run_header import RunError
from egost.tasks.judging.judge import Judge
from egost.tasks.sample import Sample
from egost.tasks.scoring.generation_notes import Answer
from egost.tasks.scoring.scores import Response, Score, score_choice, score_route
from egost.tasks.text_only_baseline import FOLDS, linear_baseline, longest_option

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


_TELLING = 10.0
"""Points. Samples that leave room for a larger difference, and for none, do not tell which it is."""


def scored(answers: Sequence[Answer], judge: Judge | None) -> list[SampleRecord]:
    """One record for each answer, in their order. judge: of the routes; None where there are none.

    Raises JudgeError, JudgeStopped and CacheError, as the judge does.
    """
    responses = [Response.read(answer.reply, answer.clip) for answer in answers]
    routes = [place for place, answer in enumerate(answers) if answer.sample.task == "route"]
    scores: dict[int, Score] = {}
    if judge and routes:
        judged = score_route([answers[k].sample for k in routes], [responses[k] for k in routes], judge)
        scores = dict(zip(routes, judged, strict=True))
    return [
        _record(
            answer, responses[place].text, scores.get(place) or score_choice(answer.sample, responses[place])
        )
        for place, answer in enumerate(answers)
    ]


def by_rotation(answers: Sequence[Answer], judge: Judge | None) -> list[list[SampleRecord]]:
    """The records of answers to rotated options, by how far the options were moved on: 1, 2, ..."""
    most = max((answer.rotation for answer in answers), default=0)
    return [scored([a for a in answers if a.rotation == by], judge) for by in range(1, most + 1)]


def _record(answer: Answer, response: str, score: Score) -> SampleRecord:
    return SampleRecord(
        task=answer.task,
        world=answer.world,
        sample=answer.sample,
        prompt=answer.prompt,
        response=response,
        percent=score.percent,
        compat=score.compat,
        unscored=score.unscored,
        choice=score.choice,
        judgement=score.judgement,
        frames=answer.clip.manifest if answer.clip else None,
        clip_error=None,
        generation=answer.generation,
    )


def compare_controls(replies: Mapping[str, Records], rotations: Sequence[Records], about: About) -> Controls:
    """What the controls show.

    replies: the records of each control by its name, `AS_ASKED` among them. rotations: the records with the options
    moved on by 1, 2, ... places, each for the questions that have such a rotation; empty where none was asked.
    Raises RunError without the replies as asked.
    """
    base = replies.get(AS_ASKED, ())
    if not base:
        raise RunError(
            "no question was asked without a control, so that the controls have nothing to be compared with."
        )
    choices = [record for record in base if record.sample.options]
    asked = {name: records for name, records in replies.items() if name != AS_ASKED}
    arms = [_arm(name, base, records, guesser=False) for name, records in asked.items() if records]
    arms += [_arm(name, choices, guess(choices), guesser=True) for name, guess in _baselines(choices).items()]
    return Controls(
        about=about,
        score=estimate(base),
        chance=100 * float(np.mean([1 / len(r.sample.options) for r in choices])) if choices else None,
        letters=_letters(choices),
        arms=tuple(arms),
        circular=_circular(choices, rotations) if rotations else None,
        turned=_turned(choices, replies["reversed"]) if "reversed" in replies else None,
        consistency=consistency(choices),
    )


def _arm(name: str, base: Records, under: Records, *, guesser: bool) -> Arm:
    tasks = list(dict.fromkeys(record.task for record in under))
    overall = _gap(base, under, tasks)
    by_task = {task: _gap(base, under, [task]) for task in tasks}
    return Arm(name, guesser, overall, by_task, _gap_meaning(name, overall.gap))


def _gap(base: Records, under: Records, tasks: Sequence[str]) -> Gap:
    control = [record for record in under if record.task in tasks]
    ids = {(record.task, record.sample.id) for record in control}
    score = [record for record in base if (record.task, record.sample.id) in ids]
    return Gap(estimate(score), estimate(control), paired(control, score))


def _baselines(choices: Records) -> dict[str, Callable[[Records], list[SampleRecord]]]:
    if not choices:
        return {}
    baselines: dict[str, Callable[[Records], list[SampleRecord]]]
    baselines = {"most frequent letter": _most_frequent_letter, "longest option": _longest}
    if len({r.sample.clip for r in choices}) >= FOLDS:
        baselines["words of the options"] = _by_words
    return baselines


def _most_frequent_letter(records: Records) -> list[SampleRecord]:
    """Always the letter that is right most often among these questions: the best that one letter can do."""
    letter, _ = Counter(sorted(r.sample.answer for r in records)).most_common(1)[0]
    return _guessed(records, [r.sample.answer == letter for r in records])


def _longest(records: Records) -> list[SampleRecord]:
    return _guessed(records, longest_option([r.sample for r in records]))


def _by_words(records: Records) -> list[SampleRecord]:
    return _guessed(records, linear_baseline([r.sample for r in records]))


def _guessed(records: Records, right: Iterable[Any]) -> list[SampleRecord]:
    return [replace(r, percent=100.0 * bool(hit)) for r, hit in zip(records, right, strict=True)]


def _letters(choices: Records) -> dict[str, float]:
    said = Counter(r.choice.letter or "invalid" for r in choices if r.choice)
    return {letter: 100 * count / said.total() for letter, count in sorted(said.items())}


def _circular(choices: Records, rotations: Sequence[Records]) -> Circular:
    rounds: dict[tuple[str, str], list[SampleRecord]] = {(r.task, r.sample.id): [r] for r in choices}
    for records in rotations:
        for record in records:
            rounds[record.task, record.sample.id].append(record)
    whole = {
        key: found for key, found in rounds.items() if len(found) == max(1, len(found[0].sample.options))
    }
    circular = [_over(found, min) for found in whole.values()]
    every_place = [_over(found, lambda scores: sum(scores) / len(scores)) for found in whole.values()]
    as_asked = [found[0] for found in whole.values()]
    texts = [[_chosen(r) for r in found] for found in whole.values() if len(found) > 1]
    same = [len(set(chosen)) == 1 and chosen[0] is not None for chosen in texts]
    gap = paired(circular, as_asked)
    same_text = 100 * float(np.mean(same)) if same else math.nan
    return Circular(
        circular=estimate(circular),
        every_place=estimate(every_place),
        gap=gap,
        same_text=same_text,
        meaning=_circular_meaning(gap, same_text),
    )


def _over(found: Records, value: Callable[[list[float]], float]) -> SampleRecord:
    """One record of all rotations of a question; unscored where one of them is."""
    scores = [r.percent for r in found if r.percent is not None]
    if len(scores) < len(found):
        failed = next(r for r in found if r.percent is None)
        return replace(found[0], percent=None, unscored=failed.unscored)
    return replace(found[0], percent=value(scores))


def _chosen(record: SampleRecord) -> str | None:
    """The text of the option that a reply chose."""
    letter = record.choice.letter if record.choice else None
    return record.sample.options[record.sample.letters.index(letter)] if letter else None


def _turned(choices: Records, reversed_records: Records) -> Turned | None:
    of_other = {(r.sample.part, r.sample.clip, r.sample.task, r.sample.way): r.sample for r in choices}
    under = {(r.task, r.sample.id): r for r in reversed_records}
    rows: list[tuple[bool, bool, bool, bool]] = []
    for record in choices:
        sample = record.sample
        other = of_other.get(
            (sample.part, sample.clip, sample.task, "reverse" if sample.way == "forward" else "forward")
        )
        again = under.get((record.task, sample.id))
        if other is None or again is None or record.percent is None or again.percent is None:
            continue
        own, opposite = _words(_right(sample)), _words(_right(other))
        if own == opposite or opposite not in map(_words, sample.options):
            continue
        in_order, back = (_words(_chosen(r) or "") for r in (record, again))
        rows.append((in_order == own, in_order == opposite, back == own, back == opposite))
    if not rows:
        return None
    shares = [100 * float(share) for share in np.mean(np.array(rows), axis=0)]
    own_in_order, other_in_order, own_reversed, other_reversed = shares
    return Turned(
        n=len(rows),
        own_in_order=own_in_order,
        other_in_order=other_in_order,
        own_reversed=own_reversed,
        other_reversed=other_reversed,
        meaning=f"Of {len(rows)} questions that offer the other way's answer, {other_reversed:.1f} % get it when the "
        f"frames are reversed and {other_in_order:.1f} % when they are not; {own_reversed:.1f} % still get their own "
        "way's.",
    )


def consistency(choices: Records) -> Consistency | None:
    """Forward against reverse among multiple-choice records; None where no clip has both of a task, scored."""
    pairs: dict[tuple[int, str, str], dict[str, bool]] = {}
    for r in choices:
        if r.percent is not None:
            pairs.setdefault((r.sample.part, r.sample.clip, r.sample.task), {})[r.sample.way] = (
                r.percent == 100.0
            )
    both = np.array([(p["forward"], p["reverse"]) for p in pairs.values() if len(p) == 2])
    if not len(both):
        return None
    forward, backward = both[:, 0], both[:, 1]
    shown = {
        "both": forward & backward,
        "forward_only": forward & ~backward,
        "reverse_only": ~forward & backward,
        "neither": ~forward & ~backward,
    }
    shares = {name: 100 * float(hits.mean()) for name, hits in shown.items()}
    by_chance = 100 * float(forward.mean() * backward.mean())
    meaning = (
        f"Of {len(both)} pairs of a forward and a reverse question on the same clip, {shares['both']:.1f} % are right "
        f"both ways; {by_chance:.1f} % would be if the two had nothing to do with each other."
    )
    return Consistency(len(both), **shares, by_chance=by_chance, meaning=meaning)


def _right(sample: Sample) -> str:
    return sample.options[sample.letters.index(sample.answer)]


_FILLING = {"turn", "turning", "then", "after", "that", "and", "you", "go", "to", "the", "a", "an"}


def _words(option: str) -> tuple[str, ...]:
    """The words that carry an option's meaning, in order, for two wordings of one answer to be the same."""
    return tuple(w for w in re.findall(r"[^\W_]+", option.casefold()) if w not in _FILLING)


def _gap_meaning(name: str, gap: Difference) -> str:
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
    if gap.high > _TELLING:
        return (
            f"Too few samples to tell whether the score {uses} or {does_without}: the difference is {gap.low:+.1f} to "
            f"{gap.high:+.1f} points."
        )
    side = "better" if how.startswith("than") else "lost"
    return f"Not clearly {side} {how}, {points}: for all that these samples show, the score {does_without}."


def _circular_meaning(gap: Difference, same_text: float) -> str:
    """What rotating the options shows. same_text: percent of questions with one choice in all rotations."""
    kept = (
        "no question has several options"
        if math.isnan(same_text)
        else f"the same option is chosen at whichever place it is in {same_text:.1f} % of the questions"
    )
    if not math.isnan(gap.low) and gap.low <= 0 and gap.high > _TELLING:
        return (
            f"Too few samples to tell whether rotated options cost points: the difference is {gap.low:+.1f} to "
            f"{gap.high:+.1f} points; {kept}."
        )
    if math.isnan(gap.low) or gap.low <= 0:
        return f"Right in all rotations is not clearly less than right as asked; {kept}."
    return (
        f"{gap.value:.1f} points ({gap.low:+.1f} to {gap.high:+.1f}) are lost when the options are rotated: there "
        f"the letter or the place decided; {kept}."
    )
