"""The clips that training rows are about, decoded before the first step rather than in the middle of a run."""

from __future__ import annotations

from collections.abc import Sequence

from egost.tasks.clips.clips import Clip, build_clips
from egost.tasks.clips.protocols import Protocol
from egost.tasks.errors import ClipError
from egost.tasks.release.release import Release
from egost.training.rows.rows import RowError
from egost.training.rows.training_rows import TrainingRow


def row_clips(rows: Sequence[TrainingRow], release: Release, protocol: Protocol) -> list[Clip]:
    """The clip of each row, in their order, from the cache or decoded on all cores.

    Raises RowError, which names the samples, for clips that are missing, do not decode or are not the files that the
    rows were made of.
    """
    faults: dict[str, str] = {}
    sources = {}
    for row in rows:
        try:
            sources[row.sample.id] = release.clip_path(row.sample)
        except ClipError as error:
            faults[row.sample.id] = str(error)
    outcomes = dict(zip(sources, build_clips(list(sources.values()), protocol), strict=True))
    clips = []
    for row in rows:
        clip = outcomes.get(row.sample.id)
        if isinstance(clip, ClipError):
            faults[row.sample.id] = str(clip)
        elif clip is not None and clip.manifest.source_sha256 != row.clip_sha256:
            faults[row.sample.id] = (
                f"{row.sample.clip} is another file than the one that the rows were made of (sha256 "
                f"{clip.manifest.source_sha256[:12]}, expected {row.clip_sha256[:12] or 'one'})"
            )
        elif clip is not None:
            clips.append(clip)
    if faults:
        some = "; ".join(f"{sample}: {fault}" for sample, fault in list(faults.items())[:3])
        raise RowError(
            f"{len(faults)} of {len(rows)} rows cannot be shown to a model. {some}. Point EGOST_DATA "
            f"(or EGOST_MINI_DATA) to the {release.world} release that the rows were made of, or build the rows again."
        )
    return clips
