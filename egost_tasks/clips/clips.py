"""From a video file to its canonical frames, kept in a content-addressed cache."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import av
import numpy as np
from loguru import logger

from egost.tasks.cache import cache_root, only_writer, whole_folder, write_whole
from egost.tasks.clips.decode_process import DecodePool, decode_settings
from egost.tasks.clips.decode_worker import CLIP_FILE, MANIFEST_FILE, DecodeRequest
from egost.tasks.clips.decoders import DECODING_VERSION
from egost.tasks.clips.lossless import (
    ENCODER,
    Frames,
    lossless_sha256,
    pixels_sha256,
    read_lossless,
    write_lossless,
)
from egost.tasks.clips.manifest import ClipManifest
from egost.tasks.clips.protocols import Protocol, counts_kept
from egost.tasks.errors import CacheError, ClipError
from egost.tasks.file_hashes import file_sha256, source_sha256
from egost.tasks.json_text import read_json
from egost.tasks.progress import counted, usable_cores

T = TypeVar("T")


@dataclass(frozen=True)
class Clip:
    """The canonical frames of a clip, 8 unless the protocol says otherwise.

    path: a lossless mp4 of exactly these frames at 1 frame a second, to be given to a model as one video.
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

    def check(self) -> None:
        """Raise CacheError where the file was changed, for whoever hands its path over.

        The frames are read at first, and again only when the file's size, times or place on the disk change. Another
        process compares the file's bytes alone with those of which the frames were read.
        """
        state = self._state()
        if _sound.get(self.path) == state:
            return
        if self.path in _sound or not self._as_seen():
            self._checked(lossless_sha256, lambda found: found)
            self._remember()
        _sound[self.path] = state

    def frames(self) -> Frames:
        """The frames, uint8 RGB [N, height, width, 3]. Raises CacheError where the file was changed."""
        return self._checked(read_lossless, pixels_sha256)

    def _checked(self, read: Callable[[Path], T], sha256: Callable[[T], str]) -> T:
        """What reading gives, whose hash is the manifest's."""
        state = self._state()
        try:
            found = read(self.path)
        except (av.FFmpegError, OSError, ValueError) as error:
            raise CacheError(
                f"{self.path} cannot be read ({error}). Delete its folder and run again."
            ) from error
        if sha256(found) != self.manifest.pixels_sha256:
            raise CacheError(
                f"{self.path} was changed after it was written: it does not hold the frames of "
                f"{self.manifest.source}. Delete its folder and run again."
            )
        _sound[self.path] = state
        return found

    def _as_seen(self) -> bool:
        """Whether the file has the bytes of which a process has seen that they hold the manifest's frames."""
        try:
            return bool(read_json(self.path.with_name(SEEN_FILE)) == self._bytes())
        except (OSError, ValueError):
            return False

    def _bytes(self) -> dict[str, str]:
        return {"file": file_sha256(self.path), "pixels": self.manifest.pixels_sha256}

    def _remember(self) -> None:
        # It saves time and nothing else, so a cache that only can be read from does without it.
        with suppress(CacheError, OSError):
            write_whole(self.path.with_name(SEEN_FILE), json.dumps(self._bytes()).encode())

    def _state(self) -> tuple[int | str, ...]:
        try:
            found = self.path.stat()
        except OSError as error:
            raise CacheError(
                f"{self.path} cannot be read ({error}). Delete its folder and run again."
            ) from error
        times = found.st_mtime_ns, found.st_ctime_ns
        return self.manifest.pixels_sha256, found.st_ino, found.st_size, *times


ClipOutcome = Clip | ClipError

SEEN_FILE = "seen.json"

_ENTRY = re.compile(r"[0-9a-f]{40}")

_EVERY_FRAME_LIMIT = 10
"""How much longer a clip may take of which all frames are decoded."""

_sound: dict[Path, tuple[int | str, ...]] = {}
"""Which files were seen to hold their manifest's frames, in which state."""

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
    source: Path,
    protocol: Protocol,
    cache: Path | None = None,
    *,
    every_frame: bool = False,
    also: Sequence[Protocol] = (),
) -> Clip:
    """The canonical frames of a clip, decoded at most once for each content of the file, sampling and decoder.

    Frames of a protocol that resizes are made of the same frames as large as in the source, which are kept as well.
    cache: folder of the cache; by default `cache_root()`. The decoder is the one that `EGOST_DECODER`
    names. A clip of the cache that was changed is decoded again. `EGOST_DECODE_TIMEOUT` (30 s of CPU) and
    `EGOST_DECODE_MEMORY` (4096 MiB) limit the child process that decodes. every_frame: decode all frames, which may
    take ten times as long, so that `complete` of the manifest is known; the frames stay the same. also: what is asked
    for later: where a decode is needed, it makes their frames as well, and those of `EGOST_FRAME_COUNTS`. Several
    threads and processes may call it at once.

    Raises ClipError with one of the reasons `missing`, `empty`, `unreadable`, `no_video`, `no_frames`,
    `truncated`, `timeout`, `memory`, `crash`, which this process remembers; CacheError where the cache
    cannot be written; SettingError for a wrong setting.
    """
    request_for = partial(_request, source, cache=cache, every_frame=every_frame)
    return _get((protocol, *also, *counts_kept(protocol)), request_for)


def _get(protocols: Sequence[Protocol], request_for: Callable[[Protocol], DecodeRequest]) -> Clip:
    """The clip of the first protocol; where a decode is needed, it makes those of the others as well."""
    protocol = protocols[0]
    request = request_for(protocol)
    if clip := _load(request):
        return clip
    of_source = Protocol(protocol.sampling)
    try:
        _raise_again(request)
        if protocol != of_source:
            kept = _get((of_source, *protocols), request_for)
            with only_writer(request.folder):
                return _load(request) or _resize(kept, protocol, request)
        with only_writer(request.folder):
            if clip := _load(request):
                return clip
            _raise_again(request)
            others = [other for other in dict.fromkeys(protocols[1:]) if not _load(request_for(other))]
            clip = _make(request, others)
    except ClipError as error:
        _failures[request] = error
        raise
    for number, other in enumerate(others):
        _keep(request.folder / str(number), request_for(other))
    return clip


def _request(source: Path, protocol: Protocol, cache: Path | None, every_frame: bool) -> DecodeRequest:
    """What is asked of a child where the cache lacks it. Raises ClipError, SettingError."""
    settings = decode_settings()
    source = source.absolute()
    folder = clip_folder(cache)
    sha256 = source_sha256(source, folder / "sources")
    what = f"{sha256} {protocol.name} {settings.decoder} {DECODING_VERSION} {ENCODER}"
    return DecodeRequest(
        source=source,
        source_sha256=sha256,
        protocol=protocol.name,
        decoder=settings.decoder,
        folder=cache_entry(folder, what),
        limit=settings.limit * (_EVERY_FRAME_LIMIT if every_frame else 1),
        memory=settings.memory,
        every_frame=every_frame,
    )


def build_clips(
    sources: Sequence[Path],
    protocol: Protocol,
    *,
    workers: int | None = None,
    cache: Path | None = None,
    progress: bool = True,
    every_frame: bool = False,
    also: Sequence[Protocol] = (),
) -> list[ClipOutcome]:
    """The clips of many files, in their order, decoded in parallel; a ClipError in the place of one that failed.

    workers: how many decode at the same time; by default one for each core that may be used. progress: show a bar.
    every_frame, also: see `get_clip`.
    What is in the cache is not decoded again, so a run that was killed resumes where it was. A clip that ran out of
    time is tried once more at the end, alone.
    Raises CacheError and SettingError, which concern all clips.
    """
    decode_settings()
    get = partial(_outcome, protocol=protocol, cache=cache, every_frame=every_frame, also=also)
    pool = ThreadPoolExecutor(workers or usable_cores())
    unique = dict.fromkeys(sources)
    futures: dict[Path, Future[ClipOutcome]] = {}
    failed = 0
    try:
        with counted("decoding", "clips", len(unique), progress) as advance:
            futures = {source: pool.submit(get, source) for source in unique}
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
            outcomes[source] = get(source)
    return [outcomes[source] for source in sources]


def _forget_failure(source: Path) -> None:
    for request in [request for request in _failures if request.source == source.absolute()]:
        del _failures[request]


def _outcome(source: Path, **how: Any) -> ClipOutcome:
    try:
        return get_clip(source, **how)
    except ClipError as error:
        return error


def _raise_again(request: DecodeRequest) -> None:
    if known := _failures.get(request):
        raise ClipError(known.reason, str(known))


def _load(request: DecodeRequest) -> Clip | None:
    """The clip of a cache entry; None where it is not there or was changed, or where less was looked at."""
    path = request.folder / CLIP_FILE
    if not path.exists():
        return None
    try:
        found = Clip.at(path)
        # The same content may lie under several names.
        clip = replace(found, manifest=replace(found.manifest, source=request.source.name))
        clip.check()
    except CacheError as error:
        logger.warning(f"egost: {error} It is decoded again now.")
        return None
    of = clip.manifest
    if (of.source_sha256, of.protocol) != (request.source_sha256, request.protocol):
        logger.warning(f"egost: {path} holds the frames of another clip. It is decoded again now.")
        return None
    return None if request.every_frame and of.complete is None else clip


def _make(request: DecodeRequest, others: Sequence[Protocol]) -> Clip:
    """Decode into the cache. The caller holds the entry's lock."""
    entry = request.folder
    # As much as each number of frames would have had of its own.
    limit = request.limit * len({request.protocol, *(other.sampling for other in others)})
    also = tuple(other.name for other in others)
    with whole_folder(entry) as folder:
        _pool.write_clip(replace(request, folder=folder, also=also, limit=limit))
    clip = Clip.at(entry / CLIP_FILE)
    # The child has compared what it wrote.
    _sound[clip.path] = clip._state()
    clip._remember()
    return clip


def _keep(made: Path, request: DecodeRequest) -> None:
    """Move what the decode for another protocol has made, if it has, into its place; delete it where there is one."""
    if not made.exists():
        return
    with only_writer(request.folder):
        if not _load(request):
            Clip.at(made / CLIP_FILE)._remember()
            with whole_folder(request.folder) as folder:
                made.replace(folder)
    shutil.rmtree(made, ignore_errors=True)


def _resize(clip: Clip, protocol: Protocol, request: DecodeRequest) -> Clip:
    """Write what decoding by a protocol would give, of the frames as large as in the source, into the cache.

    The caller holds the entry's lock.
    """
    indices = clip.manifest.indices
    kept = {index: protocol.kept(frame) for index, frame in zip(indices, clip.frames(), strict=True)}
    frames = np.stack([kept[index] for index in indices])
    manifest = replace(
        clip.manifest,
        protocol=protocol.name,
        width=frames.shape[2],
        height=frames.shape[1],
        pixels_sha256=pixels_sha256(frames),
    )
    try:
        with whole_folder(request.folder, MemoryError) as folder:
            write_lossless(frames, folder / CLIP_FILE)
            manifest.write(folder / MANIFEST_FILE)
    except ValueError as error:
        raise ClipError("unreadable", f"{request.source}: {error}") from error
    resized = Clip(request.folder / CLIP_FILE, manifest)
    _sound[resized.path] = resized._state()
    resized._remember()
    return resized


def changed_clips(workers: int | None = None) -> tuple[int, dict[Path, CacheError]]:
    """How many clips the cache holds, and which of them were changed or damaged, with what is wrong."""
    paths = sorted(
        folder / CLIP_FILE for folder in clip_folder().glob("??/*") if _ENTRY.fullmatch(folder.name)
    )
    changed: dict[Path, CacheError] = {}

    def look(path: Path) -> None:
        try:
            Clip.at(path).frames()
        except CacheError as error:
            changed[path] = error

    with (
        counted("reading", "clips", len(paths), True) as advance,
        ThreadPoolExecutor(workers or usable_cores()) as pool,
    ):
        for _ in pool.map(look, paths):
            advance(f"{len(changed)} changed")
    return len(paths), dict(sorted(changed.items()))
