from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from places import ROOT
from video_files import write_audio, write_video

from egost.tasks.clips.clips import Clip, build_clips, get_clip
from egost.tasks.clips.lossless import read_lossless
from egost.tasks.clips.manifest import ClipManifest
from egost.tasks.clips.protocols import Protocol
from egost.tasks.errors import CacheError

UNIFORM = Protocol()


def test_many_threads_ask_for_the_same_clips(tmp_path: Path) -> None:
    sources = [write_video(tmp_path / f"{i}.mp4", 10 + i) for i in range(4)]
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda source: get_clip(source, UNIFORM), sources * 6))
    assert [clip.manifest.n_frames for clip in found] == [10, 11, 12, 13] * 6
    assert threading.active_count() < 30


_RACE = """
import sys, time
from pathlib import Path
from egost.tasks.clips.clips import get_clip
from egost.tasks.clips.protocols import Protocol
print("ready", flush=True)
sys.stdin.readline()
for source in sys.argv[1:]:
    clip = get_clip(Path(source), Protocol())
    print(clip.path.stat().st_ino, clip.manifest.pixels_sha256, clip.frames().shape[0], flush=True)
"""


def test_processes_that_race_share_one_result(tmp_path: Path, own_cache: Path) -> None:
    sources = [str(write_video(tmp_path / f"{i}.mp4", 20 + i, size=(320, 240))) for i in range(4)]
    runs = [
        subprocess.Popen(
            [sys.executable, "-c", _RACE, *sources],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        for _ in range(3)
    ]
    for run in runs:
        assert run.stdout and run.stdout.readline() == "ready\n"
    for run in runs:
        assert run.stdin
        run.stdin.write("go\n")
        run.stdin.flush()
    outputs = [run.communicate(timeout=60)[0] for run in runs]
    # The same inodes: one process wrote, the others took what it wrote.
    assert outputs[0] == outputs[1] == outputs[2]
    assert len(outputs[0].splitlines()) == 4
    assert not list(own_cache.rglob("*.part-*"))


def test_build_clips_keeps_order_and_failures(tmp_path: Path) -> None:
    good = [write_video(tmp_path / f"{i}.mp4", 10 + i) for i in range(3)]
    bad = write_audio(tmp_path / "song.mp4")
    missing = tmp_path / "none.mp4"
    outcomes = build_clips([good[0], bad, good[1], missing, good[0], good[2]], UNIFORM, progress=False)
    assert [o.manifest.n_frames if isinstance(o, Clip) else o.reason for o in outcomes] == [
        10,
        "no_video",
        11,
        "missing",
        10,
        12,
    ]


def test_build_clips_shows_progress(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    build_clips([write_video(tmp_path / "0.mp4", 9), tmp_path / "none.mp4"], UNIFORM)
    shown = capfd.readouterr().err
    assert "2 of 2 clips, 1 failed" in shown
    assert "1 failed" in shown


def test_build_clips_ends_where_the_cache_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("EGOST_CACHE", str(tmp_path / "file"))
    with pytest.raises(CacheError, match=r"EGOST_CACHE"):
        build_clips([write_video(tmp_path / "0.mp4", 9)], UNIFORM, progress=False)


_BUILD = """
import sys
from pathlib import Path
from egost.tasks.clips.clips import Clip, build_clips
from egost.tasks.clips.protocols import Protocol
outcomes = build_clips([Path(source) for source in sys.argv[1:]], Protocol(), workers=1)
assert all(isinstance(outcome, Clip) for outcome in outcomes)
"""


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_a_build_that_was_ended_goes_on(tmp_path: Path, own_cache: Path, how: signal.Signals) -> None:
    sources = [
        write_video(tmp_path / f"{i}.mp4", 10 + i, size=(640, 480), preset="ultrafast") for i in range(8)
    ]
    command = [sys.executable, "-c", _BUILD, *map(str, sources)]

    def kept() -> dict[Path, int]:
        return {
            path: path.stat().st_mtime_ns for path in own_cache.rglob("clip.mp4") if ".part-" not in str(path)
        }

    first = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, start_new_session=True)
    while len(kept()) < 2:
        assert first.poll() is None
        time.sleep(0.01)
    first.send_signal(how)
    error = first.communicate(timeout=10)[1].decode()
    assert first.returncode != 0
    if how == signal.SIGINT:
        assert "KeyboardInterrupt" in error
    before = kept()
    assert 2 <= len(before) < 8
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    after = kept()
    assert len(after) == 8
    assert before.items() <= after.items()
    assert not list(own_cache.rglob("*.part-*"))
    for path in after:
        assert len(read_lossless(path)) == 8
        assert ClipManifest.read(path.with_name("manifest.json")).n_frames >= 10
