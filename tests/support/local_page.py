"""A local page, served by the real command in a process of its own."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import httpx


def asking(address: str) -> httpx.Client:
    """A client of a page that has its token."""
    origin, _, token = address.partition("?token=")
    return httpx.Client(base_url=origin, params={"token": token}, trust_env=False)


@contextmanager
def served_page(*arguments: str, announced: str) -> Iterator[str]:
    """The address with its token that `egost ARGUMENTS` announces; Ctrl-C ends it, with 0.

    announced: what stands before the address in its first line.
    """
    command = "from egost.main import app; app()"
    server = subprocess.Popen(
        [sys.executable, "-u", "-c", command, *arguments],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "COLUMNS": "200"},
    )
    assert server.stdout
    try:
        said = server.stdout.readline()
        found = re.fullmatch(rf"{announced}: (http://127\.0\.0\.1:\d+/\?token=[\w-]{{24}})\n", said)
        assert found, said
        yield found[1]
    finally:
        server.send_signal(signal.SIGINT)
        assert server.wait(30) == 0
