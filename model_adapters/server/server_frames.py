"""How the frames of clips go to a server, and the proof that it sees all of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

from loguru import logger

from egost.model_adapters.engine import AdapterError, Ask, GenerationArguments
from egost.model_adapters.families import Family
from egost.model_adapters.server.server_api import NoAnswer, Refused, ServerApi
from egost.model_adapters.server.server_requests import ClipParts, Part, Way, pixel_parts, probe_frames
from egost.tasks.clips.clips import Clip
from egost.tasks.clips.protocols import N_FRAMES

Media = Literal["auto", "file", "inline"]

_PROBE = GenerationArguments(max_new_tokens=1)


class FrameSender:
    """Sends clips by the way that media allows, and counts the tokens that servers make of them.

    body: makes a request's body of an ask and the parts that hold its frames. keep: encoded clips that are kept.
    """

    def __init__(
        self, family: Family, body: Callable[[Ask, Sequence[Part]], dict[str, Any]], media: Media, keep: int
    ) -> None:
        self._family, self._body, self._media = family, body, media
        self._clips = ClipParts(family, keep)
        self._tokens_by_size: dict[tuple[int, int], int] = {}
        self._warned = False

    async def parts(self, clip: Clip, way: Way) -> list[Part]:
        """The parts of a request that hold a clip. Raises CacheError where its file cannot be read any more."""
        return await self._clips.parts(clip, way)

    async def way_to(self, server: ServerApi, clip: Clip) -> Way:
        """How clips go to a server, which is tried out with one of them.

        Raises AdapterError where it takes no video, loses frames or cannot be given what media wants, NoAnswer where
        it is gone.
        """
        try:
            told = await self._sees_all(server)
        except Refused as refused:
            raise AdapterError(
                f"{server.url} takes no video: HTTP {refused.status}: {refused}. Serve a model with a video input: "
                "egost serve MODEL."
            ) from None
        if self._family.frames_as == "images" and self._media == "file":
            raise AdapterError(
                f"the model at {server.url} takes {N_FRAMES} images, not a file. Leave media=file out."
            )
        # Where nobody can count, the way is taken on which nothing is sampled.
        if (
            self._media == "inline"
            or self._family.frames_as == "images"
            or (not told and self._media == "auto")
        ):
            return "inline"
        return await self._file_or_inline(server, clip)

    async def check(self, server: ServerApi, clip: Clip, way: Way, found: int) -> None:
        """Raise AdapterError where a reply is about another number of tokens than frames of this size make."""
        size = (clip.manifest.width, clip.manifest.height)
        if size not in self._tokens_by_size:
            # Pixels sent inline are never sampled: what they make is what is to be expected.
            expected = (
                await self._tokens(server, await self.parts(clip, "inline")) if way == "file" else found
            )
            self._tokens_by_size.setdefault(size, found if expected is None else expected)
        if (expected := self._tokens_by_size[size]) != found:
            raise AdapterError(
                f"{server.url} made {found} tokens of the frames in {clip.path}, and {expected} were expected of "
                f"{N_FRAMES} frames of {size[0]} x {size[1]} pixels: frames were lost. What was answered is journaled; "
                "look at the server's log, and try media=inline."
            )

    async def _sees_all(self, server: ServerApi) -> bool:
        """Whether a server tells how many tokens stand for frames.

        Those of 2, 4 and 8 frames lie on a line. Raises AdapterError where they do not: frames were dropped.
        """
        few, some, all_8 = [
            await self._tokens(server, pixel_parts(probe_frames(n), self._family)) for n in (2, 4, N_FRAMES)
        ]
        if few is None or some is None or all_8 is None:
            if not self._warned:
                self._warned = True
                logger.warning(
                    f"egost: {server.url} does not tell how many tokens of a prompt stand for frames, so that nobody "
                    "can see whether all 8 arrive; start it with --enable-prompt-tokens-details"
                )
            return False
        if not few < some or all_8 - some != 2 * (some - few):
            raise AdapterError(
                f"{server.url} does not see all frames that it is sent: 2, 4 and 8 of them make {few}, {some} and "
                f"{all_8} tokens. Start it with --media-io-kwargs as `egost serve MODEL --dry-run` shows."
            )
        return True

    async def _file_or_inline(self, server: ServerApi, clip: Clip) -> Way:
        ways: tuple[Way, Way] = ("inline", "file")
        try:
            inline, by_file = [await self._tokens(server, await self.parts(clip, way)) for way in ways]
            why = f"it makes {by_file} tokens of the file and {inline} of the pixels"
        except (Refused, NoAnswer) as error:
            inline, by_file, why = -1, None, str(error)
        if by_file == inline:
            return "file"
        if self._media == "file":
            raise AdapterError(
                f"{server.url} cannot be given clips by file: {why}. It must share the disk, allow the folder "
                f"(--allowed-local-media-path {clip.path.parents[2]}) and keep all frames of a video at 1 frame a "
                "second. Leave media=file out to send the pixels."
            )
        logger.info(f"egost: {server.url} gets the pixels of each clip, not its file ({why})")
        return "inline"

    async def _tokens(self, server: ServerApi, frames: Sequence[Part]) -> int | None:
        """How many tokens a server makes of frames; None where it does not tell."""
        probe = Ask(sample="probe", prompt="?", clip=None, arguments=_PROBE)
        return (await server.complete(self._body(probe, frames))).video_tokens
