from __future__ import annotations

import re
from pathlib import Path

import pytest
from video_files import cut, write_video

from egost.tasks.clips.protocols import Protocol
from egost.tasks.release.check import status, verify
from egost.tasks.release.release import Release


def opened(root: Path) -> Release:
    return Release("official", (root,), "local")


def test_a_whole_release_is_complete(release_folder: Path) -> None:
    found = status(opened(release_folder))
    assert found.complete
    assert (found.question_files, found.clips, found.missing_clips, found.spare_clips) == (26, 8, [], 0)
    assert [(t.task, t.samples, t.clips) for t in found.tasks] == [
        *(
            (f"{task}_{way}", 8, 8)
            for task in ("route", "direction", "landmark")
            for way in ("forward", "reverse")
        ),
        ("action_forward", 2, 2),
        ("action_reverse", 2, 2),
    ]


def test_clips_are_missing_or_spare(release_folder: Path) -> None:
    (release_folder / "part1" / "11.mp4").rename(release_folder / "part1" / "other.mp4")
    found = status(opened(release_folder))
    assert not found.complete
    assert (found.clips, found.missing_clips, found.spare_clips) == (7, ["part1/11.mp4"], 1)


@pytest.mark.parametrize("how", ["gone", "dangling"])
def test_without_a_question_file_no_clip_is_called_spare(release_folder: Path, how: str) -> None:
    path = release_folder / "Part2_reverse_mcq.json"
    path.unlink()
    if how == "dangling":
        path.symlink_to("gone")
    found = status(opened(release_folder))
    assert not found.complete
    assert (found.question_files, found.missing_question_files) == (25, [path.name])
    assert (found.clips, found.missing_clips, found.spare_clips) == (8, [], None)


def test_a_task_without_a_sample_is_not_complete(release_folder: Path) -> None:
    (release_folder / "Part4_forward_mcq_action.json").write_text("{}")
    found = status(opened(release_folder))
    assert not found.missing_question_files and not found.missing_clips
    assert not found.complete


def test_clips_that_do_not_decode_are_named_with_their_samples(release_folder: Path) -> None:
    bad = release_folder / "part4_clip" / "41.mp4"
    bad.write_bytes(b"no video")
    release = opened(release_folder)
    [found], odd = verify(release, Protocol(), workers=2)
    assert (found.path, found.reason, found.samples) == (bad, "unreadable", 8) and odd == []


def test_clips_that_are_not_whole_are_named(release_folder: Path, tmp_path: Path) -> None:
    short = release_folder / "part4_clip" / "41.mp4"
    short.write_bytes(cut(write_video(tmp_path / "whole.mp4", 100), 0.98).read_bytes())
    bad, [odd] = verify(opened(release_folder), Protocol(), workers=2)
    assert bad == [] and odd.path == short
    assert re.fullmatch(r"incomplete: 9\d of 100 frames decode; a part of it is missing or damaged", odd.what)
