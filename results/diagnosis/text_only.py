"""Text-only baselines of the questions of a run, a release or a file of rows, and the score on what they leave.

    found = text_only(samples, Subject("mini release", "mini", revision, sha256))
    write_text_only(folder / TEXT_ONLY_FILE, found)
    not_solved_by_text(records, found)        # the run's score where text alone does not find the right option

It takes no model and no video, half a minute at the benchmark's size, and is kept in the cache. Text alone answers
93.8 % of the rows that ST-R1 was trained on (the paper does not say so), so every score on such questions needs this
figure next to it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter

from egost.results.intervals import Estimate, estimate
from egost.results.records import SampleRecord
from egost.results.run import Run
from egost.results.run_header import RunError
from egost.tasks.cache import cache_root, write_whole
from egost.tasks.errors import CacheError
from egost.tasks.json_text import typed_json
from egost.tasks.sample import Sample
from egost.tasks.text_only_baseline import (
    FOLDS,
    TextOnlyAccuracy,
    accuracy_of,
    always_first,
    linear_baseline,
    longest_option,
    most_like_others,
    trained_baseline,
)

TEXT_ONLY_FILE = "text_floor.json"
"""Name of the file in a run's folder."""

SIZES = (63, 126, 252, 378, 504, 630)
"""Numbers of training rows in the paper's Table 3."""

_RULE = "1"
"""Named in the cache's keys: raised whenever the same questions would give other figures."""

_TELLING = 10.0
"""Points above the baseline that a score's interval may not reach where it is said not to exceed it."""

DRAWS = 8
"""Random sets of training rows for each number."""

_RULES = {
    "always the first option": always_first,
    "longest option": longest_option,
    "most like the other options": most_like_others,
}


@dataclass(frozen=True, slots=True)
class TextOnlyScore:
    """What a text-only baseline gets right, percent (0 to 100).

    low, high: 95 % interval, clustered by clip. chance: of a guess by the number of options. n: questions.
    """

    percent: float
    low: float
    high: float
    chance: float
    n: int
    clips: int

    @classmethod
    def of(cls, found: TextOnlyAccuracy) -> TextOnlyScore:
        """The same in percent."""
        return cls(
            percent=100 * found.accuracy,
            low=max(0.0, 100 * found.low),
            high=min(100.0, 100 * found.high),
            chance=100 * found.chance,
            n=found.questions,
            clips=found.clips,
        )

    def __str__(self) -> str:
        return f"{self.percent:.1f} % ({self.low:.1f} to {self.high:.1f})"


@dataclass(frozen=True, slots=True)
class Subject:
    """What was examined. name: for people. world: `official`, `mini`, or `rows` for a file of training rows.

    release_sha256: of the release's question files, or of the file of rows.
    """

    name: str
    world: Literal["official", "mini", "rows"]
    release_revision: str
    release_sha256: str


@dataclass(frozen=True, slots=True)
class TrainedBaseline:
    """The linear baseline fitted on training rows, asked what a checkpoint that was trained on them is asked.

    rows: number of training rows. source: where they come from. floor: the score on all questions but the rows.
    other_clips: on the questions about clips without a training row; None where there is none.
    solved, not_solved: ids of the questions of `floor`.
    """

    rows: int
    source: str
    floor: TextOnlyScore
    other_clips: TextOnlyScore | None
    solved: tuple[str, ...]
    not_solved: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """One number of training rows.

    random, random_sd: percent right in the questions that were not drawn, mean and standard deviation of `draws`.
    nested: fitted on the released subset of that size, asked the other questions; nested_other_clips: those about
    other clips alone. None where there is no such subset or no such question.
    """

    rows: int
    random: float
    random_sd: float
    draws: int
    nested: TextOnlyScore | None
    nested_other_clips: TextOnlyScore | None


@dataclass(frozen=True, slots=True)
class TextOnly:
    """All text-only baselines of some multiple-choice questions.

    rules: baselines that learn nothing. by_clip: the linear one, each question answered by a model of other clips.
    by_task, by_source: the same by task (`direction_forward`), and by a model of the other sources of clips.
    solved, not_solved: ids of the questions, by `by_clip`; a share of the solved ones is luck (see `chance`).
    """

    subject: Subject
    rules: Mapping[str, TextOnlyScore]
    by_clip: TextOnlyScore
    by_task: Mapping[str, TextOnlyScore]
    by_source: Mapping[str, TextOnlyScore]
    trained: TrainedBaseline | None
    curve: tuple[CurvePoint, ...]
    solved: tuple[str, ...]
    not_solved: tuple[str, ...]


_FILE = TypeAdapter(TextOnly)


def text_only(
    samples: Sequence[Sample],
    subject: Subject,
    *,
    train: Sequence[Sample] = (),
    train_source: str = "",
    nested: Mapping[int, Sequence[Sample]] | None = None,
) -> TextOnly:
    """Measure the baselines on the multiple-choice questions among some samples; routes are passed over.

    train: training rows of a checkpoint, whether or not they are among the samples; train_source: their name.
    nested: released subsets of training rows by size, for the learning curve; None draws no curve.
    What was measured once is in the cache's `text_only`, under the release's hash.

    Raises RunError where no question has options, or all are about one clip.
    """
    asked = [s for s in samples if s.options]
    if not asked:
        raise RunError(
            f"none of the {len(samples)} samples of {subject.name} has options. A text-only baseline needs "
            "multiple-choice questions: name their tasks. A run that was saved before options were recorded has to be "
            "made again; its replies come from the journal."
        )
    clips = {_clip(s) for s in asked}
    if len(clips) < 2:
        raise RunError(
            f"a text-only baseline needs questions about two clips or more; {subject.name} has one."
        )
    depends_on = repr((_RULE, version("scikit-learn"), asked, train, train_source, nested))
    digest = hashlib.sha256(depends_on.encode()).hexdigest()
    kept = cache_root() / "text_only" / f"{subject.release_sha256[:16]}-{digest[:24]}.json"
    if kept.is_file():
        with suppress(RunError):
            return replace(read_text_only(kept), subject=subject)
    correct = linear_baseline(asked, folds=min(FOLDS, len({s.clip for s in asked})))
    tasks = sorted({_task(s) for s in asked})
    found = TextOnly(
        subject=subject,
        rules={name: TextOnlyScore.of(accuracy_of(asked, rule(asked))) for name, rule in _RULES.items()},
        by_clip=TextOnlyScore.of(accuracy_of(asked, correct)),
        by_task={task: _part(asked, correct, [_task(s) == task for s in asked]) for task in tasks},
        by_source=_by_source(asked),
        trained=_trained(asked, train, train_source) if train else None,
        curve=() if nested is None else learning_curve(asked, nested),
        solved=tuple(s.id for s, right in zip(asked, correct, strict=True) if right),
        not_solved=tuple(s.id for s, right in zip(asked, correct, strict=True) if not right),
    )
    with suppress(CacheError):
        write_text_only(kept, found)
    return found


def learning_curve(
    samples: Sequence[Sample],
    nested: Mapping[int, Sequence[Sample]],
    *,
    sizes: Sequence[int] = SIZES,
    draws: int = DRAWS,
    seed: int = 0,
) -> tuple[CurvePoint, ...]:
    """How the linear baseline grows with the number of training rows, at the sizes that leave a question to ask.

    samples: multiple-choice questions. nested: see `text_only`.
    """
    places = np.arange(len(samples))
    points = []
    for size in (size for size in sizes if size < len(samples)):
        shares = []
        for draw in range(draws):
            drawn = np.random.default_rng((seed, size, draw)).permutation(places)
            train, test = ([samples[k] for k in part] for part in (drawn[:size], drawn[size:]))
            shares.append(100 * float(trained_baseline(train, test).mean()))
        subset = nested.get(size, ())
        points.append(
            CurvePoint(
                rows=size,
                random=float(np.mean(shares)),
                random_sd=float(np.std(shares, ddof=1)),
                draws=draws,
                nested=_fitted(subset, _other_questions(samples, subset)),
                nested_other_clips=_fitted(subset, _other_clips(samples, subset)),
            )
        )
    return tuple(points)


def write_text_only(path: Path, found: TextOnly) -> None:
    """Write what was found as JSON, whole or not at all. Raises CacheError."""
    write_whole(path, _FILE.dump_json(found, indent=1) + b"\n")


def read_text_only(path: Path) -> TextOnly:
    """What `write_text_only` wrote. Raises RunError where it cannot be read."""
    try:
        return typed_json(path.read_bytes(), _FILE)
    except (OSError, ValueError) as error:
        raise RunError(
            f"{path} is no text-only baseline of this version ({error}). Write it again: egost "
            "diagnose RUN --text-only"
        ) from error


def text_only_of(run: Run) -> TextOnly | None:
    """The baselines that were written for a run; None where there is none, or where it is of another release.

    Looked for next to the results file and in the folder above, an `--output_path`. Raises RunError for a file
    that cannot be read.
    """
    sha256 = release_of(run).release_sha256
    for folder in (run.results_file.parent, run.results_file.parent.parent):
        if (path := folder / TEXT_ONLY_FILE).is_file():
            found = read_text_only(path)
            if found.subject.release_sha256 == sha256:
                return found
    return None


def release_of(run: Run) -> Subject:
    """The release that a run is of. Raises RunError where it has no task of ours."""
    first = run.header.first
    return Subject(
        name=run.results_file.name.removesuffix("_results.json"),
        world=first.world or "official",
        release_revision=str(first.release_revision),
        release_sha256=str(first.release_sha256),
    )


def not_solved_by_text(records: Sequence[SampleRecord], found: TextOnly) -> Estimate:
    """A run's score on the multiple-choice samples that text alone does not answer, from its saved samples.

    Raises RunError where the baseline was not measured on one of them, or leaves none.
    """
    choices = [r for r in records if r.sample.task != "route"]
    known = {*found.solved, *found.not_solved}
    if unknown := [r.sample.id for r in choices if r.sample.id not in known]:
        raise RunError(
            f"the text-only baseline of {found.subject.name} does not know {len(unknown)} of {len(choices)} samples of "
            f"the run, the first is {unknown[0]}. Measure it on the run: egost diagnose RUN --text-only"
        )
    open_ones = set(found.not_solved)
    left = [r for r in choices if r.sample.id in open_ones]
    if not left:
        raise RunError(f"text alone answers all {len(choices)} multiple-choice samples of the run.")
    return estimate(left)


def choices_together(records: Sequence[SampleRecord]) -> Estimate:
    """A run's score on its multiple-choice samples, taken together as the baseline's are, and not by task."""
    return estimate([replace(r, task="choices") for r in records if r.sample.options])


def against_text_only(score: Estimate, baseline: TextOnlyScore) -> str:
    """A sentence that says whether a score on multiple-choice questions exceeds what text alone gets."""
    if score.value <= baseline.percent and score.high > baseline.high + _TELLING:
        return (
            f"Text alone gets {baseline}, the model {score.value:.1f} % ({score.low:.1f} to {score.high:.1f}): too few "
            "samples to tell whether its score exceeds what needs no seeing."
        )
    if score.value <= baseline.percent:
        return f"Text alone gets {baseline}: the score of {score.value:.1f} % does not exceed what needs no seeing."
    if score.low <= baseline.high:
        return (
            f"Text alone gets {baseline}: the score of {score.value:.1f} % ({score.low:.1f} to {score.high:.1f}) is "
            "not clearly above what needs no seeing."
        )
    return f"Text alone gets {baseline}: the score of {score.value:.1f} % is above it."


def _trained(samples: Sequence[Sample], train: Sequence[Sample], source: str) -> TrainedBaseline:
    test = _other_questions(samples, train)
    if not test:
        raise RunError(f"all {len(samples)} questions are among the training rows: none is left to be asked.")
    correct = trained_baseline(train, test)
    return TrainedBaseline(
        rows=len(train),
        source=source,
        floor=TextOnlyScore.of(accuracy_of(test, correct)),
        other_clips=_fitted(train, _other_clips(samples, train)),
        solved=tuple(s.id for s, right in zip(test, correct, strict=True) if right),
        not_solved=tuple(s.id for s, right in zip(test, correct, strict=True) if not right),
    )


def _fitted(train: Sequence[Sample], test: Sequence[Sample]) -> TextOnlyScore | None:
    return TextOnlyScore.of(accuracy_of(test, trained_baseline(train, test))) if train and test else None


def _other_questions(samples: Sequence[Sample], train: Sequence[Sample]) -> list[Sample]:
    """A clip has one question of a task and way, whatever name it has in a file of rows."""
    taken = {(s.clip, _task(s)) for s in train}
    return [s for s in samples if (s.clip, _task(s)) not in taken]


def _other_clips(samples: Sequence[Sample], train: Sequence[Sample]) -> list[Sample]:
    taken = {s.clip for s in train}
    return [s for s in samples if s.clip not in taken]


def _by_source(samples: Sequence[Sample]) -> dict[str, TextOnlyScore]:
    sources = sorted({s.source for s in samples})
    if len(sources) < 2:
        return {}
    correct = linear_baseline(samples, by="source")
    return {source: _part(samples, correct, [s.source == source for s in samples]) for source in sources}


def _part(samples: Sequence[Sample], correct: NDArray[np.bool_], chosen: Sequence[bool]) -> TextOnlyScore:
    return TextOnlyScore.of(
        accuracy_of([s for s, c in zip(samples, chosen, strict=True) if c], correct[np.array(chosen)])
    )


def _task(sample: Sample) -> str:
    return f"{sample.task}_{sample.way}"


def _clip(sample: Sample) -> tuple[int, str]:
    return sample.part, sample.clip
