"""Servers of one model, asked all at once: work goes to whoever is free, and on when one of them dies."""

from __future__ import annotations

import asyncio
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field, replace
from queue import SimpleQueue
from typing import Any, Literal, TypeVar

from loguru import logger

from egost_tasks.clips import Clip
from model_adapters.asking import AdapterError, Ask, EngineIdentity, Failure, GenerationArguments, Reply
from model_adapters.server_api import Completion, NoAnswer, Refused, ServedModel, ServerApi
from model_adapters.server_model import identity_of, system_message
from model_adapters.server_requests import VideoUrls, Way, by_clip, inline_url, probe_frames, request_body
from model_adapters.work_sharing import SharedWork

T = TypeVar("T")
Outcome = tuple[int, Reply | Failure]
Media = Literal["auto", "file", "inline"]

LOSSES = 3
"""So often may a request bring no reply, on whichever servers, before its sample counts as failed."""

MOST_FAILED_IN_A_ROW = 20
"""So many requests in a row that no server could reply to are no fault of the samples any more."""

_POLL_S = 2.0
_CLIPS_KEPT = 4
"""Encoded clips kept for each server."""

_TOO_LONG = re.compile(r"context length|maximum model length|max_model_len|max_tokens", re.IGNORECASE)
_OF_VIDEO = re.compile(r"video|media|multi-?modal|frames", re.IGNORECASE)
_MEMORY = re.compile(r"out of memory", re.IGNORECASE)
_PROBE = GenerationArguments(max_new_tokens=1)


class _Down(Exception):
    """A server is gone for now."""


@dataclass
class _Server:
    """One server. way: how clips go to it, None until it was tried. down_since: monotonic seconds, None while up."""

    number: int
    api: ServerApi
    way: Way | None = None
    down_since: float | None = None


@dataclass
class _Run:
    """One call of `answer`."""

    asks: Sequence[Ask]
    put: Callable[[Outcome], None]
    work: SharedWork
    losses: Counter[int] = field(default_factory=Counter)
    failed_in_a_row: int = 0

    def tell(self, place: int, outcome: Reply | Failure) -> None:
        self.put((place, outcome))
        self.work.done()


class ServerEngine:
    """An `Engine` over one or several servers that serve the same model.

    urls: of the servers. model: the name to ask for; None takes the one that they name. concurrency: requests under
    way at each server. media: `file` gives the path of the clip's file, `inline` its pixels; `auto` tries the file
    and takes `inline` where the server cannot read it, or does not see all of its frames. timeout_s: for one reply,
    its wait in the server's queue included. wait_s: how long to wait for a server when none is left.
    first_wait_s: before a busy server is asked again.

    Raises AdapterError when no server is up, or when they serve different models.
    """

    def __init__(
        self,
        urls: Sequence[str],
        *,
        model: str | None = None,
        concurrency: int = 32,
        media: Media = "auto",
        timeout_s: float = 600.0,
        wait_s: float = 300.0,
        first_wait_s: float = 1.0,
    ) -> None:
        self._wanted, self._concurrency, self._media, self._wait_s = model, concurrency, media, wait_s
        self._served: ServedModel | None = None
        self._urls = VideoUrls(_CLIPS_KEPT * len(urls))
        self._video_tokens: dict[tuple[int, int], int] = {}
        self._warned: set[str] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="egost-servers", daemon=True)
        self._thread.start()
        self._servers: list[_Server] = []
        try:
            for number, url in enumerate(urls):
                self._servers.append(_Server(number, ServerApi(url, timeout_s, first_wait_s)))
            self._begin()
        except BaseException:
            self.close()
            raise

    @property
    def identity(self) -> EngineIdentity:
        return self._identity

    def answer(self, asks: Sequence[Ask]) -> Iterator[Outcome]:
        """See `Engine.answer`. Raises AdapterError when no server is left for `wait_s`, or loses frames of a clip."""
        results: SimpleQueue[Outcome | None] = SimpleQueue()
        run = self._in_loop(self._run(asks, results.put))
        run.add_done_callback(lambda _: results.put(None))
        try:
            for _ in asks:
                if (outcome := results.get()) is None:
                    run.result()
                    return
                yield outcome
        finally:
            run.cancel()

    def close(self) -> None:
        """Close the connections; the servers go on."""
        if self._loop.is_running():
            with suppress(Exception):
                self._in_loop(self._close()).result(timeout=10)
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(timeout=10)

    def _begin(self) -> None:
        up = [server for server in self._servers if self._in_loop(self._look(server)).result()]
        if self._served is None:
            raise AdapterError(
                f"no server is up at {', '.join(server.api.url for server in self._servers)} "
                f"({'; '.join(sorted(self._warned))}). Start one with `egost serve MODEL`, wait until it is healthy, "
                "and give its URL as base_url=http://HOST:PORT."
            )
        for server in self._servers:
            if server not in up:
                logger.warning(f"egost: {server.api.url} is not up; the others do its work until it is")
        self._identity = identity_of(self._served)
        self._system = system_message(self._served)

    async def _look(self, server: _Server) -> bool:
        """Whether a server is up and serves what the others do; AdapterError where it serves something else."""
        try:
            served = await server.api.served(self._wanted)
            if not await server.api.healthy():
                raise NoAnswer("server_error", f"{server.api.url} says that its engine is dead")
        except NoAnswer as error:
            self._warned.add(str(error))
            server.down_since = server.down_since or time.monotonic()
            return False
        if self._served is None:
            self._served = served
        elif _what(served) != _what(self._served):
            raise AdapterError(
                f"{server.api.url} serves {_what(served)}, another server {_what(self._served)}. All URLs in base_url "
                "must serve the same model with the same settings; leave out the one that does not."
            )
        server.down_since, server.way = None, None
        return True

    async def _run(self, asks: Sequence[Ask], put: Callable[[Outcome], None]) -> None:
        run = _Run(asks, put, SharedWork(by_clip(asks), len(self._servers)))
        clip = next((ask.clip for ask in asks if ask.clip), None)
        finished = asyncio.ensure_future(run.work.finished.wait())
        tasks: list[asyncio.Future[Any]] = [finished]
        tasks += [asyncio.ensure_future(self._work(server, run, clip)) for server in self._servers]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            await _cancel(tasks)

    async def _work(self, server: _Server, run: _Run, clip: Clip | None) -> None:
        """One server's part of a run; ends by being cancelled, or by what ends the run."""
        while True:
            if server.down_since is not None:
                await self._until_up(server)
            slots: list[asyncio.Future[Any]] = []
            try:
                if clip is not None and server.way is None:
                    await self._introduce(server, clip)
                slots = [asyncio.ensure_future(self._slot(server, run)) for _ in range(self._concurrency)]
                await asyncio.gather(*slots)
            except _Down as down:
                logger.warning(f"egost: {server.api.url} is gone ({down}); its requests go to the others")
                server.down_since = time.monotonic()
            finally:
                await _cancel(slots)
                run.work.leave(server.number)

    async def _until_up(self, server: _Server) -> None:
        while not await self._look(server):
            gone = [s.down_since for s in self._servers if s.down_since is not None]
            if len(gone) == len(self._servers) and time.monotonic() - max(gone) > self._wait_s:
                raise AdapterError(
                    f"no server is left, and none came back within {self._wait_s:g} s: "
                    f"{', '.join(s.api.url for s in self._servers)}. What was answered is journaled; start the "
                    "servers and run the same command again."
                )
            await asyncio.sleep(min(_POLL_S, self._wait_s / 4))
        logger.info(f"egost: {server.api.url} is back")

    async def _slot(self, server: _Server, run: _Run) -> None:
        while True:
            place = await run.work.take(server.number)
            try:
                outcome = await self._ask(server, run.asks[place])
            except NoAnswer as error:
                await self._lost(server, run, place, error)
            except asyncio.CancelledError:
                run.work.give_back(place)
                raise
            else:
                run.failed_in_a_row = 0
                run.tell(place, outcome)

    async def _ask(self, server: _Server, ask: Ask) -> Reply | Failure:
        try:
            completion = await self._complete(server, ask)
        except Refused as refused:
            return Failure(_reason(refused), f"HTTP {refused.status}: {refused}")
        if completion.text is None:
            return Failure("no_text", f"the reply holds no text (finish reason {completion.finish_reason})")
        return Reply(
            text=completion.text,
            finish_reason=completion.finish_reason,
            prompt_tokens=completion.prompt_tokens,
            completion_tokens=completion.completion_tokens,
            video_tokens=completion.video_tokens,
        )

    async def _complete(self, server: _Server, ask: Ask) -> Completion:
        url = await self._urls.url(ask.clip, server.way or "inline") if ask.clip else None
        completion = await server.api.complete(self._body(ask, url))
        if ask.clip and completion.video_tokens is not None:
            await self._check(server, ask.clip, completion.video_tokens)
        return completion

    def _body(self, ask: Ask, url: str | None) -> dict[str, Any]:
        assert self._served is not None
        return request_body(self._served.name, ask, url, self._system)

    async def _lost(self, server: _Server, run: _Run, place: int, error: NoAnswer) -> None:
        """Draw the consequences of a request without a reply. Raises _Down where its server is gone."""
        run.losses[place] += 1
        if run.losses[place] < LOSSES:
            run.work.give_back(place)
        else:
            run.failed_in_a_row += 1
            run.tell(place, Failure(_reason(error), f"no reply in {LOSSES} rounds: {error}"))
        if run.failed_in_a_row >= MOST_FAILED_IN_A_ROW:
            raise AdapterError(
                f"{run.failed_in_a_row} requests in a row brought no reply, the last one with: {error}. What was "
                "answered is journaled; look at the servers' logs, then run the same command again."
            )
        if not await server.api.healthy():
            raise _Down(str(error))

    async def _introduce(self, server: _Server, clip: Clip) -> None:
        """Find out how clips go to a server, and that it sees all of their frames.

        Raises AdapterError where it cannot take a video, _Down where it died meanwhile.
        """
        try:
            told = await self._check_inline(server)
            server.way = (
                "inline" if self._media == "inline" else await self._file_or_inline(server, clip, told)
            )
        except Refused as refused:
            raise AdapterError(
                f"{server.api.url} takes no video: HTTP {refused.status}: {refused}. Serve a model with a video input: "
                "egost serve MODEL."
            ) from None
        except NoAnswer as error:
            raise _Down(str(error)) from None

    async def _file_or_inline(self, server: _Server, clip: Clip, told: bool) -> Way:
        if not told and self._media == "auto":
            # What nobody can look at goes the way on which nothing is sampled.
            return "inline"
        try:
            inline, by_file = [
                await self._tokens(server, await self._urls.url(clip, way), f"probe by {way}")
                for way in ("inline", "file")
            ]
            why = f"it makes {by_file} video tokens of the file and {inline} of the pixels"
        except (Refused, NoAnswer) as error:
            inline, by_file, why = -1, None, str(error)
        if by_file == inline:
            return "file"
        if self._media == "file":
            raise AdapterError(
                f"{server.api.url} cannot be given clips by file: {why}. It must share the disk, allow the folder "
                f"(--allowed-local-media-path {clip.path.parents[2]}) and sample no frames of a video at 1 frame a "
                "second. Leave media=file out to send the pixels."
            )
        logger.info(f"egost: {server.api.url} gets the pixels of each clip, not its file ({why})")
        return "inline"

    async def _check_inline(self, server: _Server) -> bool:
        """Whether a server tells how many tokens stand for frames.

        Those of 2, 4 and 8 frames lie on a line. Raises AdapterError where they do not: frames were dropped.
        """
        few, some, all_8 = [
            await self._tokens(server, inline_url(probe_frames(n)), f"probe of {n} frames") for n in (2, 4, 8)
        ]
        if few is None or some is None or all_8 is None:
            if "tokens" not in self._warned:
                self._warned.add("tokens")
                logger.warning(
                    f"egost: {server.api.url} does not tell how many tokens of a prompt stand for frames, so that "
                    "nobody can see whether all 8 arrive; start it with --enable-prompt-tokens-details"
                )
            return False
        if not few < some or all_8 - some != 2 * (some - few):
            raise AdapterError(
                f"{server.api.url} does not see all frames that it is sent: 2, 4 and 8 of them make {few}, {some} and "
                f"{all_8} tokens. Start it with --media-io-kwargs as `egost serve MODEL --dry-run` shows."
            )
        return True

    async def _tokens(self, server: _Server, url: str, name: str) -> int | None:
        """How many tokens a server makes of a video; None where it does not tell."""
        probe = Ask(sample=name, prompt="?", clip=None, arguments=_PROBE)
        return (await server.api.complete(self._body(probe, url))).video_tokens

    async def _check(self, server: _Server, clip: Clip, found: int) -> None:
        """Raise AdapterError where a reply is about another number of video tokens than frames of this size make."""
        size = (clip.manifest.width, clip.manifest.height)
        if size not in self._video_tokens:
            # Pixels sent inline are never sampled: what they make is what is to be expected.
            tokens: int | None = found
            if server.way == "file":
                tokens = await self._tokens(server, await self._urls.url(clip, "inline"), "probe by inline")
            self._video_tokens.setdefault(size, found if tokens is None else tokens)
        if (expected := self._video_tokens[size]) != found:
            raise AdapterError(
                f"{server.api.url} made {found} video tokens of {clip.path}, and {expected} were expected of 8 "
                f"frames of {size[0]} x {size[1]} pixels: frames were lost. What was answered is journaled; "
                "look at the server's log, and try media=inline."
            )

    async def _close(self) -> None:
        for server in self._servers:
            await server.api.close()

    def _in_loop(self, coroutine: Coroutine[Any, Any, T]) -> Future[T]:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop)


async def _cancel(tasks: Sequence[asyncio.Future[Any]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _what(served: ServedModel) -> ServedModel:
    # Where `egost serve` told the revision, the same weights may lie in different folders.
    return replace(served, root="") if served.told and "revision" in served.told else served


def _reason(error: NoAnswer | Refused) -> str:
    if _MEMORY.search(str(error)):
        return "out_of_memory"
    if isinstance(error, NoAnswer):
        return "timeout" if error.reason == "timeout" else "server_error"
    if error.status == 413 or _TOO_LONG.search(str(error)):
        return "context_too_long"
    return "unsupported_video" if _OF_VIDEO.search(str(error)) else "refused"
