from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from places import ROOT
from video_files import numbers, write_video

from egost.tasks.clips import clips, decode_process
from egost.tasks.clips.clips import build_clips, get_clip
from egost.tasks.clips.decode_process import DecodePool, DecodeProcess
from egost.tasks.clips.decode_worker import DecodeRequest
from egost.tasks.clips.decoders import Decoder
from egost.tasks.clips.protocols import Protocol
from egost.tasks.errors import ClipError, SettingError

UNIFORM = Protocol()


@pytest.fixture(scope="module")
def heavy_video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A 4K video that takes some seconds to decode, and more than 256 MiB of memory."""
    path = tmp_path_factory.mktemp("heavy") / "4k.mp4"
    return write_video(path, 9, size=(3840, 2160), preset="ultrafast", gop=250)


def cpu_seconds() -> float:
    """CPU time of this process and of its children that have ended."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def refused(source: Path) -> ClipError:
    with pytest.raises(ClipError) as error:
        get_clip(source, UNIFORM)
    assert str(source) in str(error.value)
    return error.value


def test_a_clip_that_takes_too_long_ends_its_child_alone(
    tmp_path: Path, heavy_video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    light = write_video(tmp_path / "light.mp4", 10)
    get_clip(write_video(tmp_path / "warm.mp4", 9), UNIFORM)
    monkeypatch.setenv("EGOST_DECODE_TIMEOUT", "0.3")
    start = cpu_seconds()
    assert refused(heavy_video).reason == "timeout"
    assert refused(heavy_video).reason == "timeout"
    assert cpu_seconds() - start < 3
    monkeypatch.delenv("EGOST_DECODE_TIMEOUT")
    assert get_clip(light, UNIFORM).manifest.n_frames == 10


def test_a_clip_that_needs_too_much_memory_has_its_reason(
    heavy_video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EGOST_DECODE_MEMORY", "256")
    assert refused(heavy_video).reason == "memory"
    monkeypatch.delenv("EGOST_DECODE_MEMORY")
    clip = get_clip(heavy_video, UNIFORM)
    assert clip.frames().shape == (8, 2160, 3840, 3)
    assert numbers(clip.frames()[:2]) == [0, 1]


@pytest.mark.parametrize("decoder", ["torchcodec", "decord"])
def test_other_decoders_work_within_the_same_limits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, decoder: str
) -> None:
    pytest.importorskip(decoder)
    source = write_video(tmp_path / "a.mp4", 20)
    ours = get_clip(source, UNIFORM)
    monkeypatch.setenv("EGOST_DECODER", decoder)
    theirs = get_clip(source, UNIFORM)
    assert theirs.path != ours.path, "a decoder is never served what another one decoded"
    assert theirs.manifest.decoder == decoder
    assert theirs.manifest.pixels_sha256 == ours.manifest.pixels_sha256


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        *(("EGOST_DECODE_TIMEOUT", value) for value in ("0", "-1", "soon", "inf")),
        *(("EGOST_DECODE_MEMORY", value) for value in ("-1", "1", "255", "much")),
        ("EGOST_DECODER", "vlc"),
    ],
)
def test_a_setting_that_makes_no_sense_is_named_although_the_clip_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    source = write_video(tmp_path / "a.mp4", 9)
    get_clip(source, UNIFORM)
    monkeypatch.setenv(variable, value)
    with pytest.raises(SettingError, match=rf"{variable} is '{value}'"):
        get_clip(source, UNIFORM)
    with pytest.raises(SettingError, match=rf"{variable} is '{value}'"):
        build_clips([], UNIFORM)


@pytest.mark.parametrize("decoder", ["pyav", "torchcodec", "decord"])
def test_the_least_memory_is_enough_for_a_small_clip(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, decoder: Decoder
) -> None:
    pytest.importorskip("av" if decoder == "pyav" else decoder)
    monkeypatch.setenv("EGOST_DECODER", decoder)
    monkeypatch.setenv("EGOST_DECODE_MEMORY", str(decode_process.LEAST_MEMORY[decoder]))
    assert get_clip(write_video(tmp_path / "a.mp4", 9), UNIFORM).manifest.n_frames == 9


def hanging_request(folder: Path, limit: float) -> DecodeRequest:
    """A pipe that nobody writes into: opening it never comes back."""
    os.mkfifo(folder / "pipe.mp4")
    return DecodeRequest(folder / "pipe.mp4", "", "uniform8", "pyav", folder, limit, memory=4096)


def child_of(pool: DecodePool) -> decode_process.DecodeProcess:
    while not pool._busy:
        time.sleep(0.01)
    return next(iter(pool._busy))


def is_running(pid: int) -> bool:
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False


def ended(pid: int, within: float) -> bool:
    deadline = time.monotonic() + within
    while is_running(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not is_running(pid)


def test_a_child_that_hangs_is_killed(tmp_path: Path) -> None:
    pool = DecodePool()
    with ThreadPoolExecutor(1) as thread:
        waiting = thread.submit(pool.write_clip, hanging_request(tmp_path, 0.5))
        child = child_of(pool)
        with pytest.raises(ClipError, match=r"not decoded within 5 s\. Is the disk slow") as error:
            waiting.result()
    assert error.value.reason == "timeout"
    assert not child.alive
    assert not is_running(child.pid)


def test_a_child_that_crashes_is_named(tmp_path: Path) -> None:
    pool = DecodePool()
    with ThreadPoolExecutor(1) as thread:
        waiting = thread.submit(pool.write_clip, hanging_request(tmp_path, 30))
        os.kill(child_of(pool).pid, signal.SIGSEGV)
        with pytest.raises(ClipError, match=r"SIGSEGV") as error:
            waiting.result()
    assert error.value.reason == "crash"


def test_a_child_that_died_while_idle_is_replaced(tmp_path: Path) -> None:
    get_clip(write_video(tmp_path / "a.mp4", 9), UNIFORM)
    for child in clips._pool._idle:
        os.kill(child.pid, signal.SIGKILL)
        child._process.wait()
    assert get_clip(write_video(tmp_path / "b.mp4", 10), UNIFORM).manifest.n_frames == 10


def test_a_child_does_not_outlive_a_killed_parent(tmp_path: Path) -> None:
    source = write_video(tmp_path / "a.mp4", 9)
    code = (
        "import sys, os, signal; from pathlib import Path\n"
        "from egost.tasks.clips import clips, protocols\n"
        "clips.get_clip(Path(sys.argv[1]), protocols.Protocol())\n"
        "print(clips._pool._idle[0].pid, flush=True); os.kill(os.getpid(), signal.SIGKILL)"
    )
    run = subprocess.run([sys.executable, "-c", code, str(source)], capture_output=True, text=True, cwd=ROOT)
    assert ended(int(run.stdout), within=5)


def test_a_child_that_hangs_does_not_outlive_a_killed_parent(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.mp4")
    code = (
        "import os, signal, sys, threading, time; from pathlib import Path\n"
        "from egost.tasks.clips.decode_process import DecodePool, DecodeProcess\n"
        "from egost.tasks.clips.decode_worker import DecodeRequest\n"
        "pool, pipe = DecodePool(), Path(sys.argv[1])\n"
        "request = DecodeRequest(pipe, '', 'uniform8', 'pyav', pipe.parent, 0.4, 4096)\n"
        "threading.Thread(target=pool.write_clip, args=[request], daemon=True).start()\n"
        "while not pool._busy: time.sleep(0.01)\n"
        "time.sleep(0.8); print(next(iter(pool._busy)).pid, flush=True); os.kill(os.getpid(), signal.SIGKILL)"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "pipe.mp4")], capture_output=True, text=True, cwd=ROOT
    )
    assert ended(int(run.stdout), within=5)


def test_the_machines_other_work_takes_no_time_from_a_clip(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """24 sound clips whose children stand still for longer than the limit, as on a machine with other work."""
    limit = 0.6
    monkeypatch.setenv("EGOST_DECODE_TIMEOUT", str(limit))
    sources = [
        write_video(tmp_path / f"{n}.{suffix}", 9 + n, gop=1 + n)
        for n in range(12)
        for suffix in ("mp4", "mkv")
    ]
    write_clip = DecodeProcess.write_clip

    def held_up(child: DecodeProcess, request: DecodeRequest) -> None:
        os.kill(child.pid, signal.SIGSTOP)
        threading.Timer(1.5 * limit, os.kill, [child.pid, signal.SIGCONT]).start()
        write_clip(child, request)

    monkeypatch.setattr(DecodeProcess, "write_clip", held_up)
    start = time.monotonic()
    build_clips(sources, UNIFORM, workers=8)
    assert time.monotonic() - start > len(sources) / 8 * limit
    for n, source in enumerate(sources):
        assert get_clip(source, UNIFORM).manifest.n_frames == 9 + n // 2
