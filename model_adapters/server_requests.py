"""From an ask to the body of a chat-completions request, and how the clip's frames travel in it.

By file: the canonical mp4, which a server on the same disk reads itself. It holds 8 frames at 1 frame a second,
without loss; vLLM's loaders keep all of them (they sample at 2 frames a second, or take every frame).
Inline: the frames as 8 PNGs in one `data:video/jpeg` URL, which vLLM takes for one video that it does not sample;
its reader of single frames opens any picture, so that nothing is lost.
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

from egost_tasks.clips import Clip
from egost_tasks.lossless import Frames
from model_adapters.asking import Ask, GenerationArguments

Way = Literal["file", "inline"]

_FAST = 1
"""zlib's level: 5 times as fast as the default one, for a sixth more bytes."""


def request_body(model: str, ask: Ask, video_url: str | None, system: str | None) -> dict[str, Any]:
    """The body that asks a model for one reply; the video, if any, stands before the question.

    system: the family's system message; None leaves it to the server's chat template.
    """
    video = [{"type": "video_url", "video_url": {"url": video_url}}] if video_url else []
    messages: list[dict[str, Any]] = [{"role": "system", "content": system}] if system else []
    messages.append({"role": "user", "content": [*video, {"type": "text", "text": ask.prompt}]})
    return {"model": model, "messages": messages, **_sampling(ask.arguments)}


def _sampling(arguments: GenerationArguments) -> dict[str, Any]:
    drawn = {"top_p": arguments.top_p, "top_k": arguments.top_k, "seed": arguments.seed}
    return {
        "max_tokens": arguments.max_new_tokens,
        "temperature": arguments.temperature,
        **{name: value for name, value in drawn.items() if value is not None},
        **({"stop": list(arguments.stop)} if arguments.stop else {}),
    }


def inline_url(frames: Frames) -> str:
    """uint8 RGB frames [N, H, W, 3] as one `data:` URL of N PNGs."""
    return "data:video/jpeg;base64," + ",".join(base64.b64encode(_png(f)).decode() for f in frames)


def probe_frames(n: int) -> Frames:
    """n frames of noise, uint8 RGB [n, 224, 224, 3]: no reader can take one for another."""
    return np.random.default_rng(0).integers(0, 256, (n, 224, 224, 3), dtype=np.uint8)


def _png(frame: np.ndarray[Any, np.dtype[np.uint8]]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(frame).save(buffer, "PNG", compress_level=_FAST)
    return buffer.getvalue()


class VideoUrls:
    """The URLs of clips for request bodies. Frames are encoded when asked for, and the last few clips kept.

    keep: how many; a clip's questions follow each other, so that one for each server and its neighbours is enough.
    """

    def __init__(self, keep: int) -> None:
        self._keep = keep
        self._inline: OrderedDict[Path, asyncio.Future[str]] = OrderedDict()

    async def url(self, clip: Clip, way: Way) -> str:
        """Raises CacheError where the clip's file cannot be read any more."""
        if way == "file":
            return clip.path.resolve().as_uri()
        if clip.path not in self._inline:
            self._inline[clip.path] = asyncio.ensure_future(
                asyncio.to_thread(lambda: inline_url(clip.frames()))
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
