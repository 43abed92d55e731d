"""Judgements on disk: what was judged once is not asked again, by no process.

One SQLite file for all judges. A process claims a judgement before it asks for it; the claim of a process that
has vanished lapses. The file wants a local disk, since SQLite's write-ahead log does not work across machines:
processes on several machines need an `EGOST_CACHE` each.
"""

from __future__ import annotations

import os
import socket
import sqlite3
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from egost.tasks.errors import CacheError
from egost.tasks.judging.reading import Scores

_BUSY_S = 60.0

_TABLES = """
CREATE TABLE IF NOT EXISTS judgements (
    key TEXT PRIMARY KEY, judge TEXT NOT NULL, snapshot TEXT NOT NULL, left_out TEXT NOT NULL,
    direction INTEGER NOT NULL, landmark INTEGER NOT NULL, semantic INTEGER NOT NULL, reasons TEXT NOT NULL,
    made_at REAL NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS claims (
    key TEXT PRIMARY KEY, owner TEXT NOT NULL, host TEXT NOT NULL, pid INTEGER NOT NULL, until REAL NOT NULL
) WITHOUT ROWID;
"""


@dataclass(frozen=True, slots=True)
class Kept:
    """A judgement on disk. snapshot: the model that the server said it was; left_out: see `JudgeUsage`."""

    scores: Scores
    snapshot: str
    left_out: tuple[str, ...]


class JudgementCache:
    """The judgements of a folder; to be used from one thread at a time.

    Every method raises CacheError when the file cannot be read or written.
    """

    def __init__(self, folder: Path, lease_s: float) -> None:
        self.path = folder / "judgements.sqlite"
        self._lease_s = lease_s
        self._host, self._pid = socket.gethostname(), os.getpid()
        self._owner = uuid.uuid4().hex
        with self._named():
            folder.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(
                self.path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False
            )
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=NORMAL")
            self._db.executescript(_TABLES)

    def get(self, key: str) -> Kept | None:
        """The judgement of a key, if there is one."""
        with self._named():
            row = self._db.execute(
                "SELECT direction, landmark, semantic, reasons, snapshot, left_out FROM judgements WHERE key = ?",
                (key,),
            ).fetchone()
        return Kept(Scores(*row[:4]), row[4], tuple(row[5].split())) if row else None

    def claim(self, key: str) -> bool:
        """Take a judgement upon oneself; False when it exists by now, or a living process has taken it."""
        with self._writing():
            if self._db.execute("SELECT 1 FROM judgements WHERE key = ?", (key,)).fetchone():
                return False
            row = self._db.execute(
                "SELECT owner, host, pid, until FROM claims WHERE key = ?", (key,)
            ).fetchone()
            if row and row[0] != self._owner and self._lives(*row[1:]):
                return False
            self._db.execute(
                "INSERT OR REPLACE INTO claims VALUES (?, ?, ?, ?, ?)",
                (key, self._owner, self._host, self._pid, time.time() + self._lease_s),
            )
            return True

    def renew(self) -> None:
        """Say that this process still works on its claims; to be called several times within a lease."""
        with self._writing():
            self._db.execute(
                "UPDATE claims SET until = ? WHERE owner = ?", (time.time() + self._lease_s, self._owner)
            )

    def keep(self, key: str, judge: str, kept: Kept) -> None:
        """Write a judgement down; the first one of a key stays."""
        s = kept.scores
        with self._writing():
            self._db.execute(
                "INSERT OR IGNORE INTO judgements VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    key,
                    judge,
                    kept.snapshot,
                    " ".join(kept.left_out),
                    s.direction,
                    s.landmark,
                    s.semantic,
                    s.reasons,
                    time.time(),
                ),
            )

    def release(self, key: str) -> None:
        """Give a claim back."""
        with self._writing():
            self._db.execute("DELETE FROM claims WHERE key = ? AND owner = ?", (key, self._owner))

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def _lives(self, host: str, pid: int, until: float) -> bool:
        if until < time.time():
            return False
        if host != self._host:
            return True
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            return True
        return True

    @contextmanager
    def _named(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise CacheError(
                f"the cache of judgements {self.path} cannot be used ({error}). Make room or set EGOST_CACHE to a "
                "folder that can be written; if the file is damaged, delete it."
            ) from error

    @contextmanager
    def _writing(self) -> Iterator[None]:
        with self._named():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")
