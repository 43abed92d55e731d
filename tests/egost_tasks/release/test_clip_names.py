"""Clips as Macs, cameras, Windows and archivers name them, and the sample that asks for each."""

from __future__ import annotations

import tarfile
import unicodedata
import zipfile
from pathlib import Path

import pytest

from egost.tasks.errors import ClipError
from egost.tasks.release.release import Release
from egost.tasks.sample import Sample

CAFE, KANA = "caf\u00e9.mp4", "\u30ac\u30e9\u30b9.mp4"
FOUND = [
    # Where the file lies (ARCHIVE!MEMBER), and the name that a sample of Part 1 asks for.
    ("part1/1.mp4", "1.mp4"),
    ("Part1/1.mp4", "1.mp4"),
    ("PART1/1.mp4", "1.mp4"),
    ("part 1/1.mp4", "1.mp4"),
    ("Part_1/1.mp4", "1.mp4"),
    ("part1_clips/1.mp4", "1.mp4"),
    ("Ego-ST/Part1/walks/1.mp4", "1.mp4"),
    ("1.mp4", "1.mp4"),
    ("part1/GX01.MP4", "GX01.mp4"),
    ("part1/GX01.mp4", "GX01.MP4"),
    ("part1/walk.MoV", "walk.mov"),
    ("part1/my walk (2).mp4", "my walk (2).mp4"),
    (f"part1/{unicodedata.normalize('NFD', CAFE)}", CAFE),
    (f"part1/{CAFE}", unicodedata.normalize("NFD", CAFE)),
    (f"part1/{unicodedata.normalize('NFD', KANA)}", KANA),
    ("Part1.zip!1.mp4", "1.mp4"),
    ("PART1.ZIP!1.mp4", "1.mp4"),
    ("part 1.zip!1.mp4", "1.mp4"),
    ("Part1_clips.zip!1.MP4", "1.mp4"),
    ("all.zip!Part1/1.mp4", "1.mp4"),
    ("all.zip!release/Part1/deep/1.mp4", "1.mp4"),
    ("all.zip!Part1\\1.mp4", "1.mp4"),
    ("all.zip!release\\Part1\\deep\\1.MP4", "1.mp4"),
    (f"Part1.zip!{unicodedata.normalize('NFD', CAFE)}", CAFE),
    ("part1/clips.zip!1.mp4", "1.mp4"),
    ("Part1.tar!1.mp4", "1.mp4"),
    ("Part1.tar.gz!./1.mp4", "1.mp4"),
    ("Part1.TGZ!clips/1.mp4", "1.mp4"),
    (f"all.tar!Part1/{unicodedata.normalize('NFD', CAFE)}", CAFE),
]
NO_CLIPS = [
    "part1/._1.mp4",
    "part1/.hidden/1.mp4",
    "part1/__MACOSX/1.mp4",
    "Part1.zip!__MACOSX/1.mp4",
    "Part1.zip!._1.mp4",
    "all.zip!__MACOSX\\Part1\\1.mp4",
    "all.tar!Part1/._1.mp4",
    "part2/1.mp4",
    "Part2.zip!1.mp4",
    "part1/1.mp4.txt",
]


def placed(root: Path, where: str) -> Release:
    """A release with one file in the given place."""
    outer, _, member = where.partition("!")
    path = root / outer
    path.parent.mkdir(parents=True, exist_ok=True)
    film = root / "film"
    film.write_bytes(b"a film")
    if not member:
        path.write_bytes(film.read_bytes())
    elif path.suffix.lower() == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.write(film, member)
    else:
        with tarfile.open(path, "w:gz" if path.name.lower().endswith("gz") else "w") as archive:
            archive.add(film, member)
    return Release("official", (root,), "local")


def asking_for(clip: str) -> Sample:
    return Sample("Part1/route_forward/1", "route", "forward", 1, clip, "Which way?", (), "Left.")


@pytest.mark.parametrize(("where", "name"), FOUND)
def test_a_clip_is_found(tmp_path: Path, where: str, name: str) -> None:
    assert placed(tmp_path, where).clip_path(asking_for(name)).read_bytes() == b"a film"


@pytest.mark.parametrize("where", NO_CLIPS)
def test_what_is_no_clip_of_the_part_is_not_taken_for_one(tmp_path: Path, where: str) -> None:
    with pytest.raises(ClipError) as error:
        placed(tmp_path, where).clip_path(asking_for("1.mp4"))
    assert error.value.reason == "missing"
