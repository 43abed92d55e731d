"""`egost cache`: sizes by kind, and what `prune` frees beside running processes."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from filelock import FileLock
from typer.testing import CliRunner
from video_files import write_video

from egost.main import app
from egost.tasks.cache import only_writer, write_whole
from egost.tasks.clips.clips import Clip, get_clip
from egost.tasks.clips.protocols import parse_protocol


@pytest.fixture
def clips(own_cache: Path, tmp_path: Path) -> dict[str, Clip]:
    """A clip by two protocols, with a response and a text-only baseline beside it."""
    write_whole(own_cache / "journal" / "responses.sqlite", b"paid for")
    write_whole(own_cache / "text_only" / "0-1.json", b"{}")
    video = write_video(tmp_path / "a.mp4", 24)
    return {name: get_clip(video, parse_protocol(name)) for name in ("uniform8", "uniform8+224x224")}


def egost(*words: str) -> str:
    done = CliRunner().invoke(app, ["cache", *words], env={"COLUMNS": "200"})
    assert done.exit_code == 0, done.output
    return done.output


def test_sizes_by_kind(own_cache: Path, clips: dict[str, Clip]) -> None:
    write_whole(own_cache / "clips" / "00" / "x.part", b"12")
    rows = {line.split()[0]: line.split()[1] for line in egost().splitlines()[2:]}
    assert rows["journal"] == "1" and rows["text_only"] == "1"
    assert int(rows["clips"]) >= 4, "frames and manifest of both"
    assert " MB" in egost().splitlines()[0]


def test_no_lock_stays_beside_a_clip(own_cache: Path, clips: dict[str, Clip]) -> None:
    assert not list(own_cache.rglob("*.lock")) and not list(own_cache.rglob("*.part*"))


def test_a_dry_run_frees_nothing(own_cache: Path, clips: dict[str, Clip]) -> None:
    before = sorted(own_cache.rglob("*"))
    assert "would be freed" in egost("prune", "--older", "0", "--dry-run")
    assert sorted(own_cache.rglob("*")) == before


def test_frames_of_a_protocol(clips: dict[str, Clip]) -> None:
    assert egost("prune", "--protocol", "uniform8+224x224").startswith("1 entries")
    assert clips["uniform8"].path.exists() and not clips["uniform8+224x224"].path.parent.exists()


def test_what_was_not_used_for_some_days(own_cache: Path, clips: dict[str, Clip]) -> None:
    old = clips["uniform8"].path.parent
    for path in (*old.iterdir(), old):
        os.utime(path, (time.time() - 9 * 86400,) * 2)
    assert egost("prune", "--older", "10").startswith("0 entries")
    assert egost("prune", "--older", "8").startswith("1 entries")
    assert not old.exists() and clips["uniform8+224x224"].path.exists()
    egost("prune", "--older", "0")
    assert not list(own_cache.rglob("clip.mp4")) and not (own_cache / "text_only" / "0-1.json").exists()
    assert (own_cache / "journal" / "responses.sqlite").read_bytes() == b"paid for"


def test_what_killed_processes_left(own_cache: Path, clips: dict[str, Clip]) -> None:
    entry = clips["uniform8"].path.parent
    part = entry.with_name(f"{entry.name}.part-0123456789abcdef")
    part.mkdir()
    entry.with_name(f"{entry.name}.lock").touch()
    young = own_cache / "text_only" / "0-1.json.0123456789abcdef.part"
    young.write_bytes(b"being written")
    assert "1 stay" in egost("prune")
    assert not part.exists() and not list(own_cache.rglob("*.lock")) and young.exists() and entry.exists()
    os.utime(young, (0, 0))
    egost("prune")
    assert not young.exists()


def test_what_another_process_uses_stays(own_cache: Path, clips: dict[str, Clip]) -> None:
    entry = clips["uniform8"].path.parent
    with only_writer(entry):
        assert "1 stay" in egost("prune", "--protocol", "uniform8")
    asking = own_cache / "journal" / "asking" / "model-0.lock"
    asking.parent.mkdir()
    with FileLock(asking):
        assert "2 stay" in egost("prune", "--older", "0")
    assert entry.exists() and asking.exists()
    egost("prune", "--older", "0")
    assert not entry.exists()


def test_what_was_made_of_a_release(
    own_cache: Path, clips: dict[str, Clip], release_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EGOST_DATA", str(release_folder))
    video = min((release_folder / "part1").glob("*.mp4"))
    of_release = get_clip(video, parse_protocol("uniform8"))
    egost("prune", "--release", "official")
    assert not of_release.path.exists() and clips["uniform8"].path.exists()
    done = CliRunner().invoke(app, ["cache", "prune", "--release", "mini"])
    assert done.exit_code == 2 and "egost data mini" in done.output
