"""Decodes clips in a child process, so that a hang, a crash or a huge frame cannot harm the run.

Started by `decode_process`: takes requests from its connection until that is closed.
"""

from __future__ import annotations

import resource
import shutil
import signal
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import av

from egost.tasks.cache import not_written
from egost.tasks.clips.decoders import DecodedClip, Decoder, decode_clips, decoder_version
from egost.tasks.clips.lossless import pixels_sha256, write_lossless
from egost.tasks.clips.manifest import ClipManifest
from egost.tasks.clips.protocols import Protocol, parse_protocol
from egost.tasks.end_with_parent import end_when
from egost.tasks.errors import ClipError

CLIP_FILE = "clip.mp4"
MANIFEST_FILE = "manifest.json"

WALL_SHARE = 10
"""Seconds on the clock for each second of CPU that a clip may take: other work on the machine is no fault of a clip."""


@dataclass(frozen=True)
class DecodeRequest:
    """Decode `source` by `protocol` (its name) and write CLIP_FILE and MANIFEST_FILE into `folder`, which exists.

    every_frame: decode all frames, to know whether the clip is complete.
    also: names of other protocols, each written into a folder of its number (from 0) in `folder` where the same decode
    gives its frames.
    limit: seconds of CPU that it may take; on the clock, `WALL_SHARE` times as many. memory: MiB that the child may
    hold.
    """

    source: Path
    source_sha256: str
    protocol: str
    decoder: Decoder
    folder: Path
    limit: float
    memory: int
    every_frame: bool = False
    also: tuple[str, ...] = ()


@dataclass(frozen=True)
class DecodeReply:
    """Nothing where it worked; else what failed (`clip`, `cache` or `bug`), a ClipError's reason, and a message."""

    failure: str = ""
    reason: str = ""
    message: str = ""


def write_clip(request: DecodeRequest) -> None:
    """Decode a clip and write its two files. Raises ClipError for the source, MemoryError, OSError for the folder."""
    protocols = [parse_protocol(name) for name in (request.protocol, *request.also)]
    clip_of = _decode(request, protocols)
    _write(request, clip_of(protocols[0]), request.protocol, request.folder)
    for number, protocol in enumerate(protocols[1:]):
        folder = request.folder / str(number)
        folder.mkdir()
        try:
            _write(request, clip_of(protocol), protocol.name, folder)
        except (KeyError, ClipError):
            # Whoever asks for it gets a decode of its own, or is told why.
            shutil.rmtree(folder)


def _write(request: DecodeRequest, clip: DecodedClip, protocol: str, folder: Path) -> None:
    manifest = ClipManifest(
        source=request.source.name,
        source_sha256=request.source_sha256,
        protocol=protocol,
        n_frames=clip.n_frames,
        counted_by=clip.counted_by,
        expected_frames=clip.expected_frames,
        complete=clip.complete,
        indices=clip.indices,
        timestamps=clip.timestamps,
        duration=clip.duration,
        width=clip.frames.shape[2],
        height=clip.frames.shape[1],
        source_width=clip.source_width,
        source_height=clip.source_height,
        rotation=clip.rotation,
        mirrored=clip.mirrored,
        pixel_aspect=clip.pixel_aspect,
        transfer=clip.transfer,
        pixels_sha256=pixels_sha256(clip.frames),
        decoder=request.decoder,
        decoder_version=decoder_version(request.decoder),
    )
    try:
        write_lossless(clip.frames, folder / CLIP_FILE)
    except ValueError as error:
        raise ClipError("unreadable", f"{request.source}: {error}") from error
    manifest.write(folder / MANIFEST_FILE)


def _decode(request: DecodeRequest, protocols: list[Protocol]) -> Callable[[Protocol], DecodedClip]:
    try:
        return decode_clips(
            request.source,
            protocols,
            request.decoder,
            every_frame=request.every_frame,
            # They are there twice, and the largest clip's file beside them.
            most_bytes=request.memory * 2**20 // 3,
        )
    except MemoryError:
        raise
    except (av.FFmpegError, OSError) as error:
        raise ClipError(
            "unreadable", f"{request.source} cannot be read: {error}. Download it again."
        ) from error


def _answer(request: DecodeRequest) -> DecodeReply:
    try:
        write_clip(request)
    except ClipError as error:
        return DecodeReply("clip", error.reason, str(error))
    except MemoryError:
        return DecodeReply("clip", "memory")
    except OSError as error:
        return DecodeReply("cache", message=str(not_written(request.folder, error)))
    except Exception:
        return DecodeReply("bug", message=traceback.format_exc(limit=-3))
    return DecodeReply()


def _serve(connection: Connection) -> None:
    while True:
        try:
            request = connection.recv()
        except EOFError:
            return
        # CPU time ends the child by SIGPROF; the parent watches the clock.
        signal.setitimer(signal.ITIMER_PROF, request.limit)
        reply = _answer(request)
        signal.setitimer(signal.ITIMER_PROF, 0)
        connection.send(reply)


def main() -> None:
    """Entry point of the child: its arguments are the connection's file descriptor and its memory in MiB."""
    _, allowed = resource.getrlimit(resource.RLIMIT_DATA)
    limit = int(sys.argv[2]) * 2**20
    if allowed != resource.RLIM_INFINITY:
        limit = min(limit, allowed)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    end_when(sys.stdin.buffer.read)
    _serve(Connection(int(sys.argv[1])))
