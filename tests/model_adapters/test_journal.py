"""The journal: what was answered survives kills, torn files and other processes; what is damaged is not believed."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from journaled_requests import requests
from release_files import write_video

from egost.model_adapters.engine import Ask, EngineIdentity, GenerationArguments, Reply
from egost.model_adapters.journal import Entry, Journal, request_key
from egost.tasks.clips.clips import Clip, get_clip
from egost.tasks.clips.protocols import parse_protocol
from egost.tasks.errors import CacheError

GREEDY = GenerationArguments(16)
IDENTITY = EngineIdentity("script 1", "scripted", "abc", {"dtype": "float32", "frames": "video"})
REPLY = Reply("Turn left. ⟲", "stop", 100, 3, 32)

WRITER = """
import sys
from pathlib import Path
from egost.model_adapters.engine import Ask, EngineIdentity, GenerationArguments, Reply
from egost.model_adapters.journal import Entry, Journal

journal = Journal(Path(sys.argv[1]))
identity = EngineIdentity("script 1", "scripted", None, {})
first, last = int(sys.argv[2]), int(sys.argv[3])
print("ready", flush=True)
for number in range(first, last):
    ask = Ask(f"mini/{number}", f"prompt {number}", None, GenerationArguments(16))
    journal.put([Entry(f"key {number}", ask, Reply(f"{number} " * 200, "stop"), identity)])
    print(number, flush=True)
"""


def writer(folder: Path, first: int, last: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, str(folder), str(first), str(last)], stdout=subprocess.PIPE, text=True
    )


def ask(prompt: str = "Where to?", clip: Clip | None = None, arguments: GenerationArguments = GREEDY) -> Ask:
    return Ask("mini/1", prompt, clip, arguments)


def put(journal: Journal, n: int) -> None:
    journal.put([Entry(f"key {i}", ask(), Reply(f"{i} " * 200, "stop"), IDENTITY) for i in range(n)])


def kept(folder: Path, n: int) -> list[int]:
    journal = Journal(folder)
    found = [i for i in range(n) if (reply := journal.get(f"key {i}")) and reply.text == f"{i} " * 200]
    journal.close()
    return found


def test_what_is_put_is_got_and_the_newest_wins(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    key = request_key(ask(), IDENTITY)
    assert journal.get(key) is None
    journal.put([Entry(key, ask(), REPLY, IDENTITY)])
    assert journal.get(key) == Journal(tmp_path).get(key) == REPLY
    newer = replace(REPLY, text="", prompt_tokens=None, reasoning="First left.")
    journal.put([Entry(key, ask(), newer, IDENTITY)])
    assert journal.get(key) == newer
    [[records]] = sqlite3.connect(journal.store.path).execute("SELECT count(*) FROM replies")
    assert records == 2, "nothing is overwritten"


def test_what_the_code_before_has_journaled_is_not_asked_again(tmp_path: Path) -> None:
    """`old_journal` was written before replies had reasoning."""
    shutil.copytree(Path(__file__).with_name("old_journal"), tmp_path / "journal")
    with closing(Journal(tmp_path / "journal")) as journal:
        found = [journal.get(request_key(*request)) for request in requests()]
    assert found == [Reply(f"old {n} ⟲", "stop", 100 + n, 3, 32, "snap" if n % 2 else None) for n in range(8)]


def test_by_default_it_lies_in_the_cache_folder(own_cache: Path) -> None:
    assert Journal().store.path == own_cache / "journal" / "responses.sqlite"


def test_all_that_a_reply_depends_on_is_in_the_key(tmp_path: Path) -> None:
    clip = get_clip(write_video(tmp_path / "1.mp4"), parse_protocol("uniform8"))

    def with_manifest(**changes: object) -> Ask:
        return ask(clip=Clip(clip.path, replace(clip.manifest, **changes)))  # type: ignore[arg-type]

    drawn = GenerationArguments(16, temperature=0.5, seed=1)
    different = [
        (ask(), IDENTITY),
        (ask(clip=clip), IDENTITY),
        (ask("Where from?"), IDENTITY),
        (with_manifest(pixels_sha256="0" * 64), IDENTITY),
        (with_manifest(indices=(0, 1, 2, 3, 4, 5, 6, 7)), IDENTITY),
        (with_manifest(timestamps=(0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0)), IDENTITY),
        (with_manifest(duration=99.0), IDENTITY),
        (with_manifest(width=2 * clip.manifest.width, height=clip.manifest.height // 2), IDENTITY),
        (ask(arguments=GenerationArguments(17)), IDENTITY),
        (ask(arguments=GenerationArguments(16, stop=("\n",))), IDENTITY),
        (ask(arguments=drawn), IDENTITY),
        (ask(arguments=replace(drawn, seed=2)), IDENTITY),
        (ask(), replace(IDENTITY, engine="script 2")),
        (ask(), replace(IDENTITY, model="other")),
        (ask(), replace(IDENTITY, revision=None)),
        (ask(), replace(IDENTITY, settings={"dtype": "bfloat16", "frames": "video"})),
    ]
    assert len({request_key(*request) for request in different}) == len(different)
    alike = [
        with_manifest(source="other.mp4", decoder="other"),
        ask(clip=Clip(tmp_path / "elsewhere.mp4", clip.manifest)),
        replace(ask(clip=clip), sample="mini/2"),
    ]
    assert {request_key(a, IDENTITY) for a in alike} == {request_key(ask(clip=clip), IDENTITY)}
    turned = replace(IDENTITY, settings=dict(reversed(IDENTITY.settings.items())))
    assert request_key(ask(), turned) == request_key(ask(), IDENTITY)


def test_a_writer_killed_in_the_middle_loses_nothing_that_it_had_put(tmp_path: Path) -> None:
    done = attempt = 0
    # A busy machine writes little before a kill: then it is killed more often.
    while attempt < 8 or (done <= 20 and attempt < 60):
        attempt += 1
        process = writer(tmp_path, done, done + 10_000)
        assert process.stdout and process.stdout.readline() == "ready\n"
        time.sleep(0.03 * (attempt - 1))
        process.send_signal(signal.SIGKILL)
        said = [int(line) for line in process.communicate()[0].splitlines() if line.strip()]
        done = max(said, default=done - 1) + 1
        # What was on its way when the kill came may be there as well.
        assert kept(tmp_path, done) == list(range(done))
    assert done > 20
    assert not list(tmp_path.glob("*.damaged-*"))


def test_a_log_cut_in_the_middle_loses_only_what_was_cut(tmp_path: Path) -> None:
    process = writer(tmp_path, 0, 40)
    assert process.stdout
    while process.stdout.readline() != "39\n":
        pass
    process.kill()
    process.wait()
    log = tmp_path / "responses.sqlite-wal"
    if log.exists():
        (tmp_path / "responses.sqlite-shm").unlink(missing_ok=True)
        os.truncate(log, log.stat().st_size // 2)
    found = kept(tmp_path, 40)
    assert found == list(range(len(found))) and len(found) >= 10
    put(Journal(tmp_path), 40)
    assert kept(tmp_path, 40) == list(range(40))


def test_a_file_that_is_no_database_is_moved_aside(tmp_path: Path) -> None:
    (tmp_path / "responses.sqlite").write_bytes(b"these are not the replies " * 100)
    put(Journal(tmp_path), 3)
    assert kept(tmp_path, 3) == [0, 1, 2]
    [aside] = tmp_path.glob("responses.sqlite.damaged-*")
    assert aside.read_bytes().startswith(b"these are not the replies")


def test_a_journal_of_the_code_before_the_common_store_is_read(tmp_path: Path) -> None:
    """Its table and one of its records, as that code wrote them."""
    key, record, sha256 = (
        "5ed88eb6e546a12a283f63556a0fdf45188a54d1d5c1dcfc4e7d33004c835aa5",
        '{"engine":{"engine":"script 1","model":"scripted","revision":"abc","settings":{"dtype":"float32",'
        '"frames":"video"}},"made_at":1795988064.0612738,"reply":{"completion_tokens":3,"finish_reason":"stop",'
        '"prompt_tokens":100,"snapshot":null,"text":"Turn left. \\u27f2","video_tokens":32},"sample":"mini/1"}',
        "cca9b5f7126bb68bf56497007c669851db54e6f2ab7c70d65fc767e04c7ab0a2",
    )
    with closing(sqlite3.connect(tmp_path / "responses.sqlite")) as db:
        db.execute(
            "CREATE TABLE replies (number INTEGER PRIMARY KEY AUTOINCREMENT, key TEXT NOT NULL, "
            "record TEXT NOT NULL, sha256 TEXT NOT NULL)"
        )
        db.execute("INSERT INTO replies (key, record, sha256) VALUES (?, ?, ?)", (key, record, sha256))
        db.commit()
    assert request_key(ask(), IDENTITY) == key
    assert Journal(tmp_path).get(key) == REPLY


@pytest.mark.parametrize("damage", ["cut", "overwritten"])
def test_what_can_be_read_of_a_damaged_file_is_taken_over(tmp_path: Path, damage: str) -> None:
    journal = Journal(tmp_path)
    put(journal, 400)
    journal.close()
    size = journal.store.path.stat().st_size
    if damage == "cut":
        os.truncate(journal.store.path, size * 3 // 4)
    else:
        with journal.store.path.open("r+b") as file:
            file.seek(size // 2)
            file.write(os.urandom(3 * 4096))
    found = kept(tmp_path, 400)
    # Of a file whose end is missing SQLite reads nothing.
    assert (0 if damage == "cut" else 201) <= len(found) < 400, f"{len(found)} of 400"
    assert len(list(tmp_path.glob("responses.sqlite.damaged-*"))) == 1
    put(Journal(tmp_path), 400)
    assert kept(tmp_path, 400) == list(range(400))


def test_a_changed_letter_is_noticed(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    put(journal, 2)
    journal.close()
    content = journal.store.path.read_bytes()
    journal.store.path.write_bytes(content.replace(b"0 0 0 0", b"0 0 7 0"))
    assert kept(tmp_path, 2) == [1]


def test_several_processes_at_once(tmp_path: Path) -> None:
    processes = [writer(tmp_path, first, first + 50) for first in (0, 50, 100)]
    for process in processes:
        process.communicate()
        assert process.returncode == 0
    assert kept(tmp_path, 150) == list(range(150))


def test_a_folder_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CacheError, match="EGOST_CACHE"):
        Journal(tmp_path / "file" / "journal")


def test_a_full_disk_is_named(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    put(journal, 1)
    journal.store._db.execute("PRAGMA max_page_count = 1")
    with pytest.raises(CacheError, match="full"):
        put(journal, 500)
    assert kept(tmp_path, 1) == [0]
