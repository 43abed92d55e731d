from __future__ import annotations

import base64
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from video_files import write_video

from egost.results.thumbnails import thumbnails
from egost.tasks.clips.clips import Clip, get_clip
from egost.tasks.clips.protocols import parse_protocol


@pytest.fixture
def clip(own_cache: Path, tmp_path: Path) -> Clip:
    return get_clip(write_video(tmp_path / "a.mp4", 24, size=(400, 300)), parse_protocol("uniform8"))


def test_pictures_are_the_frames_that_the_model_saw(own_cache: Path, clip: Clip) -> None:
    sha = clip.manifest.pixels_sha256
    found = thumbnails([sha, sha], 10_000_000, own_cache)
    pictures = [Image.open(io.BytesIO(base64.b64decode(picture))) for picture in found.frames[sha]]
    assert [picture.size for picture in pictures] == [(224, 168)] * 8
    for picture, pixels in zip(pictures, clip.frames(), strict=True):
        small = np.asarray(Image.fromarray(pixels).resize(picture.size), dtype=float)
        assert np.abs(np.asarray(picture.convert("RGB"), dtype=float) - small).mean() < 8
    assert found.size == sum(len(picture) for picture in found.frames[sha])
    assert not found.absent


def test_a_limit_makes_them_smaller_and_then_leaves_the_last_out(own_cache: Path, tmp_path: Path) -> None:
    clips = [
        get_clip(write_video(tmp_path / f"{k}.mp4", 24 + k, size=(400, 300)), parse_protocol("uniform8"))
        for k in range(3)
    ]
    hashes = [clip.manifest.pixels_sha256 for clip in clips]
    largest = thumbnails(hashes, 10_000_000, own_cache)
    smaller = thumbnails(hashes, largest.size - 1, own_cache)
    assert (largest.width, smaller.width, len(smaller.frames)) == (224, 160, 3)
    smallest = thumbnails(hashes, 0, own_cache)
    assert (smallest.width, smallest.frames, smallest.size) == (88, {}, 0)
    small = thumbnails(hashes, smaller.size - 1, own_cache)
    assert (small.width, list(small.frames)) == (112, hashes)
    all_small = thumbnails(hashes, small.size - 1, own_cache)
    assert (all_small.width, list(all_small.frames)) == (88, hashes)
    some = thumbnails(hashes, all_small.size - 1, own_cache)
    assert list(some.frames) == hashes[:2], "the most wanted come first"
    assert "over the limit" in some.absent[hashes[2]]


def test_pictures_are_made_once_and_kept_beside_the_clip(
    own_cache: Path, clip: Clip, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, frames = [], Clip.frames
    monkeypatch.setattr(Clip, "frames", lambda clip: read.append(clip) or frames(clip))
    sha = clip.manifest.pixels_sha256
    first = thumbnails([sha], 10_000_000, own_cache)
    assert len(read) == 1
    assert thumbnails([sha], 10_000_000, own_cache) == first and len(read) == 1
    thumbnails([sha], first.size - 1, own_cache)
    assert len(read) == 2, "smaller ones are others"
    [kept] = clip.path.parent.glob("pictures-224-*.json")
    for damage in (
        b"",
        kept.read_bytes()[:-9],
        kept.read_bytes().replace(b'["Ukl', b'["Ukm'),
        b'{"sha256": 1}',
        b"[]",
    ):
        kept.write_bytes(damage)
        assert thumbnails([sha], 10_000_000, own_cache) == first
    assert len(read) == 2 + 5, "each damaged file is made again"


def test_pictures_go_with_the_frames_that_they_are_of(own_cache: Path, clip: Clip, tmp_path: Path) -> None:
    sha = clip.manifest.pixels_sha256
    first = thumbnails([sha], 10_000_000, own_cache)
    clip.path.write_bytes(b"changed")
    again = get_clip(tmp_path / "a.mp4", parse_protocol("uniform8"))
    assert not list(again.path.parent.glob("pictures-*")), "decoding replaces the folder"
    assert thumbnails([sha], 10_000_000, own_cache) == first


def test_what_is_missing_says_so(own_cache: Path, clip: Clip) -> None:
    sha = clip.manifest.pixels_sha256
    assert thumbnails(["0" * 64], 1_000_000, own_cache).absent.keys() == {"0" * 64}
    assert "does not hold" in thumbnails([sha], 1_000_000, own_cache / "elsewhere").absent[sha]
    clip.path.write_bytes(b"changed")
    assert "Delete its folder" in thumbnails([sha], 1_000_000, own_cache).absent[sha]
    clip.path.with_name("manifest.json").write_text("{")
    assert "does not hold" in thumbnails([sha], 1_000_000, own_cache).absent[sha]
