from __future__ import annotations

import tracemalloc
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from ffmpeg_files import pattern

from egost.tasks.clips.clips import Clip, get_clip
from egost.tasks.clips.lossless import MAX_SIDE, lossless_sha256, read_lossless, write_lossless
from egost.tasks.clips.protocols import parse_protocol


def noise(size: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """8 frames of noise, the hardest to keep; size is (width, height)."""
    return np.random.default_rng(0).integers(0, 256, (8, size[1], size[0], 3), dtype=np.uint8)


@pytest.mark.parametrize("size", [(127, 113), (113, 127), (112, 112), (1277, 719)])
def test_every_reader_gives_the_written_bytes_back(tmp_path: Path, size: tuple[int, int]) -> None:
    frames, path = noise(size), tmp_path / "clip.mp4"
    write_lossless(frames, path)
    assert np.array_equal(read_lossless(path), frames)
    if find_spec("decord"):
        import decord

        assert np.array_equal(decord.VideoReader(str(path)).get_batch(range(8)).asnumpy(), frames)
    if find_spec("cv2"):
        import cv2

        video = cv2.VideoCapture(str(path))
        assert np.array_equal(np.stack([video.read()[1][..., ::-1] for _ in range(8)]), frames)
        assert not video.read()[0]
    if find_spec("torchcodec"):
        from torchcodec.decoders import VideoDecoder

        assert np.array_equal(VideoDecoder(str(path), dimension_order="NHWC")[:].numpy(), frames)


@pytest.mark.parametrize("size", [(1, 1), (3, 250), (48, 20), (MAX_SIDE, 16)])
def test_any_size_can_be_kept(tmp_path: Path, size: tuple[int, int]) -> None:
    write_lossless(noise(size), tmp_path / "clip.mp4")
    assert np.array_equal(read_lossless(tmp_path / "clip.mp4"), noise(size))


def test_a_frame_beyond_the_encoder_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"16385 x 2 pixels; x264 takes up to 16384 a side"):
        write_lossless(np.zeros((8, 2, MAX_SIDE + 1, 3), np.uint8), tmp_path / "clip.mp4")


def test_64_frames_of_1080p_stay_within_a_bound_of_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    film = pattern(
        tmp_path / "film.mp4", "-vf", "scale=1920:1080", "-preset", "ultrafast", seconds=7, rate=10
    )
    # The frames have 380 MiB. In the child they are there twice at most, and the file that they make.
    monkeypatch.setenv("EGOST_DECODE_MEMORY", "1536")
    clip = get_clip(film, parse_protocol("uniform64"), tmp_path / "cache")
    assert (len(clip.manifest.indices), clip.manifest.width, clip.manifest.height) == (64, 1920, 1080)
    another_process_saw_it = Clip(clip.path, clip.manifest)
    monkeypatch.setattr("egost.tasks.clips.clips._sound", {})
    tracemalloc.start()
    try:
        another_process_saw_it.check()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 4 * 1920 * 1080 * 3, "a file is checked frame by frame"
    assert lossless_sha256(clip.path) == clip.manifest.pixels_sha256
