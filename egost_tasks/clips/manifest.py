"""The manifest of a clip's frames: which file, protocol and decoder they come from, and their hash."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

from annotated_types import Ge

from egost.tasks.clips.pixels import Transfer
from egost.tasks.json_text import Count, read_json


@dataclass(frozen=True)
class ClipManifest:
    """The record in the same folder as a clip's frames.

    source: file name of the source, without its folder. source_sha256: of its bytes.
    protocol: name of the sampling protocol.
    n_frames: decodable frames of the source; where it is 1, that frame is repeated 8 times.
    counted_by: `packets` (each packet of the file holds a frame, and those that were taken did decode) or `decoding`
        (all frames were decoded, since one that a packet promised could not be).
    expected_frames: how many the file should hold; None where it is cut and its index does not say.
    complete: True where all frames were decoded and none was lost; False where one is missing or damaged, or the file
        was cut; None where nothing is known to be missing, but only the taken frames and those that they refer to were
        decoded, or the container does not say where the file ends.
    indices: of the taken frames among the decodable ones, in presentation order.
    timestamps: of the taken frames, seconds after the first frame.
    duration: seconds from the start of the first decodable frame to the end of the last.
    width, height: of the kept frames, pixels. source_width, source_height: of the stored frames, pixels.
    rotation: degrees by which the stored frames were turned counter-clockwise to be upright: 0, 90, 180, 270.
    mirrored: whether they were mirrored left to right before that.
    pixel_aspect: of a stored pixel, width to height; where it is not '1:1', the frames are as narrow or wide as stored.
    transfer: 'sdr', or 'pq' or 'hlg' for HDR, whose frames look pale here.
    pixels_sha256: of the frames as one C-ordered uint8 array [8, height, width, 3], RGB.
    decoder: name and version of the decoder.
    """

    source: str
    source_sha256: str
    protocol: str
    n_frames: Count
    counted_by: str
    expected_frames: Count | None
    complete: bool | None
    indices: tuple[Count, ...]
    timestamps: tuple[float, ...]
    duration: Annotated[float, Ge(0)]
    width: Count
    height: Count
    source_width: Count
    source_height: Count
    rotation: int
    pixels_sha256: str
    decoder: str
    decoder_version: str
    mirrored: bool = False
    pixel_aspect: str = "1:1"
    transfer: Transfer = "sdr"

    def write(self, path: Path) -> None:
        """Write the manifest as JSON. Raises OSError."""
        path.write_text(json.dumps(asdict(self), indent=1), encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> ClipManifest:
        """The manifest that `write` wrote. Raises OSError, ValueError, KeyError or TypeError on anything else."""
        values = read_json(path)
        return cls(
            **{**values, "indices": tuple(values["indices"]), "timestamps": tuple(values["timestamps"])}
        )
