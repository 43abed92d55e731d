"""The frames that a model saw, made small for a page, from the cache that holds the clips."""

from __future__ import annotations

import base64
import hashlib
import io
import json
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from egost.tasks.cache import write_whole
from egost.tasks.clips.clips import Clip
from egost.tasks.clips.decode_worker import CLIP_FILE, MANIFEST_FILE
from egost.tasks.clips.lossless import Frames
from egost.tasks.errors import CacheError
from egost.tasks.json_text import read_json
from egost.tasks.progress import counted

STEPS = ((224, 70), (160, 60), (112, 50), (88, 45))
"""Largest width in pixels and WebP quality, from the best to the smallest pictures."""

_TRIED = 12
"""Clips from which the size of all is estimated."""
_AT_ONCE = 4


@dataclass(frozen=True)
class Thumbnails:
    """Pictures of clips, by the SHA-256 of their pixels.

    frames: of each clip 8 WebP pictures in base64. absent: why a clip has none, for people.
    width: largest width of a picture, pixels. size: bytes of all in base64.
    """

    frames: dict[str, tuple[str, ...]]
    absent: dict[str, str]
    width: int
    size: int


def thumbnails(hashes: Iterable[str], limit: int, cache: Path) -> Thumbnails:
    """Pictures of clips, as large as a limit allows.

    hashes: `pixels_sha256` of clips, the most wanted first. limit: bytes of all pictures in base64; where even the
    smallest are too many, the last clips go without. cache: the cache's root. Nothing is decoded from a source:
    what the cache lacks is absent. Pictures are kept beside their clip, for the next report.
    """
    wanted = list(dict.fromkeys(hashes))
    cached = _cached_clips(cache / "clips")
    absent = {
        sha: "The cache on the machine that wrote this report does not hold these frames."
        for sha in wanted
        if sha not in cached
    }
    found = [sha for sha in wanted if sha in cached]
    width, quality = _step([cached[sha] for sha in found], limit)
    frames: dict[str, tuple[str, ...]] = {}
    size = 0
    with counted("pictures", "clips", len(found), True) as advance, ThreadPoolExecutor(_AT_ONCE) as pool:
        for start in range(0, len(found), _AT_ONCE):
            batch = found[start : start + _AT_ONCE]
            made = pool.map(lambda sha: _pictures(cached[sha], width, quality), batch)
            for sha, pictures in zip(batch, made, strict=True):
                advance()
                if isinstance(pictures, CacheError):
                    absent[sha] = str(pictures)
                elif size + _size(pictures) > limit:
                    absent[sha] = (
                        f"Left out: all frames together would be over the limit of {limit / 1e6:g} MB "
                        "(egost report --frames-mb)."
                    )
                else:
                    frames[sha] = pictures
                    size += _size(pictures)
    return Thumbnails(frames, absent, width, size)


def _cached_clips(folder: Path) -> dict[str, Path]:
    """The 8-frame files of a cache by the hash of their pixels; several may have the same."""
    clips: dict[str, Path] = {}
    for manifest in folder.glob(f"*/*/{MANIFEST_FILE}"):
        try:
            clips[read_json(manifest)["pixels_sha256"]] = manifest.with_name(CLIP_FILE)
        except (OSError, ValueError, KeyError, TypeError):
            # A broken entry of the cache is not there, as for the cache itself.
            continue
    return clips


def _step(clips: Sequence[Path], limit: int) -> tuple[int, int]:
    tried = clips[:: max(1, len(clips) // _TRIED)]
    for width, quality in STEPS[:-1]:
        made = [_pictures(clip, width, quality) for clip in tried]
        sizes = [_size(pictures) for pictures in made if not isinstance(pictures, CacheError)]
        if sum(sizes) / max(1, len(sizes)) * len(clips) <= limit:
            return width, quality
    return STEPS[-1]


def _pictures(clip: Path, width: int, quality: int) -> tuple[str, ...] | CacheError:
    kept = clip.with_name(f"pictures-{width}-{quality}.json")
    with suppress(OSError, ValueError, KeyError, TypeError):
        found = read_json(kept)
        if found["sha256"] == _digest(found["pictures"]):
            return tuple(found["pictures"])
    try:
        pictures = tuple(_picture(pixels, width, quality) for pixels in Clip.at(clip).frames())
    except CacheError as error:
        return error
    # They save time and nothing else, so a cache that can only be read does without them.
    with suppress(CacheError):
        write_whole(kept, json.dumps({"sha256": _digest(pictures), "pictures": pictures}).encode())
    return pictures


def _digest(pictures: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(pictures).encode()).hexdigest()


def _picture(pixels: Frames, width: int, quality: int) -> str:
    image = Image.fromarray(pixels)
    # Tall frames are held to the same number of pixels on their longer side.
    image.thumbnail((width, width))
    written = io.BytesIO()
    image.save(written, "WEBP", quality=quality)
    return base64.b64encode(written.getvalue()).decode()


def _size(pictures: Iterable[str]) -> int:
    return sum(map(len, pictures))
