"""Writes a mini release: clips, their questions in the official layout, and a manifest with the truth about each."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

from egost.tasks.errors import ReleaseError
from egost.tasks.json_text import read_json
from egost.tasks.mini_world.option_sets import action_options, landmark_options, turn_options
from egost.tasks.mini_world.raycast import render, write_film
from egost.tasks.mini_world.steps import (
    ClipTruth,
    ask,
    backwards,
    tell_action_options,
    tell_landmark_options,
    tell_route,
    tell_turn_options,
    truth_from_json,
    way_back,
)
from egost.tasks.mini_world.walks import ACTION_PART, GENERATORS, plan_clip
from egost.tasks.progress import counted, in_processes, usable_cores
from egost.tasks.release import layout
from egost.tasks.release.layout import PART_FOLDERS, QUESTION_FILES, write_json, write_question_files
from egost.tasks.release.release import MINI_MANIFEST, broken_mini_manifest, read_mini_manifest
from egost.tasks.sample import LETTERS, WAYS, Sample, TaskKind, Way


class Letters:
    """Deals the right letters, so that in each kind of question each letter is right equally often (within one)."""

    def __init__(self, seed: int) -> None:
        self._rng = np.random.default_rng([seed, 1])
        self._decks: dict[tuple[str, int], list[int]] = defaultdict(list)

    def deal(self, kind: str, options: int) -> int:
        """The place of the right option of the next question of a kind, from 0 on."""
        deck = self._decks[kind, options]
        if not deck:
            deck.extend(int(k) for k in self._rng.permutation(options))
        return deck.pop()


def question_files(truths: Iterable[ClipTruth], seed: int) -> layout.QuestionFiles:
    """Content of each of the 26 files by its name; ids are the clips' numbers in their order, from 0."""
    return layout.question_files(_samples(truths, seed))


def _samples(truths: Iterable[ClipTruth], seed: int) -> Iterator[Sample]:
    letters = Letters(seed)
    for number, truth in enumerate(truths):
        rng = np.random.default_rng([seed, number, 2])
        for way in WAYS:
            question, answer = ask(rng, "route", way), tell_route(rng, truth, way)
            yield _sample(truth, number, "route", way, question, (), answer)
        for task, texts in _choices(rng, truth).items():
            for way in WAYS:
                right = letters.deal(f"{task}_{way}", len(texts[way]))
                options = tuple(texts[way][k] for k in shuffled(rng, len(texts[way]), right))
                yield _sample(truth, number, task, way, ask(rng, task, way), options, LETTERS[right])


def _sample(
    truth: ClipTruth,
    number: int,
    task: TaskKind,
    way: Way,
    question: str,
    options: tuple[str, ...],
    answer: str,
) -> Sample:
    name = layout.sample_id(truth.part, task, way, str(number))
    return Sample(name, task, way, truth.part, truth.clip, question, options, answer)


def _choices(rng: np.random.Generator, truth: ClipTruth) -> dict[TaskKind, dict[Way, list[str]]]:
    """Texts of the options of each question about a clip, the right one first."""
    turns = _true_first(truth.turns, turn_options(rng, truth.turns, around=truth.part != ACTION_PART))
    panels = _true_first(truth.landmarks, landmark_options(rng, truth.landmarks))
    texts: dict[TaskKind, dict[Way, list[str]]] = {
        "direction": {
            "forward": tell_turn_options(rng, turns),
            "reverse": tell_turn_options(rng, [way_back(option) for option in turns]),
        },
        "landmark": {
            "forward": tell_landmark_options(rng, panels),
            "reverse": tell_landmark_options(rng, [backwards(option) for option in panels]),
        },
    }
    if truth.part == ACTION_PART:
        actions = _true_first(truth.actions, action_options(rng, truth.actions))
        texts["action"] = {
            "forward": tell_action_options(rng, actions),
            "reverse": tell_action_options(rng, [backwards(option) for option in actions]),
        }
    return texts


def _true_first(truth: Any, options: list[Any]) -> list[Any]:
    return [truth, *(option for option in options if option != truth)]


def shuffled(rng: np.random.Generator, options: int, right: int) -> list[int]:
    """Which option is in each place; option 0 is the right one, and its place is given."""
    order = [int(k) for k in rng.permutation(np.arange(1, options))]
    order.insert(right, 0)
    return order


_STARTED = ".egost_mini_started.json"
_LOCK = ".egost_mini.lock"
_FEW = 4
"""Up to so many clips are rendered in this process: starting others would take longer."""


def write_mini_release(
    root: Path,
    *,
    clips: int = 40,
    seed: int = 0,
    split: str = "test",
    generator: int = 1,
    workers: int | None = None,
    progress: bool = True,
) -> Path:
    """Write a mini release into a folder and return the folder; the manifest comes last.

    clips: number of walks; four or more have all four parts. split: `train` or `test`, which share no map.
    generator: 1 for mini-1, of corridors; 2 for mini-2, of three sources that look different (`Look`), whose clips are
    named as the official release's are.
    workers: processes, by default one a core. progress: show rate and remaining time on stderr.
    The same arguments give the same files, byte for byte, on one machine. A run that was killed goes on
    with the clips that exist; a release that is complete is left as it is.

    Raises ReleaseError when the folder holds anything else, or cannot be written.
    """
    wanted = {"generator": generator, "seed": seed, "split": split, "clips": clips}
    if generator not in GENERATORS:
        raise ReleaseError(
            f"there is no mini-{generator}; expected a generator of {', '.join(map(str, GENERATORS))}."
        )
    if clips < 1 or seed < 0:
        raise ReleaseError(
            f"a mini release needs at least 1 clip and a seed of 0 or more; got {clips} clips, seed {seed}."
        )
    truths = [plan_clip(seed, split, number, generator).truth for number in range(clips)]
    if _is_complete(root, wanted, truths):
        return root
    try:
        root.mkdir(parents=True, exist_ok=True)
        with FileLock(root / _LOCK):
            _check_folder(root, wanted)
            if not _is_complete(root, wanted, truths):
                _write(root, wanted, truths, workers or usable_cores(), progress)
    except OSError as error:
        raise ReleaseError(
            f"the mini world cannot be written to {root}: {error}. Free some space or name another folder."
        ) from error
    return root


def read_truths(root: Path) -> dict[str, ClipTruth]:
    """The exact truth about each clip of a mini release, by the clip's file name.

    Raises ReleaseError when the manifest is missing or cannot be understood.
    """
    manifest = read_mini_manifest(root)
    try:
        truths = [truth_from_json(entry) for entry in manifest["walks"]]
    except (KeyError, TypeError, AttributeError) as error:
        raise broken_mini_manifest(root / MINI_MANIFEST, error) from error
    return {truth.clip: truth for truth in truths}


def clip_path(root: Path, truth: ClipTruth) -> Path:
    """Where the clip lies in its release."""
    return root / PART_FOLDERS[truth.part] / truth.clip


def _check_folder(root: Path, wanted: dict[str, Any]) -> None:
    if (root / MINI_MANIFEST).is_file():
        found = read_mini_manifest(root)["made_with"]
    elif (root / _STARTED).is_file():
        try:
            found = read_json(root / _STARTED)
        except (OSError, ValueError) as error:
            raise broken_mini_manifest(root / _STARTED, error) from error
    elif others := sorted(path.name for path in root.iterdir() if path.name != _LOCK):
        raise ReleaseError(
            f"{root} is not empty and holds no mini release (for example {others[0]}). Name an empty folder."
        )
    else:
        write_json(root / _STARTED, wanted)
        return
    if found != wanted:
        raise ReleaseError(
            f"{root} holds another mini release ({_arguments(found)}), not {_arguments(wanted)}. "
            "Delete the folder, or name another one."
        )


def _arguments(made: Any) -> str:
    if not isinstance(made, dict):
        return f"{made!r:.80}"
    return ", ".join(f"{name} {value!s:.20}" for name, value in sorted(made.items()))


def _is_complete(root: Path, wanted: dict[str, Any], truths: Sequence[ClipTruth]) -> bool:
    return (
        (root / MINI_MANIFEST).is_file()
        and read_mini_manifest(root)["made_with"] == wanted
        and all((root / name).is_file() for name in QUESTION_FILES)
        and all(clip_path(root, truth).is_file() for truth in truths)
    )


def _write(
    root: Path, wanted: dict[str, Any], truths: Sequence[ClipTruth], workers: int, progress: bool
) -> None:
    seed, split, generator = wanted["seed"], wanted["split"], wanted["generator"]
    todo = [number for number, truth in enumerate(truths) if not clip_path(root, truth).is_file()]
    for folder in PART_FOLDERS.values():
        (root / folder).mkdir(exist_ok=True)
        for left in (root / folder).glob(".*.part"):
            left.unlink()
    render_one = partial(_render_one, root, seed, split, generator)
    _render_all(render_one, todo, min(workers, len(todo)), progress)
    write_question_files(root, question_files(truths, seed))
    write_json(root / MINI_MANIFEST, {"made_with": wanted, "walks": [asdict(truth) for truth in truths]})
    (root / _STARTED).unlink(missing_ok=True)


def _render_all(render_one: Callable[[int], None], todo: list[int], workers: int, progress: bool) -> None:
    with counted("rendering walks", "clips", len(todo), progress) as advance:
        in_processes(render_one, todo, workers if len(todo) > _FEW else 1, lambda _: advance())


def _render_one(root: Path, seed: int, split: str, generator: int, number: int) -> None:
    plan = plan_clip(seed, split, number, generator)
    write_film(clip_path(root, plan.truth), render(plan), Fraction(plan.truth.rate))
