"""From a video file to its canonical 8 frames, kept in a content-addressed cache."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass, replace
from pathlib import Path

import av
from filelock import FileLock

from egost.tasks.cache import cache_root, whole_folder
from egost.tasks.clips.decode_process import DecodePool, decode_settings
from egost.tasks.clips.decode_worker import CLIP_FILE, MANIFEST_FILE, DecodeRequest
from egost.tasks.clips.decoders import DECODING_VERSION
from egost.tasks.clips.lossless import ENCODER, Frames, pixels_sha256, read_lossless
from egost.tasks.clips.manifest import ClipManifest
from egost.tasks.clips.protocols import Protocol
from egost.tasks.errors import CacheError, ClipError
from egost.tasks.file_hashes import source_sha256
from egost.tasks.progress import counted


@dataclass(frozen=True)
class Clip:
    """The canonical 8 frames of a clip.

    path: a lossless mp4 of exactly 8 frames at 1 frame a second, to be given to a model as one video.
    """

    path: Path
    manifest: ClipManifest

    @classmethod
    def at(cls, path: Path) -> Clip:
        """The clip whose frames lie at `path`, as `get_clip` wrote them. Raises CacheError where there is none."""
        try:
            return cls(path, ClipManifest.read(path.with_name(MANIFEST_FILE)))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CacheError(
                f"{path} is no clip of the cache: its manifest cannot be read ({error}). Delete its folder and run "
                "again."
            ) from error

    def frames(self) -> Frames:
        """The frames, uint8 RGB [8, height, width, 3]. Raises CacheError where the file was changed."""
        try:
            frames = read_lossless(self.path)
        except (av.FFmpegError, OSError, ValueError) as error:
            raise CacheError(
                f"{self.path} cannot be read ({error}). Delete its folder and run again."
            ) from error
        if pixels_sha256(frames) != self.manifest.pixels_sha256:
            raise CacheError(
                f"{self.path} was changed after it was written. Delete its folder and run again."
            )
        return frames


ClipOutcome = Clip | ClipError

_EVERY_FRAME_LIMIT = 10
"""How much longer a clip may take of which all frames are decoded."""

_failures: dict[DecodeRequest, ClipError] = {}
_pool = DecodePool()


def _forget_children() -> None:
    global _pool
    _pool = DecodePool()


# A forked process must not use its parent's pipes.
os.register_at_fork(after_in_child=_forget_children)


def clip_folder(cache: Path | None = None) -> Path:
    """The folder of the cache that holds clips; cache: by default `cache_root()`."""
    return (cache or cache_root()).absolute() / "clips"


def cache_entry(folder: Path, what: str) -> Path:
    """The folder of one clip in the cache. what: names all that its frames depend on."""
    key = hashlib.sha256(what.encode()).hexdigest()[:40]
    return folder / key[:2] / key


def get_clip(
    source: Path, protocol: Protocol, cache: Path | None = None, *, every_frame: bool = False
) -> Clip:
    """The 8 frames of a clip, decoded at most once for each content of the file, protocol and decoder.

    cache: folder of the cache; by default `cache_root()`. The decoder is the one that `EGOST_DECODER`
    names. `EGOST_DECODE_TIMEOUT` (30 s of CPU) and `EGOST_DECODE_MEMORY` (4096 MiB) limit the child process that
    decodes. every_frame: decode all frames, which may take ten times as long, so that `complete` of the manifest is
    known; the 8 frames stay the same. Several threads and processes may call it at once.

    Raises ClipError with one of the reasons `missing`, `empty`, `unreadable`, `no_video`, `no_frames`,
    `truncated`, `timeout`, `memory`, `crash`, which this process remembers; CacheError where the cache
    cannot be written; SettingError for a wrong setting.
    """
    settings = decode_settings()
    source = source.absolute()
    folder = clip_folder(cache)
    sha256 = source_sha256(source, folder / "sources")
    entry = cache_entry(folder, f"{sha256} {protocol.name} {settings.decoder} {DECODING_VERSION} {ENCODER}")
    if clip := _load(entry, source, every_frame):
        return clip
    request = DecodeRequest(
        source=source,
        source_sha256=sha256,
        protocol=protocol.name,
        decoder=settings.decoder,
        folder=entry,
        limit=settings.limit * (_EVERY_FRAME_LIMIT if every_frame else 1),
        memory=settings.memory,
        every_frame=every_frame,
    )
    try:
        _raise_again(request)
        entry.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(entry.with_name(entry.name + ".lock")):
            if clip := _load(entry, source, every_frame):
                return clip
            _raise_again(request)
            return _make(request)
    except ClipError as error:
        _failures[request] = error
        raise
    except (OSError, CacheError) as error:
        raise CacheError(
            f"the frames of {source} cannot be kept in {folder}: {error}. Free some space, make the folder "
            "writable, or set EGOST_CACHE to another folder."
        ) from error


def build_clips(
    sources: Sequence[Path],
    protocol: Protocol,
    *,
    workers: int | None = None,
    cache: Path | None = None,
    progress: bool = True,
    every_frame: bool = False,
) -> list[ClipOutcome]:
    """The clips of many files, in their order, decoded in parallel; a ClipError in the place of one that failed.

    workers: how many decode at the same time; by default one for each core. progress: show a bar.
    every_frame: see `get_clip`.
    What is in the cache is not decoded again, so a run that was killed resumes where it was. A clip that ran out of
    time is tried once more at the end, alone.
    Raises CacheError and SettingError, which concern all clips.
    """
    decode_settings()
    pool = ThreadPoolExecutor(workers or os.cpu_count() or 1)
    unique = dict.fromkeys(sources)
    futures: dict[Path, Future[ClipOutcome]] = {}
    failed = 0
    try:
        with counted("decoding", "clips", len(unique), progress) as advance:
            futures = {
                source: pool.submit(_outcome, source, protocol, cache, every_frame) for source in unique
            }
            for future in as_completed(futures.values()):
                failed += isinstance(future.result(), ClipError)
                advance(f"{failed} failed")
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        _pool.stop_all()
        raise
    finally:
        pool.shutdown()
    outcomes = {source: future.result() for source, future in futures.items()}
    for source, outcome in outcomes.items():
        if isinstance(outcome, ClipError) and outcome.reason == "timeout":
            _forget_failure(source)
            outcomes[source] = _outcome(source, protocol, cache, every_frame)
    return [outcomes[source] for source in sources]


def _forget_failure(source: Path) -> None:
    for request in [request for request in _failures if request.source == source.absolute()]:
        del _failures[request]


def _outcome(source: Path, protocol: Protocol, cache: Path | None, every_frame: bool) -> ClipOutcome:
    try:
        return get_clip(source, protocol, cache, every_frame=every_frame)
    except ClipError as error:
        return error


def _raise_again(request: DecodeRequest) -> None:
    if known := _failures.get(request):
        raise ClipError(known.reason, str(known))


def _load(entry: Path, source: Path, every_frame: bool) -> Clip | None:
    """The clip of a cache entry; None where it is not there, where a part of it was deleted, or less was looked at."""
    path = entry / CLIP_FILE
    try:
        manifest = ClipManifest.read(entry / MANIFEST_FILE)
        if not path.stat().st_size or (every_frame and manifest.complete is None):
            return None
    except (OSError, ValueError, KeyError, TypeError):
        return None
    # The same content may lie under several names.
    return Clip(path, replace(manifest, source=source.name))


def _make(request: DecodeRequest) -> Clip:
    """Decode into the cache. The caller holds the entry's lock."""
    entry = request.folder
    with whole_folder(entry) as folder:
        _pool.write_clip(replace(request, folder=folder))
        manifest = ClipManifest.read(folder / MANIFEST_FILE)
    return Clip(entry / CLIP_FILE, manifest)
