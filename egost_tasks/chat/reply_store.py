"""Paid replies on disk: what was answered once is not asked again, and a killed run goes on.

    store = ReplyStore(folder / "replies.sqlite")
    store.put({key: body})
    body = store.get(key)

One SQLite file to which records are only added, each one whole or not at all, by any number of processes. The file
needs a local disk, since SQLite's log does not work across machines: processes on several machines need an
`EGOST_CACHE` each.
"""

from __future__ import annotations

import hashlib
import json
import os
import socket
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock, Timeout
from loguru import logger

from egost.tasks.cache import write_whole
from egost.tasks.errors import CacheError, EgostError
from egost.tasks.json_text import read_json

STORE = "replies.sqlite"
"""Name of the file in a folder of replies."""

Body = Mapping[str, Any]
"""What is kept of a reply: a JSON object."""

_BUSY_S = 60.0
_FILES = ("", "-wal", "-shm")
"""Endings of the files that are one database."""

# `record` is the body's JSON; `sha256` is of key and record: SQLite notices a broken page but not a changed letter.
_TABLE = """
CREATE TABLE IF NOT EXISTS replies (
    number INTEGER PRIMARY KEY AUTOINCREMENT, key TEXT NOT NULL, record TEXT NOT NULL, sha256 TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS replies_by_key ON replies (key, number);
"""
_ADD = "INSERT INTO replies (key, record, sha256) VALUES (?, ?, ?)"
_Row = tuple[str, str, str]


class ReplyStore:
    """The replies of a file; for one thread at a time, and any number of processes.

    synchronous: `NORMAL` survives a kill of the process, `FULL` a power cut as well, at some milliseconds for each
        `put`.
    older: finds the body of a key where an earlier version of this package kept it; None where it did not.
    A damaged file is moved aside when it is opened, with a message; the records that can be read are copied.
    Every method raises CacheError when the file cannot be read or written.
    """

    def __init__(
        self,
        path: Path,
        *,
        synchronous: Literal["NORMAL", "FULL"] = "NORMAL",
        older: Callable[[str], Body | None] = lambda key: None,
    ) -> None:
        self.path, self._synchronous, self._older = path, synchronous, older
        with self._named():
            path.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(path.with_suffix(".lock")):
                self._db = self._opened()

    def get(self, key: str) -> Body | None:
        """The newest body of a key; None where there is none, or none that is whole."""
        with self._named():
            row = self._db.execute(
                "SELECT key, record, sha256 FROM replies WHERE key = ? ORDER BY number DESC LIMIT 1", (key,)
            ).fetchone()
        return _body(row) if row and _is_whole(row) else self._older(key)

    def put(self, bodies: Mapping[str, Body]) -> None:
        """Write bodies down by their keys: all of them or none."""
        rows = [_row(key, body) for key, body in bodies.items()]
        with self._named():
            self._add(self._db, rows)

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def _opened(self) -> sqlite3.Connection:
        try:
            return self._connected()
        except sqlite3.DatabaseError as error:
            # A full disk or a lock are OperationalErrors; a damaged file, or one that is no database, is neither.
            if isinstance(error, sqlite3.OperationalError):
                raise
            return self._begun_anew(error)

    def _connected(self) -> sqlite3.Connection:
        db = sqlite3.connect(self.path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False)
        try:
            db.execute("PRAGMA journal_mode=WAL")
            db.execute(f"PRAGMA synchronous={self._synchronous}")
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
            f"egost: the file of replies {self.path} was damaged ({error}). It was moved to {aside}; {len(rows)} "
            "replies could be read and were copied, the others will be asked for again."
        )
        return db

    @staticmethod
    def _add(db: sqlite3.Connection, rows: list[_Row]) -> None:
        db.execute("BEGIN IMMEDIATE")
        try:
            db.executemany(_ADD, rows)
        except BaseException:
            # SQLite itself has rolled back where the disk is full.
            if db.in_transaction:
                db.execute("ROLLBACK")
            raise
        db.execute("COMMIT")

    @contextmanager
    def _named(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise CacheError(
                f"the file of replies {self.path} cannot be used ({error}). Free some space, or set EGOST_CACHE to a "
                "folder on a local disk that can be written."
            ) from error


def stored_bodies(path: Path) -> dict[str, Body]:
    """All whole bodies of a file by their keys, the newest of each; empty where there is no file."""
    if not path.exists():
        return {}
    return {row[0]: _body(row) for row in _readable(path)}


def _readable(path: Path) -> Iterator[_Row]:
    """The whole records of a file in their order, as far as it can be read."""
    with suppress(sqlite3.Error), closing(sqlite3.connect(path, timeout=_BUSY_S)) as db:
        last = db.execute("SELECT seq FROM sqlite_sequence WHERE name = 'replies'").fetchone()
        for number in range(1, (last[0] if last else 0) + 1):
            # One by one: a broken page must not take the records on the others with it.
            with suppress(sqlite3.Error):
                for row in db.execute("SELECT key, record, sha256 FROM replies WHERE number = ?", (number,)):
                    if _is_whole(row):
                        yield row


def only_asker(path: Path, refusal: Callable[[str], EgostError]) -> FileLock:
    """Take the lock that a process holds while it asks for replies, so that no other pays for the same ones.

    path: of the lock, `*.lock`; beside it stands who holds it. The system frees it when the process ends, however it
    ends. Raises what `refusal` makes of the holder (`by process 7 on HOST, since ...`) where another process holds it.
    """
    lock = FileLock(path, timeout=0, is_singleton=True, thread_local=False)
    note = path.with_suffix(".json")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
        begun = {"process": os.getpid(), "host": socket.gethostname(), "since": time.strftime("%F %T %Z")}
        write_whole(note, json.dumps(begun).encode())
    except Timeout as error:
        raise refusal(_noted(note)) from error
    except (OSError, NotImplementedError) as error:
        logger.warning(f"egost: {path} cannot be locked ({error}): another process would ask the same again")
    return lock


def _noted(note: Path) -> str:
    """Who asks, as it wrote down itself."""
    try:
        found = read_json(note)
        return f"by process {found['process']} on {found['host']}, since {found['since']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "by a process that has not said which"


def _row(key: str, body: Body) -> _Row:
    record = json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return key, record, _check(key, record)


def _body(row: _Row) -> Body:
    body: Body = json.loads(row[1])
    return body


def _is_whole(row: _Row) -> bool:
    return all(isinstance(value, str) for value in row) and _check(row[0], row[1]) == row[2]


def _check(key: str, record: str) -> str:
    return hashlib.sha256(f"{key} {record}".encode()).hexdigest()
