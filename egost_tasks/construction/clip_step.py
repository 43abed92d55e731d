"""The first step: all clips of a list, cut in parallel processes, and the manifest of what was cut."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median

from egost.tasks.construction.cutting import CutFailure, cut_clip, made_from
from egost.tasks.construction.spec import Cut, read_spec
from egost.tasks.construction.workfolder import ClipRow, WorkFolder, write_lines
from egost.tasks.processes import in_processes
from egost.tasks.progress import counted


@dataclass(frozen=True, slots=True)
class Lengths:
    """Lengths of the clips of one source, in seconds."""

    source: str
    clips: int
    shortest: float
    median: float
    longest: float
    total: float


def build_clips(
    folder: WorkFolder, spec: Path, *, workers: int | None = None, progress: bool = True
) -> tuple[list[ClipRow], list[CutFailure]]:
    """Cut the clips that a list asks for into a working folder; the clips in the list's order, and the failures.

    workers: processes, by default one a core. What is cut already, from the same video by the same settings, is kept;
    what the list does not ask for any more leaves the manifest, not the disk. The manifest is written anew after
    each clip, so that a run that was killed goes on.
    Raises SpecError and WorkFolderError.
    """
    cuts = read_spec(spec)
    with folder.step("clips"):
        folder.clip_folder.mkdir(exist_ok=True)
        earlier = folder.clips() if folder.manifest.is_file() else {}
        rows = {cut.clip: earlier[cut.clip] for cut in cuts if _is_cut(folder, cut, earlier)}
        todo = [cut for cut in cuts if cut.clip not in rows]
        failures: list[CutFailure] = []
        with counted("cutting clips", "clips", len(todo), progress) as advance:

            def take(done: ClipRow | CutFailure) -> None:
                advance()
                if isinstance(done, CutFailure):
                    failures.append(done)
                    return
                rows[done.clip] = done
                _write(folder, cuts, rows)

            most = min(workers or os.cpu_count() or 1, len(todo))
            in_processes(partial(cut_clip, folder.clip_folder), todo, most, take)
        _write(folder, cuts, rows)
        places = {cut.clip: k for k, cut in enumerate(cuts)}
        return [rows[cut.clip] for cut in cuts if cut.clip in rows], sorted(
            failures, key=lambda failure: places[failure.clip]
        )


def lengths(rows: Sequence[ClipRow]) -> list[Lengths]:
    """Lengths of the clips by source, and of all together as the last (paper, figure 4)."""
    by_source: dict[str, list[float]] = {}
    for row in rows:
        by_source.setdefault(row.source, []).append(row.duration_s)
    groups = [*sorted(by_source.items()), ("all", [row.duration_s for row in rows])]
    return [
        Lengths(source, len(found), min(found), median(found), max(found), sum(found))
        for source, found in groups
        if found
    ]


def _is_cut(folder: WorkFolder, cut: Cut, earlier: dict[str, ClipRow]) -> bool:
    row = earlier.get(cut.clip)
    told = (cut.source, cut.scene, cut.licence)
    return (
        row is not None
        and (row.source, row.scene, row.licence) == told
        and (folder.clip_folder / cut.clip).is_file()
        and row.made_from == made_from(cut)
    )


def _write(folder: WorkFolder, cuts: Sequence[Cut], rows: dict[str, ClipRow]) -> None:
    write_lines(folder.manifest, (rows[cut.clip] for cut in cuts if cut.clip in rows))
