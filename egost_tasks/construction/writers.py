"""Who writes the wrong options of a choice, and what a writer is asked for.

    [written] = offline_writer([request])

A writer only names what each option says. The text of all options, the right one among them, is made by one hand
(`wording.tell_options`): where people wrote the right options and a model the wrong ones, text alone tells them apart.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from egost.tasks.construction.annotations import Steps
from egost.tasks.construction.distractors import wrong_options
from egost.tasks.construction.drafts import Items
from egost.tasks.construction.scenes import Scene
from egost.tasks.errors import EgostError
from egost.tasks.sample import TaskKind, Way

OFFLINE = "offline-1"
"""Name and version of the offline writer: the version rises whenever the same steps would give other options."""


class WriterError(EgostError):
    """A writer is unknown, lacks a setting, or its server does not answer."""


class WriterStopped(WriterError):
    """A writer's server refuses, or does not answer at all; what was written until then is kept."""


@dataclass(frozen=True, slots=True)
class ChoiceRequest:
    """A choice that is to be written.

    ways: for which ways; with both, the options of the second are those of the first turned round.
    truth: what the right option says, in the terms of the first way. steps: of that way, for a writer that reads them.
    names: landmarks or actions of other clips, each as often as it occurs; empty for directions.
    """

    clip: str
    scene: Scene
    task: TaskKind
    ways: tuple[Way, ...]
    truth: Items
    steps: Steps
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Written:
    """The options of a choice, in the terms of its request's first way.

    right: what the right option says. wrong: what the others say. place: index of the right one, None to have the
    letters dealt so that each is right equally often. snapshot: the model that a server named, else empty.
    """

    right: Items
    wrong: tuple[Items, ...]
    place: int | None = None
    snapshot: str = ""


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A question that was not written. reason: a short stable word; message: for people."""

    id: str
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Unwritten:
    """Why a request has no options. reason: a short stable word."""

    reason: str
    message: str


class Writer(Protocol):
    """Writes the options of many requests; the result has one entry for each, in their order."""

    @property
    def name(self) -> str:
        """Name and version, as the drafts record them."""

    def __call__(self, requests: Sequence[ChoiceRequest]) -> list[Written | Unwritten]: ...


class OfflineWriter:
    """Writes by rule, from the steps; the same requests and seed give the same options."""

    name = OFFLINE

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def __call__(self, requests: Sequence[ChoiceRequest]) -> list[Written | Unwritten]:
        return [self._write(request) for request in requests]

    def _write(self, request: ChoiceRequest) -> Written | Unwritten:
        rng = request_rng(self._seed, "options", request.clip, request.task, request.ways[0])
        wrong = wrong_options(rng, request.task, request.truth, request.names)
        if not wrong:
            return Unwritten(
                "no_distractor", "no rule makes a wrong option; annotate more clips, or ask a model."
            )
        return Written(request.truth, wrong)


def request_rng(seed: int, *names: str) -> np.random.Generator:
    """A generator for what is named, whatever else is written."""
    digest = hashlib.sha256("\0".join(names).encode()).digest()
    return np.random.default_rng([seed, int.from_bytes(digest[:8], "big")])
