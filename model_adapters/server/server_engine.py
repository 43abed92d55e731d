"""The engine over servers of one model: a free server gets the next request, and a dead server's go to the others."""

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
from functools import partial
from queue import SimpleQueue
from typing import Any, TypeVar, cast, get_args

from loguru import logger

from egost.model_adapters.engine import AdapterError, Ask, EngineIdentity, Failure, Reply
from egost.model_adapters.families import thinking_apart
from egost.model_adapters.server.server_api import ServedModel, ServerApi, family_served, identity_of
from egost.model_adapters.server.server_requests import (
    FrameSender,
    Media,
    SharedWork,
    Way,
    by_clip,
    request_body,
)
from egost.tasks.chat.calls import Faulted, NoReply
from egost.tasks.clips.clips import Clip
from egost.tasks.errors import CacheError
from egost.tasks.prompts import chosen_prompt, load_prompt
from egost.tasks.release.trained_on import note_served

T = TypeVar("T")
Outcome = tuple[int, Reply | Failure]

AT_ONCE = 32
"""Requests under way at one server by default: enough to fill its batches, few enough to fit in memory."""

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

    def report(self, place: int, outcome: Reply | Failure) -> None:
        self.put((place, outcome))
        self.work.done()


class ServerEngine:
    """An `Engine` over one or several servers that serve the same model.

    urls: of the servers. model: the name to ask for; None takes the one that they name. concurrency: requests under
    way at each server. media: `file` gives the path of the clip's file, `inline` its bytes or pixels; `auto` tries the
    file and takes `inline` where the server cannot read it, or does not see all of its frames. timeout_s: for one
    reply, its wait in the server's queue included. wait_s: how long to wait for a server when none is left.
    first_wait_s: before a busy server is asked again.

    Raises AdapterError when no server is up, or when they serve different models.
    """

    def __init__(
        self,
        urls: Sequence[str],
        *,
        model: str | None = None,
        concurrency: int = AT_ONCE,
        media: Media = "auto",
        timeout_s: float = 600.0,
        wait_s: float = 300.0,
        first_wait_s: float = 1.0,
    ) -> None:
        self._wanted, self._concurrency, self._media, self._wait_s = model, concurrency, media, wait_s
        self._served: ServedModel | None = None
        self._troubles: dict[str, str] = {}
        self._thinks_unmarked = False
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

    @property
    def sent_bytes(self) -> int:
        """Of the bodies of all requests for replies."""
        return sum(server.api.sent_bytes for server in self._servers)

    def close(self) -> None:
        """Close the connections; the servers go on."""
        if self._thread.is_alive():
            with suppress(Exception):
                self._in_loop(self._close()).result(timeout=10)
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(timeout=10)
            if not self._thread.is_alive():
                self._loop.close()

    def _begin(self) -> None:
        up = [server for server in self._servers if self._in_loop(self._look(server)).result()]
        if self._served is None:
            raise AdapterError(
                f"no server is up at {', '.join(server.api.url for server in self._servers)} "
                f"({'; '.join(self._troubles.values())}). Start one with `egost serve MODEL`, wait until it is "
                "healthy, and give its URL as base_url=http://HOST:PORT."
            )
        for server in self._servers:
            if server not in up:
                server.down_since = time.monotonic()
                logger.warning(f"egost: {server.api.url} is not up; the others do its work until it is")
        self._identity = identity_of(self._served)
        note_served(self._served.name, self._served.root, *self._served.parents)
        family = family_served(self._served)
        thinking = None
        if family.thinking_switch:
            thinking = load_prompt(chosen_prompt()).thinks
            settings = {**self._identity.settings, "thinking": thinking}
            self._identity = replace(self._identity, settings=settings)
            self._thinks_unmarked = thinking and not family.special_marks
        self._body = partial(request_body, self._served.name, family, thinking=thinking)
        keep, is_vllm = _CLIPS_KEPT * len(self._servers), self._served.version is not None
        self._frames = FrameSender(family, self._body, self._media, keep, is_vllm)

    async def _look(self, server: _Server) -> bool:
        """Whether a server is up and serves what the others do; AdapterError where it serves something else."""
        try:
            served = await server.api.served(self._wanted)
            if not await server.api.healthy():
                raise NoReply("server_error", f"{server.api.url} says that its engine is dead")
        except NoReply as error:
            self._troubles[server.api.url] = str(error)
            return False
        if self._served is None:
            self._served = served
        elif _what(served) != _what(self._served):
            raise AdapterError(
                f"{server.api.url} serves {_spoken(served)}; another server {_spoken(self._served)}. All URLs in "
                "base_url must serve the same model with the same settings; leave out the one that does not."
            )
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
            if server.down_since is not None or (clip and not server.way):
                await self._until_up(server, clip)
            slots = [asyncio.ensure_future(self._slot(server, run)) for _ in range(self._concurrency)]
            try:
                await asyncio.gather(*slots)
            except NoReply as down:
                logger.warning(f"egost: {server.api.url} is gone ({down}); its requests go to the others")
                server.down_since = time.monotonic()
            finally:
                await _cancel(slots)
                run.work.leave(server.number)

    async def _until_up(self, server: _Server, clip: Clip | None) -> None:
        """Wait for a server, and find out anew how clips go to it: it may be another one at the same URL."""
        while not (await self._look(server) and await self._introduced(server, clip)):
            server.down_since = server.down_since or time.monotonic()
            gone = [s.down_since for s in self._servers if s.down_since is not None]
            if len(gone) == len(self._servers) and time.monotonic() - max(gone) > self._wait_s:
                raise AdapterError(
                    f"no server is left, and none came back within {self._wait_s:g} s: "
                    f"{'; '.join(self._troubles.values())}. What was answered is journaled; start the servers and run "
                    "the same command again."
                )
            await asyncio.sleep(min(_POLL_S, self._wait_s / 4))
        if server.down_since is not None:
            logger.info(f"egost: {server.api.url} is back")
            server.down_since = None

    async def _introduced(self, server: _Server, clip: Clip | None) -> bool:
        if clip is not None:
            try:
                server.way = await self._frames.way_to(server.api, clip)
            except NoReply as error:
                self._troubles[server.api.url] = str(error)
                return False
        return True

    async def _slot(self, server: _Server, run: _Run) -> None:
        while True:
            place = await run.work.take(server.number)
            try:
                outcome = await self._ask(server, run.asks[place])
            except NoReply as error:
                await self._lost(server, run, place, error)
            except asyncio.CancelledError:
                run.work.give_back(place)
                raise
            else:
                run.failed_in_a_row = 0
                run.report(place, outcome)

    async def _ask(self, server: _Server, ask: Ask) -> Reply | Failure:
        try:
            frames = await self._frames.clips.parts(ask.clip, server.way or "inline") if ask.clip else []
            completion = await server.api.complete(self._body(ask, frames))
        except CacheError as error:
            return Failure("unsupported_video", str(error))
        except Faulted as refused:
            return Failure(_reason(refused), str(refused))
        if ask.clip and completion.video_tokens is not None:
            await self._frames.check(server.api, ask.clip, server.way or "inline", completion.video_tokens)
        # A reasoning parser leaves no text where the thinking alone filled all tokens: a reply that was cut, not none.
        if completion.text is None and completion.finish_reason != "length":
            return Failure("no_text", f"the reply holds no text (finish reason {completion.finish_reason})")
        most, taken = ask.arguments.max_new_tokens, completion.completion_tokens
        if completion.finish_reason == "length" and taken is not None and taken < most:
            return Failure(
                "context_too_long",
                f"the server ended the reply after {taken} of {most} tokens: prompt and reply do not fit. Serve with a "
                "larger --max-model-len, or choose an EGOST_PROTOCOL with fewer pixels.",
            )
        text, reasoning = completion.text or "", completion.reasoning
        if (
            self._thinks_unmarked
            and reasoning is None
            and completion.finish_reason == "length"
            and "</think>" not in text
        ):
            # A template that opens the thinking itself leaves no mark of it in a reply that was cut there.
            text, reasoning = thinking_apart(text)
        return Reply(
            text=text,
            reasoning=reasoning,
            finish_reason=completion.finish_reason,
            prompt_tokens=completion.prompt_tokens,
            completion_tokens=completion.completion_tokens,
            video_tokens=completion.video_tokens,
            cached_tokens=completion.cached_tokens,
        )

    async def _lost(self, server: _Server, run: _Run, place: int, error: NoReply) -> None:
        """Draw the consequences of a request without a reply. Raises it again where its server is gone."""
        run.losses[place] += 1
        if run.losses[place] < LOSSES:
            run.work.give_back(place)
        else:
            run.failed_in_a_row += 1
            run.report(place, Failure(_reason(error), f"no reply in {LOSSES} rounds: {error}"))
        if run.failed_in_a_row >= MOST_FAILED_IN_A_ROW:
            raise AdapterError(
                f"{run.failed_in_a_row} requests in a row brought no reply, the last one with: {error}. What was "
                "answered is journaled; look at the servers' logs, then run the same command again."
            )
        if not await server.api.healthy():
            raise error

    async def _close(self) -> None:
        await _cancel([task for task in asyncio.all_tasks() if task is not asyncio.current_task()])
        for server in self._servers:
            await server.api.close()

    def _in_loop(self, coroutine: Coroutine[Any, Any, T]) -> Future[T]:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop)


def open_server(
    base_url: str,
    model: str | None = None,
    concurrency: int = AT_ONCE,
    media: str = "auto",
    timeout: float = 600.0,
    wait: float = 300.0,
    checkpoint: str | None = None,
) -> ServerEngine:
    """One or several servers of one model; see `ServerEngine` for what the arguments mean.

    base_url: one URL, or several with `;` between them. timeout, wait: seconds. checkpoint: the served model's folder
    on this disk; only its training rows are looked up there (`note_model` sees all arguments). Servers that want a key
    get the one in `EGOST_SERVER_API_KEY`. Raises AdapterError.
    """
    if media not in get_args(Media):
        raise AdapterError(f"media={media} is not known; expected one of {', '.join(get_args(Media))}.")
    if min(concurrency, timeout, wait) <= 0:
        raise AdapterError(
            f"concurrency={concurrency}, timeout={timeout} and wait={wait} must all be above 0."
        )
    urls = list(dict.fromkeys(url.strip() for url in str(base_url).split(";") if url.strip()))
    if not urls:
        raise AdapterError("base_url names no server; expected base_url=http://HOST:PORT[;http://...].")
    return ServerEngine(
        urls,
        model=model,
        concurrency=int(concurrency),
        media=cast(Media, media),
        timeout_s=float(timeout),
        wait_s=float(wait),
    )


async def _cancel(tasks: Sequence[asyncio.Future[Any]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _what(served: ServedModel) -> ServedModel:
    # Where `egost serve` advertises the revision, the same weights may lie in different folders.
    return replace(served, root="") if served.advertised and "revision" in served.advertised else served


def _spoken(served: ServedModel) -> str:
    return f"{served.name} from {served.root}, vllm {served.version}, settings {served.advertised}"


def _reason(error: NoReply | Faulted) -> str:
    if _MEMORY.search(str(error)):
        return "out_of_memory"
    if isinstance(error, NoReply):
        return error.reason if error.reason in ("timeout", "rate_limited") else "server_error"
    if error.fault.reason == "broken_body":
        return "server_error"
    if error.fault.reason == "too_long" or _TOO_LONG.search(str(error)):
        return "context_too_long"
    return "unsupported_video" if _OF_VIDEO.search(str(error)) else "refused"
