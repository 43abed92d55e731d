"""From an ask to the body of a chat-completions request, and how the clip's frames travel in it.

By file: the canonical mp4, which a server on the same disk reads itself. It holds 8 frames at 1 frame a second,
without loss; vLLM's loaders keep all of them (they sample at 2 frames a second, or take every frame).
Inline: the frames as 8 PNGs in one `data:video/jpeg` URL, which vLLM takes for one video that it does not sample;
its reader of single frames opens any picture, so that nothing is lost. Or, where the family wants them, as 8 images.
"""

from __future__ import annotations

import asyncio
import base64
import io
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image

from egost.model_adapters.engine import Ask, GenerationArguments
from egost.model_adapters.families import FRAME_WORDS, Family
from egost.tasks.clips.clips import Clip
from egost.tasks.clips.lossless import Frames

Way = Literal["file", "inline"]

_FAST = 1
"""zlib's level: 5 times as fast as the default one, for a sixth more bytes."""


Part = dict[str, Any]
"""One part of a message's content, for example `{"type": "video_url", "video_url": {"url": ...}}`."""


def request_body(model: str, family: Family, ask: Ask, frames: Sequence[Part]) -> dict[str, Any]:
    """The body that asks a model for one reply; the parts that hold the frames stand before the question."""
    words = FRAME_WORDS if ask.clip and family.frames_as == "images" else ""
    system = [{"role": "system", "content": family.system}] if family.system else []
    user = {"role": "user", "content": [*frames, {"type": "text", "text": words + ask.prompt}]}
    return {"model": model, "messages": [*system, user], **_sampling(ask.arguments)}


def _sampling(arguments: GenerationArguments) -> dict[str, Any]:
    given: dict[str, Any] = {
        "max_tokens": arguments.max_new_tokens,
        "temperature": arguments.temperature,
        "stop": list(arguments.stop) or None,
        "seed": arguments.seed,
    }
    if not arguments.greedy:
        # Said even where nothing is cut off, since the server would take the checkpoint's own cut.
        given |= {"top_p": arguments.top_p or 1.0, "top_k": arguments.top_k or 0, "min_p": 0.0}
    return {name: value for name, value in given.items() if value is not None}


def file_part(clip: Clip) -> Part:
    """A clip by the path of its file, for a server that shares the disk."""
    return {"type": "video_url", "video_url": {"url": clip.path.resolve().as_uri()}}


def pixel_parts(frames: Frames, family: Family) -> list[Part]:
    """uint8 RGB frames [N, H, W, 3] as PNGs: one video of them, or N images, as the family wants."""
    pngs = [base64.b64encode(_png(frame)).decode() for frame in frames]
    if family.frames_as == "images":
        return [{"type": "image_url", "image_url": {"url": f"data:image/png;base64,{png}"}} for png in pngs]
    return [{"type": "video_url", "video_url": {"url": f"data:video/jpeg;base64,{','.join(pngs)}"}}]


def probe_frames(n: int) -> Frames:
    """n frames of noise, uint8 RGB [n, 224, 224, 3]: no reader can take one for another."""
    return np.random.default_rng(0).integers(0, 256, (n, 224, 224, 3), dtype=np.uint8)


def _png(frame: np.ndarray[Any, np.dtype[np.uint8]]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(frame).save(buffer, "PNG", compress_level=_FAST)
    return buffer.getvalue()


class ClipParts:
    """Clips as parts of request bodies. Pixels are encoded when asked for, and those of the last few clips kept.

    keep: how many; a clip's questions follow each other, so that a few for each server are enough.
    """

    def __init__(self, family: Family, keep: int) -> None:
        self._family, self._keep = family, keep
        self._inline: OrderedDict[Path, asyncio.Future[list[Part]]] = OrderedDict()

    async def parts(self, clip: Clip, way: Way) -> list[Part]:
        """Raises CacheError where the clip's file cannot be read any more."""
        if way == "file":
            return [file_part(clip)]
        if clip.path not in self._inline:
            self._inline[clip.path] = asyncio.ensure_future(
                asyncio.to_thread(lambda: pixel_parts(clip.frames(), self._family))
            )
            while len(self._inline) > self._keep:
                self._inline.popitem(last=False)
        self._inline.move_to_end(clip.path)
        # Shielded: whoever else waits for the same clip is not to be cancelled with this one.
        return await asyncio.shield(self._inline[clip.path])


def by_clip(asks: Sequence[Ask]) -> list[list[int]]:
    """The places of the asks, those that follow each other on one clip together."""
    groups: list[list[int]] = []
    for place, ask in enumerate(asks):
        before = asks[groups[-1][-1]].clip if groups else None
        if before is not None and ask.clip is not None and before.path == ask.clip.path:
            groups[-1].append(place)
        else:
            groups.append([place])
    return groups
