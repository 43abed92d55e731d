"""From a decoded frame to the pixels that a player shows: its colours and its orientation."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

Image = npt.NDArray[np.uint8]

Transfer = Literal["sdr", "pq", "hlg"]
"""How a stream codes brightness. `pq` and `hlg` are HDR, which looks pale when it is read as SDR."""

_FULL_RANGE = 2
"""`AVCOL_RANGE_JPEG` in ffmpeg: luma from 0 to 255, not from 16 to 235."""

_SWS_DEFAULT = 5

_TRANSFERS: dict[int, Transfer] = {16: "pq", 18: "hlg"}
"""ITU-T H.273, table 3: SMPTE ST 2084 and ARIB STD-B67."""


@dataclass(frozen=True)
class Orientation:
    """How stored frames are made upright: mirrored left to right or not, then turned.

    rotation: degrees counter-clockwise: 0, 90, 180 or 270.
    """

    rotation: int = 0
    mirrored: bool = False

    def upright(self, stored: Image) -> Image:
        """Stored pixels [H, W, 3] as they are to be seen."""
        pixels = stored[:, ::-1] if self.mirrored else stored
        return np.ascontiguousarray(np.rot90(pixels, self.rotation // 90))


def orientation(frame: Any) -> Orientation:
    """The orientation that the display matrix of a decoded frame asks for (ISO 14496-12, 6.2.2).

    The matrix takes a stored point (x, y) to (a x + c y, b x + d y), y downwards. All eight orientations without
    shear are known; another angle is rounded to the nearest of them.
    """
    matrix = frame.side_data.get("DISPLAYMATRIX")
    if matrix is None:
        return Orientation()
    a, b, _, c, d = np.frombuffer(bytes(matrix), np.int32)[:5].astype(float).tolist()
    mirrored = a * d - b * c < 0
    if mirrored:
        a, b = -a, -b
    return Orientation(round(math.degrees(math.atan2(-b, a)) / 90) % 4 * 90, mirrored)


def transfer(stream: Any) -> Transfer:
    """How a video stream codes brightness; `sdr` where it does not say."""
    return _TRANSFERS.get(stream.codec_context.color_trc, "sdr")


def upright_rgb(frame: Any, width: int | None = None, height: int | None = None) -> Image:
    """The pixels of a decoded frame as a player shows them, uint8 RGB [height, width, 3].

    Range and matrix are the stream's own, by ffmpeg's defaults (limited range, BT.601) where it does not say.
    width, height: size to which the stored frame is scaled before it is turned upright; its own by default.
    """
    full = frame.color_range == _FULL_RANGE or frame.format.name.startswith("yuvj")
    # PyAV takes the stream's matrix only where a target is set, and takes no range but the one that it is given.
    pixels = frame.to_ndarray(
        format="rgb24",
        interpolation="BICUBIC",
        src_color_range=_FULL_RANGE if full else None,
        dst_colorspace=_SWS_DEFAULT,
        width=width,
        height=height,
    )
    return orientation(frame).upright(pixels)


def png(image: Image) -> bytes:
    """Pixels, uint8 RGB [height, width, 3], as a PNG file: zlib's level 1 is 5 times as fast as the default one, for a
    sixth more bytes.
    """
    from PIL import Image as Pillow

    buffer = io.BytesIO()
    Pillow.fromarray(image).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()
