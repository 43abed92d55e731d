from __future__ import annotations

import os
import subprocess
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
from video_files import numbers, write_audio, write_video

from egost.tasks import file_hashes as clip_sources
from egost.tasks.clips.clips import get_clip
from egost.tasks.clips.lossless import read_lossless, write_lossless
from egost.tasks.clips.protocols import Protocol
from egost.tasks.errors import CacheError, ClipError

UNIFORM = Protocol()


def refused(source: Path) -> ClipError:
    with pytest.raises(ClipError) as error:
        get_clip(source, UNIFORM)
    assert str(source) in str(error.value)
    return error.value


def test_a_clip_is_decoded_once_and_says_what_it_is(tmp_path: Path, own_cache: Path) -> None:
    source = write_video(tmp_path / "walk.mp4", 50, rate=25)
    clip = get_clip(source, UNIFORM)
    assert numbers(clip.frames()) == [0, 7, 14, 21, 28, 35, 42, 49]
    assert clip.path.suffix == ".mp4"
    assert own_cache in clip.path.parents
    found = clip.manifest
    assert (found.source, found.protocol, found.n_frames) == ("walk.mp4", "uniform8", 50)
    assert (found.expected_frames, found.complete) == (50, None), "not every frame was decoded"
    assert found.indices == (0, 7, 14, 21, 28, 35, 42, 49)
    assert found.timestamps == pytest.approx([i / 25 for i in found.indices])
    assert (found.duration, found.width, found.height, found.rotation) == (2.0, 128, 96, 0)
    assert (found.decoder, found.decoder_version) == ("pyav", av.__version__)
    written = clip.path.stat().st_mtime_ns
    assert get_clip(source, UNIFORM) == clip
    assert clip.path.stat().st_mtime_ns == written


def test_the_same_content_under_another_name_is_the_same_clip(tmp_path: Path) -> None:
    first = write_video(tmp_path / "a.mp4", 10)
    second = tmp_path / "b.mp4"
    second.write_bytes(first.read_bytes())
    one, two = get_clip(first, UNIFORM), get_clip(second, UNIFORM)
    assert one.path == two.path
    assert two.manifest == replace(one.manifest, source="b.mp4")


def test_other_content_or_another_protocol_is_another_clip(tmp_path: Path) -> None:
    source = write_video(tmp_path / "a.mp4", 10)
    first, small = get_clip(source, UNIFORM), get_clip(source, Protocol(size=(24, 20)))
    assert small.frames().shape == (8, 20, 24, 3)
    write_video(source, 20)
    assert len({first.path, small.path, get_clip(source, UNIFORM).path}) == 3


def test_a_second_start_does_not_read_the_source_again(tmp_path: Path, own_cache: Path) -> None:
    source = write_video(tmp_path / "a.mp4", 10)
    clip = get_clip(source, UNIFORM)
    state = source.stat()
    clip_sources._known.clear()
    # Other bytes of the same size and time: were they read, the clip would be another one.
    source.write_bytes(bytes(state.st_size))
    os.utime(source, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert get_clip(source, UNIFORM) == clip


def test_a_changed_file_of_the_cache_is_noticed(tmp_path: Path) -> None:
    clip = get_clip(write_video(tmp_path / "a.mp4", 10), UNIFORM)
    write_lossless(255 - clip.frames(), clip.path)
    with pytest.raises(CacheError, match=r"was changed after it was written"):
        clip.frames()


def test_a_relative_cache_is_where_the_process_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_video(tmp_path / "a.mp4", 10)
    monkeypatch.chdir(tmp_path)
    assert get_clip(Path("a.mp4"), UNIFORM, cache=Path("kept")).path.is_relative_to(tmp_path / "kept")


@pytest.mark.parametrize("lost", ["clip.mp4", "manifest.json"])
def test_a_cache_entry_that_lost_a_file_is_made_again(tmp_path: Path, lost: str) -> None:
    source = write_video(tmp_path / "a.mp4", 10)
    clip = get_clip(source, UNIFORM)
    (clip.path.parent / lost).unlink()
    again = get_clip(source, UNIFORM)
    assert again == clip
    assert np.array_equal(again.frames(), read_lossless(clip.path))


def test_what_is_no_file_is_refused_without_touching_it(tmp_path: Path) -> None:
    assert refused(tmp_path / "nothing.mp4").reason == "missing"
    assert refused(tmp_path).reason == "unreadable"
    os.mkfifo(tmp_path / "pipe.mp4")
    assert refused(tmp_path / "pipe.mp4").reason == "unreadable"
    (tmp_path / "empty.mp4").touch()
    assert refused(tmp_path / "empty.mp4").reason == "empty"


def test_a_clip_without_video_has_its_reason(tmp_path: Path, own_cache: Path) -> None:
    assert refused(write_audio(tmp_path / "song.mp4")).reason == "no_video"
    assert not list(own_cache.rglob("*.part-*"))


def test_a_failure_is_remembered_until_the_file_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write_audio(tmp_path / "a.mp4")
    first = refused(source)
    with monkeypatch.context() as patch:
        patch.setattr("egost.tasks.clips.clips._pool", None)  # Whoever decodes anew fails.
        for _ in range(100):
            assert str(refused(source)) == str(first)
    write_video(source, 10)
    assert get_clip(source, UNIFORM).manifest.n_frames == 10


def test_a_cache_that_is_no_folder_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("EGOST_CACHE", str(tmp_path / "file"))
    with pytest.raises(CacheError, match=r"a file is in the place .* set EGOST_CACHE to another folder"):
        get_clip(write_video(tmp_path / "a.mp4", 9), UNIFORM)


@pytest.fixture
def small_disk(tmp_path: Path) -> Path:
    disk = tmp_path / "disk"
    disk.mkdir()
    if os.geteuid() or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", disk]).returncode:
        pytest.skip("mounting a small disk needs root")
    return disk


def test_a_full_disk_is_named_and_leaves_nothing_half(tmp_path: Path, small_disk: Path) -> None:
    source = write_video(tmp_path / "a.mp4", 9, size=(640, 480))
    try:
        with pytest.raises(CacheError, match=r"cannot be written: the disk is full\. Free some space"):
            get_clip(source, UNIFORM, cache=small_disk)
        assert not [path for path in small_disk.rglob("*") if path.suffix == ".mp4" or ".part-" in path.name]
    finally:
        subprocess.run(["umount", small_disk], check=True)
    # The clip was not to blame, so nothing is remembered of it.
    assert get_clip(source, UNIFORM).manifest.n_frames == 9


def test_a_read_only_cache_serves_what_it_has(tmp_path: Path, small_disk: Path) -> None:
    source, other = write_video(tmp_path / "a.mp4", 9, size=(16, 16)), write_video(tmp_path / "b.mp4", 9)
    try:
        clip = get_clip(source, UNIFORM, cache=small_disk)
        subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
        assert get_clip(source, UNIFORM, cache=small_disk) == clip
        os.utime(source)
        assert get_clip(source, UNIFORM, cache=small_disk) == clip
        with pytest.raises(CacheError, match=r"cannot be written: the disk is read-only"):
            get_clip(other, UNIFORM, cache=small_disk)
    finally:
        subprocess.run(["umount", small_disk], check=True)
