"""Child processes that decode clips: kept warm, and replaced after a time-out or a crash."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import threading
from dataclasses import dataclass
from multiprocessing import Pipe

from egost.tasks.clips.decode_worker import WALL_SHARE, DecodeReply, DecodeRequest
from egost.tasks.clips.decoders import Decoder, chosen_decoder
from egost.tasks.errors import CacheError, ClipError, SettingError

TIMEOUT = 30.0
"""Seconds of CPU that a clip may take, from opening it to its 8 frames on disk."""

MEMORY = 4096
"""MiB of data that a child process may hold."""

LEAST_MEMORY: dict[Decoder, int] = {"pyav": 256, "torchcodec": 1024, "decord": 256}
"""MiB in which each decoder was seen to start and to decode a small clip; torchcodec loads PyTorch."""


class DecodingStopped(Exception):
    """`stop_all` stopped the decoding; this says nothing about the clip."""


@dataclass(frozen=True)
class DecodeSettings:
    """How clips are decoded: by what, in how many seconds, and in how many MiB."""

    decoder: Decoder
    limit: float
    memory: int


def decode_settings() -> DecodeSettings:
    """What `EGOST_DECODER`, `EGOST_DECODE_TIMEOUT` and `EGOST_DECODE_MEMORY` say. Raises SettingError."""
    decoder = chosen_decoder()
    memory = _positive_number("EGOST_DECODE_MEMORY", MEMORY)
    if memory < LEAST_MEMORY[decoder]:
        raise SettingError(
            f"EGOST_DECODE_MEMORY is '{memory:g}' (MiB), too little for {decoder} to start; expected at least "
            f"{LEAST_MEMORY[decoder]}, for example {MEMORY}"
        )
    return DecodeSettings(decoder, _positive_number("EGOST_DECODE_TIMEOUT", TIMEOUT), int(memory))


def _positive_number(variable: str, default: float) -> float:
    text = os.environ.get(variable) or str(default)
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not (number > 0 and math.isfinite(number)):
        raise SettingError(f"{variable} is '{text}'; expected a number above 0, for example {default:g}")
    return number


# The child finds its modules where this process does, without running its main module again.
_COMMAND = "import sys; sys.path[:] = sys.argv[3:]; from egost.tasks.clips.decode_worker import main; main()"


class DecodeProcess:
    """One child process; used by one thread at a time.

    memory: MiB that it may hold; the system refuses more.
    """

    def __init__(self, memory: int) -> None:
        self.memory = memory
        self.stopped = False
        self._connection, theirs = Pipe()
        with theirs:
            # In a new session Ctrl-C reaches this process alone, which then ends the child in order.
            self._process = subprocess.Popen(
                [sys.executable, "-c", _COMMAND, str(theirs.fileno()), str(memory), *sys.path],
                pass_fds=[theirs.fileno()],
                # Nothing is written there: it closes with this process, and the child ends.
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def write_clip(self, request: DecodeRequest) -> None:
        """Do the request within its time. Raises ClipError, CacheError, DecodingStopped.

        After anything but success, or a ClipError that the child reported itself, the child is gone.
        """
        try:
            self._connection.send(request)
            clock = WALL_SHARE * request.limit
            if not self._connection.poll(clock):
                raise ClipError(
                    "timeout",
                    f"{request.source} was not decoded within {clock:g} s. Is the disk slow? Check the file with "
                    "ffprobe, or raise EGOST_DECODE_TIMEOUT (seconds of CPU; ten times as many may pass).",
                )
            reply = self._connection.recv()
        except (EOFError, ConnectionError) as error:
            raise self._crash(request) from error
        except BaseException:
            self.stop()
            raise
        self._check(reply, request)

    def _check(self, reply: DecodeReply, request: DecodeRequest) -> None:
        if reply.failure == "cache":
            raise CacheError(reply.message)
        if reply.reason == "memory":
            self.stop()
            raise ClipError(
                "memory",
                f"{request.source} needs more than {self.memory} MiB to decode. Check it with ffprobe, or raise "
                "EGOST_DECODE_MEMORY (MiB).",
            )
        if reply.failure == "clip":
            raise ClipError(reply.reason, reply.message)
        if reply.failure:
            raise ClipError("crash", f"the decoder failed on {request.source}: {reply.message}")

    def _crash(self, request: DecodeRequest) -> Exception:
        if self.stopped:
            return DecodingStopped()
        self.stop()
        code = self._process.returncode
        if code == -signal.SIGPROF:
            return ClipError(
                "timeout",
                f"{request.source} was not decoded within {request.limit:g} s of CPU. Check it with ffprobe, "
                "or raise EGOST_DECODE_TIMEOUT (seconds of CPU).",
            )
        how = signal.Signals(-code).name if code < 0 else f"exit status {code}"
        return ClipError(
            "crash",
            f"the decoder crashed ({how}) on {request.source}. Check the file with ffprobe or download it again.",
        )

    def stop(self) -> None:
        """End the child at once; a thread that waits for it gets DecodingStopped."""
        self.stopped = True
        self._process.kill()
        self._process.communicate()


class DecodePool:
    """The child processes of this process: as many as there are threads that decode at the same time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._idle: list[DecodeProcess] = []
        self._busy: set[DecodeProcess] = set()

    def write_clip(self, request: DecodeRequest) -> None:
        """Do the request in a child. Raises ClipError, CacheError, DecodingStopped."""
        process = self._take(request.memory)
        try:
            process.write_clip(request)
        finally:
            with self._lock:
                self._busy.discard(process)
                if not process.stopped:
                    self._idle.append(process)

    def stop_all(self) -> None:
        """End all children; a thread that waits for one gets DecodingStopped."""
        with self._lock:
            for process in [*self._idle, *self._busy]:
                process.stop()
            self._idle.clear()

    def _take(self, memory: int) -> DecodeProcess:
        with self._lock:
            while self._idle:
                process = self._idle.pop()
                if process.alive and process.memory == memory:
                    break
                process.stop()
            else:
                process = DecodeProcess(memory)
            self._busy.add(process)
            return process
