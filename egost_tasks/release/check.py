"""Checks a release: what is there, what is missing, and whether every question has a clip that decodes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from egost.tasks.clips.clips import build_clips
from egost.tasks.clips.manifest import ClipManifest
from egost.tasks.clips.protocols import Protocol
from egost.tasks.errors import ClipError
from egost.tasks.release.layout import PART_FOLDERS, QUESTION_FILES, clip_key
from egost.tasks.release.release import Release
from egost.tasks.sample import TASK_KINDS, WAYS, Sample, chance_level


@dataclass(frozen=True)
class TaskCount:
    """One task of a release: number of samples and of clips, and the accuracy of guessing in percent."""

    task: str
    samples: int
    clips: int
    chance: float | None


@dataclass(frozen=True)
class Status:
    """What is there: files of questions, samples by task, clips by place; and what is missing.

    Without all question files it is not known which clips are needed: `clips` is then the number of all videos
    that are there, `spare_clips` is None, and no task, source or missing clip is listed.
    """

    question_files: int
    missing_question_files: list[str]
    tasks: list[TaskCount]
    excluded: dict[str, int]
    sources: dict[str, int]
    clips: int
    missing_clips: list[str]
    spare_clips: int | None

    @property
    def complete(self) -> bool:
        """Whether all question files and all clips are there, and each task has a sample."""
        return not (
            self.missing_question_files or self.missing_clips or any(not task.samples for task in self.tasks)
        )


@dataclass(frozen=True)
class BadClip:
    """A clip that gives no frames, why, and how many samples it leaves unscored."""

    path: Path
    reason: str
    message: str
    samples: int


def status(release: Release) -> Status:
    """Look at a release without decoding anything.

    Raises ReleaseError when its question files cannot be understood.
    """
    present = len(release.question_files)
    if present < len(QUESTION_FILES):
        return Status(
            question_files=present,
            missing_question_files=release.missing_question_files,
            tasks=[],
            excluded={},
            sources={},
            clips=len(release.clips),
            missing_clips=[],
            spare_clips=None,
        )
    samples = release.index.samples
    missing = release.missing_clips(samples)
    needed = {(PART_FOLDERS[s.part], clip_key(s.clip)) for s in samples}
    return Status(
        question_files=present,
        missing_question_files=[],
        tasks=[_count(samples, f"{task}_{way}") for task in TASK_KINDS for way in WAYS],
        excluded=release.index.excluded_counts,
        sources=dict(Counter(s.source for s in samples).most_common()),
        clips=len(needed) - len(missing),
        missing_clips=missing,
        spare_clips=sum(
            (folder, name) not in needed and not (folder is None and any(name == n for _, n in needed))
            for folder, name in release.clips
        ),
    )


@dataclass(frozen=True)
class OddClip:
    """A clip that gives frames, and what a reader of its figures should know of them."""

    path: Path
    what: str


def verify(
    release: Release, protocol: Protocol, workers: int | None = None
) -> tuple[list[BadClip], list[OddClip]]:
    """Decode the clip of every sample into the cache, and each of its frames; return the clips that give no frames, and
    those to know of.

    Raises ReleaseError and CacheError.
    """
    uses = Counter(release.clip_path(s) for s in present_samples(release))
    bad: list[BadClip] = []
    odd: list[OddClip] = []
    outcomes = build_clips(list(uses), protocol, workers=workers, every_frame=True)
    for path, outcome in zip(uses, outcomes, strict=True):
        if isinstance(outcome, ClipError):
            bad.append(BadClip(path, outcome.reason, str(outcome), uses[path]))
        else:
            odd += [OddClip(path, what) for what in _odd(outcome.manifest)]
    return bad, odd


def _odd(clip: ClipManifest) -> Iterator[str]:
    if clip.complete is False:
        of = "an unknown number of" if clip.expected_frames is None else clip.expected_frames
        yield f"incomplete: {clip.n_frames} of {of} frames decode; a part of it is missing or damaged"
    if clip.transfer != "sdr":
        yield f"HDR ({clip.transfer}): its frames look pale; convert it to SDR"
    if clip.pixel_aspect != "1:1":
        yield f"pixels of {clip.pixel_aspect}: its frames are shown as stored, not squared"


def present_samples(release: Release) -> list[Sample]:
    """The samples whose clip is there."""
    missing = set(release.missing_clips(release.index.samples))
    return [s for s in release.index.samples if f"{PART_FOLDERS[s.part]}/{s.clip}" not in missing]


def _count(samples: tuple[Sample, ...], name: str) -> TaskCount:
    chosen = [s for s in samples if f"{s.task}_{s.way}" == name]
    options = [len(s.options) for s in chosen if s.options]
    return TaskCount(
        task=name,
        samples=len(chosen),
        clips=len({(s.part, s.clip) for s in chosen}),
        chance=100 * chance_level(options) if options else None,
    )
