"""`egost serve` as a process, for tests that need a real vLLM server.

served = start_serving(checkpoint, cache)
served.wait_until_ready()      # served.url answers now
served.stop()
"""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path

import httpx
from lmms_eval_command import environment

READY_S = 900.0


@dataclass
class Served:
    """An `egost serve` under way. process: the command itself; pid: of vLLM, once it is known."""

    process: subprocess.Popen[str]
    lines: list[str] = field(default_factory=list)
    ready: threading.Event = field(default_factory=threading.Event)
    url: str = ""
    pid: int = 0

    def read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line)
            if started := re.search(r"as process (\d+)", line):
                self.pid = int(started[1])
            if served := re.search(r"is served at (\S+) after", line):
                self.url = served[1]
                self.ready.set()
        self.ready.set()

    @property
    def text(self) -> str:
        return "".join(self.lines)

    def answered(self) -> float:
        """Requests that vLLM counts as answered."""
        found = re.findall(
            r"^vllm:request_success_total\{.*\} (\S+)$", httpx.get(f"{self.url}/metrics").text, re.M
        )
        return sum(map(float, found))

    def wait_until_ready(self) -> None:
        assert self.ready.wait(READY_S) and self.url, self.text

    def stop(self) -> None:
        self.process.send_signal(signal.SIGINT)
        self.process.wait(60)


def start_serving(checkpoint: Path, cache: Path, *more: str) -> Served:
    """Start to serve a small checkpoint in float32; more: further arguments of the command."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    command = [
        *(str(Path(sys.executable).with_name("egost")), "serve", str(checkpoint), "--port", port),
        *("--dtype", "float32", "--max-model-len", "2048", *more),
        *("--", "--enforce-eager", "--skip-mm-profiling"),
    ]
    process = subprocess.Popen(
        command,
        env={**environment(cache), "VLLM_CPU_KVCACHE_SPACE": "1", "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    served = Served(process)
    threading.Thread(target=served.read, daemon=True).start()
    return served
