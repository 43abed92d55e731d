from __future__ import annotations

import random

import numpy as np
import pytest

from egost.tasks.clips.protocols import (
    Protocol,
    chosen_protocol,
    parse_protocol,
    ref_internvl,
    ref_qwen,
    resize,
    shown_size,
    uniform,
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
    assert uniform(n_frames) == expected


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
        # 319 x 26930 / 447 is 19218.501, and 19218.5 in single precision, which rounds to the even 19218.
        (26931, 448.85, [0, 3796, 7651, 11507, 15363, 19218, 23074, 26930]),
        # 279 x 23556 / 391 is 16808.501: still more than a half in single precision where it is rounded once.
        (23557, 392.6, [0, 3314, 6687, 10061, 13435, 16809, 20182, 23556]),
    ],
)
def test_ref_qwen_by_hand(n_frames: int, duration: float, expected: list[int]) -> None:
    assert ref_qwen(n_frames, duration) == expected


def test_ref_qwen_is_what_the_installed_reader_and_the_reference_edit_give() -> None:
    import torch
    from qwen_vl_utils import vision_process as vision

    draw = random.Random(0)
    for _ in range(1500):
        n_frames, rate = draw.randint(2, 50_000), draw.choice([10, 15, 20, 24, 25, 29.97, 30, 60])
        n_first = vision.smart_nframes({"fps": 1.0}, n_frames, rate)
        first = torch.linspace(0, n_frames - 1, n_first).round().long()
        theirs = first[torch.linspace(0, n_first - 1, 8).long()].tolist()
        assert ref_qwen(n_frames, n_frames / rate) == theirs, (n_frames, rate)


@pytest.mark.parametrize(
    ("n_frames", "expected"),
    [
        # A segment is 299 / 8 = 37.375 frames, half of one 18.6875; 37.375 i gives 0, 37, 75, 112, 150, 187, 224, 262.
        (300, [18, 55, 93, 130, 168, 205, 242, 280]),
        # 4 frames a segment: every half segment is whole.
        (33, [2, 6, 10, 14, 18, 22, 26, 30]),
        # 2.5 frames a segment: 2.5, 7.5, 12.5 and 17.5 round to the even neighbour (2, 8, 12, 18), each plus 1.25.
        (21, [1, 3, 6, 9, 11, 13, 16, 19]),
        (8, [0, 1, 2, 3, 4, 4, 5, 6]),
        (1, [0] * 8),
    ],
)
def test_ref_internvl_by_hand(n_frames: int, expected: list[int]) -> None:
    assert ref_internvl(n_frames) == expected
    assert parse_protocol("ref-internvl+448x448").indices(n_frames, 1.0) == expected


@pytest.mark.parametrize(
    ("source", "limits", "expected"),
    [
        # 704 / 28 rounds to 25, but 700 x 700 is above: 704 / sqrt(704 x 704 / 151200) = 388.8, down to 13 x 28.
        ((704, 704), (3136, 151200), (364, 364)),
        # The reference's lower limit enlarges 308 x 252 (77,616 pixels): 320 x 1.143 = 365.8, up to 14 x 28.
        ((320, 240), (100352, 151200), (392, 280)),
        ((320, 240), (3136, 151200), (308, 252)),
        # 388 x 388 is below the limit, its nearest multiples (392 x 392) are not.
        ((388, 388), (3136, 151200), (364, 364)),
        # 420 x 364 would be above the limit by 1,680 pixels.
        ((420, 360), (3136, 151200), (420, 336)),
        ((1280, 720), (3136, 602112), (1008, 560)),
        ((20, 20), (3136, 151200), (56, 56)),
        # 2 x 2 patches are the 3,136 pixels of the lower limit: enough.
        ((50, 60), (3136, 151200), (56, 56)),
        # Halves round to the even number of patches: 1.5 and 2.5 both give 2.
        ((42, 70), (784, 151200), (56, 56)),
    ],
)
def test_the_shown_size_by_hand(
    source: tuple[int, int], limits: tuple[int, int], expected: tuple[int, int]
) -> None:
    assert shown_size(*source, least=limits[0], most=limits[1], patch=28) == expected
    if limits == (3136, 151200):
        assert parse_protocol("uniform8+cap151200").frame_size(*source) == expected, "4 patches are the least"


def _grid_of_sources() -> list[tuple[int, int]]:
    draw = random.Random(17)
    usual = [
        (704, 704),
        (320, 240),
        (1280, 720),
        (720, 1280),
        (1920, 1080),
        (640, 480),
        (1408, 1408),
        (2560, 1440),
    ]
    return [*usual, *((draw.randint(28, 2600), draw.randint(28, 2000)) for _ in range(192))]


@pytest.mark.parametrize(
    ("least", "most"), [(3136, 602112), (3136, 151200), (100352, 151200), (100352, 153664), (3136, 3136)]
)
def test_the_shown_size_is_that_of_the_processors_of_qwen2_and_qwen2_5(least: int, most: int) -> None:
    from qwen_vl_utils.vision_process import smart_resize as utils_resize
    from transformers.models.qwen2_vl.video_processing_qwen2_vl import smart_resize

    protocol = parse_protocol(f"uniform8+cap{least}-{most}")
    for width, height in _grid_of_sources():
        theirs = smart_resize(height, width, factor=28, min_pixels=least, max_pixels=most)
        assert protocol.frame_size(width, height)[::-1] == theirs, (width, height)
        if min(theirs) > 28:
            assert utils_resize(height, width, 28, least, most) == theirs, (width, height)


def test_a_kept_frame_is_not_resized_again_by_its_familys_processor() -> None:
    from transformers.models.qwen2_vl.video_processing_qwen2_vl import Qwen2VLVideoProcessor
    from transformers.models.qwen3_vl.video_processing_qwen3_vl import Qwen3VLVideoProcessor

    from egost.model_adapters.families import FAMILIES, processor_arguments

    for name, processor in (("qwen2_vl", Qwen2VLVideoProcessor()), ("qwen3_vl", Qwen3VLVideoProcessor())):
        family = FAMILIES[name]
        assert family.patch is not None
        wanted = 151200 if name == "qwen2_vl" else 602112
        suffix = "" if family.patch == 28 else f"p{family.patch}"
        protocol = parse_protocol(f"uniform8+cap{wanted}{suffix}")
        ours = dict(processor_arguments(family)["videos_kwargs"])
        direct = dict(processor_arguments(family, wanted)["videos_kwargs"])
        for width, height in _grid_of_sources():
            kept = protocol.frame_size(width, height)
            tokens = 4 * kept[0] * kept[1] // family.patch**2
            counted = (
                processor.get_num_of_video_patches(8, kept[1], kept[0], ours),
                processor.get_num_of_video_patches(8, height, width, direct),
            )
            assert [n // 4 for n in counted] == [tokens, tokens], (name, width, height)


@pytest.mark.parametrize(
    ("name", "protocol"),
    [
        ("uniform8", Protocol()),
        ("ref-internvl+448x448", Protocol("ref-internvl", size=(448, 448))),
        ("ref-qwen+cap100352-151200", Protocol("ref-qwen", max_pixels=151200, min_pixels=100352)),
        ("uniform8+cap602112p32", Protocol(max_pixels=602112, patch=32)),
        ("ref-qwen", Protocol("ref-qwen")),
        ("uniform8+cap151200", Protocol(max_pixels=151200)),
        ("ref-qwen+cap151200", Protocol("ref-qwen", max_pixels=151200)),
        ("uniform8+224x224", Protocol(size=(224, 224))),
        ("uniform1", Protocol("uniform1")),
        ("uniform64+cap151200", Protocol("uniform64", max_pixels=151200)),
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
        "uniform8.0",
        "uniform-8",
        "uniform8x",
        "uniform8+cap1\u0665",
        "Uniform8",
        "uniform8+",
        "uniform8+cap0",
        "uniform8+224",
        "uniform8+cap9+8x8",
        "uniform8+cap9-",
        "uniform8+224x224p32",
    ],
)
def test_nonsense_is_refused_with_what_is_expected(name: str) -> None:
    with pytest.raises(SettingError, match=r"uniform8 or ref-qwen"):
        parse_protocol(name)


@pytest.mark.parametrize("count", ["0", "00", "08", "65", "99", "100", "640", "9" * 50])
@pytest.mark.parametrize("suffix", ["", "+cap151200", "+224x224"])
def test_a_bad_count_of_frames_is_refused_by_its_number(count: str, suffix: str) -> None:
    with pytest.raises(SettingError, match=rf"asks for {count} frames of a clip.*N frames, 1 to 64"):
        parse_protocol(f"uniform{count}{suffix}")


@pytest.mark.parametrize(
    ("kept", "n_frames", "expected"),
    [
        (1, 300, [0]),
        (2, 300, [0, 299]),
        (3, 300, [0, 149, 299]),
        (5, 3, [0, 0, 1, 1, 2]),
        # 299 / 15 = 19.93: 19, 39, 59, 79, 99, 119, 139, 159, 179, 199, 219, 239, 259, 279.
        (16, 300, [0, *range(19, 280, 20), 299]),
        (64, 64, list(range(64))),
        (64, 1, [0] * 64),
    ],
)
def test_other_numbers_of_frames_by_hand(kept: int, n_frames: int, expected: list[int]) -> None:
    protocol = parse_protocol(f"uniform{kept}")
    assert (protocol.n_frames, protocol.indices(n_frames, 10.0)) == (kept, expected)


def test_every_count_gives_as_many_frames_in_order_from_the_first_to_the_last() -> None:
    for kept in range(1, 65):
        protocol = parse_protocol(f"uniform{kept}+cap151200")
        assert protocol.name == f"uniform{kept}+cap151200"
        indices = protocol.indices(901, 30.0)
        assert (len(indices), indices[0], sorted(set(indices))) == (kept, 0, indices)
        assert indices[-1] == 900 or kept == 1


def test_the_environment_chooses(monkeypatch: pytest.MonkeyPatch) -> None:
    assert chosen_protocol() == Protocol()
    monkeypatch.setenv("EGOST_PROTOCOL", "ref-qwen+cap151200")
    assert chosen_protocol() == Protocol("ref-qwen", max_pixels=151200)


@pytest.mark.parametrize(
    ("protocol", "source", "expected"),
    [
        ("uniform8", (1920, 1080), (1920, 1080)),
        ("uniform8+cap151200", (420, 360), (420, 336)),
        ("uniform8+cap151200", (1280, 720), (504, 280)),
        ("uniform8+cap151200", (720, 1280), (280, 504)),
        ("ref-qwen+cap151200", (704, 704), (364, 364)),
        ("ref-qwen+cap100352-151200", (320, 240), (392, 280)),
        ("uniform8+cap151200", (320, 240), (308, 252)),
        ("uniform8+cap602112p32", (1280, 720), (1024, 576)),
        ("uniform8+cap784", (100, 100), (28, 28)),
        ("ref-internvl+448x448", (100, 50), (448, 448)),
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


def test_the_references_frames_and_capped_ones_are_resized_by_a_bicubic_filter() -> None:
    # Two columns of 0, then two of 80, to half the width. A box gives 0 and 80. Bicubic, stretched over 8 pixels, looks
    # beyond the edge between them: weights of the four columns for the first pixel, at distances 0.25, 0.25, 0.75 and
    # 1.25 of its scale, with a = -0.5: 0.8672, 0.8672, 0.2266, -0.0703; so 80 x 0.1563 / 1.8907 = 6.6.
    frame = np.zeros((2, 4, 3), np.uint8)
    frame[:, 2:] = 80
    assert resize(frame, (2, 2))[0, :, 0].tolist() == [0, 80]
    assert resize(frame, (2, 2), bicubic=True)[0, :, 0].tolist() == [7, 73]
    large = np.zeros((56, 112, 3), np.uint8)
    large[:, 56:] = 80
    assert set(np.unique(parse_protocol("uniform8+56x56").kept(large))) == {0, 80}
    assert len(np.unique(parse_protocol("ref-internvl+56x56").kept(large))) > 2
    assert len(np.unique(parse_protocol("uniform8+cap3136").kept(large))) > 2


def test_a_capped_frame_is_within_a_level_of_what_training_and_the_reference_make_of_it() -> None:
    import torch
    from torchvision.transforms import InterpolationMode
    from torchvision.transforms.functional import resize as torch_resize

    # Where a filter overshoots, as at hard edges, the two libraries clip at different steps; a smooth picture has none.
    x, y = np.meshgrid(np.arange(320), np.arange(240))
    wave = 128 + 60 * np.sin(x / 9) + 50 * np.cos(y / 7)
    frame = np.stack([wave, wave[::-1], wave[:, ::-1]], axis=2).astype(np.uint8)
    ours = parse_protocol("ref-qwen+cap100352-151200").kept(frame)
    theirs = torch_resize(
        torch.from_numpy(frame).permute(2, 0, 1),
        [280, 392],
        interpolation=InterpolationMode.BICUBIC,
        antialias=True,
    )
    assert np.abs(ours.astype(int) - theirs.permute(1, 2, 0).numpy().astype(int)).max() <= 1


@pytest.mark.parametrize("name", ["uniform8+cap1000p32", "ref-qwen+cap151200-100352"])
def test_a_cap_below_its_own_patch_or_lower_limit_is_refused(name: str) -> None:
    with pytest.raises(SettingError, match=r"at least (1024 \(32 x 32\)|151200 \(its own lower limit\))"):
        parse_protocol(name)


@pytest.mark.parametrize("name", ["uniform8+cap12", "ref-qwen+cap783"])
def test_a_cap_below_one_patch_is_refused(name: str) -> None:
    with pytest.raises(SettingError, match=r"at least 784 \(28 x 28\)"):
        parse_protocol(name)
    assert parse_protocol("uniform8+cap784").max_pixels == 784
