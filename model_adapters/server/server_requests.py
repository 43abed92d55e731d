"""The body of a chat-completions request, its frames, the proof that a server sees all of them, and who is asked.

By file: the canonical mp4, which a server on the same disk reads itself. It holds the frames at 1 frame a second,
without loss; vLLM's loaders keep all of them (they sample at 2 frames a second, or take every frame).
As a copy: the bytes of that file in a `data:video/mp4` URL, which vLLM gives to the same loaders.
Inline: the frames as PNGs in one `data:video/jpeg` URL, which vLLM takes for one video that it does not sample;
its reader of single frames opens any picture, so that nothing is lost. Or, where the family wants them, as images.
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from loguru import logger

from egost.model_adapters.engine import AdapterError, Ask, GenerationArguments
from egost.model_adapters.families import MOST_PATCHES, THINKING_SWITCH, Family, frame_words
from egost.model_adapters.server.server_api import Encoded, ServerApi
from egost.tasks.chat.calls import Faulted, NoReply
from egost.tasks.clips.clips import Clip
from egost.tasks.clips.lossless import Frames
from egost.tasks.clips.pixels import png
from egost.tasks.clips.protocols import LEAST_PATCHES, N_FRAMES

Way = Literal["file", "copy", "inline"]
Media = Literal["auto", "file", "inline"]

_PROBE = GenerationArguments(max_new_tokens=1)

Part = dict[str, Any] | Encoded
"""One part of a message's content, for example `{"type": "video_url", "video_url": {"url": ...}}`."""


def request_body(
    model: str, family: Family, ask: Ask, frames: Sequence[Part], *, thinking: bool | None = None
) -> dict[str, Any]:
    """The body that asks a model for one reply; the parts that hold the frames come before the question.

    thinking: the value of the chat template's switch; None leaves it alone.
    """
    switch: dict[str, Any] = {} if thinking is None else {"chat_template_kwargs": {THINKING_SWITCH: thinking}}
    if thinking and family.special_marks:
        switch["skip_special_tokens"] = False
    words = frame_words(len(ask.clip.manifest.indices)) if ask.clip and family.frames_as == "images" else ""
    system = [{"role": "system", "content": family.system}] if family.system else []
    user = {"role": "user", "content": [*frames, {"type": "text", "text": words + ask.prompt}]}
    return {"model": model, "messages": [*system, user], **_sampling(ask.arguments), **switch}


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


def file_part(clip: Clip) -> dict[str, Any]:
    """A clip by the path of its file, for a server that shares the disk. Raises CacheError where it was changed."""
    clip.check()
    return {"type": "video_url", "video_url": {"url": clip.path.resolve().as_uri()}}


def copy_part(clip: Clip) -> dict[str, Any]:
    """A clip by the bytes of its file. Raises CacheError where it was changed."""
    clip.check()
    copy = base64.b64encode(clip.path.read_bytes()).decode()
    return {"type": "video_url", "video_url": {"url": f"data:video/mp4;base64,{copy}"}}


def pixel_parts(frames: Frames, family: Family) -> list[dict[str, Any]]:
    """uint8 RGB frames [N, H, W, 3] as PNGs: one video of them, or N images, as the family wants."""
    pngs = [base64.b64encode(png(frame)).decode() for frame in frames]
    if family.frames_as == "images":
        return [{"type": "image_url", "image_url": {"url": f"data:image/png;base64,{png}"}} for png in pngs]
    return [{"type": "video_url", "video_url": {"url": f"data:video/jpeg;base64,{','.join(pngs)}"}}]


def probe_frames(n: int) -> Frames:
    """n frames of noise, uint8 RGB [n, 224, 224, 3]: no reader can take one for another."""
    return np.random.default_rng(0).integers(0, 256, (n, 224, 224, 3), dtype=np.uint8)


class ClipParts:
    """Clips as parts of request bodies. They are encoded when asked for, and those of the last few clips kept.

    keep: how many; a clip's questions follow each other, so that a few for each server are enough.
    """

    def __init__(self, family: Family, keep: int) -> None:
        self._family, self._keep = family, keep
        self._encoded: OrderedDict[tuple[Path, Way], asyncio.Future[list[Part]]] = OrderedDict()

    async def parts(self, clip: Clip, way: Way) -> list[Part]:
        """The parts of a request that hold a clip. Raises CacheError where its file cannot be read any more."""
        if way == "file":
            return [file_part(clip)]
        key = clip.path, way
        if key not in self._encoded:
            self._encoded[key] = asyncio.ensure_future(asyncio.to_thread(self._encode, clip, way))
            while len(self._encoded) > self._keep:
                self._encoded.popitem(last=False)
        self._encoded.move_to_end(key)
        # Shielded: others that wait for the same clip must not be cancelled with this one.
        return await asyncio.shield(self._encoded[key])

    def _encode(self, clip: Clip, way: Way) -> list[Part]:
        parts = [copy_part(clip)] if way == "copy" else pixel_parts(clip.frames(), self._family)
        return [Encoded(json.dumps(part).encode()) for part in parts]


class FrameSender:
    """Sends clips by the way that media allows, and counts the tokens that servers make of them.

    body: makes a request's body of an ask and the parts that hold its frames. keep: encoded clips that are kept.
    copies: whether the servers are of vLLM, whose loaders are known to read every pixel of a file as it is.
    """

    def __init__(
        self,
        family: Family,
        body: Callable[[Ask, Sequence[Part]], dict[str, Any]],
        media: Media,
        keep: int,
        copies: bool,
    ) -> None:
        self._family, self._body, self._media, self._copies = family, body, media, copies
        self.clips = ClipParts(family, keep)
        self._tokens_by_size: dict[tuple[int, int, int], int] = {}
        self._only_one = asyncio.Lock()
        self._warned = False

    async def way_to(self, server: ServerApi, clip: Clip) -> Way:
        """How clips go to a server, which is tried out with one of them.

        Raises AdapterError where it takes no video, loses frames or cannot be given what media wants, NoReply where
        it is gone.
        """
        try:
            counted = await self._sees_all(server, len(clip.manifest.indices))
        except Faulted as refused:
            raise AdapterError(
                f"{server.url} takes no video: {refused}. Serve a model with a video input: "
                "egost serve MODEL, with the same EGOST_PROTOCOL where it is not one of 8 frames."
            ) from None
        if self._family.frames_as == "images" and self._media == "file":
            raise AdapterError(
                f"the model at {server.url} takes one image for each frame, not a file. Leave media=file out."
            )
        # Where tokens are not counted, take the way on which nothing is sampled.
        if self._family.frames_as == "images" or (not counted and self._media != "file"):
            return "inline"
        by_path: list[Way] = [] if self._media == "inline" else ["file"]
        by_bytes: list[Way] = ["copy"] if self._copies and self._media != "file" else []
        return await self._tried(server, clip, [*by_path, *by_bytes])

    async def check(self, server: ServerApi, clip: Clip, way: Way, found: int) -> None:
        """Raise AdapterError where a reply is about another number of tokens than frames of this size make."""
        frames = len(clip.manifest.indices)
        size = (clip.manifest.width, clip.manifest.height, frames)
        async with self._only_one:
            if size not in self._tokens_by_size:
                expected = self._whole_patches(*size)
                if expected is None and way != "inline":
                    # Pixels sent inline are never sampled: what they make is what is to be expected.
                    expected = await self._tokens_inline(server, clip)
                self._tokens_by_size[size] = found if expected is None else expected
        if (expected := self._tokens_by_size[size]) != found:
            raise AdapterError(
                f"{server.url} made {found} tokens of the frames in {clip.path}, and {expected} were expected of "
                f"{frames} frames of {size[0]} x {size[1]} pixels: frames were lost or made smaller. What was "
                f"answered is journaled; {self._remedy(frames)}look at the server's log, and try media=inline."
            )

    def _whole_patches(self, width: int, height: int, frames: int) -> int | None:
        """The tokens of frames that no processor resizes, two of them a token in time; None where that is not known.

        Asked of other numbers of frames than 8 alone: a server that was started for 8 may shrink all of them together.
        """
        patch = self._family.patch
        if patch is None or frames == N_FRAMES or width % patch or height % patch:
            return None
        patches = (width // patch) * (height // patch)
        return -(-frames // 2) * patches if LEAST_PATCHES <= patches <= MOST_PATCHES else None

    @staticmethod
    def _remedy(frames: int) -> str:
        return "" if frames == N_FRAMES else f"start the server with EGOST_PROTOCOL=uniform{frames}, "

    async def _sees_all(self, server: ServerApi, n_frames: int) -> bool:
        """Whether a server reports how many tokens the frames take.

        Those of 2, 4 and all frames, 8 at least, lie on a line. Raises AdapterError where they do not: frames were
        dropped.
        """
        # Families that see two frames as one count an odd number as the next even one.
        most = max(n_frames + n_frames % 2, N_FRAMES)
        few, some, every = [
            await self._tokens(server, pixel_parts(probe_frames(n), self._family)) for n in (2, 4, most)
        ]
        if few is None or some is None or every is None:
            if not self._warned:
                self._warned = True
                logger.warning(
                    f"egost: {server.url} does not report how many tokens of a prompt are of frames, so that a lost "
                    "frame is not noticed; start it with --enable-prompt-tokens-details"
                )
            return False
        if not few < some or every - some != (most - 4) // 2 * (some - few):
            raise AdapterError(
                f"{server.url} does not see all frames that it is sent: 2, 4 and {most} of them make {few}, {some} and "
                f"{every} tokens. Start it with --media-io-kwargs as `egost serve MODEL --dry-run` shows."
            )
        return True

    async def _tried(self, server: ServerApi, clip: Clip, ways: Sequence[Way]) -> Way:
        """The first of some ways on which a clip makes as many tokens as its pixels inline; else inline."""
        why = "it is not of vLLM"
        for way in ways:
            try:
                inline = await self._tokens_inline(server, clip)
                found = await self._tokens(server, await self.clips.parts(clip, way))
            except (Faulted, NoReply) as error:
                why = str(error)
            else:
                if found == inline:
                    return way
                why = f"it makes {found} tokens of the file and {inline} of the pixels"
        if self._media == "file":
            raise AdapterError(
                f"{server.url} cannot be given clips by file: {why}. It must share the disk, allow the folder "
                f"(--allowed-local-media-path {clip.path.parents[2]}) and keep all frames of a video at 1 frame a "
                "second. Leave media=file out to send the pixels."
            )
        logger.info(f"egost: {server.url} gets the pixels of each clip, not its file ({why})")
        return "inline"

    async def _tokens_inline(self, server: ServerApi, clip: Clip) -> int | None:
        return await self._tokens(server, await self.clips.parts(clip, "inline"))

    async def _tokens(self, server: ServerApi, frames: Sequence[Part]) -> int | None:
        """How many tokens a server makes of frames; None where it does not report it."""
        probe = Ask(sample="probe", prompt="?", clip=None, arguments=_PROBE)
        return (await server.complete(self._body(probe, frames))).video_tokens


class SharedWork:
    """Jobs, numbered from 0, that servers take one by one; for use within one event loop.

    A server begins with the next clip that no server has begun and goes on with its questions, so that its caches of
    the encoded video serve all of them. When no clip is left, it takes from the server that has most left.
    """

    def __init__(self, groups: Sequence[Sequence[int]], n_servers: int) -> None:
        self._clips = deque(deque(group) for group in groups)
        self._begun: list[deque[int]] = [deque() for _ in range(n_servers)]
        self._left = sum(map(len, groups))
        self._changed = asyncio.Event()
        self.finished = asyncio.Event()
        if not self._left:
            self.finished.set()

    async def take(self, server: int) -> int:
        """The next job for a server; waits where there is none now, since one may be given back."""
        while (job := self._next(server)) is None:
            self._changed.clear()
            await self._changed.wait()
        return job

    def done(self) -> None:
        """Count a job as done."""
        self._left -= 1
        if not self._left:
            self.finished.set()

    def give_back(self, job: int) -> None:
        """Let another server, or the same one later, do a job that was taken."""
        self._clips.appendleft(deque([job]))
        self._changed.set()

    def leave(self, server: int) -> None:
        """Free what a server has begun, for the others: it is gone."""
        if begun := self._begun[server]:
            self._clips.appendleft(deque(begun))
            begun.clear()
            self._changed.set()

    def _next(self, server: int) -> int | None:
        if self._begun[server]:
            return self._begun[server].popleft()
        if self._clips:
            self._begun[server] = self._clips.popleft()
            return self._begun[server].popleft()
        fullest = max(self._begun, key=len)
        return fullest.pop() if fullest else None


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
