"""The store of paid replies: whole or not at all, for several processes, and through kills and damage."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from egost.tasks.chat.reply_store import STORE, ReplyStore, stored_bodies
from egost.tasks.errors import CacheError

WRITER = """
import sys
from pathlib import Path
from egost.tasks.chat.reply_store import ReplyStore

store = ReplyStore(Path(sys.argv[1]))
print("ready", flush=True)
for number in range(int(sys.argv[2]), int(sys.argv[3])):
    store.put({f"key {number}": {"text": f"{number} " * 200}})
    print(number, flush=True)
"""


def writer(path: Path, first: int, last: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path), str(first), str(last)], stdout=subprocess.PIPE, text=True
    )


def put(path: Path, n: int) -> None:
    store = ReplyStore(path)
    store.put({f"key {i}": {"text": f"{i} " * 200} for i in range(n)})
    store.close()


def kept(path: Path, n: int) -> list[int]:
    store = ReplyStore(path)
    found = [i for i in range(n) if store.get(f"key {i}") == {"text": f"{i} " * 200}]
    store.close()
    return found


def test_the_newest_body_of_a_key_counts_and_nothing_is_overwritten(tmp_path: Path) -> None:
    store = ReplyStore(tmp_path / "deeper" / STORE)
    assert store.get("k") is None
    store.put({"k": {"text": "Turn left. \u27f2", "n": 1}})
    other = ReplyStore(store.path)
    assert other.get("k") == {"text": "Turn left. \u27f2", "n": 1}
    other.put({"k": {"text": ""}, "l": {}})
    assert store.get("k") == {"text": ""} and store.get("l") == {}
    assert stored_bodies(store.path) == {"k": {"text": ""}, "l": {}}
    with sqlite3.connect(store.path) as database:
        assert database.execute("SELECT count(*) FROM replies").fetchone() == (3,)
    assert stored_bodies(tmp_path / STORE) == {} and not (tmp_path / STORE).exists()


def test_an_older_place_is_asked_only_for_what_is_not_here(tmp_path: Path) -> None:
    asked: list[str] = []

    def older(key: str) -> dict[str, str] | None:
        asked.append(key)
        return {"text": "old"} if key == "a" else None

    store = ReplyStore(tmp_path / STORE, older=older)
    assert store.get("a") == {"text": "old"} and store.get("b") is None
    store.put({"a": {"text": "new"}})
    assert store.get("a") == {"text": "new"} and asked == ["a", "b"]


def test_a_writer_killed_in_the_middle_loses_nothing_that_it_had_put(tmp_path: Path) -> None:
    done = 0
    for attempt in range(5):
        process = writer(tmp_path / STORE, done, done + 10_000)
        assert process.stdout and process.stdout.readline() == "ready\n"
        time.sleep(0.05 * attempt)
        process.send_signal(signal.SIGKILL)
        said = [int(line) for line in process.communicate()[0].splitlines() if line.strip()]
        done = max(said, default=done - 1) + 1
        # What was on its way when the kill came may be there as well.
        assert kept(tmp_path / STORE, done) == list(range(done))
    assert done > 20
    assert not list(tmp_path.glob("*.damaged-*"))


def test_several_processes_at_once(tmp_path: Path) -> None:
    processes = [writer(tmp_path / STORE, first, first + 50) for first in (0, 50, 100)]
    for process in processes:
        process.communicate()
        assert process.returncode == 0
    assert kept(tmp_path / STORE, 150) == list(range(150))


def test_several_bodies_are_written_all_or_none(tmp_path: Path) -> None:
    store = ReplyStore(tmp_path / STORE)
    store._db.execute("PRAGMA max_page_count = 20")
    with pytest.raises(CacheError, match="full"):
        store.put({f"key {i}": {"text": f"{i} " * 200} for i in range(500)})
    store.close()
    assert kept(tmp_path / STORE, 500) == []


def test_a_file_that_is_no_database_is_moved_aside(tmp_path: Path) -> None:
    (tmp_path / STORE).write_bytes(b"these are not the replies " * 100)
    put(tmp_path / STORE, 3)
    assert kept(tmp_path / STORE, 3) == [0, 1, 2]
    [aside] = tmp_path.glob(f"{STORE}.damaged-*")
    assert aside.read_bytes().startswith(b"these are not the replies")


@pytest.mark.parametrize("damage", ["cut", "overwritten"])
def test_a_damaged_file_gives_no_false_reply_and_can_be_used_again(tmp_path: Path, damage: str) -> None:
    path = tmp_path / STORE
    put(path, 400)
    size = path.stat().st_size
    if damage == "cut":
        os.truncate(path, size * 3 // 4)
    else:
        with path.open("r+b") as file:
            file.seek(size // 2)
            file.write(os.urandom(3 * 4096))
    found = kept(path, 400)
    assert len(found) < 400 and (damage == "cut" or len(found) > 200), f"{len(found)} of 400"
    assert len(list(tmp_path.glob(f"{STORE}.damaged-*"))) == 1
    put(path, 400)
    assert kept(path, 400) == list(range(400))


def test_a_changed_letter_is_noticed(tmp_path: Path) -> None:
    put(tmp_path / STORE, 2)
    content = (tmp_path / STORE).read_bytes()
    (tmp_path / STORE).write_bytes(content.replace(b"0 0 0 0", b"0 0 7 0"))
    assert kept(tmp_path / STORE, 2) == [1]
    assert list(stored_bodies(tmp_path / STORE)) == ["key 1"]


def test_a_folder_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CacheError, match="EGOST_CACHE"):
        ReplyStore(tmp_path / "file" / STORE)
