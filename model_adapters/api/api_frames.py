"""The 8 frames of a clip as the closed models get them: PNG files of 224 x 224 pixels (paper, appendix A.2)."""

from __future__ import annotations

import io
from functools import lru_cache

from PIL import Image

from egost.model_adapters.engine import AdapterError
from egost.tasks.clips.clips import Clip
from egost.tasks.clips.protocols import N_FRAMES, chosen_protocol, parse_protocol

CLOSED_SIZE = (224, 224)
"""Width and height in pixels of a frame for a closed model (paper, appendix A.2)."""

FRAME_SETTINGS: dict[str, str | int] = {
    "frames": N_FRAMES,
    "frame_size": "{}x{}".format(*CLOSED_SIZE),
    "frame_format": "png",
}
"""How frames go in, for `EngineIdentity.settings`."""


def check_chosen_protocol() -> None:
    """Raises AdapterError where the run's protocol gives frames of another size than the closed models'.

    An adapter does not resize by itself: the record of a clip's pixels would then be of others than were seen.
    """
    protocol = chosen_protocol()
    if protocol.size != CLOSED_SIZE:
        raise _wrong_size(protocol.name, protocol.sampling)


@lru_cache(maxsize=32)
def png_frames(clip: Clip) -> tuple[bytes, ...]:
    """The 8 frames of a clip in order, each as the bytes of a PNG file, so that no pixel changes on the way.

    Raises AdapterError where they are not of `CLOSED_SIZE`, CacheError where the clip's file was changed.
    """
    protocol = parse_protocol(clip.manifest.protocol)
    if protocol.size != CLOSED_SIZE:
        raise _wrong_size(protocol.name, protocol.sampling)
    return tuple(_png(Image.fromarray(frame)) for frame in clip.frames())


def _png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, format="PNG")
    return file.getvalue()


def _wrong_size(protocol: str, sampling: str) -> AdapterError:
    size = "{}x{}".format(*CLOSED_SIZE)
    return AdapterError(
        f"the sampling protocol is {protocol}, but closed models see frames of {size} pixels (paper, appendix A.2). "
        f"Set EGOST_PROTOCOL={sampling}+{size}"
    )
