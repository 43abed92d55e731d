"""Compares two engines on the same questions: what each was given, and where their replies differ."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from egost.model_adapters.engine import Ask, EngineIdentity

EXPLAINED_GAP = 1e-3
"""Natural log-probability: two tokens that are no further apart may change places by rounding alone (float32)."""

_SAME_VIDEO = 0.05
"""Largest difference between two `video_signature`s that rounding can make (bfloat16), in pixel values of 0 to 255."""


TOP = 20
"""Likeliest tokens of each step that are kept; the most that vLLM gives by default."""


@dataclass(frozen=True)
class Step:
    """One token of a reply.

    token, word: its id and its text. top: natural log-probabilities of the likeliest tokens at that place, by their
    ids, after the checkpoint's repetition penalty where it has one; `token` itself is among them.
    """

    token: int
    word: str
    top: Mapping[int, float]


@dataclass(frozen=True)
class Trace:
    """What one engine made of one question.

    sample: `WORLD/ID`. frames_sha256: of the uint8 frames [8, H, W, 3] that it was given as an array; None where
    it reads the file itself. video: what its vision encoder got, see `video_signature`; None without a video.
    grid: (time, height, width) of the video in patches; None where the family has no such grid.
    seconds: between two temporal patches, as the model gets it; None where the family gets no such number.
    reach: how many rotary positions the video takes in (time, height, width), see `video_reach`.
    prompt_tokens: ids of the prompt with all video tokens in it. video_tokens: how many of these encode frames.
    steps: of the reply, its end token among them. text: the reply.
    """

    sample: str
    frames_sha256: str | None
    video: npt.NDArray[np.float32] | None
    grid: tuple[int, int, int] | None
    seconds: float | None
    reach: tuple[int, int, int] | None
    prompt_tokens: tuple[int, ...]
    video_tokens: int
    steps: tuple[Step, ...]
    text: str


class TracingEngine(Protocol):
    """An engine that can show its work."""

    def trace(self, asks: Sequence[Ask]) -> Iterator[Trace]:
        """Answer the asks in their order, greedily. Raises AdapterError where one cannot be answered."""
        ...

    @property
    def identity(self) -> EngineIdentity: ...

    def close(self) -> None: ...


@dataclass(frozen=True)
class FirstToken:
    """How far the log-probabilities of the reply's first token are apart.

    tokens: how many of the likeliest both engines report. largest, mean: of the differences, natural logarithm.
    """

    tokens: int
    largest: float
    mean: float


@dataclass(frozen=True)
class Parting:
    """The first token at which two greedy replies differ.

    position: counted from 0. tokens, words: of the first and of the second engine; None where its reply had
    ended. gaps: in each engine, how far its own token is from the other's, natural log-probability; None where
    the other's is not among its likeliest.
    """

    position: int
    tokens: tuple[int | None, int | None]
    words: tuple[str | None, str | None]
    gaps: tuple[float | None, float | None]

    @property
    def explained(self) -> bool:
        """Whether both engines held the two tokens for equally likely but for rounding, under EXPLAINED_GAP."""
        return all(gap is not None and gap < EXPLAINED_GAP for gap in self.gaps)


@dataclass(frozen=True)
class QuestionParity:
    """One question in two engines; each pair is (first engine, second engine).

    frames_sha256, grids, seconds, reach, video_tokens: see Trace. prompt_tokens: number of tokens.
    prompt_differs_at: the first token of the prompts that differs, None where they are identical.
    video_difference: the largest between what the two vision encoders got (`video_signature`), of 255; infinite
    where the shapes differ, None without a video. faults: what is wrong, each in a few words; empty where the
    engines agree.
    """

    sample: str
    frames_sha256: tuple[str | None, str | None]
    video_difference: float | None
    grids: tuple[tuple[int, int, int] | None, tuple[int, int, int] | None]
    seconds: tuple[float | None, float | None]
    reach: tuple[tuple[int, int, int] | None, tuple[int, int, int] | None]
    video_tokens: tuple[int, int]
    prompt_tokens: tuple[int, int]
    prompt_differs_at: int | None
    first_token: FirstToken
    parting: Parting | None
    texts: tuple[str, str]
    faults: tuple[str, ...]


@dataclass(frozen=True)
class Parity:
    """Two engines on all questions.

    engines: their names. identities: what each is, see EngineIdentity.
    """

    engines: tuple[str, str]
    identities: tuple[dict[str, Any], dict[str, Any]]
    questions: tuple[QuestionParity, ...]

    @property
    def passed(self) -> bool:
        return not any(question.faults for question in self.questions)

    @property
    def identical_answers(self) -> int:
        return sum(question.parting is None for question in self.questions)

    @property
    def verdict(self) -> str:
        """One sentence: whether the engines agree, and if not, on what they do not, with the number of questions."""
        n, same = len(self.questions), self.identical_answers
        first, second = self.engines
        rounding = sum(q.parting is not None and q.parting.explained for q in self.questions)
        answers = f"{same} of {n} greedy answers are identical, token by token"
        if rounding:
            answers += f", and {rounding} part only where two tokens are equally likely but for rounding"
        if self.passed:
            return (
                f"{first} and {second} agree: same pixels, grids, times, video tokens and prompts; {answers}."
            )
        kinds = Counter(fault.partition(":")[0] for q in self.questions for fault in q.faults)
        what = ", ".join(f"{kind} ({count} of {n})" for kind, count in kinds.most_common())
        return f"{first} and {second} do NOT agree: {what}; {answers}."

    def as_dict(self) -> dict[str, Any]:
        """Everything, in the form that JSON takes."""
        return {
            "passed": self.passed,
            "verdict": self.verdict,
            "questions": len(self.questions),
            "identical_answers": self.identical_answers,
            "engines": dict(zip(self.engines, self.identities, strict=True)),
            "explained_gap": EXPLAINED_GAP,
            "samples": [
                asdict(q) | {"parting": q.parting and {**asdict(q.parting), "explained": q.parting.explained}}
                for q in self.questions
            ],
        }


def compare(first: Trace, second: Trace, *, rounding_known: bool) -> QuestionParity:
    """What one question shows.

    rounding_known: both engines compute in float32, so that the first token's log-probabilities are to agree
    within EXPLAINED_GAP; in half precision they are only reported.
    """
    question = QuestionParity(
        sample=first.sample,
        frames_sha256=(first.frames_sha256, second.frames_sha256),
        video_difference=_video_difference(first, second),
        grids=(first.grid, second.grid),
        seconds=(first.seconds, second.seconds),
        reach=(first.reach, second.reach),
        video_tokens=(first.video_tokens, second.video_tokens),
        prompt_tokens=(len(first.prompt_tokens), len(second.prompt_tokens)),
        prompt_differs_at=_first_difference(first.prompt_tokens, second.prompt_tokens),
        first_token=_first_token(first, second),
        parting=_parting(first.steps, second.steps),
        texts=(first.text, second.text),
        faults=(),
    )
    return replace(question, faults=tuple(_faults(question, rounding_known)))


def _faults(question: QuestionParity, rounding_known: bool) -> Iterator[str]:
    a, b = question.frames_sha256
    if a is not None and b is not None and a != b:
        yield f"other frames: {a[:12]} and {b[:12]}"
    if question.grids[0] != question.grids[1]:
        yield f"other grid: {question.grids[0]} and {question.grids[1]}"
    if question.seconds[0] != question.seconds[1]:
        yield f"other times: {question.seconds[0]} and {question.seconds[1]} s between temporal patches"
    if question.video_tokens[0] != question.video_tokens[1]:
        yield f"other number of video tokens: {question.video_tokens[0]} and {question.video_tokens[1]}"
    if question.video_difference is not None and not question.video_difference <= _SAME_VIDEO:
        yield f"other pixels in the vision encoder: {question.video_difference:.3g} of 255 apart"
    if question.prompt_differs_at is not None:
        yield f"other prompt: from token {question.prompt_differs_at} on"
    if rounding_known and not question.first_token.largest < EXPLAINED_GAP:
        apart = f"{question.first_token.largest:.3g} apart"
        yield f"other log-probabilities of the first token: {apart}{_known_cause(question)}"
    if question.parting is not None and not question.parting.explained:
        yield f"another answer: from token {question.parting.position} on{_known_cause(question)}"


def _known_cause(question: QuestionParity) -> str:
    """What is known to part engines that were given the same; empty where nothing is."""
    if (reach := question.reach[0]) is None or reach[0] <= max(reach[1:]):
        return ""
    return (
        f" (the video reaches {reach[0]} positions in time and {max(reach[1:])} in space; in lmms-eval's adapters "
        "transformers, since 5.3, puts the text behind such a video where vLLM and --engine transformers do not. "
        "Larger frames, or fewer seconds between them, agree)"
    )


def _video_difference(first: Trace, second: Trace) -> float | None:
    a, b = first.video, second.video
    if a is None and b is None:
        return None
    if a is None or b is None or a.shape != b.shape:
        return math.inf
    return float(np.abs(a - b).max())


def _first_difference(first: Sequence[int], second: Sequence[int]) -> int | None:
    if first == second:
        return None
    pairs = enumerate(zip(first, second, strict=False))
    return next((i for i, (a, b) in pairs if a != b), min(len(first), len(second)))


def _first_token(first: Trace, second: Trace) -> FirstToken:
    a, b = first.steps[0].top, second.steps[0].top
    apart = [abs(a[token] - b[token]) for token in a.keys() & b.keys()]
    if not apart:
        return FirstToken(0, math.inf, math.inf)
    return FirstToken(len(apart), max(apart), sum(apart) / len(apart))


def _parting(first: Sequence[Step], second: Sequence[Step]) -> Parting | None:
    position = _first_difference([s.token for s in first], [s.token for s in second])
    if position is None:
        return None
    a = first[position] if position < len(first) else None
    b = second[position] if position < len(second) else None
    return Parting(
        position=position,
        tokens=(a.token if a else None, b.token if b else None),
        words=(a.word if a else None, b.word if b else None),
        gaps=(_gap(a, b), _gap(b, a)),
    )


def _gap(own: Step | None, other: Step | None) -> float | None:
    if own is None or other is None or other.token not in own.top:
        return None
    return abs(own.top[own.token] - own.top[other.token])
