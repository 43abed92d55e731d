"""Which samples are trained on and which are left for the test.

    split = split_rows(samples, 252, seed=0)      # the 252 hold the 126 of the same seed, and so on
    split.train, split.test

The paper divides the benchmark's multiple-choice questions into 630 rows of training and 3582 of test (section 5.3,
Table 3: "1:6"; 4212 together) and trains on growing subsets of the 630; Table 4 holds a source out altogether.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

from egost.tasks.sample import Sample
from egost.training import TrainingError

SUBSETS = (63, 126, 252, 378, 504, 630)
"""Numbers of training rows in Table 3."""

HoldOut = Literal["sun3d", "outdoor"]
"""Sources that Table 4 holds out: SUN3D, or HUJI, DoMSEV and self-collected clips, which have one kind of name."""

By = Literal["rows", "clips"]

T = TypeVar("T")


@dataclass(frozen=True)
class Split:
    """train: samples to train on, in the order of the nesting. test: samples to evaluate on, in the release's order.

    left_out: samples that are neither: questions about clips of the training rows where clips are divided, and
    training sources' questions where a source is held out.
    """

    train: tuple[Sample, ...]
    test: tuple[Sample, ...]
    left_out: tuple[Sample, ...] = ()

    @property
    def shared_clips(self) -> int:
        """Number of clips with questions on both sides."""
        return len({_clip(s) for s in self.train} & {_clip(s) for s in self.test})


def split_rows(
    samples: Sequence[Sample],
    rows: int,
    *,
    seed: int,
    by: By = "rows",
    hold_out: HoldOut | None = None,
    usable: Callable[[Sample], bool] = lambda sample: True,
) -> Split:
    """Divide samples; of the same samples and seed, fewer rows are always a part of more rows.

    rows: number of training rows. by: `rows` as the paper has it (a clip may then have questions on both sides,
    different ones), or `clips`. hold_out: a source that is the test, none of which is trained on. usable: whether a
    training row can be made of a sample; one that is not may still be tested on.

    Every prefix of the training rows holds tasks, ways and sources (with `by="clips"`: sources) in the proportions of
    the whole.
    Raises TrainingError where there are fewer samples than rows, or nothing is held out.
    """
    pool = [s for s in samples if s.source != hold_out]
    if hold_out and len(pool) == len(samples):
        raise TrainingError(
            f"no clip of this release is of the source '{hold_out}': there is nothing to hold out."
        )
    candidates = [s for s in pool if usable(s)]
    if len(candidates) < rows or rows < 1:
        raise TrainingError(
            f"{rows} training rows were asked for; {len(candidates)} of this release's {len(samples)} samples can be "
            f"trained on{f' without {hold_out}' if hold_out else ''}. Ask for 1 to {len(candidates)}."
        )
    if by == "rows":
        ordered = stratified(candidates, lambda s: (s.task, s.way, s.source), seed)
    else:
        clips = stratified(
            list({_clip(s): s for s in candidates}.values()), lambda s: (s.part, s.source), seed
        )
        rank = {_clip(s): place for place, s in enumerate(clips)}
        ordered = sorted(
            stratified(candidates, lambda s: (s.task, s.way), seed), key=lambda s: rank[_clip(s)]
        )
    train = tuple(ordered[:rows])
    taken = {s.id for s in train}
    taken_clips = {_clip(s) for s in train} if by == "clips" else set()
    rest = [s for s in samples if s.id not in taken]
    test = [s for s in rest if _clip(s) not in taken_clips and (not hold_out or s.source == hold_out)]
    tested = {s.id for s in test}
    return Split(train, tuple(test), tuple(s for s in rest if s.id not in tested))


def stratified(items: Sequence[T], stratum: Callable[[T], Hashable], seed: int) -> list[T]:
    """The items in an order of which every prefix holds the strata in their proportions, each within one or so.

    An item at place k of n in its shuffled stratum comes at (k + u) / n of the whole, with one u in [0, 1) for each
    stratum, drawn by the seed.
    """
    strata: defaultdict[Hashable, list[T]] = defaultdict(list)
    for item in items:
        strata[stratum(item)].append(item)
    draw = random.Random(seed)
    placed: list[tuple[float, int, T]] = []
    for members in (strata[key] for key in sorted(strata, key=str)):
        draw.shuffle(members)
        start = draw.random()
        placed += [((k + start) / len(members), len(placed) + k, item) for k, item in enumerate(members)]
    return [item for _, _, item in sorted(placed, key=lambda entry: entry[:2])]


def clips_of(samples: Iterable[Sample]) -> int:
    """Number of different clips."""
    return len({_clip(s) for s in samples})


def _clip(sample: Sample) -> tuple[int, str]:
    return sample.part, sample.clip
