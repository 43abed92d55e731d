from __future__ import annotations

import random

import numpy as np
import pytest

from egost.tasks.clips.protocols import (
    Protocol,
    chosen_protocol,
    parse_protocol,
    ref_qwen,
    resize,
    uniform8,
)
from egost.tasks.errors import SettingError


@pytest.mark.parametrize(
    ("n_frames", "expected"),
    [
        (1, [0] * 8),
        (3, [0, 0, 0, 0, 1, 1, 1, 2]),
        (7, [0, 0, 1, 2, 3, 4, 5, 6]),
        (8, [0, 1, 2, 3, 4, 5, 6, 7]),
        (9, [0, 1, 2, 3, 4, 5, 6, 8]),
        (15, [0, 2, 4, 6, 8, 10, 12, 14]),
        (300, [0, 42, 85, 128, 170, 213, 256, 299]),
    ],
)
def test_uniform8_by_hand(n_frames: int, expected: list[int]) -> None:
    assert uniform8(n_frames) == expected


@pytest.mark.parametrize(
    ("n_frames", "duration", "expected"),
    [
        # 10 s at 30 frames a second: 10 frames (0, 33, 66, 100, 133, 166, 199, 233, 266, 299), of which 8.
        (300, 10.0, [0, 33, 66, 100, 166, 199, 233, 299]),
        # 11 s: an odd number is rounded down, so 10 frames again, over 330.
        (330, 11.0, [0, 37, 73, 110, 183, 219, 256, 329]),
        # 8 s: each of the 8 frames once.
        (80, 8.0, [0, 11, 23, 34, 45, 56, 68, 79]),
        # 5 s: 4 frames (0, 41, 83, 124), each of which comes more than once.
        (125, 5.0, [0, 0, 0, 41, 41, 83, 83, 124]),
        # 1 s: never less than 4 frames.
        (30, 1.0, [0, 0, 0, 10, 10, 19, 19, 29]),
        # 3 frames: rounded down to 2.
        (3, 0.1, [0, 0, 0, 0, 0, 0, 0, 2]),
        (2, 0.1, [0, 0, 0, 0, 0, 0, 0, 1]),
        (1, 0.04, [0] * 8),
        # 1000 s at 1 frame a second: at most 768 frames in the first step.
        (1000, 1000.0, [0, 142, 285, 427, 570, 712, 856, 999]),
    ],
)
def test_ref_qwen_by_hand(n_frames: int, duration: float, expected: list[int]) -> None:
    assert ref_qwen(n_frames, duration) == expected


def test_ref_qwen_is_what_the_installed_reader_and_the_reference_edit_give() -> None:
    torch = pytest.importorskip("torch")
    vision = pytest.importorskip("qwen_vl_utils.vision_process")
    draw = random.Random(0)
    for _ in range(1500):
        n_frames, rate = draw.randint(2, 5000), draw.choice([10, 15, 20, 24, 25, 29.97, 30, 60])
        n_first = vision.smart_nframes({"fps": 1.0}, n_frames, rate)
        first = torch.linspace(0, n_frames - 1, n_first).round().long()
        theirs = first[torch.linspace(0, n_first - 1, 8).long()].tolist()
        assert ref_qwen(n_frames, n_frames / rate) == theirs, (n_frames, rate)


@pytest.mark.parametrize(
    ("name", "protocol"),
    [
        ("uniform8", Protocol()),
        ("ref-qwen", Protocol("ref-qwen")),
        ("uniform8+cap151200", Protocol(max_pixels=151200)),
        ("ref-qwen+cap151200", Protocol("ref-qwen", max_pixels=151200)),
        ("uniform8+224x224", Protocol(size=(224, 224))),
    ],
)
def test_a_name_and_its_protocol_are_one(name: str, protocol: Protocol) -> None:
    assert parse_protocol(name) == protocol
    assert protocol.name == name


@pytest.mark.parametrize(
    "name",
    [
        "",
        "uniform",
        "uniform16",
        "Uniform8",
        "uniform8+",
        "uniform8+cap0",
        "uniform8+224",
        "uniform8+cap9+8x8",
    ],
)
def test_nonsense_is_refused_with_what_is_expected(name: str) -> None:
    with pytest.raises(SettingError, match=r"uniform8 or ref-qwen"):
        parse_protocol(name)


def test_the_environment_chooses(monkeypatch: pytest.MonkeyPatch) -> None:
    assert chosen_protocol() == Protocol()
    monkeypatch.setenv("EGOST_PROTOCOL", "ref-qwen+cap151200")
    assert chosen_protocol() == Protocol("ref-qwen", max_pixels=151200)


@pytest.mark.parametrize(
    ("protocol", "source", "expected"),
    [
        ("uniform8", (1920, 1080), (1920, 1080)),
        ("uniform8+cap151200", (420, 360), (420, 360)),
        ("uniform8+cap151200", (1280, 720), (518, 291)),
        ("uniform8+cap151200", (720, 1280), (291, 518)),
        ("uniform8+cap784", (100000, 1), (8854, 1)),
        ("uniform8+224x224", (100, 50), (224, 224)),
    ],
)
def test_sizes(protocol: str, source: tuple[int, int], expected: tuple[int, int]) -> None:
    assert parse_protocol(protocol).frame_size(*source) == expected


def test_resizing_is_by_area() -> None:
    frame = np.zeros((4, 6, 3), np.uint8)
    frame[:2, :2, 0] = [[10, 20], [30, 40]]
    frame[2:, 4:, 2] = 200
    small = resize(frame, (3, 2))
    assert small[..., 0].tolist() == [[25, 0, 0], [0, 0, 0]]
    assert small[..., 2].tolist() == [[0, 0, 0], [0, 0, 200]]
    assert resize(frame, (6, 4)) is frame


@pytest.mark.parametrize("name", ["uniform8+cap12", "ref-qwen+cap783"])
def test_a_cap_below_one_patch_is_refused(name: str) -> None:
    with pytest.raises(SettingError, match=r"at least 784 \(28 x 28\)"):
        parse_protocol(name)
    assert parse_protocol("uniform8+cap784").max_pixels == 784
