"""The response journal: what a model has answered once is not asked again, so that a killed run goes on.

One `ReplyStore` for all models. A reply is on the disk before `put` returns, whatever is killed or loses power then.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from filelock import FileLock

from egost.model_adapters.engine import AdapterError, Ask, EngineIdentity, Reply
from egost.tasks.cache import cache_root
from egost.tasks.chat.reply_store import ReplyStore, only_asker

JOURNAL_VERSION = 1
"""Raised whenever our code would give a model something else for the same request; part of every key."""


def request_key(ask: Ask, identity: EngineIdentity) -> str:
    """The key of a request: SHA-256 over all that a reply depends on, 64 hexadecimal digits.

    Of the clip these are the pixels that a model gets and the place of each frame in the walk, so that no frame
    is taken for another that looks alike. Path, file name and the sample's name change nothing.
    """
    clip = None
    if ask.clip:
        found = ask.clip.manifest
        # The hash is of the pixels in a row, which two shapes can share.
        size = [found.width, found.height]
        clip = [found.pixels_sha256, size, found.indices, found.timestamps, found.n_frames, found.duration]
    parts = {
        "journal": JOURNAL_VERSION,
        "engine": identity.as_dict(),
        "prompt": ask.prompt,
        "clip": clip,
        "arguments": asdict(ask.arguments),
    }
    canonical = json.dumps(parts, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(canonical.encode()).hexdigest()


@dataclass(frozen=True)
class Entry:
    """A reply to be written down: the key of its request, what was asked, what came, and from whom."""

    key: str
    ask: Ask
    reply: Reply
    identity: EngineIdentity


class Journal:
    """The replies of a folder; for one thread at a time, and any number of processes.

    folder: by default in the cache folder. See `ReplyStore` for damaged files. Every method raises CacheError when the
    file cannot be read or written.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder or cache_root() / "journal"
        self.store = ReplyStore(self.folder / "responses.sqlite", synchronous="FULL")

    def get(self, key: str) -> Reply | None:
        """The newest reply to a request, if there is one."""
        body = self.store.get(key)
        return Reply(**body["reply"]) if body else None

    def put(self, entries: Sequence[Entry]) -> None:
        """Write replies down, several at the price of one; they are on the disk when this returns."""
        self.store.put(
            {
                entry.key: {
                    "made_at": time.time(),
                    "sample": entry.ask.sample,
                    "engine": entry.identity.as_dict(),
                    "reply": asdict(entry.reply),
                }
                for entry in entries
            }
        )

    def only_asker(self, identity: EngineIdentity) -> FileLock:
        """The lock that a process holds while it asks a model (see `only_asker`); each rank of a run has its own.

        Raises AdapterError where another process holds it.
        """
        who = hashlib.sha256(json.dumps(identity.as_dict(), sort_keys=True).encode()).hexdigest()[:24]
        return only_asker(
            self.folder / "asking" / f"{who}-{os.environ.get('RANK', '0')}.lock",
            lambda holder: AdapterError(
                f"{identity.model} is being asked already, with the same journal ({self.folder}): {holder}. Wait until "
                "that run ends, or stop it; the same command then asks for what is missing."
            ),
        )

    def close(self) -> None:
        """Close the file."""
        self.store.close()
