"""Your own videos: the frames that we take against those of ffmpeg's command, file by file.

    python tests/benchmarks/footage.py FOLDER

Prints how many files of each kind were tried and how many are right, and what is wrong with the others; exits with 1 if
a file is wrong. A file is right if ffmpeg gives as many frames and each of our 8 within 1 of 255 under the same index,
or if we refuse or name as incomplete what is cut or damaged, or refuse what ffmpeg gives no frame of either.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))
from ffmpeg_files import by_ffmpeg, largest_difference

from egost.tasks.clips.clips import ClipOutcome, build_clips
from egost.tasks.clips.packets import open_video
from egost.tasks.clips.protocols import Protocol
from egost.tasks.errors import ClipError
from egost.tasks.release.layout import VIDEO_SUFFIXES

SUFFIXES = {*VIDEO_SUFFIXES, ".3gp", ".flv", ".insv", ".m2ts", ".mpg", ".mts", ".ts", ".wmv"}
_FULL_RANGE = 2
"""`AVCOL_RANGE_JPEG` in ffmpeg."""


def kinds(path: Path, outcome: ClipOutcome) -> Iterator[str]:
    """What is special about a file."""
    if isinstance(outcome, ClipError):
        yield f"refused: {outcome.reason}"
        return
    found = outcome.manifest
    container, stream = open_video(path)
    with container:
        special = {
            "several video tracks": len(container.streams.video) > 1,
            "full range": stream.codec_context.color_range == _FULL_RANGE,
            "turned or mirrored": bool(found.rotation) or found.mirrored,
            "pixels that are not square": found.pixel_aspect != "1:1",
            "HDR": found.transfer != "sdr",
            "decoded from the front": found.counted_by == "decoding",
            "incomplete": found.complete is False,
        }
    yield from (kind for kind, is_so in special.items() if is_so)
    if not any(special.values()):
        yield "plain"


def difference(path: Path, outcome: ClipOutcome) -> str:
    """What is wrong with our reading of a file; nothing where it is right."""
    if isinstance(outcome, ClipError):
        if outcome.reason in ("truncated", "no_video", "empty"):
            return ""
        count = _count(path)
        return f"refused ({outcome.reason}), but ffmpeg gives {count} frames: {outcome}" if count else ""
    found = outcome.manifest
    if found.complete is False:
        return ""
    count, frames = by_ffmpeg(path, found.indices)
    if count != found.n_frames:
        return f"{found.n_frames} frames, ffmpeg gives {count}"
    worst = largest_difference(found.indices, outcome.frames(), frames)
    return f"pixels differ by up to {worst} of 255" if worst > 1 else ""


def _count(path: Path) -> int:
    try:
        return by_ffmpeg(path, ())[0]
    except ClipError:
        return 0


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path)
    folder: Path = parser.parse_args(arguments).folder
    paths = sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES and p.name[:2] != "._")
    console = Console()
    tried: Counter[str] = Counter()
    right: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as cache:
        outcomes = build_clips(paths, Protocol(), cache=Path(cache), every_frame=True)
        for path, outcome in zip(paths, outcomes, strict=True):
            wrong = difference(path, outcome)
            for kind in ("all", *kinds(path, outcome)):
                tried[kind] += 1
                right[kind] += not wrong
            if wrong:
                console.print(f"{path.relative_to(folder)}: {wrong}", markup=False)
    table = Table("kind", "tried", "right")
    for kind, n in tried.most_common():
        table.add_row(kind, str(n), str(right[kind]))
    console.print(table)
    return int(right["all"] < tried["all"])


if __name__ == "__main__":
    sys.exit(main())
