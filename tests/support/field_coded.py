"""H.264 whose frames are coded as two fields, each a picture of its own, as AVCHD cameras do; ffmpeg writes none.

All macroblocks are I_PCM: samples as they are, without prediction (ISO 14496-10, 7.3 and 7.4).
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import numpy.typing as npt
from video_files import numbered_frame

SIZE = 64
"""Width and height, pixels."""

_FIELD_LINES = SIZE // 2
_I_SLICE, _I_PCM = 7, 25
_SPS, _PPS, _IDR, _SLICE = 0x67, 0x68, 0x65, 0x61
"""First bytes of NAL units: all of them are referred to."""


def write_field_coded(path: Path, n_frames: int) -> Path:
    """Write numbered frames 0 to n - 1, top field first, as raw H.264."""
    # Main profile, level 3: frame_num of 4 bits, order of output by decoding, fields without adaptive macroblocks.
    size = [_ue(SIZE // 16 - 1), _ue(_FIELD_LINES // 16 - 1)]
    sps = "".join([f"{77:08b}{0:08b}{30:08b}", *map(_ue, (0, 0, 2, 1)), "0", *size, "00100"])
    pps = "".join([_ue(0) * 2, "00", _ue(0) * 3, "000", _ue(0) * 3, "100"])
    units = [_unit(_SPS, sps), _unit(_PPS, pps)]
    for number in range(n_frames):
        luma = numbered_frame(number, (SIZE, SIZE)).mean(2).astype(np.uint8)
        units += [_field(number, bottom, luma[bottom::2]) for bottom in (0, 1)]
    path.write_bytes(b"".join(units))
    return path


def _field(number: int, bottom: int, luma: npt.NDArray[np.uint8]) -> bytes:
    idr = number == 0 and not bottom
    head = [_ue(0), _ue(_I_SLICE), _ue(0), f"{number % 16:04b}", "1", str(bottom)]
    head += [_ue(0), "00"] if idr else ["0"]
    head += [_ue(0), _ue(1)]
    grey = bytes([128]) * 128
    blocks = [
        luma[y : y + 16, x : x + 16].tobytes() + grey
        for y in range(0, _FIELD_LINES, 16)
        for x in range(0, SIZE, 16)
    ]
    return _unit(_IDR if idr else _SLICE, "".join(head), blocks)


def _unit(kind: int, bits: str, blocks: list[bytes] | None = None) -> bytes:
    data = b""
    for block in blocks or ():
        data += _whole_bytes(bits + _ue(_I_PCM)) + block
        bits = ""
    data += _whole_bytes(bits + "1")
    # What looks like a start code within is broken up.
    return b"\0\0\0\1" + bytes([kind]) + re.sub(b"\0\0(?=[\0-\3])", b"\0\0\3", data)


def _whole_bytes(bits: str) -> bytes:
    bits += "0" * (-len(bits) % 8)
    return int(bits, 2).to_bytes(len(bits) // 8, "big")


def _ue(value: int) -> str:
    """A number as an Exp-Golomb code (9.1); 0 signed is the same."""
    return f"{value + 1:b}".zfill(2 * (value + 1).bit_length() - 1)
