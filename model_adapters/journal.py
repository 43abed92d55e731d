"""Replies on disk: what a model has answered once is not asked again, so that a killed run goes on.

One SQLite file for all models, to which records are only added. A record is on the disk before `put` returns; what
a kill or a power cut tears is the last record at most, and SQLite's log leaves that one out. The file wants a local
disk, since that log does not work across machines: processes on several machines need an `EGOST_CACHE` each.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock
from loguru import logger

from egost.model_adapters.engine import Ask, EngineIdentity, Reply
from egost.tasks.cache import cache_root
from egost.tasks.errors import CacheError

JOURNAL_VERSION = 1
"""Raised whenever our code would give a model something else for the same request; part of every key."""

_BUSY_S = 60.0
_FILES = ("", "-wal", "-shm")
"""Endings of the files that are one database."""
_LARGEST = 1 << 36
"""Bytes; a header that says more is damaged itself."""

# `record` is JSON; `sha256` is of key and record, since SQLite notices a broken page but not a changed letter.
_TABLE = """
CREATE TABLE IF NOT EXISTS replies (
    number INTEGER PRIMARY KEY AUTOINCREMENT, key TEXT NOT NULL, record TEXT NOT NULL, sha256 TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS replies_by_key ON replies (key, number);
"""
_ADD = "INSERT INTO replies (key, record, sha256) VALUES (?, ?, ?)"


def request_key(ask: Ask, identity: EngineIdentity) -> str:
    """The key of a request: SHA-256 over all that a reply depends on, 64 hexadecimal digits.

    Of the clip that is what a model is given, the pixels, and where in the walk each frame stands, so that no frame
    is taken for another that looks alike. Path, file name and the sample's name change nothing.
    """
    clip = None
    if ask.clip:
        told = ask.clip.manifest
        # The hash is of the pixels in a row, which two shapes can share.
        size = [told.width, told.height]
        clip = [told.pixels_sha256, size, told.indices, told.timestamps, told.n_frames, told.duration]
    parts = {
        "journal": JOURNAL_VERSION,
        "engine": identity.as_dict(),
        "prompt": ask.prompt,
        "clip": clip,
        "arguments": asdict(ask.arguments),
    }
    return hashlib.sha256(_canonical(parts).encode()).hexdigest()


@dataclass(frozen=True)
class Entry:
    """A reply to be written down: the key of its request, what was asked, what came, and from whom."""

    key: str
    ask: Ask
    reply: Reply
    identity: EngineIdentity


class Journal:
    """The replies of a folder; to be used from one thread at a time, by any number of processes.

    A file that is damaged is moved aside when it is opened, with a message; what can be read of it is taken
    over into a new one. Every method raises CacheError when the file cannot be read or written.
    """

    def __init__(self, folder: Path | None = None) -> None:
        folder = folder or cache_root() / "journal"
        self.path = folder / "responses.sqlite"
        with self._named():
            folder.mkdir(parents=True, exist_ok=True)
            with FileLock(folder / "responses.lock"):
                self._db = self._opened()

    def get(self, key: str) -> Reply | None:
        """The newest reply to a request, if there is one."""
        with self._named():
            row = self._db.execute(
                "SELECT record, sha256 FROM replies WHERE key = ? ORDER BY number DESC LIMIT 1", (key,)
            ).fetchone()
        if row is None or _check(key, row[0]) != row[1]:
            return None
        return Reply(**json.loads(row[0])["reply"])

    def put(self, key: str, ask: Ask, reply: Reply, identity: EngineIdentity) -> None:
        """Write a reply down; it is on the disk when this returns."""
        self.put_all([Entry(key, ask, reply, identity)])

    def put_all(self, entries: Sequence[Entry]) -> None:
        """Write several replies down at the price of one; they are on the disk when this returns."""
        rows = []
        for entry in entries:
            record = _record(entry)
            rows.append((entry.key, record, _check(entry.key, record)))
        with self._named():
            self._add(self._db, rows)

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def _opened(self) -> sqlite3.Connection:
        try:
            return self._connected()
        except sqlite3.DatabaseError as error:
            # A full disk or a lock are OperationalErrors; a file that is damaged, or no database, is neither.
            if isinstance(error, sqlite3.OperationalError):
                raise
            return self._begun_anew(error)

    def _connected(self) -> sqlite3.Connection:
        db = sqlite3.connect(self.path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False)
        try:
            db.execute("PRAGMA journal_mode=WAL")
            db.execute("PRAGMA synchronous=FULL")
            [[found]] = db.execute("PRAGMA quick_check(1)")
            if found != "ok":
                raise sqlite3.DatabaseError(found)
            db.executescript(_TABLE)
        except BaseException:
            db.close()
            raise
        return db

    def _begun_anew(self, error: sqlite3.DatabaseError) -> sqlite3.Connection:
        aside = self.path.with_name(f"{self.path.name}.damaged-{time.time_ns()}")
        for ending in _FILES:
            with suppress(FileNotFoundError):
                self.path.with_name(self.path.name + ending).rename(aside.with_name(aside.name + ending))
        db = self._connected()
        rows = list(_readable(aside))
        self._add(db, rows)
        logger.error(
            f"egost: the journal {self.path} was damaged ({error}). It now lies in {aside}; {len(rows)} replies "
            "could be read and were taken over, the others will be asked for again."
        )
        return db

    @staticmethod
    def _add(db: sqlite3.Connection, rows: Sequence[tuple[str, str, str]]) -> None:
        db.execute("BEGIN IMMEDIATE")
        try:
            db.executemany(_ADD, rows)
        except BaseException:
            db.execute("ROLLBACK")
            raise
        db.execute("COMMIT")

    @contextmanager
    def _named(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise CacheError(
                f"the journal of replies {self.path} cannot be used ({error}). Make room, or set EGOST_CACHE to a "
                "folder on a local disk that can be written; a damaged file is mended at the next start."
            ) from error


def _readable(damaged: Path) -> Iterator[tuple[str, str, str]]:
    """The whole records of a damaged file, as far as it can be read; the file itself stays as it is."""
    copy = damaged.with_name(damaged.name + ".part")
    try:
        for ending in ("", "-wal"):
            with suppress(FileNotFoundError):
                shutil.copyfile(damaged.with_name(damaged.name + ending), copy.with_name(copy.name + ending))
        _fill_up(copy)
        with suppress(sqlite3.Error), closing(sqlite3.connect(copy)) as db:
            [[last]] = db.execute("SELECT seq FROM sqlite_sequence WHERE name = 'replies'")
            for number in range(1, last + 1):
                # One by one: a broken page must not take the records on the others with it.
                with suppress(sqlite3.Error):
                    for row in db.execute(
                        "SELECT key, record, sha256 FROM replies WHERE number = ?", (number,)
                    ):
                        if all(isinstance(value, str) for value in row) and _check(row[0], row[1]) == row[2]:
                            yield row
    finally:
        for ending in _FILES:
            copy.with_name(copy.name + ending).unlink(missing_ok=True)


def _fill_up(database: Path) -> None:
    """Make a database that was cut as long as its header says, else SQLite reads nothing of it."""
    with database.open("rb") as file:
        header = file.read(32)
    size = int.from_bytes(header[16:18], "big") * int.from_bytes(header[28:32], "big")
    if header.startswith(b"SQLite format 3") and database.stat().st_size < size <= _LARGEST:
        os.truncate(database, size)


def _record(entry: Entry) -> str:
    return _canonical(
        {
            "made_at": time.time(),
            "sample": entry.ask.sample,
            "engine": entry.identity.as_dict(),
            "reply": asdict(entry.reply),
        }
    )


def _check(key: str, record: str) -> str:
    return hashlib.sha256(f"{key} {record}".encode()).hexdigest()


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
