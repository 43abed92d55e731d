"""What a score owes to seeing: the same questions under controls, with paired gaps and what each of them means.

    found = compare_controls(replies, about)     # replies: records by control, `AS_ASKED` among them
    write_controls(folder / CONTROLS_FILE, found)
    controls_of(run).arm("blind").gap            # points that the score loses without the video

The file `controls.json` is one object in the form of `Controls`; all figures are percent or points, 0 to 100.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import TypeAdapter, ValidationError

from egost.results.diagnosis.control_words import (
    circular_meaning,
    consistency_meaning,
    gap_meaning,
    turned_meaning,
)
from egost.results.diagnosis.text_only import Subject, release_of
from egost.results.intervals import Difference, Estimate, estimate, paired
from egost.results.records import SampleRecord
from egost.results.run import Run
from egost.tasks.cache import write_whole
from egost.tasks.clips.controls import ControlError
from egost.tasks.sample import Sample
from egost.tasks.text_only_baseline import FOLDS, linear_guesser, longest_option

CONTROLS_FILE = "controls.json"
"""Name of the file in a run's folder."""

SAMPLES_FILE = "controls_samples.jsonl"
"""Name of the file beside it: one line for each reply under each control."""

AS_ASKED = "as asked"

Records = Sequence[SampleRecord]


@dataclass(frozen=True, slots=True)
class About:
    """What was asked, of whom.

    model: the engine's identity (engine, model, revision, settings). adapter, model_args: as lmms-eval takes them.
    protocol, prompt, judge: as the results of a run name them; judge is empty without routes. tasks: as they were asked
    for. limit: of samples a task; room: most tokens of a reply; None for all, and for what the prompt says.
    left_out: samples whose clips give no frames. made_at: UTC, ISO.
    """

    model: Mapping[str, Any]
    adapter: str
    model_args: str
    release: Subject
    protocol: str
    prompt: str
    judge: str
    tasks: str
    limit: int | None
    room: int | None
    left_out: int
    made_at: str


@dataclass(frozen=True, slots=True)
class Gap:
    """score: as asked, on the samples of the control. control: under the control. gap: score - control, paired."""

    score: Estimate
    control: Estimate
    gap: Difference


@dataclass(frozen=True, slots=True)
class Arm:
    """One control. name: `blind`, `shuffled`, `reversed`, `middle`, or a guesser's, which asks no model (`guesser`).

    overall: all samples that it was run on. by_task: the same by registered task. meaning: one sentence.
    """

    name: str
    guesser: bool
    overall: Gap
    by_task: Mapping[str, Gap]
    meaning: str


@dataclass(frozen=True, slots=True)
class Circular:
    """The same question with its options in each of their rotations.

    circular: right in all of them. gap: score as asked - circular, paired. every_place: mean over the rotations.
    same_text: percent of the questions with two options or more to which the same option's text was chosen each time.
    """

    circular: Estimate
    every_place: Estimate
    gap: Difference
    same_text: float
    meaning: str


@dataclass(frozen=True, slots=True)
class Turned:
    """Whether reversing the frames turns the forward answer into the reverse one, and the other way round.

    n: questions among whose options stands what is right for the other way of the same clip, by its words. own_*,
    other_*: percent that chose their own way's right option or the other way's, with the frames in order and reversed.
    """

    n: int
    own_in_order: float
    other_in_order: float
    own_reversed: float
    other_reversed: float
    meaning: str


@dataclass(frozen=True, slots=True)
class Consistency:
    """The forward and the reverse question of a task on the same clip, both scored (multiple choice).

    pairs: clip and task. both, forward_only, reverse_only, neither: percent right. by_chance: percent that would be
    right in both if the two had nothing to do with each other.
    """

    pairs: int
    both: float
    forward_only: float
    reverse_only: float
    neither: float
    by_chance: float
    meaning: str


@dataclass(frozen=True, slots=True)
class Controls:
    """All controls of one model on one set of questions.

    letters: percent of the replies to multiple-choice questions that chose each letter; `invalid` for none.
    chance: percent of a guess by the number of options; None without multiple-choice questions.
    """

    about: About
    score: Estimate
    chance: float | None
    letters: Mapping[str, float]
    arms: tuple[Arm, ...]
    circular: Circular | None
    turned: Turned | None
    consistency: Consistency | None
    version: Literal[1] = 1

    def arm(self, name: str) -> Arm | None:
        """The control of a name; None where it was not run."""
        return next((arm for arm in self.arms if arm.name == name), None)


_FILE = TypeAdapter(Controls)


def compare_controls(replies: Mapping[str, Records], rotations: Sequence[Records], about: About) -> Controls:
    """What the controls show.

    replies: the records of each control by its name, `AS_ASKED` among them. rotations: the records with the options
    moved on by 1, 2, ... places, each for the questions that have such a rotation; empty where none was asked.
    Raises ControlError without the replies as asked.
    """
    base = replies.get(AS_ASKED, ())
    if not base:
        raise ControlError(
            "no question was asked as it stands, so that a control has nothing to be compared with."
        )
    choices = [record for record in base if record.sample.options]
    asked = {name: records for name, records in replies.items() if name != AS_ASKED}
    arms = [_arm(name, base, records, guesser=False) for name, records in asked.items() if records]
    arms += [_arm(name, choices, guess(choices), guesser=True) for name, guess in _guessers(choices).items()]
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


def write_controls(
    folder: Path, found: Controls, replies: Mapping[str, Records], rotations: Sequence[Records]
) -> Path:
    """Write the figures and the records behind them into a folder, each file whole or not at all. Raises OSError."""
    named = {**replies, **{f"rotated {by}": records for by, records in enumerate(rotations, 1)}}
    lines = (
        _line({"control": name, **asdict(record)}) for name, records in named.items() for record in records
    )
    write_whole(folder / SAMPLES_FILE, b"".join(lines))
    # Not by pydantic, which writes a number that is none as null and then does not take null for a number.
    write_whole(folder / CONTROLS_FILE, (json.dumps(asdict(found), indent=1) + "\n").encode())
    return folder / CONTROLS_FILE


def read_controls_file(path: Path) -> Controls:
    """What `write_controls` wrote. Raises ControlError where it cannot be read."""
    try:
        return _FILE.validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise ControlError(
            f"{path} holds no controls of this version ({str(error).splitlines()[0]}). Run them again (the replies are "
            "journaled): egost diagnose MODEL"
        ) from error


def controls_of(run: Run) -> Controls | None:
    """The controls that were run for a run's model on its release; None where there are none.

    Looked for beside the results file and in the folder above, an `--output_path`; a file of another release, protocol
    or prompt counts for nothing. Raises ControlError for a file that cannot be read.
    """
    of = release_of(run)
    metadata = [config.get("metadata") or {} for config in run.results["configs"].values()]
    ways = {(m.get("sampling_protocol"), m.get("prompt")) for m in metadata if m.get("sampling_protocol")}
    for folder in (run.results_file.parent, run.results_file.parent.parent):
        if (path := folder / CONTROLS_FILE).is_file():
            about = (found := read_controls_file(path)).about
            if about.release.release_sha256 == of.release_sha256 and (about.protocol, about.prompt) in ways:
                return found
    return None


def _line(value: Mapping[str, Any]) -> bytes:
    # ASCII alone: a reply may hold half of a surrogate pair, which no UTF-8 has.
    return (json.dumps(value) + "\n").encode()


def _arm(name: str, base: Records, under: Records, *, guesser: bool) -> Arm:
    tasks = list(dict.fromkeys(record.task for record in under))
    overall = _gap(base, under, tasks)
    by_task = {task: _gap(base, under, [task]) for task in tasks}
    return Arm(name, guesser, overall, by_task, gap_meaning(name, overall.gap))


def _gap(base: Records, under: Records, tasks: Sequence[str]) -> Gap:
    control = [record for record in under if record.task in tasks]
    ids = {(record.task, record.sample.id) for record in control}
    score = [record for record in base if (record.task, record.sample.id) in ids]
    return Gap(estimate(score), estimate(control), paired(control, score))


def _guessers(choices: Records) -> dict[str, Callable[[Records], list[SampleRecord]]]:
    if not choices:
        return {}
    guessers: dict[str, Callable[[Records], list[SampleRecord]]]
    guessers = {"most frequent letter": _most_frequent_letter, "longest option": _longest}
    if len({r.sample.clip for r in choices}) >= FOLDS:
        guessers["words of the options"] = _by_words
    return guessers


def _most_frequent_letter(records: Records) -> list[SampleRecord]:
    """Always the letter that is right most often among these questions: the best that one letter can do."""
    letter, _ = Counter(sorted(r.sample.answer for r in records)).most_common(1)[0]
    return _guessed(records, [r.sample.answer == letter for r in records])


def _longest(records: Records) -> list[SampleRecord]:
    return _guessed(records, longest_option([r.sample for r in records]))


def _by_words(records: Records) -> list[SampleRecord]:
    return _guessed(records, linear_guesser([r.sample for r in records]))


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
        meaning=circular_meaning(gap, same_text),
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
        meaning=turned_meaning(len(rows), other_reversed, other_in_order, own_reversed),
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
    told = {
        "both": forward & backward,
        "forward_only": forward & ~backward,
        "reverse_only": ~forward & backward,
        "neither": ~forward & ~backward,
    }
    shares = {name: 100 * float(hits.mean()) for name, hits in told.items()}
    by_chance = 100 * float(forward.mean() * backward.mean())
    meaning = consistency_meaning(len(both), shares["both"], by_chance)
    return Consistency(len(both), **shares, by_chance=by_chance, meaning=meaning)


def _right(sample: Sample) -> str:
    return sample.options[sample.letters.index(sample.answer)]


_FILLING = {"turn", "turning", "then", "after", "that", "and", "you", "go", "to", "the", "a", "an"}


def _words(option: str) -> tuple[str, ...]:
    """The words that carry an option's meaning, in order, for two wordings of one answer to be the same."""
    return tuple(w for w in re.findall(r"[^\W_]+", option.casefold()) if w not in _FILLING)
