"""Text-only baselines: models that read the options of multiple-choice questions and see no frame.

    found = text_only_accuracy(samples)
    print(found.accuracy, found.chance, found.low, found.high)

Where a linear model finds the right options by their wording, a gain after training says little about seeing. On the
630 released ST-R1 rows it finds 93.8 % of them; on the mini world it has to stay at chance.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from egost.tasks.errors import ReleaseError
from egost.tasks.sample import Sample

FOLDS = 10
Z_95 = 1.96
"""Standard errors from the middle of a normal 95 % interval to its ends."""
WEIGHT = 10.0
"""Inverse strength of the regression's L2 penalty; 1 finds 91.7 % of the released rows, 10 finds 93.8 %."""

Features = Literal["words", "surface", "both"]


@dataclass(frozen=True, slots=True)
class TextOnlyAccuracy:
    """What a text-only baseline gets right; all figures are shares, 0 to 1.

    accuracy: of `questions` questions about `clips` clips. chance: of a guess by the number of options.
    low, high: normal 95 % interval of the accuracy, with the questions of one clip taken together.
    """

    accuracy: float
    chance: float
    low: float
    high: float
    questions: int
    clips: int

    @property
    def above_chance(self) -> bool:
        """Whether the whole interval lies above chance."""
        return self.low > self.chance

    @property
    def at_chance(self) -> bool:
        """Whether chance lies within the interval: text alone tells neither what is right nor what is wrong."""
        return self.low <= self.chance <= self.high


def text_only_accuracy(
    samples: Sequence[Sample], *, folds: int = FOLDS, by: Literal["clip", "source"] = "clip"
) -> TextOnlyAccuracy:
    """The accuracy of the linear baseline, each question answered by a model of other clips (or other sources).

    samples: multiple-choice samples. Raises ReleaseError, see `linear_baseline`.
    """
    return accuracy_of(samples, linear_baseline(samples, folds=folds, by=by))


def linear_baseline(
    samples: Sequence[Sample],
    *,
    folds: int = FOLDS,
    by: Literal["clip", "source"] = "clip",
    features: Features = "both",
) -> NDArray[np.bool_]:
    """Whether a logistic regression on each option, fitted on other clips, ranks the right one first; (questions,).

    features: TF-IDF of the option's words under its task, what can be seen of an option without reading it
        (length, likeness to the other options), or both. An option's place is not among them: where right letters are
        dealt evenly over a set, the clips left out have fewer of just those that the others have more of, and a model
        that learns places falls below chance (by 3 points where it has nothing else).
    by: `clip` takes `folds` folds of whole clips, `source` leaves out one source after the other.

    Raises ReleaseError for a route sample, or where there are fewer clips than folds or fewer than two sources.
    """
    from sklearn.model_selection import GroupKFold, LeaveOneGroupOut  # 2.5 s of CPU

    _refuse_routes(samples)
    groups = [sample.clip if by == "clip" else sample.source for sample in samples]
    needed = folds if by == "clip" else 2
    if len(set(groups)) < needed:
        raise ReleaseError(
            f"a text-only baseline by {by} needs questions about {needed} {by}s or more; these are about "
            f"{len(set(groups))}."
        )
    table = _options(samples)
    splitter = GroupKFold(folds) if by == "clip" else LeaveOneGroupOut()
    correct = np.zeros(len(samples), bool)
    for train, test in splitter.split(table.texts, groups=np.array(groups)[table.of_question]):
        questions, found = _answered(table, train, test, features)
        correct[questions] = found
    return correct


def trained_baseline(
    train: Sequence[Sample], test: Sequence[Sample], *, features: Features = "both"
) -> NDArray[np.bool_]:
    """Whether a logistic regression on each option, fitted on some questions, ranks the right one first in others.

    features: see `linear_baseline`. Returns one entry for each question of `test`, in their order.

    Raises ReleaseError for a route sample, or where nothing can be learned: no question of `train` has two options.
    """
    _refuse_routes([*train, *test])
    if not any(len(sample.options) > 1 for sample in train):
        raise ReleaseError(
            f"a text-only baseline learns from questions with two options or more; of the {len(train)} to train on "
            "none has that many."
        )
    table = _options([*train, *test])
    rows = np.arange(len(table.texts))
    of_train = table.of_question < len(train)
    return _answered(table, rows[of_train], rows[~of_train], features)[1]


@dataclass(frozen=True)
class _Options:
    """The options of all questions, one after the other.

    texts: each with its task before it. surface: what can be seen of it without reading (options, 21). is_right:
    (options,). of_question: the place of its question, ascending.
    """

    texts: list[str]
    surface: NDArray[np.float64]
    is_right: NDArray[np.bool_]
    of_question: NDArray[np.int64]


def _options(samples: Sequence[Sample]) -> _Options:
    return _Options(
        texts=[f"{s.task}_{s.way}: {option}" for s in samples for option in s.options],
        surface=np.vstack([_surface(s.options) for s in samples]),
        is_right=np.concatenate([np.arange(len(s.options)) == _right(s) for s in samples]),
        of_question=np.repeat(np.arange(len(samples)), [len(s.options) for s in samples]),
    )


def _answered(
    table: _Options, train: NDArray[np.int64], test: NDArray[np.int64], features: Features
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """The questions whose options are the rows `test`, and which of them a model fitted on `train` answers right."""
    from scipy.sparse import csr_matrix, hstack
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler
    from threadpoolctl import threadpool_limits  # scikit-learn needs it

    vectors = TfidfVectorizer(ngram_range=(1, 2), min_df=2, token_pattern=r"[^\s,;]+|[,;]")
    scaler = StandardScaler()
    parts = []
    if features != "surface":
        vectors.fit([table.texts[k] for k in train])
        parts.append([vectors.transform([table.texts[k] for k in rows]) for rows in (train, test)])
    if features != "words":
        scaler.fit(table.surface[train])
        parts.append([csr_matrix(scaler.transform(table.surface[rows])) for rows in (train, test)])
    train_rows, test_rows = (hstack(list(part)).tocsr() for part in zip(*parts, strict=True))
    with threadpool_limits(
        1
    ):  # On matrices as small as these, threads wait for one another most of the time.
        model = LogisticRegression(max_iter=300, C=WEIGHT).fit(train_rows, table.is_right[train])
    score = model.decision_function(test_rows)
    asked = table.of_question[test]
    questions, starts = np.unique(asked, return_index=True)
    ends = np.append(starts[1:], len(asked))
    best = [start + int(np.argmax(score[start:end])) for start, end in zip(starts, ends, strict=True)]
    return questions, table.is_right[test][best]


def _refuse_routes(samples: Sequence[Sample]) -> None:
    if any(not sample.options for sample in samples):
        raise ReleaseError("a text-only baseline needs multiple-choice questions; a route has no options.")


def always_first(samples: Sequence[Sample]) -> NDArray[np.bool_]:
    """Whether the first option is the right one; (questions,)."""
    return np.array([_right(s) == 0 for s in samples])


def longest_option(samples: Sequence[Sample]) -> NDArray[np.bool_]:
    """Whether the option with the most characters is the right one; (questions,)."""
    return np.array([int(np.argmax([len(o) for o in s.options])) == _right(s) for s in samples])


def most_like_others(samples: Sequence[Sample]) -> NDArray[np.bool_]:
    """Whether the option that shares most words with the other options is the right one; (questions,)."""
    return np.array([int(np.argmax(_surface(s.options)[:, 2])) == _right(s) for s in samples])


def accuracy_of(samples: Sequence[Sample], correct: NDArray[np.bool_]) -> TextOnlyAccuracy:
    """Accuracy and chance of a baseline, with a normal 95 % interval that is clustered by clip."""
    names = {clip: k for k, clip in enumerate(sorted({s.clip for s in samples}))}
    of_sample = [names[s.clip] for s in samples]
    chance = np.array([1 / len(s.options) for s in samples])
    # The interval is that of the gain over chance, whose expectation differs between questions.
    gain = correct - chance
    sums = np.zeros(len(names))
    np.add.at(sums, of_sample, gain - gain.mean())
    reach = Z_95 * float(np.sqrt((sums**2).sum())) / len(samples)
    accuracy = float(correct.mean())
    return TextOnlyAccuracy(
        accuracy, float(chance.mean()), accuracy - reach, accuracy + reach, len(samples), len(names)
    )


def words(option: str) -> list[str]:
    """The words of an option, without the commas and semicolons between them."""
    return option.replace(",", " ").replace(";", " ").split()


def _right(sample: Sample) -> int:
    return sample.letters.index(sample.answer)


@lru_cache(maxsize=1 << 13)
def _surface(options: tuple[str, ...]) -> NDArray[np.float64]:
    """What can be seen of each option without reading it: length, likeness to the others; (options, 21)."""
    rows = []
    for k, option in enumerate(options):
        others = [other for i, other in enumerate(options) if i != k] or [option]
        shared = [_overlap(option, other) for other in others]
        placed = [_in_place(option, other) for other in others]
        rows.append(
            [
                len(option),
                len(words(option)),
                np.mean(shared),
                np.max(shared),
                np.mean(placed),
                np.max(placed),
                any(sorted(words(option)) == sorted(words(other)) for other in others),
                option[:1].isupper(),
                option.rstrip().endswith("."),
            ]
        )
    table = np.array(rows, float)
    most_alike = table[:, [2, 4]] == table[:, [2, 4]].max(axis=0)
    longest = table[:, :1] == table[:, 0].max()
    return np.hstack([table, table - table.mean(axis=0), most_alike, longest])


def _overlap(a: str, b: str) -> float:
    first, second = set(words(a.casefold())), set(words(b.casefold()))
    return len(first & second) / max(1, len(first | second))


def _in_place(a: str, b: str) -> float:
    same = [x == y for x, y in zip(words(a.casefold()), words(b.casefold()), strict=False)]
    return float(np.mean(same)) if same else 0.0
